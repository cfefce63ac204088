"""Many short rows: reduced side by side, gathered, with what comes before and after."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw
from thalweg.compiler import Driver
from thalweg.runtime.config import Config


def numbers(rows: int, width: int, dtype: str = "float32") -> np.ndarray:
    return np.random.default_rng(width).standard_normal((rows, width)).astype(dtype)


def logsumexp(x: np.ndarray) -> np.ndarray:
    top = x.max(-1, keepdims=True)
    return np.log(np.exp(x - top).sum(-1, keepdims=True)) + top


@pytest.mark.parametrize("width", [1, 2, 3, 7, 10, 16, 17, 33, 48, 49])
@pytest.mark.parametrize("rows", [63, 64, 131])
def test_rows_of_all_widths(rows: int, width: int) -> None:
    x = numbers(rows, width)
    wide = x.astype(np.float64)
    wanted = [wide.sum(-1), wide.max(-1), wide.var(-1), wide.argmax(-1), logsumexp(wide)[:, 0], wide - logsumexp(wide)]
    got = tw.function(
        lambda x: (
            tw.sum(x, axis=-1), tw.max(x, axis=-1), tw.var(x, axis=-1), tw.argmax(x, axis=-1),
            tw.logsumexp(x, axis=-1), tw.log_softmax(x),
        )
    )(x)  # fmt: skip
    for ours, right in zip(got, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(ours), right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16", "int32", "int8"])
def test_dtypes(dtype: str) -> None:
    x = np.random.default_rng(0).integers(-9, 9, (200, 7)).astype(getattr(tw, dtype).numpy)
    np.testing.assert_array_equal(np.asarray(tw.max(x, axis=-1)), x.max(-1))
    np.testing.assert_array_equal(np.asarray(tw.sum(x, axis=-1)).astype(np.float64), x.astype(np.float64).sum(-1))


def test_nan_and_infinity_stay_in_their_row() -> None:
    x = numbers(100, 5)
    x[3, 1], x[4, 2], x[5, 0] = np.nan, np.inf, -np.inf
    for ours, numpy in ((tw.max, np.max), (tw.sum, np.sum), (tw.min, np.min)):
        np.testing.assert_allclose(np.asarray(ours(x, axis=-1)), numpy(x, axis=-1), rtol=1e-5, atol=1e-6)


def test_inside_other_dimensions() -> None:
    """The reduced dimensions are short and in the middle, or several."""
    x = np.random.default_rng(1).standard_normal((3, 70, 2, 5)).astype(np.float32)
    np.testing.assert_allclose(np.asarray(tw.sum(x, axis=(2, 3))), x.sum((2, 3)), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(np.asarray(tw.max(x, axis=3)), x.max(3))
    np.testing.assert_allclose(np.asarray(tw.mean(x, axis=(0, 3))), x.mean((0, 3)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(256, 10), (100, 7), (70, 48), (40, 65)], ids=str)
def test_rows_and_columns_are_the_same_on_any_number_of_threads(shape: tuple[int, int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    program = tw.function(lambda x: (tw.nn.softmax(x), tw.sum(x, axis=0))).program(x)
    found = set()
    for threads in (1, 2, 3, 5):
        compiled = Driver(Config(threads=threads, cache=False)).compile(program)
        found.add(b"".join(a.tobytes() for a in compiled([x])))
    assert len(found) == 1
