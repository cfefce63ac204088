"""What PJRT is told beside the program: updates in place, what is split over devices."""

from __future__ import annotations

import pytest

from thalweg.backends.pjrt.lower import lower
from thalweg.backends.stablehlo import artefact
from thalweg.dialects import context
from thalweg.dialects.diagnostics import VerificationError
from thalweg.dialects.mlir import ir

STEP = """
func.func @main(%x: tensor<8x3xf32>, %w: tensor<3x5xf32> {tw.variable = "w", tw.alias = 1 : i64}, %s: tensor<f32>)
    -> (tensor<8x5xf32>, tensor<3x5xf32>) {
  %0 = stablehlo.dot_general %x, %w, contracting_dims = [1] x [0]
    : (tensor<8x3xf32>, tensor<3x5xf32>) -> tensor<8x5xf32>
  %1 = stablehlo.dot_general %x, %0, contracting_dims = [0] x [0]
    : (tensor<8x3xf32>, tensor<8x5xf32>) -> tensor<3x5xf32>
  return %0, %1 : tensor<8x5xf32>, tensor<3x5xf32>
}
"""


def text_of(data: bytes) -> str:
    with context.entered():
        return str(artefact.deserialize(data))


def module() -> ir.Module:
    with context.entered():
        return ir.Module.parse(STEP)


def test_what_is_updated_is_donated() -> None:
    made = lower(module())
    text = text_of(made.data)
    assert made.aliases == {1: 1}
    assert "%arg1: tensor<3x5xf32> {tf.aliasing_output = 1 : i32}" in text
    assert "tw." not in text and "sdy" not in text
    assert made.splits == ((False, False, False), (False, False))


def test_the_batch_is_split_and_the_state_is_everywhere() -> None:
    made = lower(module(), shards=4, inputs=1)
    text = text_of(made.data)
    assert made.splits == ((True, False, False), (True, False))
    assert 'xla.sdy.meshes = "{mesh = #sdy.mesh<[\\22batch\\22=4]>}"' in text
    assert text.count('[{\\22batch\\22}, {}]') == 2
    assert text.count("[{}, {}]") == 2, "the variable, and what becomes of it"
    assert '<@mesh, []>' in text, "a scalar has nothing to split"


def test_a_batch_that_does_not_divide_is_everywhere() -> None:
    assert lower(module(), shards=3, inputs=1).splits == ((False, False, False), (False, False))


def test_the_module_is_left_alone() -> None:
    given = module()
    before = str(given)
    lower(given, shards=2)
    assert str(given) == before


def test_versions() -> None:
    assert lower(module()).data[5:].startswith(f"StableHLO_v{artefact.portable_version()}".encode())
    assert lower(module(), "1.0.0").data[5:].startswith(b"StableHLO_v1.0.0")
    with pytest.raises(VerificationError, match="this build writes"):
        lower(module(), "99.0.0")
