"""A device's share of a module: what is split, where sums go between devices, what is done whole."""

from __future__ import annotations

import re

import pytest

from thalweg.backends.shards.split import Share, SplitModule, split_inputs, split_module
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType, float32


def share(text: str, inputs: int = 1, devices: int = 2, index: int = 0, nccl: bool = False) -> tuple[SplitModule, str]:
    """The share and its text, verified."""
    with context.entered():
        found = split_module(ir.Module.parse(text), Share(devices, index, inputs, nccl))
        assert found.module.operation.verify()
        return found, str(found.module)


def collectives(text: str) -> list[str]:
    return re.findall(r'"tw.collective".*kind = "(\w+)"', text)


GRADIENT = """func.func @main(%x: tensor<8x4xf32>, %d: tensor<8x3xf32>, %w: tensor<4x3xf32>) -> tensor<4x3xf32> {
  %0 = stablehlo.dot_general %x, %d, contracting_dims = [0] x [0]
       : (tensor<8x4xf32>, tensor<8x3xf32>) -> tensor<4x3xf32>
  %1 = stablehlo.add %w, %0 : tensor<4x3xf32>
  return %1 : tensor<4x3xf32>
}"""


def test_a_gradient_is_summed_over_the_devices() -> None:
    found, text = share(GRADIENT, inputs=2)
    assert (found.arguments, found.results, found.same) == ((0, 0, None), (None,), True)
    assert "(tensor<4x4xf32>, tensor<4x3xf32>) -> tensor<4x3xf32>" in text
    assert collectives(text) == ["gather"] and text.count("stablehlo.add") == 2


def test_with_nccl_it_is_one_op() -> None:
    _, text = share(GRADIENT, inputs=2, nccl=True)
    assert collectives(text) == ["add"] and text.count("stablehlo.add") == 1


def test_of_large_sums_each_device_makes_a_piece() -> None:
    large = GRADIENT.replace("4x3", "400x300").replace("8x4x", "8x400x").replace("8x3x", "8x300x")
    _, text = share(large, inputs=2, devices=4)
    assert collectives(text) == ["exchange", "gather"]
    assert "tensor<4x30000xf32>" in text


LOCAL = """func.func @main(%x: tensor<8x6xf32>) -> tensor<{result}xf32> {{
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  {op}
  return %0 : tensor<{result}xf32>
}}"""


@pytest.mark.parametrize(
    ("op", "result", "local"),
    [
        ("%0 = stablehlo.tanh %x : tensor<8x6xf32>", "8x6", "4x6"),
        ("%0 = stablehlo.reshape %x : (tensor<8x6xf32>) -> tensor<48xf32>", "48", "24"),
        ("%0 = stablehlo.reshape %x : (tensor<8x6xf32>) -> tensor<4x2x6xf32>", "4x2x6", "2x2x6"),
        ("%0 = stablehlo.slice %x [0:8, 1:4] : (tensor<8x6xf32>) -> tensor<8x3xf32>", "8x3", "4x3"),
        ("%0 = stablehlo.reverse %x, dims = [1] : tensor<8x6xf32>", "8x6", "4x6"),
        ("%0 = stablehlo.broadcast_in_dim %x, dims = [0, 2] : (tensor<8x6xf32>) -> tensor<8x5x6xf32>",
         "8x5x6", "4x5x6"),
        ("%0 = stablehlo.pad %x, %zero, low = [0, 1], high = [0, 2], interior = [0, 0] : "
         "(tensor<8x6xf32>, tensor<f32>) -> tensor<8x9xf32>", "8x9", "4x9"),
        ("%0 = stablehlo.reduce(%x init: %zero) applies stablehlo.add across dimensions = [1] : "
         "(tensor<8x6xf32>, tensor<f32>) -> tensor<8xf32>", "8", "4"),
        ("%0 = stablehlo.concatenate %x, %x, dim = 1 : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<8x12xf32>",
         "8x12", "4x12"),
    ],
)  # fmt: skip
def test_what_keeps_the_batch_is_done_in_parts(op: str, result: str, local: str) -> None:
    found, text = share(LOCAL.format(op=op, result=result))
    assert found.results == (0,) and found.same
    assert f"-> tensor<{local}xf32> {{" in text and not collectives(text)


