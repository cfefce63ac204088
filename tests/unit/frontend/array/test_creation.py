"""Functions that make arrays, against NumPy, eager and traced."""

from __future__ import annotations

import numpy as np
import pytest
from against_numpy import DTYPES, check, draw

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.function import function


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), 3, (2, 3), (0, 2)])
def test_filled(shape, dtype):
    kind = xp.zeros((), dtype=dtype).dtype.numpy
    check(lambda: xp.zeros(shape, dtype=dtype), lambda: np.zeros(shape, kind))
    check(lambda: xp.ones(shape, dtype=dtype), lambda: np.ones(shape, kind))
    check(lambda: xp.full(shape, 1, dtype=dtype), lambda: np.full(shape, 1, kind))


def test_default_dtypes():
    assert xp.zeros((2,)).dtype.name == "float32"
    assert xp.full((2,), 1).dtype.name == "int32"
    assert xp.full((2,), True).dtype.name == "bool"
    assert xp.full((2,), xp.asarray(np.ones((), np.float64))).dtype.name == "float64"
    assert xp.asarray([1, 2]).dtype.name == "int32"
    assert xp.asarray([2**40]).dtype.name == "int64"
    assert xp.asarray(1.5).dtype.name == "float32"
    assert xp.asarray([[True], [False]]).dtype.name == "bool"
    assert xp.asarray(np.arange(3)).dtype.name == "int64"
    assert xp.asarray([np.float64(1)]).dtype.name == "float32", "a NumPy float64 scalar is a Python float"
    assert xp.asarray([np.float16(1)]).dtype.name == "float16"


def test_like():
    x = draw((2, 3), "int8")
    check(xp.zeros_like, np.zeros_like, x)
    check(xp.ones_like, np.ones_like, x)
    check(lambda x: xp.full_like(x, 7), lambda x: np.full_like(x, 7), x)
    check(lambda x: xp.zeros_like(x, dtype="float32"), lambda x: np.zeros_like(x, dtype=np.float32), x)


@pytest.mark.parametrize("arguments", [(5,), (2, 7), (0, 10, 3), (10, 0, -3), (5, 2), (0.0, 1.0, 0.25), (3, 0, 1)])
def test_arange(arguments):
    kind = np.float32 if isinstance(arguments[-1], float) else np.int32
    check(lambda: xp.arange(*arguments), lambda: np.arange(*arguments).astype(kind))
    check(lambda: xp.arange(*arguments, dtype="float64"), lambda: np.arange(*arguments).astype(np.float64))


def test_linspace():
    check(lambda: xp.linspace(0, 1, 5), lambda: np.linspace(0, 1, 5, dtype=np.float32))
    check(
        lambda: xp.linspace(1, -1, 4, endpoint=False), lambda: np.linspace(1, -1, 4, endpoint=False, dtype=np.float32)
    )


@pytest.mark.parametrize("k", [-2, -1, 0, 1, 3])
def test_diagonals_and_triangles(k):
    x = draw((2, 3, 4), "float32")
    check(lambda: xp.eye(3, 4, k=k), lambda: np.eye(3, 4, k=k, dtype=np.float32))
    check(lambda x: xp.tril(x, k=k), lambda x: np.tril(x, k=k), x)
    check(lambda x: xp.triu(x, k=k), lambda x: np.triu(x, k=k), x)


@pytest.mark.parametrize("indexing", ["xy", "ij"])
def test_meshgrid(indexing):
    a, b, c = draw((2,), "float32"), draw((3,), "float32"), draw((4,), "float32")
    check(
        lambda a, b, c: xp.meshgrid(a, b, c, indexing=indexing),
        lambda a, b, c: np.meshgrid(a, b, c, indexing=indexing),
        a,
        b,
        c,
    )


def test_one_hot():
    x = np.array([[0, 2], [1, 5]], np.int32)
    expected = (x[..., None] == np.arange(3)).astype(np.float32)
    check(lambda x: xp.one_hot(x, 3), lambda x: expected, x)
    check(lambda x: xp.one_hot(x, 3, axis=0), lambda x: np.moveaxis(expected, -1, 0), x)
    with pytest.raises(TypeInferenceError, match="takes integers"):
        xp.one_hot(xp.ones((2,)), 3)


def test_asarray_copies_numpy_arrays_unless_told_not_to():
    source = np.zeros(3, np.float32)
    copied, shared = xp.asarray(source), xp.asarray(source, copy=False)
    source[0] = 1
    assert copied.tolist() == [0, 0, 0]
    assert shared.tolist() == [1, 0, 0]


def test_asarray_of_lists_with_tensors_stacks_them():
    check(lambda x: xp.asarray([x[0], x[1] * 2]), lambda x: np.stack([x[0], x[1] * 2]), draw((2, 3), "float32"))


@pytest.mark.parametrize("value", [object(), "text", [[1], [1, 2]], np.array(["a"]), 1j])
def test_what_is_no_array(value):
    with pytest.raises(TypeError, match=r"test_creation.py:\d+:"):
        xp.asarray(value)


def test_dlpack_shares_memory():
    source = np.arange(3, dtype=np.float32)
    assert np.shares_memory(np.asarray(xp.from_dlpack(source)), source)
    tensor = xp.arange(4)
    assert np.from_dlpack(tensor).tolist() == [0, 1, 2, 3]
    assert xp.from_dlpack(tensor).tolist() == [0, 1, 2, 3]


def test_extents_must_be_known():
    with pytest.raises(TypeInferenceError, match="extents must not be negative"):
        xp.zeros((-1,))
    with pytest.raises(TypeInferenceError, match="traced"):
        function(lambda n: xp.zeros((n,)))(3)
    with pytest.raises(TypeInferenceError, match="traced"):
        function(lambda n: xp.arange(n))(3)
