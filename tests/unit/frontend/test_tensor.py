"""Eager tensors as Python objects: conversions, printing, sharing of memory."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TracingError
from thalweg.frontend.array import arange, asarray, ones, zeros
from thalweg.frontend.function import function
from thalweg.frontend.tensor import EagerTensor, Tensor, TracedTensor


def test_properties():
    x = ones((2, 3), dtype="bfloat16")
    assert (x.shape, x.ndim, x.size, x.dtype.name, str(x.type)) == ((2, 3), 2, 6, "bfloat16", "bf16[2,3]")
    assert str(x.device) == "/device:CPU:0"
    assert isinstance(x, Tensor)


@pytest.mark.parametrize(("value", "text"), [
    (1.5, "Tensor(1.5, dtype=float32)"), ([1, 2], "Tensor([1, 2], dtype=int32)"),
    (np.zeros((0, 2)), "Tensor([], shape=(0, 2), dtype=float64)"), ([True], "Tensor([ True], dtype=bool)"),
])  # fmt: skip
def test_repr(value, text):
    assert repr(asarray(value)) == text


def test_repr_of_a_big_one_is_short():
    assert len(repr(zeros((1000, 1000)))) < 1000
    assert "shape=(1000, 1000)" in repr(zeros((1000, 1000)))


def test_one_number():
    x = asarray(2.5)
    assert (float(x), int(x), bool(x), x.item(), f"{x:.2f}", complex(x)) == (2.5, 2, True, 2.5, "2.50", 2.5 + 0j)
    assert [10, 20, 30][asarray(1)] == 20
    assert bool(asarray([0])) is False
    with pytest.raises(TypeError, match=r"test_tensor.py:\d+:.*only a 0-dimensional one is one number"):
        bool(asarray([1, 2]))
    with pytest.raises(TypeError, match="no integer"):
        [1][asarray(0.0)]


def test_numpy_sees_the_buffer_read_only():
    x = arange(4)
    view = np.asarray(x)
    assert np.shares_memory(view, x.data)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 1
    changed = np.array(x)
    changed[0] = 9
    assert x.tolist() == [0, 1, 2, 3]
    assert np.asarray(x, np.float64).dtype == np.float64


def test_numpy_on_the_left():
    assert (np.ones(2, np.float32) + ones((2,))).tolist() == [2, 2]
    assert isinstance(np.ones(2, np.float32) * ones((2,)), EagerTensor)
    assert isinstance(np.float32(2) - ones((2,)), EagerTensor)


def test_operators_with_strangers():
    with pytest.raises(TypeError, match="unsupported operand"):
        ones((2,)) + "text"
    assert (ones((2,)) == "text") is False


def test_tensors_never_change():
    x = ones((2,))
    with pytest.raises(TypeError, match=r"test_tensor.py:\d+:.*x = x.at\[key\].set\(value\)"):
        x[0] = 5.0


def test_hash_and_keys():
    x, y = ones((2,)), ones((2,))
    assert {x: 1, y: 2}[x] == 1


def test_pickle_and_copy():
    x = ones((2, 2), dtype="bfloat16")
    assert pickle.loads(pickle.dumps(x)).tolist() == copy.deepcopy(x).tolist() == x.tolist()


def test_not_contiguous_arrays_become_contiguous():
    source = np.arange(6, dtype=np.float32).reshape(2, 3).T
    for tensor in (asarray(source), asarray(source, copy=False)):
        assert tensor.data.flags.c_contiguous
        np.testing.assert_array_equal(tensor, source)
    np.testing.assert_array_equal(function(lambda x: x + 1)(source), source + 1)


def test_standard_protocols():
    import thalweg

    x = arange(3)
    assert x.__array_namespace__() is thalweg
    assert x.to_device("/device:CPU:0") is x
    with pytest.raises(ValueError, match="there is no device"):
        x.to_device("GPU:0")
    assert x.__dlpack_device__() == (1, 0)


@pytest.mark.parametrize("use", [bool, int, float, np.asarray, np.from_dlpack, list(range(3)).__getitem__,
                                 lambda x: x.item()])  # fmt: skip
def test_traced_tensors_have_no_numbers(use):
    with pytest.raises(TracingError, match=r"test_tensor.py:\d+: in .*while lambda\(\) is traced"):
        function(lambda x: use(x))(asarray(1))


def test_traced_tensors_print_without_numbers():
    seen = []
    function(lambda x: seen.append((repr(x), type(x), x.shape)) or x)(ones((2, 3)))
    assert seen == [("Tensor(f32[2,3], traced in lambda())", TracedTensor, (2, 3))]
