"""TensorArray: reads what was written, inside and outside of loops and branches, with gradients."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.types import float32, float64, int32
from thalweg.frontend import array as xp
from thalweg.frontend.control import cond, scan, while_loop
from thalweg.frontend.function import function
from thalweg.frontend.gradient import grad
from thalweg.frontend.tensor_array import TensorArray


def both(f):
    """The function as it is, and traced."""
    return [f, function(f)]


def test_write_read_stack() -> None:
    array = TensorArray(float32, 3, (2,)).write(1, [1.0, 2.0]).write(2, xp.ones((2,)))
    assert array.stack().tolist() == [[0, 0], [1, 2], [1, 1]]
    assert array.read(1).tolist() == [1, 2]
    assert (array.size(), len(array), array.dtype, array.element_shape) == (3, 3, float32, (2,))


def test_writing_leaves_the_old_array_as_it_was() -> None:
    old = TensorArray(int32, 2)
    new = old.write(0, 7)
    assert (old.stack().tolist(), new.stack().tolist()) == ([0, 0], [7, 0])


def test_gather_scatter_unstack() -> None:
    for f in both(lambda x, i: TensorArray(float32, 4).unstack(x).scatter(i, -xp.ones((2,))).gather(xp.flip(i))):
        assert f(xp.asarray([1.0, 2.0, 3.0, 4.0]), xp.asarray([3, 0])).tolist() == [-1, -1]
    array = TensorArray.of(xp.asarray([[1.0, 2.0], [3.0, 4.0]]))
    assert array.gather([[1, 0], [1, 1]]).shape == (2, 2, 2)
    assert array.scatter([1], [[9.0, 9.0]]).stack().tolist() == [[1, 2], [9, 9]]


def test_in_a_while_loop() -> None:
    def squares():
        return while_loop(lambda i, _: i < 5, lambda i, a: (i + 1, a.write(i, i * i)), (0, TensorArray(int32, 5)))[1]

    for f in both(squares):
        assert f().stack().tolist() == [0, 1, 4, 9, 16]


def test_in_a_scan_and_a_branch() -> None:
    def f(x):
        def body(array, row):
            index, value = row
            written = cond(value > 0, lambda: array.write(index, value), lambda: array)
            return written, written.read(0)

        array, firsts = scan(body, TensorArray(float32, 4), (xp.arange(4), x))
        return array.stack(), firsts

    for g in both(f):
        kept, firsts = g(xp.asarray([2.0, -1.0, 3.0, -4.0]))
        assert (kept.tolist(), firsts.tolist()) == ([2, 0, 3, 0], [2, 2, 2, 2])


def test_goes_through_functions() -> None:
    f = function(lambda array, x: array.write(0, x))
    assert f(TensorArray(float32, 2), xp.asarray(5.0)).stack().tolist() == [5, 0]


def recurrence(x):
    """y[i] = sin(y[i - 1] * x[i]), read and written element by element."""

    def body(i, ys):
        return i + 1, ys.write(i + 1, xp.sin(ys.read(i) * TensorArray.of(x).read(i)))

    start = TensorArray(float64, x.shape[0] + 1).write(0, 1.0)
    return while_loop(lambda i, _: i < x.shape[0], body, (0, start))[1].stack()


def test_gradients_through_a_loop() -> None:
    x = np.array([0.7, 1.3, 0.4, 0.9])
    got = function(grad(lambda x: xp.sum(recurrence(x) ** 2)))(xp.asarray(x)).numpy()

    def value(x: np.ndarray) -> float:
        y = [1.0]
        for v in x:
            y.append(np.sin(y[-1] * v))
        return float(np.sum(np.square(y)))

    step = 1e-6
    numbers = [(value(x + step * e) - value(x - step * e)) / (2 * step) for e in np.eye(4)]
    np.testing.assert_allclose(got, numbers, rtol=1e-6)


def test_gradients_of_what_is_overwritten_are_zero() -> None:
    def f(x):
        array = TensorArray.of(x).write(1, 5.0).scatter([2], xp.stack([x[0] * 3]))
        return xp.sum(array.gather([0, 1, 2, 2]))

    assert function(grad(f))(xp.asarray([1.0, 2.0, 3.0])).tolist() == [7, 0, 0]


def test_misfits_are_told() -> None:
    array = TensorArray(float32, 3, (2,))
    with pytest.raises(TypeInferenceError, match=r"test_tensor_array.py:\d+: .*write: takes f32\[2\], got f32\[3\]"):
        array.write(0, xp.ones((3,)))
    with pytest.raises(TypeInferenceError, match="index 3 is outside an array of 3 elements"):
        array.read(3)
    with pytest.raises(TypeInferenceError, match="index -1 is outside"):
        array.write(-1, xp.ones((2,)))
    with pytest.raises(TypeInferenceError, match="indices must be integers"):
        array.read(0.5)
    with pytest.raises(TypeInferenceError, match="the size must be an integer"):
        TensorArray(float32, 2.5)
    with pytest.raises(TypeInferenceError, match="has no rows"):
        TensorArray.of(1.0)
    with pytest.raises(TypeInferenceError, match=r"unstack: takes f32\[3,2\]"):
        array.unstack(xp.ones((2, 2)))
