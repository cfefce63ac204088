"""Queues as users hold them, eagerly: types, conversions, mistakes with the user's line, life time."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

import thalweg as tw
from thalweg.runtime.resources import of_process


def test_fifo() -> None:
    queue = tw.FIFOQueue(8, [tw.float32, tw.int32], shapes=[(2,), ()])
    assert queue.enqueue(([1, 2], 7)) is None
    queue.enqueue_many((np.ones((2, 2), np.float32), [8, 9]))
    assert int(queue.size()) == 3
    x, n = queue.dequeue()
    assert x.tolist() == [1, 2] and x.dtype == tw.float32 and int(n) == 7
    xs, ns = queue.dequeue_many(2)
    assert xs.shape == (2, 2) and ns.tolist() == [8, 9]


def test_one_component_is_no_tuple() -> None:
    queue = tw.FIFOQueue(8, tw.float32, shapes=(2,))
    queue.enqueue([1.0, 2.0])
    queue.enqueue([[3.0, 4.0]])
    queue.enqueue_many([np.full((1, 2), 5, np.float32)])
    queue.enqueue_many([[6, 6]])
    assert queue.dequeue_many(4).tolist() == [[1, 2], [3, 4], [5, 5], [6, 6]]


def test_shapes_are_those_of_the_first_enqueue() -> None:
    queue = tw.FIFOQueue(8, [tw.float32], name="late")
    with pytest.raises(tw.TypeInferenceError, match=r"the shapes of the elements of queue 'late' are not known"):
        queue.dequeue()
    queue.enqueue_many([np.ones((2, 3))])
    assert queue.dequeue().shape == (3,)
    with pytest.raises(tw.TypeInferenceError, match=r"component 0 is f32\[3\], the value given is f32\[4\]"):
        queue.enqueue(np.ones(4))


def test_strings() -> None:
    queue = tw.FIFOQueue(8, tw.string, shapes=())
    queue.enqueue("höher")
    queue.enqueue_many([["a", b"\xff"]])
    assert queue.dequeue_many(3).tolist() == ["höher".encode(), b"a", b"\xff"]
    with pytest.raises(TypeError, match="expected strings, got int: 3"):
        queue.enqueue(3)


def test_mistakes_carry_the_users_line() -> None:
    queue = tw.FIFOQueue(8, [tw.int32], shapes=[()], name="numbers")
    with pytest.raises(tw.TypeInferenceError, match=r"test_queue_classes.py:\d+: in test_mistakes.*numbers.*int32"):
        queue.enqueue(1.5)
    with pytest.raises(tw.TypeInferenceError, match=r"component 0 is i32\[\], the value given is i32\[2\]"):
        queue.enqueue((1, 2))
    with pytest.raises(tw.TypeInferenceError, match="has 2 components, 3 were given"):
        tw.FIFOQueue(8, [tw.int32] * 2, shapes=[(), ()]).enqueue((1, 2, 3))
    with pytest.raises(ValueError, match="2 dtypes need as many shapes, got 1"):
        tw.FIFOQueue(8, [tw.int32, tw.int32], shapes=[()])
    with pytest.raises(tw.TypeInferenceError, match="the capacity must be at least 1"):
        tw.FIFOQueue(0, [tw.int32], shapes=[()])
    with pytest.raises(ValueError, match="min_after_dequeue=4 must be below the capacity 4"):
        tw.RandomShuffleQueue(4, 4, [tw.int32], [()])
    with pytest.raises(ValueError, match="the boundaries must ascend"):
        tw.BucketQueue(4, [5, 5], [tw.int32], [()])
    with pytest.raises(tw.TypeInferenceError, match=r"queue 'pieces' \(f32\[\?\]\) have extents that vary"):
        tw.FIFOQueue(4, [tw.float32], [(None,)], name="pieces").dequeue_many(2)


def test_waiting_and_timeouts() -> None:
    queue = tw.FIFOQueue(1, [tw.int32], shapes=[()], name="slow")
    with pytest.raises(tw.DeadlineError, match=r"test_queue_classes.py:\d+: .*dequeue waited longer than 0.05 s"):
        queue.dequeue(timeout=0.05)
    got = []
    thread = threading.Thread(target=lambda: got.append(int(queue.dequeue(timeout=60))), daemon=True)
    thread.start()
    queue.enqueue(5)
    thread.join(60)
    assert got == [5]
    queue.enqueue(6)
    with pytest.raises(tw.DeadlineError):
        queue.enqueue(7, timeout=0.05)
    assert int(queue.dequeue()) == 6 and int(queue.size()) == 0


def test_closing() -> None:
    queue = tw.FIFOQueue(8, [tw.int32], shapes=[()], name="closing")
    queue.enqueue_many([[1, 2, 3]])
    assert not bool(queue.is_closed())
    queue.close()
    assert bool(queue.is_closed())
    with pytest.raises(tw.CancelledError, match="enqueue to queue 'closing': it is closed"):
        queue.enqueue(4)
    assert queue.dequeue_up_to(5).tolist() == [1, 2, 3]
    with pytest.raises(tw.OutOfRangeError, match="it is closed and has 0 elements left"):
        queue.dequeue()


def test_shuffling() -> None:
    queue = tw.RandomShuffleQueue(20, 5, [tw.int32], [()], seed=1)
    queue.enqueue_many([np.arange(20, dtype=np.int32)])
    first = queue.dequeue_many(15).tolist()
    queue.close()
    assert sorted(first + queue.dequeue_up_to(15).tolist()) == list(range(20)) and first != sorted(first)


def test_padding_priority_buckets_and_staging() -> None:
    padding = tw.PaddingFIFOQueue(8, [tw.int32], shapes=[(None,)])
    padding.enqueue([1, 2]), padding.enqueue([[3]])
    assert padding.dequeue_many(2).tolist() == [[1, 2], [3, 0]]
    priority = tw.PriorityQueue(8, [tw.string], [()])
    priority.enqueue((5, "later")), priority.enqueue((1, "first"))
    order, label = priority.dequeue()
    assert int(order) == 1 and label.item() == b"first"
    buckets = tw.BucketQueue(8, [3], [tw.int32], [(None,)])
    for length in (1, 4, 2, 5):
        buckets.enqueue((length, np.full(length, length, np.int32)))
    lengths, rows = buckets.dequeue_many(2)
    assert lengths.tolist() == [1, 2] and rows.tolist() == [[1, 0], [2, 2]]
    area = tw.StagingArea([tw.float32], [(2,)])
    area.put([1, 2])
    assert area.get().tolist() == [1, 2]


def test_shared_names() -> None:
    one = tw.FIFOQueue(4, [tw.int32], [()], shared_name="shared_in_test")
    two = tw.FIFOQueue(4, [tw.int32], [()], shared_name="shared_in_test")
    one.enqueue(3)
    assert int(two.dequeue()) == 3
    other = tw.FIFOQueue(4, [tw.float32], [()], shared_name="shared_in_test")
    with pytest.raises(tw.StepError, match=r"takes \(i32\[\]\), not \(f32\[\]\). Two of one name"):
        other.size()
    assert int(tw.FIFOQueue(4, [tw.int32], [()], shared_name="shared_in_test", container="c").size()) == 0


def test_queues_of_one_name_are_two() -> None:
    one, two = (tw.FIFOQueue(4, [tw.int32], [()], name="twice") for _ in range(2))
    one.enqueue(1)
    assert int(two.size()) == 0 and one.name != two.name


def test_what_a_queue_holds_goes_with_it() -> None:
    queue = tw.FIFOQueue(4, [tw.int32], [()], name="goes_with_it")
    queue.enqueue(1)
    name = queue.name
    assert of_process().find("", "queue", name) is not None
    del queue
    gc.collect()
    assert of_process().find("", "queue", name) is None


# Accumulators, barriers, mutexes


def test_accumulators() -> None:
    sums = tw.ConditionalAccumulator(tw.float32, (2,), name="sums")
    sums.apply_grad([1, 2]), sums.apply_grad(np.array([3, 4], np.float32), local_step=0)
    assert int(sums.num_accumulated()) == 2 and sums.take_grad(2).tolist() == [2, 3]
    sums.apply_grad([9, 9], local_step=0)
    assert int(sums.num_accumulated()) == 0, "stale"
    sums.set_global_step(5)
    with pytest.raises(tw.DeadlineError):
        sums.take_grad(1, timeout=0.02)
    with pytest.raises(tw.TypeInferenceError, match="the reduction must be one of mean, sum, got 'median'"):
        tw.ConditionalAccumulator(tw.float32, (2,), reduction="median")


def test_sparse_accumulators() -> None:
    rows = tw.SparseConditionalAccumulator(tw.float32, (10, 2), reduction="sum")
    gradient = tw.IndexedSlices(tw.asarray([3, 1, 3]), tw.ones((3, 2)), (10, 2))
    rows.apply_indexed_slices_grad(gradient)
    rows.apply_grad([1], [[5.0, 5.0]])
    taken = rows.take_indexed_slices_grad(2)
    assert taken.indices.tolist() == [1, 3] and taken.values.tolist() == [[6, 6], [2, 2]]
    assert taken.dense().shape == (10, 2)


def test_barriers() -> None:
    barrier = tw.Barrier([tw.float32, tw.int32], [(), (1,)], key=tw.int64)
    barrier.insert_many(0, [7, 8], [0.5, 0.25])
    assert int(barrier.incomplete_size()) == 2
    barrier.insert_many(1, [8], [[80]])
    order, keys, (x, y) = barrier.take_many(1)
    assert (int(order[0]), int(keys[0]), float(x[0]), y.tolist()) == (1, 8, 0.25, [[80]])
    barrier.close(cancel_pending_enqueues=True)
    with pytest.raises(tw.OutOfRangeError):
        barrier.take_many(1, allow_small_batch=True)
    assert int(barrier.ready_size()) == 0
    with pytest.raises(ValueError, match="an element has 2 components"):
        barrier.insert_many(2, [1], [1])


def test_mutexes() -> None:
    mutex = tw.Mutex()
    total = [0]

    def work() -> None:
        for _ in range(50):
            with mutex.held():
                before = total[0]
                total[0] = before + 1

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert total == [200]
    holder = mutex.acquire()
    with pytest.raises(tw.DeadlineError):
        mutex.acquire(timeout=0.02)
    mutex.release(holder)
    with pytest.raises(tw.StepError, match="it was released before"):
        mutex.release(holder)
    assert mutex.execute(lambda: 3) == 3
