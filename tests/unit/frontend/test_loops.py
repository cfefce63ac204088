"""map and fold: what NumPy gives, eager and traced, with gradients."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.control import scan, while_loop
from thalweg.frontend.function import function
from thalweg.frontend.gradient import grad
from thalweg.frontend.loops import fold, map

ROWS = np.random.default_rng(0).uniform(-1, 1, (5, 3)).astype(np.float32)


def both(f):
    """The function as it is, and traced."""
    return [f, function(f)]


def test_map_stacks() -> None:
    for f in both(lambda x: map(lambda row: {"sum": xp.sum(row), "twice": row * 2}, x)):
        out = f(xp.asarray(ROWS))
        np.testing.assert_allclose(out["sum"].numpy(), ROWS.sum(1), rtol=1e-6)
        np.testing.assert_array_equal(out["twice"].numpy(), ROWS * 2)


def test_map_takes_structures() -> None:
    for f in both(lambda x, y: map(lambda row: row["a"] * row["b"], {"a": x, "b": y})):
        expected = ROWS * np.arange(5, dtype=np.float32)[:, None]
        np.testing.assert_array_equal(f(xp.asarray(ROWS), xp.arange(5)).numpy(), expected)


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("start", [False, True])
def test_fold(right: bool, start: bool) -> None:
    rows = [*ROWS[::-1]] if right else [*ROWS]
    expected = np.zeros(3) if start else rows.pop(0)
    for row in rows:
        expected = expected * 0.5 + row
    init = (xp.zeros((3,)),) if start else ()
    for f in both(lambda x: fold(lambda total, row: total * 0.5 + row, x, *init, right=right)):
        np.testing.assert_allclose(f(xp.asarray(ROWS)).numpy(), expected, rtol=1e-5, atol=1e-6)


def test_gradients() -> None:
    def f(x):
        return xp.sum(fold(lambda total, row: total * row, map(xp.sin, x)))

    x = ROWS.astype(np.float64)
    got = function(grad(f))(xp.asarray(x)).numpy()
    product = np.sin(x).prod(0)
    np.testing.assert_allclose(got, product / np.sin(x) * np.cos(x), rtol=1e-9)


def test_nothing_to_begin_with() -> None:
    with pytest.raises(TypeInferenceError, match="there is no first row"):
        fold(lambda a, b: a + b, xp.zeros((0, 2)))
    with pytest.raises(TypeInferenceError, match="holds no array"):
        map(lambda row: row, ())


def test_parallel_iterations_is_told_to_the_loop() -> None:
    f = function(lambda x: while_loop(lambda v: v < 9, lambda v: v * 2, x, parallel_iterations=3))
    assert "parallel_iterations = 3" in f.ir("tw", xp.asarray(1.0))
    g = function(lambda x: scan(lambda c, row: (c + row, None), xp.zeros(()), x, parallel_iterations=4)[0])
    assert "parallel_iterations = 4" in g.ir("tw", xp.ones((3,)))
    assert "parallel_iterations" not in function(lambda x: map(xp.sin, x)).ir("tw", xp.ones((3,)))
    with pytest.raises(TypeInferenceError, match="at least 1"):
        function(lambda x: while_loop(lambda v: v < 9, lambda v: v * 2, x, parallel_iterations=0))(xp.asarray(1.0))
