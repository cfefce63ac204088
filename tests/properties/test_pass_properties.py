"""Whatever the program, passes keep its meaning, and gradients are its derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_checks import check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ir_programs import program
from random_programs import SHAPE, SMOOTH, STATEFUL, Step, cook, inputs, recipes

from thalweg.backends.reference import run
from thalweg.dialects import context
from thalweg.dialects.types import TensorType, float64
from thalweg.dialects.verify import parse
from thalweg.passes import registry
from thalweg.passes.pipeline import run as run_passes

TYPE = TensorType(SHAPE, float64)
# What becomes of a program that is cut for devices is not one program: test_partition_properties.py runs it.
CUTTING = ("partition", "cluster")
PIPELINES = [*(p for p in registry.PASSES if p not in CUTTING), "optimize", "optimize,to-stablehlo"]
RELAXED = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("pipeline", PIPELINES)
@RELAXED
@given(recipe=recipes(), seed=st.integers(0, 99))
def test_passes_keep_the_meaning(pipeline: str, recipe: tuple[Step, ...], seed: int) -> None:
    module = program([TYPE, TYPE], lambda x, y: cook(recipe, x, y))
    arrays = inputs(seed)
    wanted = run(module, arrays)
    run_passes(module, pipeline)
    np.testing.assert_allclose(run(module, arrays), wanted, rtol=1e-9, atol=1e-9)


def _touches_state(recipe: tuple[Step, ...]) -> bool:
    return any(s.name in STATEFUL or _touches_state(s.inside) for s in recipe)


@pytest.mark.parametrize("pipeline", ["hoist-state", "optimize", "hoist-state,dce,cse", "optimize,lower-scan"])
@RELAXED
@given(recipe=recipes([*STATEFUL, "add", "sin", "mul"]), seed=st.integers(0, 99))
def test_passes_keep_what_happens_to_variables(pipeline: str, recipe: tuple[Step, ...], seed: int) -> None:
    module = program([TYPE, TYPE], lambda x, y: cook(recipe, x, y))
    *arrays, initial = inputs(seed, 3)
    before, after = {"v": initial}, {"v": initial}
    wanted = run(module, arrays, before)
    run_passes(module, pipeline)
    np.testing.assert_allclose(run(module, arrays, after), wanted, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(after["v"], before["v"], rtol=1e-9, atol=1e-9)


@RELAXED
@given(recipe=recipes([*STATEFUL, "add", "sin", "mul"]).filter(_touches_state), seed=st.integers(0, 99))
def test_variables_become_arguments_and_results(recipe: tuple[Step, ...], seed: int) -> None:
    module = program([TYPE, TYPE], lambda x, y: cook(recipe, x, y))
    *arrays, initial = inputs(seed, 3)
    variables = {"v": initial}
    wanted = run(module, arrays, variables)
    run_passes(module, "inline,hoist-state,functionalize")
    found = run(module, [*arrays, initial])
    assigned = "tw.alias = 1" in str(module)
    np.testing.assert_allclose(found, [*wanted, variables["v"]] if assigned else wanted, rtol=1e-9, atol=1e-9)
    assert assigned or np.array_equal(variables["v"], initial)


@RELAXED
@given(recipe=recipes())
def test_programs_print_and_parse_back(recipe: tuple[Step, ...]) -> None:
    module = program([TYPE, TYPE], lambda x, y: cook(recipe, x, y))
    with context.entered():
        assert str(parse(str(module))) == str(module)


@RELAXED
@given(recipe=recipes(SMOOTH, most=5), seed=st.integers(0, 99))
def test_gradients_are_derivatives(recipe: tuple[Step, ...], seed: int) -> None:
    check(lambda x, y: cook(recipe, x, y), inputs(seed), tolerance=1e-4)


@settings(RELAXED, max_examples=10)
@given(recipe=recipes(SMOOTH, most=3), seed=st.integers(0, 99))
def test_second_derivatives_are_derivatives_of_gradients(recipe: tuple[Step, ...], seed: int) -> None:
    check(lambda x, y: cook(recipe, x, y), inputs(seed), orders=2, tolerance=1e-4)
