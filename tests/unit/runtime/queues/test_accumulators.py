"""Accumulators: means, sums, stale gradients, waiting takes, sparse rows."""

from __future__ import annotations

import threading

import ml_dtypes
import numpy as np
import pytest
from queue_outcomes import Outcome

from thalweg.dialects.diagnostics import CancelledError, StepError
from thalweg.dialects.types import VARIES, TensorType, bfloat16, float32, int32
from thalweg.runtime.queues import DenseAccumulator, SparseAccumulator

PAIR = TensorType((2,), float32)
TABLE = TensorType((5, 2), float32)


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def take(accumulator, required: int) -> Outcome:
    return Outcome(lambda done: accumulator.take(required, done))


def test_mean_and_sum() -> None:
    for reduction, wanted in (("mean", [2, 3]), ("sum", [4, 6])):
        accumulator = DenseAccumulator("w", PAIR, reduction)
        assert accumulator.apply(f32(1, 2), 0) and accumulator.apply(f32(3, 4), 0)
        assert accumulator.count() == 2
        (value,) = take(accumulator, 2).get()
        assert value.tolist() == wanted and value.dtype == np.float32
        assert accumulator.count() == 0 and accumulator.step == 1


def test_a_take_waits_until_enough_are_in_and_gets_all() -> None:
    accumulator = DenseAccumulator("w", PAIR)
    waiting = take(accumulator, 2)
    accumulator.apply(f32(1, 1), 0)
    assert waiting.pending
    accumulator.apply(f32(3, 3), 0)
    assert waiting.get()[0].tolist() == [2, 2]
    for _ in range(3):
        accumulator.apply(f32(6, 0), 1)
    assert take(accumulator, 2).get()[0].tolist() == [6, 0]


def test_stale_gradients_are_dropped() -> None:
    accumulator = DenseAccumulator("w", PAIR)
    accumulator.apply(f32(1, 1), 0)
    take(accumulator, 1)
    assert not accumulator.apply(f32(9, 9), 0)
    assert accumulator.apply(f32(2, 2), 1) and accumulator.apply(f32(4, 4), 5), "from later is welcome"
    assert take(accumulator, 2).get()[0].tolist() == [3, 3]
    assert accumulator.state()["dropped"] == 1


def test_the_step_can_be_set_forward_only() -> None:
    accumulator = DenseAccumulator("w", PAIR)
    accumulator.set_step(7)
    assert not accumulator.apply(f32(1, 1), 6)
    with pytest.raises(StepError, match="accumulator 'w': it is at step 7 and cannot go back to 3"):
        accumulator.set_step(3)


def test_takes_are_served_in_order_and_can_be_cancelled() -> None:
    accumulator = DenseAccumulator("w", PAIR)
    first, second, third = (take(accumulator, 1) for _ in range(3))
    second.ticket.cancel(CancelledError("given up"))
    accumulator.apply(f32(1, 0), 0)
    accumulator.apply(f32(2, 0), 1)
    assert first.get()[0].tolist() == [1, 0] and third.get()[0].tolist() == [2, 0]
    assert isinstance(second.error, CancelledError)


def test_mistakes() -> None:
    accumulator = DenseAccumulator("w", PAIR)
    with pytest.raises(StepError, match=r"it takes float32\[2\], the gradient is float32\[3\]"):
        accumulator.apply(f32(1, 2, 3), 0)
    with pytest.raises(StepError, match="must be at least 1"):
        accumulator.take(0, Outcome)
    assert accumulator.count() == 0


def test_sums_of_16_bit_numbers_are_kept_in_32() -> None:
    accumulator = DenseAccumulator("w", TensorType((), bfloat16))
    for _ in range(1000):
        accumulator.apply(np.array(1, ml_dtypes.bfloat16), 0)
    assert float(take(accumulator, 1000).get()[0]) == 1.0, "256 + 1 is 256 in bfloat16"


def test_large_integers_are_exact() -> None:
    accumulator = DenseAccumulator("w", TensorType((), int32), "sum")
    accumulator.apply(np.int32(2**30 + 1), 0)
    accumulator.apply(np.int32(1), 0)
    assert int(take(accumulator, 2).get()[0]) == 2**30 + 2


def test_gradients_from_many_threads() -> None:
    accumulator = DenseAccumulator("w", PAIR, "sum")
    waiting = take(accumulator, 400)
    threads = [
        threading.Thread(target=lambda: [accumulator.apply(f32(1, 2), 0) for _ in range(100)], daemon=True)
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    assert waiting.wait(60) and waiting.get()[0].tolist() == [400, 800]


@pytest.mark.parametrize(("reduction", "wanted"), [
    ("sum", [[1, 1], [6, 6], [2, 2]]), ("mean", [[0.5, 0.5], [3, 3], [1, 1]]), ("row_mean", [[1, 1], [3, 3], [2, 2]]),
])  # fmt: skip
def test_sparse(reduction: str, wanted: list) -> None:
    accumulator = SparseAccumulator("table", TABLE, reduction)
    accumulator.apply(np.array([3, 0], np.int32), np.array([[4, 4], [1, 1]], np.float32), 0)
    accumulator.apply(np.array([3, 4, 3]), np.array([[1, 1], [2, 2], [1, 1]], np.float32), 0)
    indices, values = take(accumulator, 2).get()
    assert indices.tolist() == [0, 3, 4] and indices.dtype == np.int64
    assert values.tolist() == wanted and values.dtype == np.float32


def test_the_sparse_mean_is_the_dense_mean() -> None:
    rng = np.random.default_rng(0)
    sparse, dense = SparseAccumulator("t", TABLE), DenseAccumulator("t", TABLE)
    for _ in range(6):
        indices = rng.integers(0, 5, 4)
        values = rng.normal(size=(4, 2)).astype(np.float32)
        full = np.zeros((5, 2), np.float32)
        np.add.at(full, indices, values)
        sparse.apply(indices, values, 0), dense.apply(full, 0)
    indices, values = take(sparse, 6).get()
    np.testing.assert_allclose(values, take(dense, 6).get()[0][indices], rtol=1e-5)


def test_sparse_mistakes() -> None:
    accumulator = SparseAccumulator("table", TABLE)
    with pytest.raises(StepError, match=r"the index 5 is outside float32\[5,2\]"):
        accumulator.apply(np.array([1, 5]), np.ones((2, 2), np.float32), 0)
    with pytest.raises(StepError, match=r"got indices \[2\] and values float32\[1,2\]"):
        accumulator.apply(np.array([1, 2]), np.ones((1, 2), np.float32), 0)
    unbounded = SparseAccumulator("table", TensorType((VARIES, 1), float32))
    assert unbounded.apply(np.array([10**9]), np.ones((1, 1), np.float32), 0)
