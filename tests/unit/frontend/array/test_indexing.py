"""Indexing and updates, against NumPy: every kind of key, eager and traced."""

from __future__ import annotations

import numpy as np
import pytest
from against_numpy import check, draw

from thalweg.dialects.diagnostics import TracingError, TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.function import function

I = np.array([0, 2, -1], np.int32)
J = np.array([1, 0, 3], np.int32)
GRID = np.array([[0], [2]], np.int32)
MASK = np.array([True, False, True])

KEYS = [
    0, -1, (1, 2), slice(None), slice(1, None), slice(None, None, 2), slice(None, None, -1), slice(2, 0, -1),
    slice(-2, None), slice(5, 9), slice(2, 1), (slice(None), 1), (..., 0), (0, ...), (None, 0), (..., None), None,
    (slice(None), None, slice(0, 4, 3)), (slice(None, None, -2), slice(3, None, -2)),
    I, (slice(None), I), (I, J), (I, slice(1, 3)), (GRID, I), (slice(None), I, I % 5), (I, slice(None), J % 5),
    (0, J), (slice(1, 3), J), [0, 2], (I, ..., 0), MASK, (..., I), (None, I), (), np.int64(1), (I, None, J),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_reading(key):
    check(lambda x: x[key], lambda x: x[key], draw((3, 4, 5), "float32"))


@pytest.mark.parametrize("dtype", ["float64", "bfloat16", "int64", "uint8", "bool"])
def test_reading_other_dtypes(dtype):
    check(lambda x: x[I, 1:], lambda x: x[I, 1:], draw((3, 4), dtype))


@pytest.mark.parametrize("key", KEYS, ids=str)
@pytest.mark.parametrize("mode", ["set", "add", "mul", "min", "max"])
def test_updating(key, mode):
    x = draw((3, 4, 5), "float32")
    value = draw(x[key].shape, "float32", seed=1)

    def theirs(x, value):
        changed = x.copy()
        at = {"add": np.add.at, "mul": np.multiply.at, "min": np.minimum.at, "max": np.maximum.at}
        if mode == "set":
            changed[key] = value
        else:
            at[mode](changed, key, value)
        return changed

    check(lambda x, value: getattr(x.at[key], mode)(value), theirs, x, value)


def test_repeated_indices_add_up():
    index = np.array([1, 1, 0], np.int32)
    x = xp.zeros((2, 2)).at[index].add(xp.ones((3, 2)))
    assert x.tolist() == [[1, 1], [2, 2]]


def test_updating_broadcasts_and_converts():
    check(
        lambda x: x.at[1:].set(7),
        lambda x: np.where(np.arange(3)[:, None] >= 1, 7, x).astype(np.float32),
        draw((3, 4), "float32"),
    )
    with pytest.raises(TypeInferenceError, match=r"does not fit the indexed shape \[4\]"):
        xp.zeros((3, 4)).at[0].set(xp.ones((3,)))


def test_indices_that_are_data():
    x = draw((3, 4), "float32")
    pick = function(lambda x, i, j: (x[i], x[:, i], x[i, j], x.at[i].set(0.0)))
    row, column, element, changed = pick(xp.asarray(x), np.int32(2), np.int32(1))
    np.testing.assert_array_equal(row, x[2])
    np.testing.assert_array_equal(column, x[:, 2])
    np.testing.assert_array_equal(element, x[2, 1])
    np.testing.assert_array_equal(changed, np.concatenate([x[:2], np.zeros((1, 4), np.float32)]))
    np.testing.assert_array_equal(function(lambda x, i: x[i])(xp.asarray(x), -1), x[-1])
    np.testing.assert_array_equal(function(lambda x, i: x[i])(xp.asarray(x), np.uint8(1)), x[1])


def test_outside_is_the_nearest_where_it_is_data():
    x = xp.arange(4)
    assert function(lambda x, i: x[i])(x, np.array([7, -9], np.int32)).tolist() == [3, 0]


@pytest.mark.parametrize("key", [3, -4, (0, 4), [0, 9]])
def test_outside_is_an_error_where_it_is_known(key):
    with pytest.raises(IndexError, match=r"test_indexing.py:\d+:.*out of (range|bounds)"):
        xp.ones((3, 4))[key]
    with pytest.raises(IndexError, match=r"test_indexing.py:\d+:.*out of range"):
        function(lambda x: x[key])(xp.ones((3, 4)))


def test_keys_that_make_no_sense():
    with pytest.raises(TypeInferenceError, match="3 indices are too many"):
        function(lambda x: x[0, 0, 0])(xp.ones((3, 4)))
    with pytest.raises(TypeInferenceError, match="an index must be of integers"):
        function(lambda x: x[x])(xp.ones((3, 4)))
    with pytest.raises(TracingError, match=r"traced mask bool\[3\] as an index"):
        function(lambda x: x[x > 0])(xp.ones((3,)))
    with pytest.raises(TracingError, match="dynamic_slice"):
        function(lambda x, n: x[:n])(xp.ones((3,)), 2)


def test_masks_of_eager_tensors():
    x = xp.asarray(draw((3, 4), "float32"))
    np.testing.assert_array_equal(x[x > 0], np.asarray(x)[np.asarray(x) > 0])


def test_take():
    x = draw((3, 4), "float32")
    for axis in (0, 1, -1):
        check(lambda x, i, axis=axis: xp.take(x, i, axis=axis), lambda x, i, axis=axis: np.take(x, i, axis), x, I % 3)
    check(lambda x, i: xp.take(x, i, axis=1), lambda x, i: np.take(x, i, 1), x, GRID)
    with pytest.raises(TypeInferenceError, match="an axis must be given"):
        xp.take(xp.ones((2, 2)), xp.asarray([0]))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_take_along_axis(axis):
    x = draw((3, 4), "float32")
    order = np.argsort(x, axis).astype(np.int32)
    check(lambda x, i: xp.take_along_axis(x, i, axis=axis), lambda x, i: np.take_along_axis(x, i, axis), x, order)
    first = np.zeros((1, 1), np.int32)
    check(lambda x, i: xp.take_along_axis(x, i, axis=axis), lambda x, i: np.take_along_axis(x, i, axis), x, first)


def test_windows():
    x = draw((4, 5), "float32")
    i = np.array(1, np.int32)
    check(lambda x, i: xp.dynamic_slice(x, (i, 2), (2, 3)), lambda x, i: x[1:3, 2:5], x, i)
    check(lambda x, i: xp.dynamic_slice(x, (i, 9), (2, 3)), lambda x, i: x[1:3, 2:5], x, i)

    def updated(x, i):
        x = x.copy()
        x[1:3, 0:2] = 1
        return x

    check(lambda x, i: xp.dynamic_update_slice(x, xp.ones((2, 2)), (i, 0)), updated, x, i)


def test_iteration_and_len():
    x = draw((3, 2), "float32")
    assert len(xp.asarray(x)) == 3
    assert [row.tolist() for row in xp.asarray(x)] == x.tolist()
    check(lambda x: sum(row for row in x), lambda x: x.sum(0), x)
    with pytest.raises(TypeError, match="0-dimensional"):
        len(xp.asarray(1.0))
