"""Elementwise functions against NumPy, over dtypes and broadcast shapes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from against_numpy import DTYPES, FLOATS, INTEGERS, check, draw

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.dtypes import result_type
from thalweg.frontend.function import function

SHAPES = [((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 3)), ((), (2, 3)), ((0, 3), (3,))]

UNARY = {
    "exp": np.exp,
    "exp2": np.exp2,
    "expm1": np.expm1,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "asinh": np.arcsinh,
    "atan": np.arctan,
    "cbrt": np.cbrt,
    "negative": np.negative,
    "abs": np.abs,
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "round": np.rint,
    "sign": np.sign,
    "square": np.square,
    "isnan": np.isnan,
    "isinf": np.isinf,
    "isfinite": np.isfinite,
    "signbit": np.signbit,
    "positive": np.positive,
}
POSITIVE = {
    "log": np.log,
    "log2": np.log2,
    "log10": np.log10,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "acosh": lambda x: np.arccosh(x),
    "log1p": np.log1p,
}
INSIDE = {"asin": np.arcsin, "acos": np.arccos, "atanh": np.arctanh}
PREDICATES = ("isnan", "isinf", "isfinite", "signbit")


def in_float32(function):
    """NumPy's value of half types as if computed in float32 and rounded once."""

    def call(*arrays):
        half = arrays[0].dtype in (np.float16, ml_dtypes.bfloat16)
        result = function(*[a.astype(np.float32) if half else a for a in arrays])
        return result if result.dtype.kind == "b" or not half else result.astype(arrays[0].dtype)

    return call


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_unary(name, dtype):
    check(getattr(xp, name), in_float32(UNARY[name]), draw((2, 5), dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", POSITIVE)
def test_positive_domain(name, dtype):
    check(getattr(xp, name), in_float32(POSITIVE[name]), draw((7,), dtype, 1.1, 5))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", INSIDE)
def test_domain_inside_one(name, dtype):
    check(getattr(xp, name), in_float32(INSIDE[name]), draw((7,), dtype, -0.9, 0.9))


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round", "abs", "sign", "square", "positive"])
def test_integers_keep_their_dtype(name, dtype):
    theirs = {"floor": lambda x: x, "ceil": lambda x: x, "trunc": lambda x: x, "round": lambda x: x}.get(name)
    check(getattr(xp, name), theirs or UNARY[name], draw((5,), dtype))


@pytest.mark.parametrize("name", ["exp", "sqrt", "tanh", "log1p"])
def test_integers_become_float32(name):
    x = draw((4,), "int32", 1, 5)
    check(getattr(xp, name), lambda x: getattr(np, name)(x.astype(np.float32)), x)


@pytest.mark.parametrize("name", ["isnan", "isinf", "isfinite", "signbit", "sign", "abs", "floor"])
def test_special_values(name):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1.5], np.float32)
    check(getattr(xp, name), getattr(np, name), x)


BINARY = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply, "maximum": np.maximum, "minimum": np.minimum}
COMPARE = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
}


@pytest.mark.parametrize("left", DTYPES)
@pytest.mark.parametrize("right", DTYPES)
def test_binary_promotes(left, right):
    """Values and dtypes of mixed operands: the dtype is that of result_type, checked against the table below."""
    a, b = draw((2, 3), left), draw((3,), right, seed=1)
    dtype = result_type(a.dtype, b.dtype)
    for name in ("add", "multiply", "maximum") if dtype.name != "bool" else ("maximum", "minimum"):
        check(
            getattr(xp, name),
            lambda a, b, name=name: BINARY[name](a.astype(dtype.numpy), b.astype(dtype.numpy)),
            a,
            b,
            dtype=dtype,
        )


@pytest.mark.parametrize(("left", "right", "both"), [
    ("int8", "uint8", "int16"), ("int32", "uint32", "int64"), ("int8", "int64", "int64"), ("uint8", "uint32", "uint32"),
    ("float16", "bfloat16", "float32"), ("float32", "float64", "float64"), ("int64", "float16", "float16"),
    ("bool", "int8", "int8"), ("bool", "bfloat16", "bfloat16"), ("float32", "uint8", "float32"),
])  # fmt: skip
def test_promotion_table(left, right, both):
    assert result_type(left, right).name == result_type(right, left).name == both


def test_uint64_with_signed_is_an_error():
    with pytest.raises(
        TypeInferenceError, match=r"test_elementwise_functions.py:\d+: .*no dtype holds both u64 and i32"
    ):
        xp.add(np.ones(2, np.uint64), np.ones(2, np.int32))


@pytest.mark.parametrize(("scalar", "array", "both"), [
    (1, "int8", "int8"), (1, "bfloat16", "bfloat16"), (1.5, "float64", "float64"), (1.5, "float16", "float16"),
    (1.5, "int64", "float32"), (True, "uint8", "uint8"), (2, "bool", "int32"), (1.5, "bool", "float32"),
])  # fmt: skip
def test_python_scalars_are_weak(scalar, array, both):
    x = draw((3,), array, 0, 3)
    for call in (lambda x: x + scalar, lambda x: scalar + x, function(lambda x: x + scalar)):
        assert call(xp.asarray(x)).dtype.name == both
    assert function(lambda x, s: x + s)(xp.asarray(x), scalar).dtype.name == both, "as data of a traced function too"


