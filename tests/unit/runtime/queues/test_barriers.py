"""Barriers: components under keys, in any order and from any thread."""

from __future__ import annotations

import random
import threading

import numpy as np
import pytest
from queue_outcomes import Outcome

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError, StepError
from thalweg.dialects.types import TensorType, float32, int64
from thalweg.runtime.queues import Barrier


def keys(*names: str) -> np.ndarray:
    return np.array([n.encode() for n in names], object)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def pairs() -> Barrier:
    return Barrier("b", [TensorType((), float32), TensorType((1,), float32)])


def take(barrier: Barrier, count: int, partial: bool = False) -> Outcome:
    return Outcome(lambda done: barrier.take(count, done, partial))


def test_an_element_is_complete_when_all_components_are_in() -> None:
    barrier = pairs()
    waiting = take(barrier, 2)
    barrier.insert(0, keys("a", "b"), f32(1, 2))
    assert barrier.incomplete_size() == 2 and barrier.ready_size() == 0
    barrier.insert(1, keys("b"), f32(20).reshape(1, 1))
    assert barrier.ready_size() == 1 and waiting.pending
    barrier.insert(1, keys("a"), f32(10).reshape(1, 1))
    order, names, first, second = waiting.get()
    assert order.tolist() == [0, 1] and names.tolist() == [b"a", b"b"], "as the keys first came"
    assert first.tolist() == [1, 2] and second.tolist() == [[10], [20]]


def test_a_component_twice_is_an_error_and_nothing_is_inserted() -> None:
    barrier = pairs()
    barrier.insert(0, keys("a"), f32(1))
    with pytest.raises(StepError, match="insert to barrier 'b': the key b'a' has component 0 already"):
        barrier.insert(0, keys("z", "a"), f32(5, 6))
    with pytest.raises(StepError, match="the key b'y' has component 0 already"):
        barrier.insert(0, keys("y", "y"), f32(5, 6))
    assert barrier.incomplete_size() == 1


def test_closing() -> None:
    barrier = pairs()
    barrier.insert(0, keys("a", "b"), f32(1, 2))
    barrier.insert(1, keys("a"), f32(3).reshape(1, 1))
    barrier.close_input()
    with pytest.raises(CancelledError, match="takes no new key such as b'c'"):
        barrier.insert(0, keys("c"), f32(1))
    waiting = take(barrier, 2)
    assert waiting.pending, "b may still be completed"
    barrier.insert(1, keys("b"), f32(4).reshape(1, 1))
    assert waiting.get()[1].tolist() == [b"a", b"b"]
    assert isinstance(take(barrier, 1).error, OutOfRangeError)


def test_closing_with_what_lacks_components_dropped() -> None:
    barrier = pairs()
    barrier.insert(0, keys("a", "b"), f32(1, 2))
    barrier.insert(1, keys("a"), f32(3).reshape(1, 1))
    barrier.close_input(cancel_pending=True)
    assert barrier.incomplete_size() == 0
    assert isinstance(take(barrier, 2).error, OutOfRangeError)
    assert take(barrier, 2, partial=True).get()[1].tolist() == [b"a"]


def test_integer_keys_and_mistakes() -> None:
    barrier = Barrier("b", [TensorType((), float32)], int64)
    barrier.insert(0, np.array([7, 3]), f32(1, 2))
    assert take(barrier, 2).get()[1].tolist() == [7, 3]
    with pytest.raises(StepError, match=r"keys int64\[1\] and values float32\[1\], got int64\[1\] and float32\[2\]"):
        barrier.insert(0, np.array([1]), f32(1, 2))
    with pytest.raises(StepError, match="there is no component 1"):
        barrier.insert(1, np.array([1]), f32(1))


def test_components_from_many_threads() -> None:
    barrier = Barrier("b", [TensorType((), float32)] * 3, int64)
    waiting = take(barrier, 500)

    def insert(component: int) -> None:
        order = list(range(500))
        random.Random(component).shuffle(order)
        for key in order:
            barrier.insert(component, np.array([key]), f32(1000 * component + key))

    threads = [threading.Thread(target=insert, args=(k,), daemon=True) for k in range(3)]
    for thread in threads:
        thread.start()
    assert waiting.wait(60)
    _, names, *values = waiting.get()
    assert sorted(names.tolist()) == list(range(500))
    for component, column in enumerate(values):
        assert column.tolist() == [1000 * component + k for k in names]
