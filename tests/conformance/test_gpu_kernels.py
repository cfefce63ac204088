"""Ops as Triton kernels in Triton's interpreter, against the NumPy reference; what has no kernel yet says so."""

from __future__ import annotations

from pathlib import Path

import pytest
from op_programs import Case, cases, compare

from thalweg.backends.gpu.backend import lower
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError

# Ops whose every sample of every dtype is covered; the first dtype runs each time, the others in the slow suite.
COVERED = [
    "abs", "add", "and", "argmax", "argmin", "broadcast", "ceil", "clamp", "convert", "cos", "div", "dot_general",
    "dynamic_slice", "equal", "erf", "exp", "exp2", "expm1", "floor", "gather", "greater", "greater_equal", "iota",
    "is_finite", "less", "less_equal", "log", "log1p", "logistic", "max", "min", "mul", "neg", "not", "not_equal",
    "or", "reduce_and", "reduce_max", "reduce_min", "reduce_or", "reduce_prod", "reduce_sum", "rem", "reshape",
    "reverse", "round", "rsqrt", "select", "sign", "sin", "slice", "sqrt", "sub", "take_rows", "tanh", "transpose",
    "xor",
]  # fmt: skip
CASES = [c for c in cases() if c.row.runs == "compiled"]
FIRST = {c.row.name: c for c in reversed(CASES)}


def _is_covered(case: Case) -> bool:
    """Products of integers are not there yet."""
    return case.row.name in COVERED and not (case.row.name == "dot_general" and case.dtype.kind in "iu")


def _run(case: Case, folder: Path) -> None:
    pytest.importorskip("triton")
    from thalweg.backends.gpu.simulate import simulate

    with context.entered():
        lowered = lower(lower_module(case.module()), GpuOptions(folder=folder))
        compare(case, simulate(lowered, [x for operands in case.inputs() for x in operands]))


@pytest.mark.parametrize("name", COVERED)
def test_first_dtype(name: str, tmp_path: Path) -> None:
    _run(FIRST[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if _is_covered(c)], ids=str)
def test_every_dtype(case: Case, tmp_path: Path) -> None:
    _run(case, tmp_path)


@pytest.mark.parametrize("name", ["sort", "scatter", "conv_general", "cumsum", "concatenate"])
def test_what_is_not_there_says_so(name: str) -> None:
    with context.entered(), pytest.raises(LoweringError, match="not yet on GPU"):
        lower(lower_module(FIRST[name].module()))
