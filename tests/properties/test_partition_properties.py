"""However a program is placed, cut and clustered, it computes what it computed in one piece."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ir_programs import program
from partition_runs import run_partitioned
from random_programs import SHAPE, STATEFUL, Step, cook, inputs, recipes

from thalweg.backends.reference import run
from thalweg.dialects import context
from thalweg.dialects.build import row_of
from thalweg.dialects.context import type_of
from thalweg.dialects.devices import parse
from thalweg.dialects.location import moved, scope_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType, float64
from thalweg.passes.dependences import Dependences, device_of, set_after
from thalweg.passes.pipeline import run as run_passes
from thalweg.passes.place.costs import is_cheap
from thalweg.passes.rewriting import functions, inside, operations

TYPE = TensorType(SHAPE, float64)
DEVICES = "cpu:3"
SCOPES = ["", "", "cpu:0", "cpu:1", "cpu:2", "/device:CPU", "/job:localhost"]
RELAXED = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
RECIPES = recipes([*STATEFUL, "add", "sin", "mul", "constant", "spread sum", "not select"], most=12)


def _asking(recipe: tuple[Step, ...], seed: int, control: bool) -> ir.Module:
    """A program without control of state in regions, whose ops ask for random devices and come after random others."""
    rng = np.random.default_rng(seed)
    module = program([TYPE, TYPE], lambda x, y: [cook(recipe, x, y), x])
    run_passes(module, "inline,hoist-state")
    with context.entered():
        (block,) = functions(module)
        named: list[str] = []
        for number, op in enumerate(operations(block)[:-1]):
            op.location = moved(op.location, SCOPES[rng.integers(len(SCOPES))])
            row = row_of(op)
            if control and row is not None and row.effects != "pure":
                op.attributes["tw.name"] = ir.StringAttr.get(f"op{number}")
                if named and rng.random() < 0.5:
                    set_after(op, [named[rng.integers(len(named))]])
                named.append(f"op{number}")
    return module


@RELAXED
@given(recipe=RECIPES, seed=st.integers(0, 999))
def test_every_op_is_where_it_asked_to_be(recipe: tuple[Step, ...], seed: int) -> None:
    module = _asking(recipe, seed, control=False)
    with context.entered():
        (block,) = functions(module)
        asked = [scope_of(op.location) for op in operations(block)[:-1]]
        run_passes(module, f"place{{devices={DEVICES}}}")
        for op, scope in zip(operations(block)[:-1], asked, strict=True):
            handles = [o for o in op.operands if not isinstance(type_of(o), TensorType)]
            for handle in handles:
                assert device_of(op) == device_of(handle.owner.operation)
            if scope and not handles:
                assert parse(device_of(op)).satisfies(parse(scope)), op


@RELAXED
@given(recipe=RECIPES, seed=st.integers(0, 999), control=st.booleans(), grain=st.sampled_from([0, 1, 200]))
def test_parts_compute_what_the_whole_does(recipe: tuple[Step, ...], seed: int, control: bool, grain: int) -> None:
    module = _asking(recipe, seed, control)
    *arrays, initial = inputs(seed, 3)
    before, after = {"v": initial}, {"v": initial}
    wanted = run(module, arrays, before)
    run_passes(module, f"place{{devices={DEVICES}}},partition,cluster{{grain={grain}}}")
    found = run_partitioned(module, arrays, after, np.random.default_rng(seed))
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(after["v"], before["v"], rtol=1e-12, atol=1e-12)


@RELAXED
@given(recipe=RECIPES, seed=st.integers(0, 999))
def test_a_tensor_is_sent_once_to_each_device_that_takes_it(recipe: tuple[Step, ...], seed: int) -> None:
    module = _asking(recipe, seed, control=False)
    run_passes(module, f"place{{devices={DEVICES}}}")
    with context.entered():
        wanted = _journeys(functions(module)[0])
        run_passes(module, "partition")
        made = [op for block in functions(module) for outer in operations(block) for op in inside(outer)]
        assert sum(op.name == "tw.send" for op in made) == sum(op.name == "tw.recv" for op in made) == wanted


def _journeys(block: ir.Block) -> int:
    """The number of pairs of a tensor and another device that takes it."""
    dependences = Dependences(block)
    cheap: set[int] = set()
    for node in dependences.nodes:
        if is_cheap(node.operation) and all(dependences.maker(v) in cheap for v in node.inputs):
            cheap.add(node.index)
    return len({
        (value, device_of(node.operation))
        for node in dependences.nodes if node.index not in cheap
        for value in node.inputs
        if (maker := dependences.maker(value)) is not None and maker not in cheap
        and device_of(dependences.nodes[maker].operation) != device_of(node.operation)
    })  # fmt: skip
