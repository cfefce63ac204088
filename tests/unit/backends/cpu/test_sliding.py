"""Convolutions of images with channels last and their gradients, against NumPy in f64: odd sizes, strides, paddings,
dilations, any rank, blocks, panels, epilogues."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo, lower
from thalweg.backends.cpu.emit import convolve, correlate
from thalweg.backends.cpu.emit.registers import register_tile
from thalweg.backends.cpu.machine import Machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


@dataclass(frozen=True)
class Layer:
    """A convolution layer: x [batch, *image, inputs], w [*window, inputs, outputs]."""

    batch: int
    image: tuple[int, ...]
    inputs: int
    window: tuple[int, ...]
    outputs: int
    stride: int = 1
    pad: int = 0
    dilation: int = 1

    @property
    def result(self) -> tuple[int, ...]:
        reach = [(k - 1) * self.dilation + 1 for k in self.window]
        return tuple((n + 2 * self.pad - r) // self.stride + 1 for n, r in zip(self.image, reach, strict=True))

    def arrays(self, dtype: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(x, w, the cotangent of the result)."""
        rng = np.random.default_rng(0)
        shapes = (
            (self.batch, *self.image, self.inputs),
            (*self.window, self.inputs, self.outputs),
            (self.batch, *self.result, self.outputs),
        )
        x, w, g = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        return x, w, g

    def expected(self, part: str, x: np.ndarray, w: np.ndarray, g: np.ndarray) -> np.ndarray:
        """One element of the window at a time."""
        x, w, g = (a.astype(np.float64) for a in (x, w, g))
        padded = np.pad(x, [(0, 0), *[(self.pad, self.pad)] * len(self.image), (0, 0)])
        made = {"forward": np.zeros(g.shape), "data": np.zeros(padded.shape), "weight": np.zeros(w.shape)}
        for place in product(*map(range, self.window)):
            at = tuple(
                slice(k * self.dilation, k * self.dilation + (n - 1) * self.stride + 1, self.stride)
                for k, n in zip(place, self.result, strict=True)
            )
            seen = padded[(slice(None), *at)]
            made["forward"] += seen @ w[place]
            made["data"][(slice(None), *at)] += g @ w[place].T
            made["weight"][place] = np.tensordot(seen, g, (range(x.ndim - 1), range(x.ndim - 1)))
        inside = tuple(slice(self.pad, self.pad + n) for n in self.image)
        made["data"] = made["data"][(slice(None), *inside)]
        return made[part]

    def text(self, part: str, element: str, epilogue: bool) -> str:
        """The op as frontends write it, of two arguments; with an epilogue, y + tanh(y)."""
        d = ", ".join(map(str, range(len(self.image))))
        reach = [(k - 1) * self.dilation for k in self.window]
        strides, dilations = ([n] * len(self.image) for n in (self.stride, self.dilation))
        x, w, y = (self.batch, *self.image, self.inputs), (*self.window, self.inputs, self.outputs), None
        y = (self.batch, *self.result, self.outputs)
        ends = [(o - 1) * self.stride for o in self.result]
        if part == "forward":
            shapes, dims = (x, w, y), f"[b, {d}, f]x[{d}, i, o]->[b, {d}, f]"
            pads = [(self.pad, self.pad)] * len(self.image)
            window = f"stride = {strides}, rhs_dilate = {dilations}"
        elif part == "weight":
            shapes, dims = (x, y, w), f"[f, {d}, b]x[i, {d}, o]->[{d}, b, f]"
            pads = [(self.pad, e + r + 1 - n - self.pad) for e, r, n in zip(ends, reach, self.image, strict=True)]
            window = f"stride = {dilations}, rhs_dilate = {strides}"
        else:
            shapes, dims = (y, w, x), f"[b, {d}, f]x[{d}, o, i]->[b, {d}, f]"
            low = [r - self.pad for r in reach]
            pads = [(n, i - e - 1 - n + r) for n, i, e, r in zip(low, self.image, ends, reach, strict=True)]
            flips = ", ".join(["true"] * len(self.image))
            window = f"lhs_dilate = {strides}, rhs_dilate = {dilations}, reverse = [{flips}]"
        lhs, rhs, out = (f"tensor<{'x'.join(map(str, s))}x{element}>" for s in shapes)
        pad = ", ".join(f"[{a}, {b}]" for a, b in pads)
        more = f"%1 = stablehlo.tanh %0 : {out}\n%2 = stablehlo.add %0, %1 : {out}" if epilogue else ""
        return f"""func.func @main(%x: {lhs}, %w: {rhs}) -> {out} {{
          %0 = stablehlo.convolution(%x, %w) dim_numbers = {dims}, window = {{pad = [{pad}], {window}}}
            {{batch_group_count = 1 : i64, feature_group_count = 1 : i64}} : ({lhs}, {rhs}) -> {out}
          {more}
          return {"%2" if epilogue else "%0"} : {out} }}"""


