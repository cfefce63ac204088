"""Every message arrives once, in spite of the link; peers that are gone are told and leave nothing behind."""

import queue
import threading
import time

import numpy as np
import pytest

from thalweg.dialects.diagnostics import UnavailableError
from thalweg.runtime.transport import InProcessLink, Message, Switchboard, Transport
from thalweg.runtime.transport.faults import FaultyLink


class End:
    """A transport whose messages and losses are kept."""

    def __init__(self, link, **options):
        self.transport = Transport(link, **options)
        self.messages: queue.Queue[Message] = queue.Queue()
        self.losses: queue.Queue[tuple[str, UnavailableError]] = queue.Queue()
        self.transport.start(self.messages.put, lambda *loss: self.losses.put(loss))
        self.address = self.transport.address

    def take(self, count=1):
        return [self.messages.get(timeout=20) for _ in range(count)]


@pytest.fixture
def ends():
    made = []

    def make(link, **options):
        made.append(End(link, **options))
        return made[-1]

    yield make
    for end in made:
        end.transport.close(timeout=0)


def test_a_message_arrives_with_its_values_and_its_sender(ends):
    board = Switchboard()
    a, b = ends(InProcessLink(board)), ends(InProcessLink(board))
    a.transport.send(b.address, Message("tensor", 7, "w;ps;worker", (np.arange(5),), {"why": [1, "x", None]}))
    (came,) = b.take()
    assert came[:3] == ("tensor", 7, "w;ps;worker") and came.note == {"why": [1, "x", None]}
    assert came.source == a.address
    np.testing.assert_array_equal(came.values[0], np.arange(5))


def test_one_may_send_to_oneself(ends):
    a = ends(InProcessLink(Switchboard()))
    a.transport.send(a.address, Message("hello"))
    assert a.take()[0].kind == "hello"


@pytest.mark.parametrize("seed", range(3))
def test_lost_repeated_and_late_messages_all_arrive_once(ends, seed):
    board = Switchboard()
    faults = [FaultyLink(InProcessLink(board), lose=0.3, repeat=0.3, delay=0.02, seed=seed * 2 + i) for i in range(2)]
    a, b = (ends(link, repeat_after=0.05) for link in faults)
    count = 150
    for number in range(count):
        a.transport.send(b.address, Message("tensor", number, values=(np.full(3, number),)))
        b.transport.send(a.address, Message("tensor", number, values=(np.full(3, -number),)))
    for end, sign in ((b, 1), (a, -1)):
        came = {message.step: message.values[0][0] for message in end.take(count)}
        assert came == {number: sign * number for number in range(count)}
    assert all(link.lost and link.repeated for link in faults)
    deadline = time.monotonic() + 10
    while (a.transport.unacknowledged() or b.transport.unacknowledged()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert a.transport.unacknowledged() == b.transport.unacknowledged() == 0
    assert a.messages.empty() and b.messages.empty()


def test_acknowledgements_ride_on_answers_and_come_alone_after_a_moment(ends):
    board = Switchboard()
    a, b = ends(InProcessLink(board)), ends(InProcessLink(board))
    a.transport.send(b.address, Message("tensor"))
    b.take()
    time.sleep(0.3)
    assert a.transport.unacknowledged() == 0
    assert a.transport.traffic()[b.address].repeated == 0


def test_a_peer_that_stays_silent_is_lost_and_told_once(ends):
    board = Switchboard()
    dead = FaultyLink(InProcessLink(board))
    a, b = ends(InProcessLink(board), patience=0.5), ends(dead)
    dead.cut()
    a.transport.send(b.address, Message("tensor", 1))
    a.transport.send(b.address, Message("tensor", 2))
    address, error = a.losses.get(timeout=10)
    assert address == b.address and "has not answered for" in str(error)
    with pytest.raises(UnavailableError, match="has not answered"):
        a.transport.send(b.address, Message("tensor", 3))
    assert a.transport.unacknowledged() == 0 and a.losses.empty()


def test_a_short_break_loses_nothing(ends):
    board = Switchboard()
    link = FaultyLink(InProcessLink(board))
    a, b = ends(InProcessLink(board), patience=20), ends(link)
    link.cut()
    for number in range(5):
        a.transport.send(b.address, Message("tensor", number))
    time.sleep(0.4)
    assert b.messages.empty()
    link.mend()
    assert sorted(message.step for message in b.take(5)) == list(range(5))


def test_a_forgotten_peer_is_not_sent_to(ends):
    board = Switchboard()
    a, b = ends(InProcessLink(board)), ends(InProcessLink(board))
    a.transport.forget("inproc:none@@life")  # never heard of: nothing to do
    a.transport.send(b.address, Message("tensor"))
    b.take()
    a.transport.forget(b.address)
    with pytest.raises(UnavailableError, match="has ended"):
        a.transport.send(b.address, Message("tensor"))
    assert a.losses.empty()


def test_messages_for_a_former_life_are_not_taken(ends):
    board = Switchboard()
    a, b = ends(InProcessLink(board)), ends(InProcessLink(board))
    place, machine, _ = b.address.split("@")
    a.transport.send(f"{place}@{machine}@formerlife", Message("tensor", 1))
    a.transport.send(b.address, Message("tensor", 2))
    assert b.take()[0].step == 2
    time.sleep(0.05)
    assert b.messages.empty()


def test_a_receiver_that_raises_does_not_end_the_transport(caplog):
    board = Switchboard()
    a, b = Transport(InProcessLink(board)), Transport(InProcessLink(board))
    came = threading.Event()

    def deliver(message):
        if message.kind == "bad":
            raise RuntimeError("boom")
        came.set()

    a.start(print, print)
    b.start(deliver, print)
    a.send(b.address, Message("bad"))
    a.send(b.address, Message("good"))
    assert came.wait(10) and "boom" in caplog.text
    a.close(), b.close()
    with pytest.raises(UnavailableError, match="closed"):
        a.send(b.address, Message("late"))


def test_many_threads_send_at_once(ends):
    board = Switchboard()
    a, b = ends(InProcessLink(board)), ends(InProcessLink(board))
    threads = [
        threading.Thread(
            target=lambda k=k: [a.transport.send(b.address, Message("t", 1000 * k + i)) for i in range(100)]
        )
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    assert sorted(m.step for m in b.take(800)) == sorted(1000 * k + i for k in range(8) for i in range(100))
    for thread in threads:
        thread.join()
