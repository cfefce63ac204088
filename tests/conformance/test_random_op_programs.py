"""Random programs with control flow: the rows' references, StableHLO's interpreter and the CPU backend agree."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_programs import program
from random_programs import SHAPE, SMOOTH, Step, cook, inputs, recipes

from thalweg.backends import reference
from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.dialects import context
from thalweg.dialects.types import TensorType, float64
from thalweg.passes.pipeline import run as run_passes

SIGNATURE = [TensorType(SHAPE, float64)] * 2


def check(recipe: tuple[Step, ...], seed: int) -> None:
    with context.entered():
        module = program(SIGNATURE, lambda *xs: cook(recipe, *xs))
        operands = inputs(seed)
        wanted = reference.run(module, operands)
        run_passes(module, "optimize,to-stablehlo")
        lowered = lower_module(module)
        for name, found in (
            ("interpreter", evaluate(lowered, operands)),
            ("cpu", compile_stablehlo(lowered, CpuOptions())(operands)),
        ):
            np.testing.assert_allclose(found[0], wanted[0], rtol=1e-9, atol=1e-9, err_msg=name)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(recipes(SMOOTH), st.integers(0, 99))
def test_backends_agree(recipe: tuple[Step, ...], seed: int) -> None:
    check(recipe, seed)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(recipes(SMOOTH, most=14), st.integers(0, 99))
def test_backends_agree_on_longer_programs(recipe: tuple[Step, ...], seed: int) -> None:
    check(recipe, seed)
