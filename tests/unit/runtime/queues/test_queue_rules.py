"""The rules of queues: who waits, who is served first, what closing and cancelling do."""

from __future__ import annotations

import numpy as np
import pytest
from queue_outcomes import Numbers, Outcome

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError, StepError
from thalweg.dialects.types import VARIES, TensorType, float32, int64, string
from thalweg.runtime.queues import BucketStore, PriorityStore, Queue, ShuffleStore


def test_first_in_first_out() -> None:
    q = Numbers(8)
    q.put(1), q.put(2, 3)
    assert [q.get().numbers, q.get().numbers, q.get().numbers] == [1, 2, 3]


def test_a_dequeue_waits_for_an_enqueue() -> None:
    q = Numbers(1)
    waiting = q.get()
    assert waiting.pending
    assert not q.put(7).pending
    assert waiting.numbers == 7 and q.queue.size() == 0


def test_an_enqueue_waits_while_the_queue_is_full() -> None:
    q = Numbers(1)
    q.put(1)
    waiting = q.put(2)
    assert waiting.pending and q.queue.size() == 1
    assert q.get().numbers == 1
    assert not waiting.pending and q.rest() == [2]


def test_who_waits_is_served_in_order() -> None:
    q = Numbers(1)
    gets = [q.get() for _ in range(3)]
    for number in range(3):
        q.put(number)
    assert [g.numbers for g in gets] == [0, 1, 2]
    puts = [q.put(number) for number in range(4)]
    assert [p.pending for p in puts] == [False, True, True, True]
    assert [q.get().numbers for _ in range(4)] == [0, 1, 2, 3]


def test_a_large_dequeue_at_the_head_keeps_a_small_one_waiting() -> None:
    q = Numbers(4)
    large, small = q.many(3), q.get()
    q.put(1), q.put(2)
    assert large.pending and small.pending
    q.put(3), q.put(4)
    assert large.numbers == [1, 2, 3] and small.numbers == 4


def test_dequeue_many_of_more_than_the_capacity() -> None:
    q = Numbers(2)
    waiting = q.many(5)
    puts = [q.put(number) for number in range(4)]
    assert not any(p.pending for p in puts), "elements that a dequeue lacks may enter"
    assert waiting.pending
    assert not q.put(4).pending and waiting.numbers == [0, 1, 2, 3, 4]
    assert q.queue.size() == 0


def test_enqueue_many_enters_whole_or_not_at_all() -> None:
    q = Numbers(4)
    q.put(1, 2)
    waiting = q.put(3, 4, 5)
    assert waiting.pending and q.queue.size() == 2
    assert waiting.ticket.cancel(CancelledError("enough"))
    assert q.rest() == [1, 2]


def test_enqueue_many_of_more_than_the_capacity_enters_as_there_is_room() -> None:
    q = Numbers(2)
    waiting = q.put(0, 1, 2, 3, 4)
    assert waiting.pending and q.queue.size() == 2
    assert q.get().numbers == 0 and q.queue.size() == 2
    assert [q.get().numbers for _ in range(4)] == [1, 2, 3, 4] and not waiting.pending


def test_a_dequeue_that_lacks_elements_lets_a_waiting_enqueue_in() -> None:
    """Otherwise both would wait for each other: 6 are there, 8 are wanted, 5 do not fit."""
    q = Numbers(10)
    q.put(*range(6))
    adding = q.put(6, 7, 8, 9, 10)
    assert adding.pending
    assert q.many(8).numbers == list(range(8))
    assert not adding.pending and q.rest() == [8, 9, 10]


def test_nothing_and_none() -> None:
    q = Numbers(2)
    assert q.put().get() == () and q.many(0).numbers == [] and q.queue.size() == 0
    with pytest.raises(StepError, match=r"dequeue_many\(-1\) from queue 'q': the count must not be negative"):
        q.many(-1)


# Closing


def test_enqueues_on_a_closed_queue_fail() -> None:
    q = Numbers(2)
    q.close()
    with pytest.raises(CancelledError, match=r"enqueue to queue 'q': it is closed"):
        q.put(1).get()
    assert q.queue.is_closed


def test_enqueues_that_wait_finish_after_closing() -> None:
    q = Numbers(1)
    q.put(1)
    waiting = q.put(2)
    q.close()
    assert waiting.pending
    assert [q.get().numbers, q.get().numbers] == [1, 2] and not waiting.pending
    with pytest.raises(OutOfRangeError):
        q.get().get()


