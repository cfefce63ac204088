"""Searching, sorting and sets, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from against_numpy import check, draw

from thalweg.dialects.diagnostics import TracingError, TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.function import function


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_arg_extremes(name, axis):
    x = draw((3, 4), "float32")
    for keep in (False, True):
        check(
            lambda x, keep=keep: getattr(xp, name)(x, axis=axis, keepdims=keep),
            lambda x, keep=keep: getattr(np, name)(x, axis=axis, keepdims=keep).astype(np.int32),
            x,
        )
    check(lambda x: getattr(xp, name)(x), lambda x: np.int32(getattr(np, name)(x)), draw((5,), "bool"))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("descending", [False, True])
def test_sort(axis, descending):
    x = draw((4, 5), "float32")

    def turned(y):
        return np.flip(y, axis) if descending else y

    check(lambda x: xp.sort(x, axis=axis, descending=descending), lambda x: turned(np.sort(x, axis)), x)
    check(
        lambda x: xp.argsort(x, axis=axis, descending=descending),
        lambda x: turned(np.argsort(x, axis)).astype(np.int32),
        x,
    )


def test_sort_is_stable():
    x = np.array([1, 0, 1, 0, 1], np.int32)
    check(xp.argsort, lambda x: np.argsort(x, kind="stable").astype(np.int32), x)
    assert xp.argsort(x, descending=True).tolist() == [0, 2, 4, 1, 3]


def test_top_k():
    x = draw((3, 6), "float32")
    check(lambda x: xp.top_k(x, 2), lambda x: (-np.sort(-x)[:, :2], np.argsort(-x)[:, :2].astype(np.int32)), x)
    check(lambda x: xp.top_k(x, 2, axis=0)[0], lambda x: -np.sort(-x, 0)[:2], x)
    with pytest.raises(TypeInferenceError, match="must be a Python integer"):
        function(lambda x, k: xp.top_k(x, k))(xp.ones((3,)), 2)


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted(side):
    table, values = np.array([0, 1, 1, 2], np.float32), np.array([[-1, 0], [1, 5]], np.float32)
    check(
        lambda a, v: xp.searchsorted(a, v, side=side),
        lambda a, v: np.searchsorted(a, v, side).astype(np.int32),
        table,
        values,
    )


def test_unique():
    x = np.array([[3, 1], [3, 2]], np.int32)
    found = xp.unique_all(x)
    assert found.values.tolist() == [1, 2, 3]
    assert found.indices.tolist() == [1, 3, 0]
    assert found.inverse_indices.tolist() == [[2, 0], [2, 1]]
    assert found.counts.tolist() == [1, 1, 2]
    assert xp.unique_counts(x).counts.tolist() == [1, 1, 2]
    assert xp.unique_inverse(x).values.tolist() == xp.unique_values(x).tolist() == [1, 2, 3]


def test_nonzero():
    assert [i.tolist() for i in xp.nonzero(np.array([[0, 2], [3, 0]]))] == [[0, 1], [1, 0]]


@pytest.mark.parametrize("name", ["nonzero", "unique_values", "unique_all"])
def test_shapes_that_depend_on_data(name):
    with pytest.raises(TracingError, match=rf"test_searching.py:\d+:.*{name} of a traced tensor f32\[3\]"):
        function(lambda x: getattr(xp, name)(x))(xp.ones((3,)))