LAYERS = {
    "3x3": Layer(2, (12, 13), 20, (3, 3), 33, pad=1),
    "3x3, several blocks": Layer(1, (41, 30), 16, (3, 3), 40, pad=1),
    "first layer": Layer(2, (31, 29), 3, (7, 7), 64, stride=2, pad=3),
    "first layer without padding": Layer(2, (27, 23), 3, (5, 5), 20, stride=4),
    "strided": Layer(3, (21, 20), 32, (3, 3), 48, stride=2, pad=1),
    "strided, window of one": Layer(2, (15, 14), 32, (1, 1), 70, stride=2),
    "window of one": Layer(2, (9, 7), 40, (1, 1), 24),
    "dilated": Layer(2, (16, 13), 16, (3, 2), 35, pad=2, dilation=2),
    "strided and dilated": Layer(1, (17, 17), 17, (3, 3), 16, stride=2, pad=1, dilation=2),
    "rows of the window": Layer(2, (16, 9), 18, (3, 1), 32, pad=1),
    "odd channels": Layer(2, (17, 14), 35, (2, 3), 51, pad=1),
    "1-D": Layer(3, (137,), 24, (9,), 40, pad=4),
    "1-D, strided": Layer(2, (50,), 16, (4,), 33, stride=3, pad=2),
    "3-D": Layer(2, (5, 6, 7), 16, (3, 2, 3), 32, pad=1),
    "3-D, strided": Layer(1, (7, 8, 9), 5, (3, 3, 3), 18, stride=2, pad=1),
    "few channels": Layer(2, (13, 12), 5, (3, 3), 24, stride=2, pad=1),
    "few results": Layer(2, (13, 12), 24, (3, 3), 5, pad=1),
    "few results, several blocks": Layer(1, (83, 9), 16, (5, 5), 16, pad=2),
    "few results, no padding": Layer(2, (13, 12), 35, (3, 2), 3),
    "few results, dilated": Layer(3, (14, 13), 33, (5, 3), 3, pad=2, dilation=2),
    "few results, 3-D": Layer(2, (6, 7, 8), 33, (3, 3, 3), 2, pad=1),
    "few results, 1-D": Layer(3, (41,), 35, (3,), 5, pad=2),
    "few results, strided": Layer(2, (17, 18), 40, (3, 3), 3, stride=2, pad=1),
    "more padding than image": Layer(2, (5, 9), 20, (3, 3), 40, pad=6),
    "padded and strided": Layer(2, (13, 12), 20, (5, 4), 33, stride=3, pad=4),
    "padded and dilated": Layer(2, (7, 16), 17, (5, 3), 33, pad=6, dilation=3),
    "few channels, 1-D": Layer(2, (40,), 3, (5,), 24, stride=3, pad=2),
    "many weights": Layer(2, (6, 5), 300, (3, 3), 130, pad=1),
    "many weights, no padding": Layer(2, (6, 5), 300, (3, 3), 130),
}


