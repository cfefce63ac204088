"""Passes are near-linear: twice as many ops are about twice as much work. Counted, not timed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ir_programs import program
from work import growth

from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import type_of
from thalweg.dialects.location import on_device
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, state
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops.contraction import dot_general
from thalweg.dialects.types import TensorType, float32
from thalweg.passes.pipeline import run
from thalweg.passes.rewriting import full_like

SQUARE = TensorType((8, 8), float32)
MOST = 2.1


def _layers(count: int) -> ir.Module:
    """The gradient of a chain of layers, 10 ops each when expanded."""

    def chain(x: ir.Value, w: ir.Value) -> list[ir.Value]:
        for _ in range(count):
            x = ew.tanh(dot_general(x, w, lhs_contract=(1,), rhs_contract=(0,)))
            x = ew.add(ew.mul(x, full_like(x, 0.5)), w)
        return [x]

    def main(x: ir.Value, w: ir.Value, g: ir.Value) -> list[ir.Value]:
        *_, tape = build_with_regions(control.vjp, [x, w], {"aux": 0}, [[type_of(x), type_of(w)]], [chain])
        return list(control.pullback(tape, g, wrt=(0, 1)))

    return program([SQUARE] * 3, main)


def _variables(count: int) -> ir.Module:
    """An update of as many variables."""

    def main(x: ir.Value) -> list[ir.Value]:
        for number in range(count):
            handle = state.variable_handle(name=f"v{number}", shape=SQUARE.shape, dtype=float32)
            state.assign(handle, ew.add(ew.mul(state.read(handle), x), x))
        return [x]

    return program([SQUARE], main)


def _scattered(count: int) -> ir.Module:
    """Ops of which every 25th asks for one of eight devices."""

    def main(x: ir.Value) -> list[ir.Value]:
        values = [x]
        for number in range(count):
            with on_device(ir.Location.unknown(), f"cpu:{number // 25 * 7 % 8}" if number % 25 == 0 else ""):
                other = values[max(number - number % 17, 0)]
                values.append(ew.add(values[-1], other) if number % 3 else ew.exp(other))
        return [values[-1]]

    return program([SQUARE], main)


@pytest.mark.parametrize(
    ("module", "size", "pipeline"),
    [
        (_layers, 16, "optimize"),
        (_layers, 16, "optimize,to-stablehlo"),
        (_variables, 100, "optimize"),
        (_variables, 100, "optimize,to-stablehlo"),
        (_scattered, 300, "place{devices=cpu:8}"),
        (_scattered, 300, "place{devices=cpu:8},partition"),
        (_scattered, 300, "place{devices=cpu:8},partition,cluster"),
    ],
)
def test_twice_the_ops_are_about_twice_the_work(module: Callable[[int], ir.Module], size: int, pipeline: str) -> None:
    def work(count: int) -> Callable[[], object]:
        made = module(count)
        return lambda: run(made, pipeline, verify_each=False)

    assert growth(work, size) < MOST
