"""Mutexes: one holder, turns in order, releases that fit."""

from __future__ import annotations

import pytest
from queue_outcomes import Outcome

from thalweg.dialects.diagnostics import CancelledError, StepError
from thalweg.runtime.queues import Mutex


def test_turns() -> None:
    mutex = Mutex("m")
    first, second, third = (Outcome(mutex.acquire) for _ in range(3))
    assert (first.pending, second.pending, third.pending) == (False, True, True)
    second.ticket.cancel(CancelledError(""))
    mutex.release(first.get()[0])
    assert not third.pending and mutex.held
    mutex.release(third.get()[0])
    assert not mutex.held


def test_releasing_what_is_not_held() -> None:
    mutex = Mutex("m")
    holder = Outcome(mutex.acquire).get()[0]
    mutex.release(holder)
    with pytest.raises(StepError, match="release of mutex 'm': it is not held under 1; it was released before"):
        mutex.release(holder)
    assert not mutex.release_if_held(0)


def test_reset_cancels_who_waits() -> None:
    mutex = Mutex("m")
    Outcome(mutex.acquire)
    waiting = Outcome(mutex.acquire)
    mutex.close()
    assert isinstance(waiting.error, CancelledError)
