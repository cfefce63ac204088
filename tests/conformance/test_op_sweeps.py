"""Exhaustive: every half-precision number, floats of every magnitude, and shapes that leave remainders everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_programs import program, ulps

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.dialects import context
from thalweg.dialects.opdef import OpDef, Unsupported, rows
from thalweg.dialects.ops import contraction, indexing, reduce, sort, window
from thalweg.dialects.types import bfloat16, float16, float32, float64, int8, int32, uint32

pytestmark = pytest.mark.slow

# Their results pass through zero, where relative error means nothing.
_SPECIAL = {"lgamma", "digamma"}
_UNARY = [
    row
    for row in rows()
    if row.family == "elementwise" and row.operands == ("x",) and float32 in row.dtypes and not row.attrs
    if row.name not in _SPECIAL
]
# Reductions by multiples of pi/2 are exact to the tolerance up to here; beyond, to some thousand ulps near zeros.
_PERIODIC = {"sin": 1e3, "cos": 1e3, "tan": 1e3}


def run_natively(row: OpDef, operands: list[np.ndarray], attrs: dict[str, Any]) -> list[np.ndarray]:
    with context.entered():
        module = lower_module(program(row, [operands], [attrs]))
        return list(compile_stablehlo(module, CpuOptions())(operands))


def check(
    row: OpDef, operands: list[np.ndarray], attrs: dict[str, Any], tolerance: float | None = None, smallest: float = 0
) -> None:
    """Against the reference, in the operands' own dtype. Errors of results below `smallest` count as if at it."""
    assert not isinstance(row.reference, Unsupported)
    attrs = row.complete(attrs)
    with np.errstate(all="ignore"):
        wanted = row.reference(*operands, **attrs)
    results = run_natively(row, operands, attrs)
    for got, want in zip(results, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        want = np.asarray(want)
        error = ulps(got, want, smallest)
        worst = np.unravel_index(int(error.argmax()), error.shape)
        allowed = row.tolerance if tolerance is None else tolerance
        assert error.max() <= allowed, f"{error.max():.4g} ulps at {worst}: {got[worst]}, want {want[worst]}"


@pytest.mark.parametrize("dtype", (float16, bfloat16), ids=str)
@pytest.mark.parametrize("row", _UNARY, ids=lambda r: r.name)
def test_every_half_precision_number(row: OpDef, dtype: Any) -> None:
    values = np.arange(2**16, dtype=np.uint16).view(dtype.numpy)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = np.where(np.isnan(values), dtype.numpy.type(np.nan), values)
    if row.name in _PERIODIC:
        values = values[~(np.abs(values.astype(np.float64)) > 1e15)]
    check(row, [values], {}, max(row.tolerance, 1))


@pytest.mark.parametrize("dtype", (float32, float64), ids=str)
@pytest.mark.parametrize("row", _UNARY, ids=lambda r: r.name)
def test_floats_of_every_magnitude(row: OpDef, dtype: Any) -> None:
    """Against the reference in twice the precision, where NumPy has it."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype.numpy)
    exponents = rng.integers(info.minexp, min(info.maxexp, _limit(row)), 40_000)
    values = np.ldexp(rng.uniform(1, 2, exponents.size), exponents) * rng.choice([-1, 1], exponents.size)
    values = values.astype(dtype.numpy)
    assert callable(row.reference)
    wider = np.float64 if dtype is float32 or row.name == "erf" else np.longdouble
    with np.errstate(all="ignore"):
        want = np.asarray(row.reference(values.astype(wider)))
        want = want.astype(dtype.numpy) if want.dtype.kind == "f" else want
    (got,) = run_natively(row, [values], {})
    error = ulps(got, want)
    normal = np.isfinite(want) & (np.abs(want) >= 16 * info.smallest_normal) if want.dtype.kind == "f" else want == want
    worst = int(np.where(normal, error, 0).argmax())
    assert error[worst] <= row.tolerance + 1, f"{error[worst]:.4g} ulps: {row.name}({values[worst]!r}) = {got[worst]!r}"


def _limit(row: OpDef) -> int:
    """Largest binary exponent to try."""
    return int(np.log2(_PERIODIC[row.name])) if row.name in _PERIODIC else 10_000


def floats(*shape: int, dtype: Any = float32, low: float = -0.5) -> np.ndarray:
    return np.random.default_rng(len(shape)).uniform(low, 1, shape).astype(dtype.numpy)


def integers(high: int, *shape: int, dtype: Any = int32, low: int = 0) -> np.ndarray:
    return np.random.default_rng(7).integers(low, high, shape).astype(dtype.numpy)


SHAPES = [(1, 1), (7, 3), (1, 129), (129, 1), (65, 67), (3, 1021), (257, 255)]


@pytest.mark.parametrize("dtype", (float32, float64, bfloat16, int8, uint32), ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reductions_of_odd_shapes(shape: tuple[int, int], dtype: Any) -> None:
    x = floats(*shape, dtype=dtype) if dtype.is_floating else integers(100, *shape, dtype=dtype)
    for axes in ((0,), (1,), (0, 1)):
        check(reduce.reduce_sum, [x], {"axes": axes}, smallest=1)
        check(reduce.reduce_max, [x], {"axes": axes})
    for axis in (0, 1):
        check(reduce.argmin, [x], {"axis": axis})
        check(reduce.cummax, [x], {"axis": axis})
        check(sort.sort, [x, integers(9, *shape)], {"axis": axis, "descending": bool(axis)})
    check(sort.top_k, [x], {"k": min(shape[1], 3)})


@pytest.mark.parametrize("dtype", (float32, float64, bfloat16, float16, int8), ids=str)
@pytest.mark.parametrize("inner", (1, 3, 16, 127, 300))
@pytest.mark.parametrize("outer", ((1, 1), (1, 37), (53, 1), (67, 35), (128, 96)), ids=str)
def test_matrix_products_of_odd_shapes(outer: tuple[int, int], inner: int, dtype: Any) -> None:
    rows_, columns = outer

    def make(*shape: int) -> np.ndarray:
        return floats(*shape, dtype=dtype) if dtype.is_floating else integers(5, *shape, dtype=dtype, low=-5)

    for left, right in ((1, 0), (0, 0), (1, 1), (0, 1)):
        lhs = make(*((rows_, inner) if left else (inner, rows_)))
        rhs = make(*((columns, inner) if right else (inner, columns)))
        attrs = {"lhs_contract": (left,), "rhs_contract": (right,)}
        check(contraction.dot_general, [lhs, rhs], attrs, smallest=1)


@pytest.mark.parametrize("stride", (1, 2, 3))
@pytest.mark.parametrize("size", (1, 2, 3, 5))
def test_convolutions_and_pools_of_odd_shapes(size: int, stride: int) -> None:
    x, kernel = floats(2, 13, 11, 5), floats(size, size, 5, 7)
    check(contraction.conv_general, [x, kernel], {
        "strides": (stride, stride), "pad_low": (size // 2, 0), "pad_high": (size // 2, size - 1),
        "lhs_dilation": (1, 1), "rhs_dilation": (1, 2), "lhs_spec": (0, 3, 1, 2), "rhs_spec": (3, 2, 0, 1),
        "out_spec": (0, 3, 1, 2),
    }, smallest=1)  # fmt: skip
    pool = {"window": (1, size, size, 1), "strides": (1, stride, stride, 1), "pad_low": (0, size // 2, 0, 0),
            "pad_high": (0, 0, size - 1, 0)}  # fmt: skip
    for row in (window.reduce_window_max, window.reduce_window_sum):
        check(row, [x], pool, smallest=1)
    assert callable(window.reduce_window_max.reference)
    pooled = window.reduce_window_max.reference(x, **pool, dilations=())
    check(window.max_pool_grad, [x, floats(*pooled.shape, low=0.1)], pool)


@pytest.mark.parametrize("columns", (1, 3, 16, 65))
def test_rows_taken_and_scattered(columns: int) -> None:
    table, places = floats(301, columns), integers(310, 1000, low=-5)
    check(indexing.take_rows, [table, places], {})
    dims = {"update_window_dims": (1,), "inserted_window_dims": (0,), "scatter_dims_to_operand_dims": (0,),
            "index_vector_dim": 1}  # fmt: skip
    for mode in ("add", "max"):
        updates = floats(1000, columns, low=0.1)
        check(indexing.scatter, [np.abs(table), places, updates], {**dims, "mode": mode}, 32)
