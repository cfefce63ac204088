"""Random nested branches and loops, lowered to dataflow and run by the executor, give what their regions give."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from dataflow_programs import execute_loaded, loaded, loaded_parts
from gradient_checks import vjp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ir_programs import program
from random_programs import SHAPE, SIMPLE, SMOOTH, Step, cook, inputs, recipes

from thalweg.backends.reference import run
from thalweg.dialects import context
from thalweg.dialects.attributes import encode
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control
from thalweg.dialects.types import TensorType, float64
from thalweg.dialects.verify import parse
from thalweg.passes.dataflow.emission import relocated
from thalweg.passes.pipeline import run as run_passes
from thalweg.passes.rewriting import functions, inside, operations

TYPE = TensorType(SHAPE, float64)
PURE = sorted(SIMPLE)
RELAXED = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


def check(module: ir.Module, arrays: list[np.ndarray], pipeline: str) -> None:
    """Dataflow execution of a module and the interpreter's agree; so do they once it is printed and read back."""
    wanted = run(module, arrays)
    run_passes(module, pipeline)
    assert "all" not in pipeline or not any(f'"tw.{name}"' in str(module) for name in ("cond", "while", "scan"))
    with context.entered():
        again = parse(str(module))
    for found in (module, again):
        run_passes(found, "cluster")
        np.testing.assert_allclose(execute_loaded([loaded(found)], arrays), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("before", ["inline", "optimize"])
@RELAXED
@given(recipe=recipes(PURE), seed=st.integers(0, 99))
def test_dataflow_gives_what_regions_give(before: str, recipe: tuple[Step, ...], seed: int) -> None:
    module = program([TYPE, TYPE], lambda x, y: cook(recipe, x, y))
    run_passes(module, before)
    check(module, inputs(seed), "lower-control{all=true}")


def derivative(recipe: tuple[Step, ...]) -> ir.Module:
    """The program of a recipe's derivative."""

    def body(x: ir.Value, y: ir.Value) -> list[ir.Value]:
        *_, tape = vjp(lambda x, y: cook(recipe, x, y), [x, y])
        return list(control.pullback(tape, x, wrt=(0, 1)))

    return program([TYPE, TYPE], body)


@RELAXED
@given(recipe=recipes(SMOOTH, most=5), seed=st.integers(0, 99))
def test_gradients_in_dataflow(recipe: tuple[Step, ...], seed: int) -> None:
    module = derivative(recipe)
    run_passes(module, "optimize")
    check(module, inputs(seed), "lower-control{all=true}")


def on_devices(module: ir.Module, arrays: list[np.ndarray], devices: list[int]) -> None:
    """The ops of a program on devices in turn, cut and run as one step, give what the program gives."""
    wanted = run(module, arrays)
    with context.entered():
        (block,) = functions(module)
        turns, parallel = itertools.cycle(devices), encode("int", 1 + sum(devices) % 4)
        for outer in operations(block)[:-1]:
            for operation in inside(outer):
                operation.location = relocated(operation.location, f"/device:CPU:{next(turns)}")
                if operation.name in ("tw.while", "tw.scan"):
                    operation.attributes["parallel_iterations"] = parallel
    run_passes(module, "place{devices=cpu:3},lower-control,partition,cluster")
    found = execute_loaded(loaded_parts(module), arrays)
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9)


DEVICES = st.lists(st.integers(0, 2), min_size=1, max_size=8)


@RELAXED
@given(recipe=recipes(PURE), seed=st.integers(0, 99), devices=DEVICES)
def test_loops_that_span_devices(recipe: tuple[Step, ...], seed: int, devices: list[int]) -> None:
    module = program([TYPE, TYPE], lambda x, y: cook(recipe, x, y))
    run_passes(module, "optimize")
    on_devices(module, inputs(seed), devices)


@RELAXED
@given(recipe=recipes(SMOOTH, most=4), seed=st.integers(0, 99), devices=DEVICES)
def test_gradients_that_span_devices(recipe: tuple[Step, ...], seed: int, devices: list[int]) -> None:
    module = derivative(recipe)
    run_passes(module, "optimize")
    on_devices(module, inputs(seed), devices)
