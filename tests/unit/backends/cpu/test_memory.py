"""The memory plan as people read it."""

from __future__ import annotations

from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.memory import buffers
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

PROGRAM = """
func.func @main(%x: tensor<64x32xf32>, %w: tensor<32x16xf32>, %v: tensor<16x8xf32>) -> tensor<64x8xf32> {
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
     : (tensor<64x32xf32>, tensor<32x16xf32>) -> tensor<64x16xf32> loc("model.py":3:0)
  %1 = stablehlo.dot_general %0, %v, contracting_dims = [1] x [0]
     : (tensor<64x16xf32>, tensor<16x8xf32>) -> tensor<64x8xf32> loc("model.py":4:0)
  return %1 : tensor<64x8xf32>
}
"""


def test_every_stored_value_has_a_place_and_the_line_that_made_it() -> None:
    with context.entered():
        lowered = lower(ir.Module.parse(PROGRAM), CpuOptions(threads=1))
        found = [b for b in buffers(lowered) if b.type != "scratch"]
    assert [(b.kind, b.bytes) for b in found[:3]] == [("argument", 8192), ("argument", 2048), ("argument", 512)]
    hidden, result = found[3], found[-1]
    assert (hidden.kind, hidden.type, hidden.bytes) == ("arena", "f32[64,16]", 64 * 16 * 4)
    assert hidden.where is not None
    assert hidden.where.line == 3
    assert (result.kind, result.number, result.bytes) == ("result", 0, 64 * 8 * 4)
    assert all(b.offset + b.bytes <= lowered.plan.arena_bytes for b in found if b.kind == "arena")
    assert hidden.life[0] <= hidden.life[1]