def check(layer: Layer, part: str, element: str = "f32", epilogue: bool = False, threads: int = 1) -> None:
    x, w, g = layer.arrays({"f32": np.float32, "f64": np.float64}[element])
    expected = layer.expected(part, x, w, g)
    arrays = {"forward": [x, w], "data": [g, w], "weight": [x, g]}[part]
    with context.entered():
        module = ir.Module.parse(layer.text(part, element, epilogue))
        (result,) = compile_stablehlo(module, CpuOptions(threads=threads))(arrays)
    if epilogue:
        expected = expected + np.tanh(expected)
    scale = float(np.abs(expected).max())
    np.testing.assert_allclose(result / scale, expected / scale, rtol=0, atol=2e-6 if element == "f32" else 1e-14)


@pytest.mark.parametrize("part", ["forward", "data", "weight"])
@pytest.mark.parametrize("name", LAYERS)
def test_parts_of_layers(name: str, part: str) -> None:
    check(LAYERS[name], part)


@pytest.mark.parametrize("part", ["forward", "data", "weight"])
@pytest.mark.parametrize("name", ["3x3, several blocks", "first layer", "strided", "odd channels", "1-D"])
def test_epilogues_on_two_threads(name: str, part: str) -> None:
    check(LAYERS[name], part, epilogue=True, threads=2)


@pytest.mark.parametrize(
    ("layer", "part"),
    [
        (Layer(2, (7, 6, 8), 5, (3, 3, 3), 18, stride=3, pad=1), "data"),  # added up in three dimensions
        (Layer(1, (21, 22), 20, (7, 6), 18, stride=5, pad=2), "data"),  # too many remainders for as many convolutions
        (Layer(2, (9, 8), 40, (1, 1), 3), "weight"),  # a product whose operands change places
    ],
)
def test_gradients_of_long_steps_and_short_windows(layer: Layer, part: str) -> None:
    check(layer, part, threads=2)


def test_few_results_on_two_threads() -> None:
    check(LAYERS["few results, several blocks"], "forward", epilogue=True, threads=2)
    check(LAYERS["first layer"], "data", threads=2)


@pytest.mark.parametrize("part", ["forward", "data", "weight"])
def test_f64(part: str) -> None:
    check(LAYERS["odd channels"], part, "f64", epilogue=True)


@pytest.mark.parametrize(("part", "writer"), [("forward", convolve.Convolution), ("weight", correlate.Correlation)])
def test_the_image_is_not_padded_in_memory(part: str, writer: type, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    run = writer.run  # type: ignore[attr-defined]
    monkeypatch.setattr(writer, "run", lambda self: (written.append(self), run(self)))
    with context.entered():
        module = ir.Module.parse(LAYERS["3x3"].text(part, "f32", False))
        with module.context, ir.Location.unknown(module.context):
            kernels = [kernel.name for kernel in lower(module, CpuOptions(threads=1)).program.kernels()]
    assert len(kernels) == len(written) == 1


def test_small_images_of_several_threads_are_cut() -> None:
    """Pieces and strips of a weight gradient make several tiles, and none repeats all packing."""
    assert correlate._cut(tiles=8, panels=4, channels=64, columns=64, wanted=1) == (1, 1)
    pieces, strips = correlate._cut(tiles=8, panels=4, channels=64, columns=64, wanted=8)
    assert pieces * strips >= 8 and 8 % pieces == 0
    assert correlate._cut(tiles=1, panels=1, channels=64, columns=16, wanted=8) == (1, 1)


@pytest.mark.parametrize("machine", [Machine(512, 32), Machine(256, 16), Machine(128, 32)])
@pytest.mark.parametrize("run", [1, 7, 14, 56, 64])
def test_register_tiles_fit_the_registers(machine: Machine, run: int) -> None:
    rows, vectors = register_tile(run, 8, machine, 100)
    assert 1 <= rows <= run and rows * vectors + vectors + 1 <= machine.registers


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("images", [1, 2, 5])
@pytest.mark.parametrize("lines", [7, 14, 28, 30, 56, 113])
def test_no_thread_has_much_more_lines_than_another(lines: int, images: int, threads: int) -> None:
    """Few images are cut so that threads, which take tiles of equal height, end together, within an eighth."""
    count = convolve.block_lines(lines, lines, images, threads)
    tiles = images * -(-lines // count)
    assert 1 <= count <= lines
    assert -(-tiles // threads) * count <= -(-images * lines // threads) * 9 // 8 + 1
