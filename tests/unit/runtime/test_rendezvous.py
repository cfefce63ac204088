"""Values that meet who waits for them, in whatever order they come."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError, StepError
from thalweg.runtime.plan import DEAD, Value
from thalweg.runtime.rendezvous import REMEMBERED, LocalRendezvous, key_of

pytestmark = pytest.mark.timeout(30)


class Receiver:
    def __init__(self) -> None:
        self.values: list[Value] = []
        self.errors: list[BaseException] = []

    def __call__(self, outputs: Sequence[Value]) -> None:
        self.values += outputs

    def fail(self, error: BaseException) -> None:
        self.errors.append(error)


@pytest.mark.parametrize("value", [7, DEAD])
@pytest.mark.parametrize("first", ["send", "receive"])
def test_either_may_come_first(first: str, value: Value) -> None:
    meeting, receiver = LocalRendezvous(), Receiver()
    if first == "send":
        meeting.send(1, "x", value)
    meeting.receive(1, "x", receiver)
    if first == "receive":
        assert receiver.values == [] and meeting.pending() == 1
        meeting.send(1, "x", value)
    assert receiver.values == [value] and receiver.errors == [] and meeting.pending() == 0


def test_steps_and_keys_and_tags_are_kept_apart() -> None:
    meeting, receiver = LocalRendezvous(), Receiver()
    meeting.receive(1, key_of("x", "loop/3"), receiver)
    for step, key in [(2, key_of("x", "loop/3")), (1, key_of("x")), (1, key_of("x", "loop/4")), (1, "y")]:
        meeting.send(step, key, 0)
    assert receiver.values == []
    meeting.send(1, "x@loop/3", 1)
    assert receiver.values == [1]


def test_sending_or_receiving_twice_is_an_error() -> None:
    meeting = LocalRendezvous()
    meeting.send(1, "x", 1)
    with pytest.raises(StepError, match="'x' was sent twice in step 1"):
        meeting.send(1, "x", 2)
    meeting.receive(1, "y", Receiver())
    with pytest.raises(StepError, match="'y' is received twice in step 1"):
        meeting.receive(1, "y", Receiver())


def test_an_abort_fails_those_who_wait_and_those_who_come_later() -> None:
    meeting, early, late, other = LocalRendezvous(), Receiver(), Receiver(), Receiver()
    meeting.receive(1, "x", early)
    meeting.receive(2, "x", other)
    meeting.send(1, "y", 1)
    error = OutOfRangeError("the queue is closed.")
    meeting.abort(1, error)
    meeting.receive(1, "z", late)
    assert early.errors == [error]
    assert isinstance(late.errors[0], CancelledError) and "the queue is closed" in str(late.errors[0])
    assert other.errors == [] and meeting.pending() == 1


def test_what_arrives_for_a_step_that_is_over_is_dropped() -> None:
    meeting, receiver = LocalRendezvous(), Receiver()
    meeting.send(1, "unclaimed", 1)
    meeting.receive(1, "never sent", receiver)
    meeting.finish(1)
    assert isinstance(receiver.errors[0], CancelledError) and "never sent" in str(receiver.errors[0])
    meeting.send(1, "late", 1)
    assert meeting.pending() == 0


def test_memory_of_steps_that_are_over_is_bounded() -> None:
    meeting = LocalRendezvous()
    for step in range(REMEMBERED + 500):
        meeting.send(step, "x", step)
        meeting.finish(step)
    assert len(meeting._over) == REMEMBERED and meeting.pending() == 0


def test_many_threads_meet() -> None:
    meeting, count = LocalRendezvous(), 500
    receivers = [Receiver() for _ in range(count)]
    start = threading.Barrier(2)

    def send() -> None:
        start.wait()
        for k in range(count):
            meeting.send(1, str(k), k)

    sender = threading.Thread(target=send)
    sender.start()
    start.wait()
    for k in range(count):
        meeting.receive(1, str(k), receivers[k])
    sender.join()
    assert [r.values for r in receivers] == [[k] for k in range(count)]
