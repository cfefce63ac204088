"""Op by op and dtype by dtype: printed and parsed back, StableHLO's interpreter, the CPU backend, on all samples."""

from __future__ import annotations

import pytest
from op_programs import Case, cases, compare

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.dialects import context
from thalweg.dialects.verify import parse, verify

CASES = cases()
COMPILED = [c for c in CASES if c.row.runs == "compiled"]  # the others: test_host_kernels.py


@pytest.mark.parametrize("case", CASES, ids=str)
def test_prints_and_parses_back(case: Case) -> None:
    with context.entered():
        module = case.module()
        verify(module)
        text = str(module)
        assert str(parse(text)) == text


@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_stablehlo_interpreter(case: Case) -> None:
    with context.entered():
        module = lower_module(case.module())
        verify(module)
        compare(case, evaluate(module, [x for operands in case.inputs() for x in operands]))


@pytest.mark.parametrize("case", COMPILED, ids=str)
def test_cpu_backend(case: Case) -> None:
    with context.entered():
        executable = compile_stablehlo(lower_module(case.module()), CpuOptions())
        compare(case, executable([x for operands in case.inputs() for x in operands]))