@pytest.mark.parametrize(
    ("op", "result"),
    [
        ("%0 = stablehlo.reverse %x, dims = [0] : tensor<8x6xf32>", "8x6"),
        ("%0 = stablehlo.slice %x [1:3, 0:6] : (tensor<8x6xf32>) -> tensor<2x6xf32>", "2x6"),
        ("%0 = stablehlo.reshape %x : (tensor<8x6xf32>) -> tensor<3x16xf32>", "3x16"),
        ("%0 = stablehlo.concatenate %x, %x, dim = 0 : (tensor<8x6xf32>, tensor<8x6xf32>) -> tensor<16x6xf32>", "16x6"),
        ("%0 = stablehlo.custom_call @unheard_of(%x) : (tensor<8x6xf32>) -> tensor<8x6xf32>", "8x6"),
    ],
)
def test_what_mixes_the_batch_is_done_whole(op: str, result: str) -> None:
    found, text = share(LOCAL.format(op=op, result=result))
    assert found.results == (None,)
    assert set(collectives(text)) == {"gather"} and f"-> tensor<{result}xf32> {{" in text


def test_extremes_are_combined_as_they_are() -> None:
    op = (
        "%low = stablehlo.constant dense<0xFF800000> : tensor<f32>\n"
        "%0 = stablehlo.reduce(%x init: %low) applies stablehlo.maximum across dimensions = [0] : "
        "(tensor<8x6xf32>, tensor<f32>) -> tensor<6xf32>"
    )
    _, text = share(LOCAL.format(op=op, result="6"))
    assert collectives(text) == ["gather"] and text.count("stablehlo.maximum") == 2


def test_a_sum_that_begins_with_something_is_done_whole() -> None:
    """Each device would begin with it."""
    op = (
        "%one = stablehlo.constant dense<1.0> : tensor<f32>\n"
        "%0 = stablehlo.reduce(%x init: %one) applies stablehlo.add across dimensions = [0] : "
        "(tensor<8x6xf32>, tensor<f32>) -> tensor<6xf32>"
    )
    _, text = share(LOCAL.format(op=op, result="6"))
    assert "across dimensions = [0] : (tensor<8x6xf32>, tensor<f32>)" in text


NUMBERED = """func.func @main(%x: tensor<8xi32>) -> tensor<8xi32> {
  %0 = stablehlo.iota dim = 0 : tensor<8xi32>
  %1 = stablehlo.add %x, %0 : tensor<8xi32>
  return %1 : tensor<8xi32>
}"""


def test_what_depends_on_the_place_in_the_batch_depends_on_the_device() -> None:
    for index, bounds in ((0, "[0:4]"), (1, "[4:8]")):
        found, text = share(NUMBERED, index=index)
        assert not found.same and f"stablehlo.slice %0 {bounds}" in text


LOOP = """func.func @main(%x: tensor<8x3xf32>) -> (tensor<8x3xf32>, tensor<f32>) {
  %i = stablehlo.constant dense<0> : tensor<i32>
  %zeros = stablehlo.constant dense<0.0> : tensor<8x3xf32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %0:3 = stablehlo.while(%k = %i, %h = %zeros, %total = %zero) : tensor<i32>, tensor<8x3xf32>, tensor<f32>
    cond {
      %limit = stablehlo.constant dense<5> : tensor<i32>
      %1 = stablehlo.compare LT, %k, %limit : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %1 : tensor<i1>
    } do {
      %one = stablehlo.constant dense<1> : tensor<i32>
      %1 = stablehlo.add %k, %one : tensor<i32>
      %2 = stablehlo.add %h, %x : tensor<8x3xf32>
      %3 = stablehlo.reduce(%2 init: %zero) applies stablehlo.add across dimensions = [0, 1] : (tensor<8x3xf32>, tensor<f32>) -> tensor<f32>
      stablehlo.return %1, %2, %3 : tensor<i32>, tensor<8x3xf32>, tensor<f32>
    }
  return %0#1, %0#2 : tensor<8x3xf32>, tensor<f32>
}"""  # noqa: E501


def test_the_state_of_a_loop_that_begins_with_zeros_is_split() -> None:
    found, text = share(LOOP)
    assert found.results == (0, None)
    assert collectives(text) == ["gather"]  # of the sum, not of the state
    assert "tensor<i32>, tensor<4x3xf32>, tensor<f32>" in text


def test_the_batch_is_the_first_extent_that_can_be_divided() -> None:
    types = [TensorType(shape, float32) for shape in ((3, 4), (), (8, 2), (8,))]
    assert split_inputs(types, 4) == [False, False, True, True]
    assert split_inputs(types, 3) == [True, False, False, False]
    assert not any(split_inputs(types, 5))
    with pytest.raises(LoweringError, match=r"over 3 devices.*\(f32\[8,4\], f32\[8,3\]\).*divided by 3"):
        share(GRADIENT, inputs=2, devices=3)
