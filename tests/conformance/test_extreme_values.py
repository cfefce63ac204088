"""Infinities, NaN, signed zeros, subnormals and the ends of integer ranges: every backend does what NumPy does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from op_programs import extreme_operands, extreme_values, program, ulps

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef, Unsupported, rows
from thalweg.dialects.ops import elementwise, indexing, reduce, sort
from thalweg.dialects.types import DTYPES, FLOATS, DType, float16, float32, int8, int32, int64, uint8

Run = Callable[[ir.Module, Sequence[np.ndarray]], Sequence[np.ndarray]]

# Operands of other dtypes, or attributes that a test of its own gives.
_OTHERS = {"select", "clamp", "convert", "bitcast", "barrier"}
ELEMENTWISE = [
    (row, dtype)
    for row in rows()
    if row.family == "elementwise" and row.name not in _OTHERS
    for dtype in row.dtypes
]
# CHLO's lgamma is exact to 64 ulps of 1, not of its result near its zeros, nor for subnormals.
_SMALLEST = {"lgamma": 1.0}
_NO_SUBNORMALS = {"lgamma"}
# Remainders of pi of the very largest numbers are exact to some hundred ulps.
_PERIODIC = {"sin", "cos", "tan"}


def check(
    row: OpDef, operands: Sequence[np.ndarray], attrs: Sequence[dict[str, Any]], run: Run, smallest: float = 0
) -> None:
    """Run the row on the operands with each of `attrs`; every element must be within the tolerance."""
    assert not isinstance(row.reference, Unsupported)
    with context.entered():
        complete = [row.complete(a) for a in attrs]
        module = lower_module(program(row, [operands] * len(attrs), complete))
        found = iter(run(module, [x for _ in attrs for x in operands]))
    for attributes in complete:
        with np.errstate(all="ignore"):
            wanted = row.reference(*operands, **attributes)
        for want in wanted if isinstance(wanted, tuple) else (wanted,):
            got = next(found)
            error = ulps(got, np.asarray(want), smallest)
            for i in np.flatnonzero(error > row.tolerance):
                seen = [x.reshape(-1)[i] for x in operands] if got.shape == operands[0].shape else operands
                raise AssertionError(
                    f"{row.name}{seen} {attributes}: got {got.reshape(-1)[i]}, want {np.asarray(want).reshape(-1)[i]}"
                )


@pytest.mark.parametrize(("row", "dtype"), ELEMENTWISE, ids=str)
def test_elementwise(row: OpDef, dtype: DType, run: Run) -> None:
    operands = extreme_operands(row, dtype)
    if row.name in _NO_SUBNORMALS and dtype.is_floating:
        tiny = np.abs(operands[0].astype(np.float64)) < float(np.finfo(np.float32).tiny)
        operands = [x[~tiny] for x in operands]
    if row.name in _PERIODIC:
        large = np.isfinite(operands[0]) & (np.abs(operands[0].astype(np.float64)) > 1e300)
        operands = [x[~large] for x in operands]
    if row in (elementwise.div, elementwise.rem) and dtype.is_integer and run is evaluate:  # it would trap
        traps = (operands[1] == 0) | (operands[1] == np.array(-1).astype(dtype.numpy))
        operands = [x[~traps] for x in operands]
    check(row, operands, [{}], run, _SMALLEST.get(row.name, 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_convert(dtype: DType, run: Run) -> None:
    check(elementwise.convert, [extreme_values(dtype)], [{"dtype": d} for d in DTYPES], run)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_clamp_and_select_pass_nan_on(dtype: DType, run: Run) -> None:
    values = extreme_values(dtype)
    low, high = (np.array(v, dtype.numpy) for v in (-1, 1))
    check(elementwise.clamp, [low, values, high], [{}], run)
    check(elementwise.select, [values == 0, values, values[::-1]], [{}], run)


ORDERED = [
    (reduce.reduce_max, {"axes": (0,)}), (reduce.reduce_min, {"axes": (0,)}), (reduce.argmax, {"axis": 0}),
    (reduce.argmin, {"axis": 0}), (reduce.cummax, {"axis": 0}), (reduce.cummin, {"axis": 0, "reverse": True}),
    (sort.sort, {"axis": 0}), (sort.sort, {"axis": 0, "descending": True}), (sort.top_k, {"k": 4}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", (float32, float16, int8, uint8, int64), ids=str)
@pytest.mark.parametrize(("row", "attrs"), ORDERED, ids=lambda p: p.name if isinstance(p, OpDef) else "")
def test_order(row: OpDef, attrs: dict[str, Any], dtype: DType, run: Run) -> None:
    """NaN is the largest and the smallest to reductions, the largest to sorts."""
    values = np.random.default_rng(0).permutation(extreme_values(dtype))
    check(row, [values], [attrs], run)
    if dtype.is_floating:
        check(row, [values[~np.isnan(values)]], [attrs], run)
    if row is sort.sort:
        check(row, [values, np.arange(values.size)], [{**attrs, "keys": 2}], run)


@pytest.mark.parametrize("dtype", (int8, uint8, int32, int64), ids=str)
def test_indices_of_every_dtype_stay_inside(dtype: DType, run: Run) -> None:
    table = np.arange(600, dtype=np.float32).reshape(300, 2)
    check(indexing.take_rows, [table, extreme_values(dtype)], [{}], run)
    starts = [np.array(extreme_values(dtype)[-1], dtype.numpy), np.array(0, dtype.numpy)]
    check(indexing.dynamic_slice, [table, *starts], [{"sizes": (7, 1)}], run)
    check(indexing.dynamic_update_slice, [table, table[:9], *starts], [{}], run)


def run_natively(module: ir.Module, operands: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Through the CPU backend."""
    return compile_stablehlo(module, CpuOptions())(list(operands))


@pytest.fixture(params=[evaluate, run_natively], ids=["interpreter", "cpu"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a StableHLO module on arrays."""
    backend: Run = request.param
    return backend
