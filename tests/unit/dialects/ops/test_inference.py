"""Operands that do not fit: one case for each rule, and the words that tell the user what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import contraction, elementwise, indexing, random, reduce, shape, sort, state, window
from thalweg.dialects.types import (
    DType,
    TensorType,
    VariableType,
    bool_,
    float16,
    float32,
    int8,
    int32,
    uint8,
    uint32,
    uint64,
)


def t(*shape: int, dtype: DType = float32) -> TensorType:
    return TensorType(shape, dtype)


_MATMUL = {"lhs_contract": (1,), "rhs_contract": (0,)}
_CONV: dict[str, Any] = {
    "strides": (1,), "pad_low": (0,), "pad_high": (0,), "lhs_dilation": (1,), "rhs_dilation": (1,),
    "lhs_spec": (0, 2, 1), "rhs_spec": (2, 1, 0), "out_spec": (0, 2, 1),
}  # fmt: skip
_POOL: dict[str, Any] = {"window": (2,), "strides": (1,), "pad_low": (0,), "pad_high": (0,)}
_GATHER: dict[str, Any] = {
    "offset_dims": (1,), "collapsed_slice_dims": (0,), "start_index_map": (0,), "index_vector_dim": 1,
    "slice_sizes": (1, 3),
}  # fmt: skip
_SCATTER: dict[str, Any] = {
    "update_window_dims": (1,), "inserted_window_dims": (0,), "scatter_dims_to_operand_dims": (0,),
    "index_vector_dim": 1,
}  # fmt: skip
_I = t(4, dtype=int32)
_INDEX = t(dtype=int32)

CASES: list[tuple[OpDef, list[Any], dict[str, Any], str]] = [
    (elementwise.add, [t(2), t(3)], {}, r"shapes differ: f32\[2\] and f32\[3\]. Broadcast"),
    (elementwise.add, [t(2), t(2, dtype=int32)], {}, "dtypes differ.*Convert one"),
    (elementwise.exp, [t(2, dtype=int32)], {}, r"not defined for i32: got i32\[2\]. It takes f64, f32"),
    (elementwise.select, [t(2), t(2), t(2)], {}, "predicate must be bool"),
    (elementwise.select, [t(3, dtype=bool_), t(2), t(2)], {}, r"predicate's shape must be \(\)"),
    (elementwise.clamp, [t(3), t(2), t()], {}, "bounds must be scalars"),
    (elementwise.bitcast, [t(2)], {"dtype": int8}, "differ in width"),
    (shape.reshape, [t(2, 3)], {"shape": (4,)}, r"has 6 elements, the shape \[4\] 4"),
    (shape.transpose, [t(2, 3)], {"permutation": (0, 0)}, "not a permutation"),
    (shape.broadcast, [t(2)], {"shape": (3, 4), "dims": (0,)}, "extent 2 .* cannot become extent 3"),
    (shape.broadcast, [t(2)], {"shape": (3, 4), "dims": (2,)}, "must name one increasing dimension"),
    (shape.iota, [], {"shape": (3,), "dim": 1, "dtype": int32}, "dim 1 is outside"),
    (shape.iota, [], {"shape": (3,), "dim": 0, "dtype": bool_}, "not defined for bool"),
    (shape.concatenate, [], {"axis": 0}, "at least one operand"),
    (shape.concatenate, [t(2, 3), t(2, 4)], {"axis": 0}, "must agree in every dimension but 0"),
    (shape.concatenate, [t(2)], {"axis": 1}, r"axis 1 is outside f32\[2\]"),
    (shape.pad, [t(2), t(1)], {"low": (0,), "high": (0,), "interior": (0,)}, r"padding value must be f32\[\]"),
    (shape.pad, [t(2), t()], {"low": (0,), "high": (0, 0), "interior": (0,)}, "high .* has 2 entries"),
    (shape.pad, [t(2), t()], {"low": (-2,), "high": (-1,), "interior": (0,)}, "cuts off more than there is"),
    (shape.pad, [t(2), t()], {"low": (0,), "high": (0,), "interior": (-1,)}, "must not be below 0"),
    (shape.slice, [t(5)], {"start": (3,), "limit": (2,), "strides": (1,)}, "0 <= start <= limit"),
    (shape.slice, [t(5)], {"start": (0,), "limit": (5,), "strides": (0,)}, "strides .* must not be below 1"),
    (shape.reverse, [t(5)], {"axes": (0, 0)}, "names a dimension twice"),
    (reduce.reduce_sum, [t(2, dtype=bool_)], {"axes": (0,)}, "not defined for bool.*convert it first"),
    (reduce.reduce_max, [t(2)], {"axes": (1,)}, "axes 1 is outside"),
    (reduce.reduce_and, [t(2)], {"axes": (0,)}, "not defined for f32"),
    (reduce.argmax, [t(2, 0)], {"axis": 1}, "axis 1 .* is empty"),
    (reduce.argmin, [t(2)], {"axis": 0, "dtype": int8}, "index dtype must be int32 or int64"),
    (reduce.cumsum, [t(2)], {"axis": 2}, "axis 2 is outside"),
    (contraction.dot_general, [t(8, 16), t(32, 4)], _MATMUL,
     r"inner dimensions differ: lhs f32\[8,16\] has 16, rhs f32\[32,4\] has 32. Transpose"),
    (contraction.dot_general, [t(8, 16), t(16, 4, dtype=float16)], _MATMUL, "dtypes differ"),
    (contraction.dot_general, [t(8, 16), t(16, 4)], {**_MATMUL, "dtype": int32}, "cannot accumulate f32 in i32"),
    (contraction.dot_general, [t(8, 16), t(16, 4)], {**_MATMUL, "lhs_batch": (0,)}, "must come in pairs"),
    (contraction.conv_general, [t(2, 7), t(3, 3)], _CONV, "same rank, 3 to 5"),
    (contraction.conv_general, [t(2, 7, 3), t(3, 4, 5)], _CONV, "3 input channels, rhs .* takes 4"),
    (contraction.conv_general, [t(2, 7, 3), t(3, 3, 5)], {**_CONV, "lhs_spec": (0, 1, 1)}, "not a permutation"),
    (contraction.conv_general, [t(2, 7, 4), t(3, 2, 5)], {**_CONV, "feature_groups": 2}, "must divide"),
    (contraction.conv_general, [t(2, 7, 3), t(3, 3, 5)], {**_CONV, "feature_groups": 0}, "must be 1, the other"),
    (contraction.conv_general, [t(2, 7, 3), t(3, 3, 5)], {**_CONV, "pad_low": (-8,)}, "cuts off more"),
    (window.reduce_window_max, [t(5)], {**_POOL, "window": (2, 2)}, "window .* has 2 entries"),
    (window.max_pool_grad, [t(5), t(5)], _POOL, r"type of the pooled result, f32\[4\]"),
    (indexing.gather, [t(5, 3), t(4)], _GATHER, "indices must be integers"),
    (indexing.gather, [t(5, 3), t(4, 2, dtype=int32)], _GATHER, "have 2 components, expected 1"),
    (indexing.gather, [t(5, 3), _I], {**_GATHER, "slice_sizes": (1, 4)}, "does not fit into"),
    (indexing.gather, [t(5, 3), _I], {**_GATHER, "slice_sizes": (2, 3)}, "must have extent 1"),
    (indexing.gather, [t(5, 3), _I], {**_GATHER, "offset_dims": (2,)}, "offset_dims"),
    (indexing.gather, [t(5, 3), _I], {**_GATHER, "index_vector_dim": 3}, "index_vector_dim 3 is outside"),
    (indexing.scatter, [t(5, 3), _I, t(4, 3)], {**_SCATTER, "mode": "sum"}, "unknown mode 'sum'; the modes are"),
    (indexing.scatter, [t(5, 3, dtype=bool_), _I, t(4, 3, dtype=bool_)], {**_SCATTER, "mode": "add"}, "Use max for or"),
    (indexing.scatter, [t(5, 3), _I, t(2, 3)], _SCATTER, r"have \[2\] outside their windows, the indices \[4\]"),
    (indexing.take_rows, [t(), _I], {}, "no rows to take"),
    (indexing.dynamic_slice, [t(5, 3), _INDEX], {"sizes": (1, 1)}, "one start per dimension"),
    (indexing.dynamic_slice, [t(5), t()], {"sizes": (1,)}, "starts must be integers"),
    (indexing.dynamic_slice, [t(5), _INDEX], {"sizes": (6,)}, "does not fit"),
    (indexing.dynamic_update_slice, [t(5), t(6), _INDEX], {}, "does not fit"),
    (sort.sort, [t(5), t(4)], {"axis": 0}, "has one shape"),
    (sort.sort, [t(5)], {"axis": 0, "keys": 2}, "keys 2 must be between"),
    (sort.top_k, [t(5)], {"k": 6}, "k 6 must be between 0"),
    (random.random_bits, [t(2)], {"shape": (3,)}, r"key must be u32\[2\]"),
    (random.random_bits, [t(2, dtype=uint32)], {"shape": (3,), "dtype": float32}, "Convert or bitcast"),
    (state.scatter_update, [VariableType(t(5, 3)), _I, t(4, 2)], {}, r"rows must be f32\[4,3\]"),
    (state.scatter_update, [t(5, 3), _I, t(4, 3)], {}, "must be a variable"),
    (state.assign, [VariableType(t(5)), t(4)], {}, r"holds f32\[5\], the value is f32\[4\]"),
]


@pytest.mark.parametrize(("row", "operands", "attrs", "message"), CASES, ids=lambda p: getattr(p, "name", None))
def test_misfit_says_what_to_do(row: OpDef, operands: list[Any], attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeInferenceError, match=message) as caught:
        row.result_types(operands, row.complete(attrs))
    assert str(caught.value).startswith(f"{row.name}: ") and str(caught.value).endswith(".")


def test_unknown_attribute_suggests_the_nearest() -> None:
    with pytest.raises(TypeInferenceError, match="unknown attribute 'axis'; did you mean 'axes'"):
        reduce.reduce_sum.complete({"axis": 0})


def test_wrong_number_of_operands() -> None:
    with pytest.raises(TypeInferenceError, match=r"add: takes operands \(lhs, rhs\), got 1"):
        elementwise.add.result_types([t(2)], {})


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(counter: tuple[int, int], key: tuple[int, int], words: tuple[int, int]) -> None:
    """The vectors that come with Random123."""
    high, low = (np.array([c], np.uint32) for c in counter)
    with np.errstate(over="ignore"):
        found = random.threefry2x32(np.array(key, np.uint32), high, low)
    assert tuple(int(w[0]) for w in found) == words


def test_random_bits_are_those_of_jax() -> None:
    """`jax.random.bits` of the key (7, 9) with jax_threefry_partitionable."""
    assert callable(random.random_bits.reference)
    key = np.array([7, 9], np.uint32)
    wanted = {
        uint32: [1009969109, 2381295782, 871240266],
        uint64: [8372622364860702843, 5822984159590667675],
        uint8: [213, 166, 74],
    }
    for dtype, numbers in wanted.items():
        assert random.random_bits.reference(key, shape=(len(numbers),), dtype=dtype).tolist() == numbers


def test_random_bits_do_not_depend_on_the_shape() -> None:
    assert callable(random.random_bits.reference)
    key = np.array([1, 2], np.uint32)
    flat = random.random_bits.reference(key, shape=(12,), dtype=uint32)
    assert (random.random_bits.reference(key, shape=(3, 4), dtype=uint32).reshape(-1) == flat).all()
    assert (random.random_bits.reference(key, shape=(5,), dtype=uint32) == flat[:5]).all()
