"""Passes are near-linear: a program of thousands of ops goes through the pipeline in a moment."""

from __future__ import annotations

import time

import pytest
from ir_programs import program

from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import type_of
from thalweg.dialects.location import on_device
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops.contraction import dot_general
from thalweg.dialects.types import TensorType, float32
from thalweg.passes.pipeline import run
from thalweg.passes.rewriting import full_like

SQUARE = TensorType((8, 8), float32)


def _seconds(layers: int) -> float:
    """The processor time that `optimize` takes for the gradient of a chain of layers, 10 ops each when expanded."""

    def chain(x: ir.Value, w: ir.Value) -> list[ir.Value]:
        for _ in range(layers):
            x = ew.tanh(dot_general(x, w, lhs_contract=(1,), rhs_contract=(0,)))
            x = ew.add(ew.mul(x, full_like(x, 0.5)), w)
        return [x]

    def main(x: ir.Value, w: ir.Value, g: ir.Value) -> list[ir.Value]:
        *_, tape = build_with_regions(control.vjp, [x, w], {"aux": 0}, [[type_of(x), type_of(w)]], [chain])
        return list(control.pullback(tape, g, wrt=(0, 1)))

    module = program([SQUARE] * 3, main)
    begin = time.process_time()
    run(module, "optimize", verify_each=False)
    return time.process_time() - begin


pytestmark = pytest.mark.slow  # times, which a busy machine shifts


def test_optimizing_thousands_of_ops_is_near_linear_and_quick() -> None:
    small, large = min(_seconds(60) for _ in range(3)), min(_seconds(480) for _ in range(2))
    assert large < 4, f"about 5,000 ops took {large:.2f} s"
    assert large < 8 * small * 2.5, f"8 times as many ops took {large / small:.1f} times as long"


def _seconds_to_cut(ops: int, pipeline: str) -> float:
    """The processor time that a pass takes for ops of which every 25th asks for one of eight devices."""

    def main(x: ir.Value) -> list[ir.Value]:
        values = [x]
        for number in range(ops):
            with on_device(ir.Location.unknown(), f"cpu:{number // 25 * 7 % 8}" if number % 25 == 0 else ""):
                other = values[max(number - number % 17, 0)]
                values.append(ew.add(values[-1], other) if number % 3 else ew.exp(other))
        return [values[-1]]

    module = program([TensorType((8, 8), float32)], main)
    before, _, last = pipeline.rpartition(",")
    if before:
        run(module, before, verify_each=False)
    begin = time.process_time()
    run(module, last, verify_each=False)
    return time.process_time() - begin


@pytest.mark.parametrize("pipeline", ["place{devices=cpu:8}", "place{devices=cpu:8},partition",
                                      "place{devices=cpu:8},partition,cluster"])  # fmt: skip
def test_cutting_ten_thousand_ops_is_near_linear_and_quick(pipeline: str) -> None:
    small, large = min(_seconds_to_cut(1250, pipeline) for _ in range(3)), _seconds_to_cut(10_000, pipeline)
    assert large < 4, f"10,000 ops took {large:.2f} s"
    assert large < 8 * small * 2.5, f"8 times as many ops took {large / small:.1f} times as long"
