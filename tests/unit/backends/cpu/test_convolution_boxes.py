"""Convolutions whose results go into a box of another tensor: written there by the convolution's own kernel."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo, lower
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

IMAGE, WINDOW, RESULT = "tensor<2x8x9x5xf32>", "tensor<3x3x5x20xf32>", "tensor<2x8x9x20xf32>"
SHAPES = [(2, 8, 9, 5), (3, 3, 5, 20)]
NUMBERS = "dim_numbers = [b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]"
COUNTS = "{batch_group_count = 1 : i64, feature_group_count = 1 : i64}"
CONVOLUTION = (
    f"stablehlo.convolution(%x, %w) {NUMBERS}, window = {{pad = [[1, 1], [1, 1]]}} {COUNTS} "
    f": ({IMAGE}, {WINDOW}) -> {RESULT}"
)


def kernels(text: str) -> list[str]:
    """What the kernels of a program begin with."""
    with context.entered():
        module = ir.Module.parse(text)
        with module.context, ir.Location.unknown(module.context):
            return [kernel.name.split("_")[1] for kernel in lower(module, CpuOptions(threads=1)).program.kernels()]


def compare(text: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    before = [array.copy() for array in arrays]
    with context.entered():
        module = ir.Module.parse(text)
        expected = evaluate(module, arrays)
        executable = compile_stablehlo(module, CpuOptions(threads=2))
    for result, wanted in zip(executable(arrays), expected, strict=True):
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-5)
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)


def test_the_phases_of_a_transposed_convolution_are_not_copied() -> None:
    image, result = "tensor<4x8x9x5xf32>", "tensor<4x16x18x20xf32>"
    text = f"""func.func @main(%x: {image}, %w: {WINDOW}) -> {result} {{
      %0 = stablehlo.convolution(%x, %w) {NUMBERS}, window = {{pad = [[1, 2], [1, 2]], lhs_dilate = [2, 2]}} {COUNTS}
        : ({image}, {WINDOW}) -> {result}
      return %0 : {result} }}"""
    assert kernels(text) == ["convolution"] * 4
    compare(text, [(4, 8, 9, 5), SHAPES[1]])


def test_branches_are_written_where_they_are_put_together() -> None:
    whole = "tensor<2x8x9x40xf32>"
    text = f"""func.func @main(%x: {IMAGE}, %w: {WINDOW}) -> {whole} {{
      %0 = {CONVOLUTION}
      %1 = stablehlo.negate %w : {WINDOW}
      %2 = {CONVOLUTION.replace("%w", "%1")}
      %3 = stablehlo.concatenate %0, %2, dim = 3 : ({RESULT}, {RESULT}) -> {whole}
      return %3 : {whole} }}"""
    assert kernels(text).count("insert") == 1  # the padded image
    compare(text, SHAPES)


@pytest.mark.parametrize(
    ("more", "returned"),
    [
        ("", "%0"),  # wanted by itself, too
        (f"%2 = stablehlo.tanh %0 : {RESULT}", "%2"),
        (f"%2 = stablehlo.add %0, %0 : {RESULT}", "%2"),
    ],
)
def test_results_that_others_read_are_stored(more: str, returned: str) -> None:
    whole = "tensor<2x8x9x40xf32>"
    text = f"""func.func @main(%x: {IMAGE}, %w: {WINDOW}, %y: {RESULT}) -> ({whole}, {RESULT}) {{
      %0 = {CONVOLUTION}
      %1 = stablehlo.concatenate %0, %y, dim = 3 : ({RESULT}, {RESULT}) -> {whole}
      {more}
      return %1, {returned} : {whole}, {RESULT} }}"""
    compare(text, [*SHAPES, (2, 8, 9, 20)])


@pytest.mark.parametrize("kept", [False, True])
def test_an_argument_is_not_overwritten(kept: bool) -> None:
    """The tensor around the box is an argument, or a value that is read afterwards."""
    whole = "tensor<2x9x12x20xf32>"
    target = f"%t = stablehlo.exponential %y : {whole}" if kept else ""
    name = "%t" if kept else "%y"
    index = "tensor<i32>"
    text = f"""func.func @main(%x: {IMAGE}, %w: {WINDOW}, %y: {whole}) -> ({whole}, {whole}) {{
      {target}
      %a = stablehlo.constant dense<0> : {index}
      %b = stablehlo.constant dense<1> : {index}
      %0 = {CONVOLUTION}
      %1 = stablehlo.dynamic_update_slice {name}, %0, %a, %b, %b, %a
        : ({whole}, {RESULT}, {index}, {index}, {index}, {index}) -> {whole}
      %2 = stablehlo.add {name}, {name} : {whole}
      return %1, %2 : {whole}, {whole} }}"""
    compare(text, [*SHAPES, (2, 9, 12, 20)])