def test_enqueues_that_wait_are_cancelled_if_asked_for() -> None:
    q = Numbers(1)
    q.put(1)
    waiting = q.put(2)
    q.close()
    q.close(cancel_pending=True)
    with pytest.raises(CancelledError, match="it was closed meanwhile"):
        waiting.get()
    assert q.rest() == [1]


def test_dequeues_go_on_while_there_are_elements() -> None:
    q = Numbers(8)
    q.put(1, 2, 3)
    q.close()
    with pytest.raises(OutOfRangeError, match=r"dequeue_many\(4\) from queue .q.: it is closed and has 3 elem"):
        q.many(4).get()
    assert q.many(2).numbers == [1, 2]
    assert q.up_to(4).numbers == [3]
    with pytest.raises(OutOfRangeError, match="has 0 elements left"):
        q.up_to(4).get()


def test_dequeues_that_wait_when_it_is_closed() -> None:
    q = Numbers(8)
    q.put(1, 2)
    large, partial, single = q.many(5), q.up_to(5), q.get()
    q.close()
    with pytest.raises(OutOfRangeError):
        large.get()
    assert partial.numbers == [1, 2]
    with pytest.raises(OutOfRangeError):
        single.get()


def test_dequeue_up_to_waits_for_all_while_the_queue_is_open() -> None:
    q = Numbers(8)
    q.put(1)
    waiting = q.up_to(2)
    assert waiting.pending
    q.put(2)
    assert waiting.numbers == [1, 2]


def test_pending_enqueues_serve_a_large_dequeue_of_a_closed_queue() -> None:
    q = Numbers(1)
    q.put(0)
    puts = [q.put(1), q.put(2)]
    q.close()
    assert q.many(3).numbers == [0, 1, 2] and not any(p.pending for p in puts)


def test_reset_cancels_everybody() -> None:
    q, empty = Numbers(1), Numbers(1)
    q.put(1)
    adding, taking = q.put(2), empty.get()
    q.queue.close(), empty.queue.close()
    for outcome, what in ((adding, "enqueue to"), (taking, "dequeue from")):
        with pytest.raises(CancelledError, match=rf"{what} queue 'q': its container was reset"):
            outcome.get()
    assert q.queue.size() == 0


# Cancelling


def test_a_cancelled_dequeue_takes_nothing_and_lets_others_pass() -> None:
    q = Numbers(8)
    q.put(1, 2)
    large, small = q.many(5), q.get()
    assert small.pending
    assert large.ticket.cancel(CancelledError("the step was given up"))
    with pytest.raises(CancelledError, match="given up"):
        large.get()
    assert small.numbers == 1 and q.rest() == [2]


def test_cancelling_what_has_ended_changes_nothing() -> None:
    q = Numbers(8)
    done = q.put(1)
    assert not done.ticket.cancel(CancelledError("late"))
    assert done.get() == () and done.calls == 1


def test_a_cancelled_enqueue_lets_others_pass() -> None:
    q = Numbers(2)
    q.put(1)
    two, one = q.put(2, 3), q.put(4)
    assert two.pending and one.pending, "in the order in which they came"
    two.ticket.cancel(CancelledError(""))
    assert not one.pending and q.rest() == [1, 4]


def test_callbacks_may_use_the_queue() -> None:
    """They run without the lock: a consumer that enqueues from its callback does not hang."""
    q = Numbers(4)
    got: list[int] = []

    class Loop:
        def __call__(self, outputs) -> None:
            got.append(int(outputs[0]))
            if got[-1] < 50:
                q.put(got[-1] + 1)
                q.queue.dequeue(self)

        def fail(self, error: BaseException) -> None:
            raise error

    q.put(0)
    q.queue.dequeue(Loop())
    assert got == list(range(51))


# Kinds


def test_shuffling_keeps_some_back_until_it_is_closed() -> None:
    q = Numbers(10, ShuffleStore(least=3, seed=0))
    q.put(*range(5))
    first = [q.get().numbers, q.get().numbers]
    waiting = q.get()
    assert waiting.pending and q.queue.size() == 3
    q.close()
    assert sorted([*first, waiting.numbers, *q.rest()]) == [0, 1, 2, 3, 4]


def test_shuffling_is_the_same_for_the_same_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        q = Numbers(100, ShuffleStore(0, seed))
        q.put(*range(20))
        orders.append(q.many(20).numbers)
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(20)) != orders[0]


def test_shuffling_is_fair() -> None:
    """Of 4 elements each comes out first about as often."""
    counts = np.zeros(4)
    store = ShuffleStore(0, seed=3)
    for _ in range(4000):
        q = Numbers(4, store)
        q.put(*range(4))
        counts[q.get().numbers] += 1
        q.rest()
    assert np.all(np.abs(counts - 1000) < 150), counts