def test_a_weak_number_loses_no_digits():
    x = xp.asarray(np.zeros(1, np.float64))
    assert float((x + 0.1)[0]) == 0.1
    assert float(function(lambda x, s: x + s)(x, 0.1)[0]) == 0.1
    assert float(function(lambda x, s: x + (s * 3 + 1) / 2)(x, 0.1)[0]) == (0.1 * 3 + 1) / 2


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("name", [*BINARY, *COMPARE])
def test_broadcasting(name, shapes):
    a, b = draw(shapes[0], "float32"), draw(shapes[1], "float32", seed=1)
    check(getattr(xp, name), {**BINARY, **COMPARE}[name], a, b)


@pytest.mark.parametrize("name", COMPARE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_comparisons(name, dtype):
    check(getattr(xp, name), COMPARE[name], draw((9,), dtype), draw((9,), dtype, seed=1))


def test_shapes_that_do_not_broadcast():
    with pytest.raises(TypeInferenceError, match=r"add: shapes do not broadcast: f32\[2,3\] and f32\[4\]"):
        xp.add(xp.ones((2, 3)), xp.ones((4,)))


@pytest.mark.parametrize("dtype", ["float32", "int32", "int8", "uint8"])
def test_division(dtype):
    a, b = draw((4, 5), dtype, -9, 9), draw((4, 5), dtype, 1, 4, seed=1)
    b = np.where(draw((4, 5), "bool", seed=2), b, (0 - b).astype(b.dtype) if b.dtype.kind != "u" else b)
    check(xp.floor_divide, np.floor_divide, a, b)
    check(xp.remainder, np.remainder, a, b)
    check(xp.divide, lambda a, b: (a / b).astype(np.float32), a, b)


@pytest.mark.parametrize("exponent", [0, 1, 2, 3, 5, -1, -2, 0.5, 2.0, 1.5, 17, -0.5])
def test_power_of_a_python_number(exponent):
    check(lambda x: x**exponent, lambda x: np.power(x, np.float32(exponent)), draw((6,), "float32", 0.5, 2))


def test_power():
    check(xp.pow, np.power, draw((6,), "float32", 0.5, 2), draw((6,), "float32"))
    check(xp.pow, np.power, draw((6,), "int32"), draw((6,), "int32", 0, 4))
    check(lambda x: 2**x, lambda x: np.power(np.float32(2), x), draw((6,), "float32"))


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
def test_bitwise(dtype):
    a, b = draw((9,), dtype, -9, 9), draw((9,), dtype, -9, 9, seed=1)
    for name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
        check(getattr(xp, name), getattr(np, name), a, b)
    check(xp.bitwise_invert, np.invert, a)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "int8"])
def test_shifts(dtype):
    a, b = draw((9,), dtype, -99, 99), draw((9,), dtype, 0, 5, seed=1)
    b = np.abs(b)
    check(xp.bitwise_left_shift, np.left_shift, a, b)
    check(xp.bitwise_right_shift, np.right_shift, a, b)


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
def test_logical(dtype):
    a, b = draw((9,), dtype, -1, 1), draw((9,), dtype, -1, 1, seed=1)
    for name in ("logical_and", "logical_or", "logical_xor"):
        check(getattr(xp, name), getattr(np, name), a, b)
    check(xp.logical_not, np.logical_not, a)


def test_two_argument_functions():
    a, b = draw((9,), "float32"), draw((9,), "float32", seed=1)
    check(xp.atan2, np.arctan2, a, b)
    check(xp.logaddexp, np.logaddexp, a, b)
    check(xp.hypot, np.hypot, a, b)
    check(xp.copysign, np.copysign, a, b)
    check(xp.hypot, np.hypot, np.array([0, 3e30, np.inf], np.float32), np.array([0, 4e30, 1], np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nextafter(dtype):
    a = np.array([0, -0.0, 1, 1, -1, -1, np.inf, np.nan, 5, 1e-45], dtype)
    b = np.array([1, -1, 2, 0, 0, -2, 0, 1, 5, -1], dtype)
    expected = np.nextafter(a, b)
    check(xp.nextafter, lambda a, b: expected, a, b)
    np.testing.assert_array_equal(np.asarray(xp.nextafter(a, b)), expected)


def test_clip():
    x = draw((9,), "float32")
    check(lambda x: xp.clip(x, -1, 1), lambda x: np.clip(x, -1, 1), x)
    check(lambda x: xp.clip(x, max=0.5), lambda x: np.minimum(x, np.float32(0.5)), x)
    check(lambda x: xp.clip(x, min=xp.zeros((9,))), lambda x: np.maximum(x, np.float32(0)), x)
    check(lambda x: xp.clip(x, 0, 2), lambda x: np.clip(x, 0, 2), draw((9,), "int8"))


def test_where():
    mask, a = draw((2, 3), "bool"), draw((3,), "float32")
    check(lambda m, a: xp.where(m, a, 0), lambda m, a: np.where(m, a, np.float32(0)), mask, a)
    check(xp.where, np.where, mask, a, draw((2, 1), "float32", seed=1))


@pytest.mark.parametrize("source", DTYPES)
@pytest.mark.parametrize("target", DTYPES)
def test_astype(source, target):
    x = draw((9,), source, 0, 3)
    expected = x != 0 if target == "bool" else x.astype(result_type(target).numpy)
    check(lambda x: xp.astype(x, target), lambda x: expected, x)


def test_float_to_integer_saturates():
    x = xp.asarray(np.array([300.0, -300.0, np.nan, 2.7], np.float32))
    assert xp.astype(x, "int8").tolist() == [127, -128, 0, 2]


def test_integer_literal_out_of_range():
    with pytest.raises(TypeInferenceError, match="300 is outside the range of uint8"):
        function(lambda x: x + 300)(xp.ones((2,), dtype="uint8"))
