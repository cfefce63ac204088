"""Convolutions with channels first run with channels last: the same numbers, and no transposes between them."""

from __future__ import annotations

import numpy as np
import pytest
from stablehlo_text import exactly

from thalweg.backends.cpu.backend import compile_stablehlo, lower
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

FORWARD, DATA = "[b, f, 0, 1]x[o, i, 0, 1]->[b, f, 0, 1]", "[b, f, 0, 1]x[i, o, 0, 1]->[b, f, 0, 1]"
WEIGHT = "[f, b, 0, 1]x[i, o, 0, 1]->[b, f, 0, 1]"


def conv(name: str, operands: str, types: str, dims: str, window: str) -> str:
    return (
        f"{name} = stablehlo.convolution({operands}) dim_numbers = {dims}, window = {{{window}}} "
        f"{{batch_group_count = 1 : i64, feature_group_count = 1 : i64}} : {types}\n"
    )


def same(text: str, shapes: list[tuple[int, ...]], threads: int = 1) -> list[str]:
    """Compare with XLA; the kernels' names."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    options = CpuOptions(threads=threads)
    with context.entered():
        module = ir.Module.parse(text)
        expected = exactly(text, arrays)
        for result, wanted in zip(compile_stablehlo(module, options)(arrays), expected, strict=True):
            np.testing.assert_allclose(result, wanted, rtol=0, atol=3e-6 * float(np.abs(wanted).max()))
        with module.context, ir.Location.unknown(module.context):
            return [kernel.name for kernel in lower(module, options).program.kernels()]


CASES = {
    "forward": (FORWARD, "pad = [[1, 1], [1, 1]]", (2, 17, 16, 17), (36, 17, 3, 3), (2, 36, 16, 17)),
    "strided": (FORWARD, "stride = [2, 2], pad = [[1, 1], [1, 1]]", (2, 20, 25, 25), (36, 20, 3, 3), (2, 36, 13, 13)),
    "first layer": (FORWARD, "stride = [2, 2], pad = [[3, 3], [3, 3]]", (1, 3, 49, 49), (32, 3, 7, 7), (1, 32, 25, 25)),
    "data": (
        DATA, "pad = [[1, 1], [1, 1]], reverse = [true, true]", (2, 36, 16, 17), (36, 17, 3, 3), (2, 17, 16, 17)
    ),
    "weight": (WEIGHT, "pad = [[1, 1], [1, 1]]", (2, 17, 16, 17), (2, 36, 16, 17), (17, 36, 3, 3)),
    "weight of a first layer": (
        WEIGHT, "pad = [[3, 2], [3, 2]], rhs_dilate = [2, 2]", (2, 3, 30, 30), (2, 32, 15, 15), (3, 32, 7, 7)
    ),
}  # fmt: skip


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_single_convolutions(name: str, threads: int) -> None:
    dims, window, *shapes = CASES[name]
    x, w, y = (f"tensor<{'x'.join(map(str, shape))}xf32>" for shape in shapes)
    text = conv("%0", "%x, %w", f"({x}, {w}) -> {y}", dims, window)
    kernels = same(f"func.func @main(%x: {x}, %w: {w}) -> {y} {{ {text} return %0 : {y} }}", shapes[:2], threads)
    assert any(name.endswith("_map") for name in kernels)  # transposes: the convolution has channels last


SIZES = {"b": 2, "f": 18, "i": 18, "o": 21, "r": 21}  # batch, features, and those of the weights and the result


@pytest.mark.parametrize("size", [5, 16])
@pytest.mark.parametrize("result", ["b01r", "br01"])
@pytest.mark.parametrize("weight", ["01io", "oi01", "i01o"])
@pytest.mark.parametrize("image", ["b01f", "bf01"])
def test_any_mixture_of_layouts(image: str, weight: str, result: str, size: int) -> None:
    """Small convolutions stay as they are, others get channels last; forward and as a weight gradient."""

    def dims(letters: str) -> str:
        return f"[{', '.join(letters)}]"

    def shape(letters: str, places: int) -> tuple[int, ...]:
        return tuple(SIZES.get(c, places) for c in letters)

    shapes = [shape(image, size), shape(weight, 3), shape(result, size)]
    rng = np.random.default_rng(0)
    x, w, y = (rng.standard_normal(s).astype(np.float32) for s in shapes)
    kinds = [f"tensor<{'x'.join(map(str, s))}xf32>" for s in shapes]
    names = f"{dims(image)}x{dims(weight)}->{dims(result.replace('r', 'f'))}"
    last = [np.transpose(a, [held.index(c) for c in to]).astype(np.float64) for a, held, to in (
        (x, image, "b01f"), (w, weight, "01io"), (y, result, "b01r"))]  # fmt: skip
    padded = np.pad(last[0], [(0, 0), (1, 1), (1, 1), (0, 0)])
    forward, gradient = np.zeros(last[2].shape), np.zeros(last[1].shape)
    for i, j in np.ndindex(3, 3):
        seen = padded[:, i : i + size, j : j + size]
        forward += seen @ last[1][i, j]
        gradient[i, j] = np.tensordot(seen, last[2], ((0, 1, 2), (0, 1, 2)))
    wanted = [np.transpose(a, [held.index(c) for c in to]) for a, held, to in (
        (forward, "b01r", result), (gradient, "01io", weight))]  # fmt: skip
    # The images' batch is summed in the gradient, and what was the result is the other operand.
    swapped = f"{dims(image.translate(str.maketrans('bf', 'fb')))}x{dims(result.translate(str.maketrans('br', 'io')))}"
    swapped += f"->{dims(weight.translate(str.maketrans('io', 'bf')))}"
    for (left, right, made), held, arrays, expected in (
        ((0, 1, 2), names, [x, w], wanted[0]),
        ((0, 2, 1), swapped, [x, y], wanted[1]),
    ):
        types = f"({kinds[left]}, {kinds[right]}) -> {kinds[made]}"
        text = conv("%0", "%x, %w", types, held, "pad = [[1, 1], [1, 1]]")
        with context.entered():
            module = ir.Module.parse(
                f"func.func @main(%x: {kinds[left]}, %w: {kinds[right]}) -> {kinds[made]} {{ {text} "
                f"return %0 : {kinds[made]} }}"
            )
            (result_,) = compile_stablehlo(module, CpuOptions(threads=1))(arrays)
        np.testing.assert_allclose(result_, expected, rtol=0, atol=3e-6 * float(np.abs(expected).max()))


def test_a_result_with_channels_last_is_not_copied() -> None:
    x, w, y = "tensor<2x16x16x16xf32>", "tensor<32x16x3x3xf32>", "tensor<2x16x16x32xf32>"
    dims = "[b, f, 0, 1]x[o, i, 0, 1]->[b, 0, 1, f]"
    text = conv("%0", "%x, %w", f"({x}, {w}) -> {y}", dims, "pad = [[1, 1], [1, 1]]")
    kernels = same(
        f"func.func @main(%x: {x}, %w: {w}) -> {y} {{ {text} return %0 : {y} }}", [(2, 16, 16, 16), (32, 16, 3, 3)]
    )
    assert [name.split("_")[1] for name in kernels] == ["map", "convolution"]


def test_nothing_is_transposed_between_two_convolutions() -> None:
    x, w, v, y = "tensor<2x16x16x16xf32>", "tensor<32x16x3x3xf32>", "tensor<16x32x3x3xf32>", "tensor<2x32x16x16xf32>"
    pads = "pad = [[1, 1], [1, 1]]"
    text = (
        f"func.func @main(%x: {x}, %w: {w}, %v: {v}) -> {x} {{\n"
        + conv("%0", "%x, %w", f"({x}, {w}) -> {y}", FORWARD, pads)
        + f"%1 = stablehlo.tanh %0 : {y}\n"
        + conv("%2", "%1, %v", f"({y}, {v}) -> {x}", FORWARD, pads)
        + f"return %2 : {x} }}"
    )
    kernels = same(text, [(2, 16, 16, 16), (32, 16, 3, 3), (16, 32, 3, 3)])
    # In, convolution, tanh, convolution, out.
    assert [name.split("_")[1] for name in kernels] == ["map", "convolution", "map", "convolution", "map"]


def test_one_image_is_transposed_once() -> None:
    x, w, y = "tensor<2x16x16x16xf32>", "tensor<32x16x3x3xf32>", "tensor<2x32x16x16xf32>"
    text = (
        f"func.func @main(%x: {x}, %w: {w}, %v: {w}) -> {y} {{\n"
        + conv("%0", "%x, %w", f"({x}, {w}) -> {y}", FORWARD, "pad = [[1, 1], [1, 1]]")
        + conv("%1", "%x, %v", f"({x}, {w}) -> {y}", FORWARD, "pad = [[1, 1], [1, 1]]")
        + f"%2 = stablehlo.add %0, %1 : {y}\nreturn %2 : {y} }}"
    )
    kernels = same(text, [(2, 16, 16, 16), (32, 16, 3, 3), (32, 16, 3, 3)])
    assert sum(name.endswith("_map") for name in kernels) == 2  # %x, and the sum