def test_a_shuffled_batch_of_more_than_the_capacity_completes() -> None:
    q = Numbers(4, ShuffleStore(least=3, seed=0))
    waiting = q.many(5)
    for number in range(8):
        assert not q.put(number).pending
    assert len(waiting.numbers) == 5 and q.queue.size() == 3


def test_priorities() -> None:
    q = Queue("q", [TensorType((), int64), TensorType((), string)], None, PriorityStore())
    for priority, label in ((5, b"e"), (1, b"a"), (5, b"f"), (-2, b"first")):
        Outcome(lambda done, p=priority, s=label: q.enqueue([np.int64(p), np.array(s, object)], done))
    order, labels = Outcome(lambda done: q.dequeue_many(4, done)).get()
    assert order.tolist() == [-2, 1, 5, 5] and labels.tolist() == [b"first", b"a", b"e", b"f"]


def test_padding() -> None:
    q = Queue("q", [TensorType((VARIES, 2), float32), TensorType((VARIES,), string)], 8, pad=True)
    for rows, words in ((1, 3), (3, 0), (2, 1)):
        element = [np.full((rows, 2), rows, np.float32), np.array([b"w"] * words, object)]
        Outcome(lambda done, e=element: q.enqueue(e, done))
    numbers, words = Outcome(lambda done: q.dequeue_many(3, done)).get()
    assert numbers.shape == (3, 3, 2) and numbers[0, 1:].sum() == 0 and (numbers[1] == 3).all()
    assert words.tolist() == [[b"w"] * 3, [b""] * 3, [b"w", b"", b""]]


def test_buckets() -> None:
    q = Numbers(100, BucketStore([10, 20]))
    waiting = q.many(3)
    for length in (5, 15, 6, 25, 10, 19):
        q.put(length)
    assert waiting.numbers == [15, 10, 19], "lengths from 10 to below 20"
    q.close()
    assert q.up_to(3).numbers == [5, 6] and q.up_to(3).numbers == [25]


def test_buckets_do_not_block_each_other_at_the_capacity() -> None:
    q = Numbers(3, BucketStore([10]))
    q.put(1, 20, 2)
    waiting = q.many(3)
    assert not q.put(21).pending and not q.put(3).pending
    assert waiting.numbers == [1, 2, 3]


# What is checked


def test_elements_are_checked_and_the_message_names_queue_and_types() -> None:
    q = Queue("images", [TensorType((4, VARIES), float32)], 8, pad=True)
    for value, seen in ((np.ones((4, 2)), "float64"), (np.ones(4, np.float32), "float32[4]")):
        with pytest.raises(StepError) as error:
            q.enqueue([value], Outcome)
        assert "enqueue to queue 'images': component 0 of an element is float32[4,?]" in str(error.value)
        assert seen in str(error.value)
    with pytest.raises(StepError, match="has 1 components, 2 were given"):
        q.enqueue([np.ones((4, 1), np.float32)] * 2, Outcome)


def test_rows_must_agree() -> None:
    q = Queue("q", [TensorType((), float32)] * 2, 8)
    with pytest.raises(StepError, match=r"one row per element, the shapes are \[2\], \[3\]"):
        q.enqueue_many([np.ones(2, np.float32), np.ones(3, np.float32)], Outcome)


def test_elements_that_vary_cannot_be_stacked_without_padding() -> None:
    q = Queue("q", [TensorType((VARIES,), float32)], 8)
    with pytest.raises(StepError, match=r"the shapes of its elements vary \(float32\[\?\]\)"):
        q.dequeue_many(2, Outcome)


def test_elements_do_not_change_with_the_arrays_they_came_in() -> None:
    q = Queue("q", [TensorType((2,), float32)], 8)
    array = np.ones((1, 2), np.float32)
    Outcome(lambda done: q.enqueue_many([array], done))
    Outcome(lambda done: q.enqueue([array[0]], done))
    array[:] = 9
    assert Outcome(lambda done: q.dequeue_many(2, done)).get()[0].tolist() == [[1, 1], [1, 1]]


def test_state_tells_what_waits() -> None:
    q = Numbers(2)
    q.put(1, 2), q.put(3), q.put(4), q.get()
    assert q.queue.state() == {
        "kind": "queue", "size": 2, "capacity": 2, "closed": False, "enqueued": 3, "dequeued": 1,
        "waiting_enqueues": 1, "waiting_dequeues": 0,
    }  # fmt: skip
