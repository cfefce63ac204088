"""Cancellation: everybody who waits is told, once, whenever it registers."""

from __future__ import annotations

import threading
import time

import pytest

from thalweg.dialects.diagnostics import CancelledError, DeadlineError
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Cancellation, Step, StepIds

pytestmark = pytest.mark.timeout(30)


def test_all_that_is_registered_is_called_with_the_first_error() -> None:
    cancellation, seen = Cancellation(), list[BaseException]()
    first, second = CancelledError("first"), CancelledError("second")
    cancellation.register(seen.append)
    gone = cancellation.register(lambda error: pytest.fail("was taken back"))
    assert cancellation.deregister(gone)
    assert cancellation.cancel(first) and not cancellation.cancel(second)
    cancellation.register(seen.append)  # too late: called at once
    assert seen == [first, first] and cancellation.error is first and len(cancellation) == 0


def test_a_callback_that_was_called_cannot_be_taken_back() -> None:
    cancellation = Cancellation()
    handle = cancellation.register(lambda error: None)
    cancellation.cancel()
    assert not cancellation.deregister(handle)
    assert isinstance(cancellation.error, CancelledError)


def test_no_callback_is_lost_between_threads() -> None:
    """Each is called exactly once, if it is not taken back, whether it registers before, while or after."""
    for _ in range(50):
        cancellation, called, start = Cancellation(), list[int](), threading.Barrier(3)

        def register(who: int, c: Cancellation = cancellation, s: threading.Barrier = start,
                     seen: list[int] = called) -> None:
            s.wait()
            for k in range(20):
                c.register(lambda error, k=k: seen.append(who * 100 + k))

        threads = [threading.Thread(target=register, args=(who,)) for who in range(2)]
        for thread in threads:
            thread.start()
        start.wait()
        cancellation.cancel()
        for thread in threads:
            thread.join()
        assert sorted(called) == [*range(20), *range(100, 120)]


def test_a_step_checks_its_error_and_its_time() -> None:
    step = Step(1, Resources(), LocalRendezvous(), deadline=time.monotonic() + 60)
    step.check()
    assert 50 < (step.remaining() or 0) <= 60
    step.deadline = time.monotonic() - 1
    assert step.remaining() == 0
    with pytest.raises(DeadlineError):
        step.check()
    step.cancellation.cancel(CancelledError("why"))
    with pytest.raises(CancelledError, match="why"):
        step.check()
    assert Step(1, Resources(), LocalRendezvous()).remaining() is None


def test_step_ids_differ_between_clients() -> None:
    one, other = StepIds(), StepIds()
    assert len({one() for _ in range(100)} | {other() for _ in range(100)}) == 200
    assert [StepIds(5)() for _ in range(2)] == [5, 5]
