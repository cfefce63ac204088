"""Real sizes in the places of open extents: what is said where they do not fit."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects import context
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.extents import axis
from thalweg.dialects.types import TensorType, float32
from thalweg.dialects.verify import parse, verify
from thalweg.frontend.subgraph import cut
from thalweg.passes.pipeline import Pipeline
from thalweg.passes.specialise import of_sizes
from thalweg.sized import KEPT, SizedProgram, is_sized, specialised

N = axis(0)
TEXT = f"""
func.func @main(%x: tensor<{int.__repr__(N)}x4xf32>) -> tensor<{int.__repr__(N)}x4xf32> {{
  %y = "tw.exp"(%x) : (tensor<{int.__repr__(N)}x4xf32>) -> tensor<{int.__repr__(N)}x4xf32>
  return %y : tensor<{int.__repr__(N)}x4xf32>
}}"""


@pytest.mark.parametrize(
    ("shapes", "message"),
    [("3x5", r"input 0 is f32\[\?,4\], which cannot be f32\[3,5\]"), ("3", "cannot be"), ("3y4", "written 3x4")],
)
def test_shapes_that_do_not_fit(shapes: str, message: str) -> None:
    with context.entered():
        module = parse(TEXT)
        with pytest.raises(PassError, match=message):
            Pipeline.parse(f"specialise{{inputs={shapes}}}").run(module)


def test_a_program_without_open_extents_stays_as_it_is() -> None:
    with context.entered():
        module = of_sizes(parse(TEXT), [TensorType((3, 4), float32)])
        verify(module)
        before = str(module)
        assert "tensor<3x4xf32>" in before and "?" not in before
        Pipeline.parse("specialise").run(module)
        assert str(module) == before


def test_a_constant_with_the_number_of_an_extent_is_found() -> None:
    code = int.__repr__(N)
    text = f"""
    func.func @main(%x: tensor<{code}xf32>) -> tensor<i64> {{
      %n = "tw.constant"() {{value = dense<{code}> : tensor<i64>}} : () -> tensor<i64>
      %y = "tw.reshape"(%x) {{shape = array<i64: {code}, 1>}} : (tensor<{code}xf32>) -> tensor<{code}x1xf32>
      return %n : tensor<i64>
    }}"""
    with context.entered(), pytest.raises(PassError, match=r"has become a constant. Use tw\.extent"):
        of_sizes(parse(text), [TensorType((3,), float32)])


def program() -> tw.Graph:
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (None,), name="x")
        tw.reshape(x, (2, -1), name="y")
    return graph


def test_a_size_that_is_no_whole_number_is_told_with_the_line() -> None:
    graph = program()
    made = cut(graph, "halves", [graph.tensor("y:0")], [graph.tensor("x:0")])
    assert not is_sized(made) and is_sized(specialised(made, [TensorType((6,), float32)]))
    with pytest.raises(PassError, match=r"test_specialise.py:\d+.*cannot be where n0 is 7.*the feed 'x:0' f32\[7\]"):
        specialised(made, [TensorType((7,), float32)])


def test_code_is_kept_for_the_sizes_used_last() -> None:
    graph = program()
    compiled: list[int] = []

    class Fake:
        direct = None

        def __call__(self, inputs, timeout=None):
            return [inputs[0].reshape(2, -1)]

    def compile_(sized):
        compiled.append(sized.inputs[0].shape[0])
        return Fake()

    sized = SizedProgram(cut(graph, "halves", [graph.tensor("y:0")], [graph.tensor("x:0")]), compile_)
    for size in [*range(2, 2 * KEPT + 4, 2), 2, 4 * KEPT, 2]:
        assert sized([np.zeros(size, np.float32)])[0].shape == (2, size // 2)
    assert compiled == [*range(2, 2 * KEPT + 4, 2), 2, 4 * KEPT]
