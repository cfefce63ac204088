"""Poolings and their gradients: every layout, padding, stride and distance, against sums and comparisons in NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

import ml_dtypes
import numpy as np
import pytest

from thalweg.backends.cpu.backend import compile_stablehlo, stages
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

DTYPES = {
    "f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i32": np.int32, "i8": np.int8,
}  # fmt: skip
START = {("maximum", "f32"): "0xFF800000", ("maximum", "f64"): "0xFFF0000000000000", ("maximum", "f16"): "0xFC00",
         ("maximum", "bf16"): "0xFF80", ("maximum", "i32"): "-2147483648", ("maximum", "i8"): "-128"}  # fmt: skip


def tensor(shape: Sequence[int], element: str) -> str:
    return f"tensor<{''.join(f'{n}x' for n in shape)}{element}>"


@dataclass(frozen=True)
class Pool:
    """Windows over an image of `batch` images and `channels`, along the spatial dimensions."""

    image: tuple[int, ...]
    window: tuple[int, ...]
    stride: tuple[int, ...] = ()
    low: tuple[int, ...] = ()
    high: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    between: tuple[int, ...] = ()  # zeros that a pad puts between elements, with low and high around
    batch: int = 2
    channels: int = 20
    first: bool = False
    element: str = "f32"

    def all(self, spatial: Sequence[int], other: int) -> list[int]:
        spatial = list(spatial) or [other] * len(self.image)
        return [other, other, *spatial] if self.first else [other, *spatial, other]

    def shaped(self, spatial: Sequence[int]) -> list[int]:
        parts = [[self.batch], [self.channels], list(spatial)]
        return [*parts[0], *parts[1], *parts[2]] if self.first else [*parts[0], *parts[2], *parts[1]]

    @property
    def around(self) -> tuple[list[int], list[int], list[int]]:
        """Of the image: padding before and after, and what is between its elements."""
        return self.all(self.low, 0), self.all(self.high, 0), self.all(self.between, 0)

    @property
    def padded(self) -> list[int]:
        shape = self.shaped(self.image)
        return [(n - 1) * (i + 1) + 1 + a + b for n, a, b, i in zip(shape, *self.around, strict=True)]

    @property
    def results(self) -> list[int]:
        size, stride, apart = self.geometry
        numbers = zip(self.padded, size, stride, apart, strict=True)
        return [(n - (k - 1) * d - 1) // s + 1 for n, k, s, d in numbers]

    @property
    def geometry(self) -> tuple[list[int], list[int], list[int]]:
        return self.all(self.window, 1), self.all(self.stride, 1), self.all(self.dilation, 1)

    def attributes(self, padding: bool) -> str:
        names = ("window_dimensions", "window_strides", "window_dilations")
        text = [f"{n} = array<i64: {str(v)[1:-1]}>" for n, v in zip(names, self.geometry, strict=True)]
        pairs = str([list(pair) for pair in zip(*self.around[:2], strict=True)])
        if padding:
            text.append(f"padding = dense<{pairs}> : tensor<{len(self.padded)}x2xi64>")
        return ", ".join(text)

    def forward(self, op: str) -> str:
        """The pooling less %e; the image is padded by an op of its own where `between` is given."""
        element, start = self.element, START.get((op, self.element), "0" if self.element[0] == "i" else "0.0")
        x, p, y, scalar = (tensor(s, element) for s in (self.shaped(self.image), self.padded, self.results, ()))
        low, high, between = (str(numbers)[1:-1] for numbers in self.around)
        pad = f"%p = stablehlo.pad %x, %start, low = [{low}], high = [{high}], interior = [{between}] "
        pad += f": ({x}, {scalar}) -> {p}"
        name, kind = ("%p", p) if self.between else ("%x", x)
        return f"""func.func @main(%x: {x}, %e: {y}) -> {y} {{
          %start = stablehlo.constant dense<{start}> : {scalar}
          {pad if self.between else ""}
          %0 = "stablehlo.reduce_window"({name}, %start) ({{
          ^bb0(%a: {scalar}, %b: {scalar}):
            %m = stablehlo.{op} %a, %b : {scalar}
            stablehlo.return %m : {scalar}
          }}) {{{self.attributes(padding=not self.between)}}} : ({kind}, {scalar}) -> {y}
          %1 = stablehlo.subtract %0, %e : {y}
          return %1 : {y} }}"""

    def gradient(self) -> str:
        x, y, scalar = (tensor(s, self.element) for s in (self.shaped(self.image), self.results, ()))
        near = f"window_dilations = array<i64: {str(self.all((), 1))[1:-1]}>, "
        geometry = self.attributes(padding=True).replace(near, "")
        return f"""func.func @main(%x: {x}, %s: {y}) -> {x} {{
          %zero = stablehlo.constant dense<0.0> : {scalar}
          %0 = "stablehlo.select_and_scatter"(%x, %s, %zero) ({{
          ^bb0(%a: {scalar}, %b: {scalar}):
            %m = stablehlo.compare GE, %a, %b : ({scalar}, {scalar}) -> tensor<i1>
            stablehlo.return %m : tensor<i1>
          }}, {{
          ^bb0(%a: {scalar}, %b: {scalar}):
            %m = stablehlo.add %a, %b : {scalar}
            stablehlo.return %m : {scalar}
          }}) {{{geometry}}} : ({x}, {y}, {scalar}) -> {x}
          return %0 : {x} }}"""

    def pooled(self, x: np.ndarray, op: str) -> np.ndarray:
        nothing, function = (0.0, np.add) if op == "add" else (-np.inf, np.maximum)
        padded = np.full(self.padded, nothing)
        numbers = zip(x.shape, *self.around, strict=True)
        padded[tuple(np.s_[a : a + (n - 1) * (i + 1) + 1 : i + 1] for n, a, _, i in numbers)] = x
        size, stride, apart = self.geometry
        result = np.full(self.results, nothing)
        for place in np.ndindex(*size):
            every = zip(place, apart, self.results, stride, strict=True)
            result = function(result, padded[tuple(np.s_[p * d : p * d + (n - 1) * s + 1 : s] for p, d, n, s in every)])
        return result

    def given(self, x: np.ndarray, source: np.ndarray) -> np.ndarray:
        """Each source element where its window is largest, at the first of equals."""
        (size, stride, _), result = self.geometry, np.zeros(x.shape)
        for place in np.ndindex(*source.shape):
            begin = [p * s - low for p, s, low in zip(place, stride, self.around[0], strict=True)]
            cut = tuple(np.s_[max(b, 0) : max(b + k, 0)] for b, k in zip(begin, size, strict=True))
            inside = x[cut]
            if inside.size:
                result[cut][np.unravel_index(np.argmax(inside), inside.shape)] += float(source[place])
        return result


def run(text: str, arrays: list[np.ndarray], **options: object) -> np.ndarray:
    with context.entered():
        return compile_stablehlo(ir.Module.parse(text), CpuOptions(**options))(arrays)[0]  # type: ignore[arg-type]


POOLS = [
    Pool((9, 8), (3, 3), low=(1, 1), high=(1, 1)),
    Pool((9, 8), (3, 3), low=(1, 1), high=(1, 1), channels=3, batch=5),
    Pool((9, 11), (3, 3), (2, 2), (1, 0), (1, 2), channels=17),
    Pool((8, 12), (2, 2), (2, 2)),
    Pool((9, 7), (2, 2), (2, 2), channels=7),
    Pool((30, 40), (3, 2), (2, 1), (1, 1), (1, 0), batch=1, channels=16),
    Pool((11, 10), (2, 3), (4, 5), channels=33),  # the stride is wider than the window
    Pool((7, 6), (7, 6), channels=100),
    Pool((7, 6), (4, 5), low=(3, 4), high=(4, 4)),  # some windows hold one element
    Pool((5, 6), (2, 2), low=(3, 0), high=(3, 4)),  # and some of these none
    Pool((29,), (4,), (3,), (2,), (1,), channels=18),
    Pool((6, 5, 7), (2, 3, 2), (1, 2, 2), (1, 1, 0), (0, 1, 1)),
    Pool((6, 6), (6, 6), low=(5, 5), high=(5, 5), channels=16),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_gradients_of_max_pooling(pool: Pool, first: bool, threads: int) -> None:
    pool, rng = replace(pool, first=first), np.random.default_rng(0)
    # Few different numbers: many windows hold equal ones, and sums are exact.
    x, source = (rng.integers(-3, 4, shape).astype(np.float32) for shape in (pool.shaped(pool.image), pool.results))
    np.testing.assert_array_equal(run(pool.gradient(), [x, source], threads=threads), pool.given(x, source))


DISTANT = [
    Pool((9, 20), (2, 3), dilation=(3, 2), low=(1, 2), high=(3, 0)),
    Pool((7, 6), (3, 2), between=(1, 2), low=(2, 1), high=(3, 1)),  # gradients of mean pooling
    Pool((5, 6), (5, 2), between=(1, 1), low=(0, 1), high=(4, 0), channels=3, batch=17),
    Pool((40,), (3,), between=(2,), low=(1,), high=(1,)),
    Pool((4, 3, 5), (3, 2, 2), between=(1, 1, 0), low=(1, 1, 1), high=(1, 1, 1)),
]


@pytest.mark.parametrize("op", ["maximum", "add"])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("pool", POOLS + DISTANT)
def test_poolings(pool: Pool, first: bool, op: str) -> None:
    pool, rng = replace(pool, first=first), np.random.default_rng(1)
    x, e = (rng.integers(-3, 4, shape).astype(np.float32) for shape in (pool.shaped(pool.image), pool.results))
    with context.entered():
        assert "tw.pool" in str(legalize(ir.Module.parse(pool.forward(op))))
    np.testing.assert_array_equal(run(pool.forward(op), [x, e], threads=2), pool.pooled(x, op) - e)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("element", "cpu"),
    [*((element, "") for element in DTYPES), *product(("f32", "f64", "i8"), ("x86-64", "x86-64-v3"))],
)
def test_types(element: str, first: bool, cpu: str) -> None:
    pool, rng = replace(POOLS[2], first=first, element=element), np.random.default_rng(2)
    x, y = (rng.integers(-3, 4, s).astype(DTYPES[element]) for s in (pool.shaped(pool.image), pool.results))
    for op in ("maximum", "add"):
        result = run(pool.forward(op), [x, y], cpu=cpu).astype(np.float64)
        np.testing.assert_array_equal(result, pool.pooled(x, op) - y.astype(np.float64))
    if element[0] != "i":
        np.testing.assert_array_equal(run(pool.gradient(), [x, y], cpu=cpu).astype(np.float64), pool.given(x, y))


def test_nan_is_the_largest() -> None:
    pool = Pool((6, 6), (3, 3), low=(1, 1), high=(1, 1))
    x = np.zeros(pool.shaped(pool.image), np.float32)
    x[:, 2, 2] = np.nan
    result = run(pool.forward("maximum"), [x, np.zeros(pool.results, np.float32)])
    np.testing.assert_array_equal(np.isnan(result), np.isnan(pool.pooled(x, "maximum")))


TURNED = """func.func @main(%x: tensor<2x24x9x8xf32>, %s: tensor<2x24x4x4xf32>) -> tensor<2x24x9x8xf32> {
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %0 = stablehlo.transpose %x, dims = [0, 2, 3, 1] : (tensor<2x24x9x8xf32>) -> tensor<2x9x8x24xf32>
  %1 = stablehlo.transpose %s, dims = [0, 2, 3, 1] : (tensor<2x24x4x4xf32>) -> tensor<2x4x4x24xf32>
  %2 = "stablehlo.select_and_scatter"(%0, %1, %zero) ({
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    %m = stablehlo.compare GE, %a, %b : (tensor<f32>, tensor<f32>) -> tensor<i1>
    stablehlo.return %m : tensor<i1>
  }, {
  ^bb0(%a: tensor<f32>, %b: tensor<f32>):
    %m = stablehlo.add %a, %b : tensor<f32>
    stablehlo.return %m : tensor<f32>
  }) {window_dimensions = array<i64: 1, 2, 2, 1>, window_strides = array<i64: 1, 2, 2, 1>}
    : (tensor<2x9x8x24xf32>, tensor<2x4x4x24xf32>, tensor<f32>) -> tensor<2x9x8x24xf32>
  %3 = stablehlo.transpose %2, dims = [0, 3, 1, 2] : (tensor<2x9x8x24xf32>) -> tensor<2x24x9x8xf32>
  return %3 : tensor<2x24x9x8xf32> }"""


def test_a_pooling_between_transposes_reads_the_image_as_it_lies() -> None:
    rng = np.random.default_rng(4)
    x, source = rng.integers(-3, 4, (2, 24, 9, 8)), rng.integers(-3, 4, (2, 24, 4, 4))
    pool = Pool((9, 8), (2, 2), (2, 2), channels=24, first=True)
    arrays = [x.astype(np.float32), source.astype(np.float32)]
    np.testing.assert_array_equal(run(TURNED, arrays), pool.given(x, source))
    with context.entered():
        kernels = stages(ir.Module.parse(TURNED), CpuOptions(threads=1))["kernels"]
    assert "_select_and_scatter" in kernels and "_map" not in kernels


def test_windows_that_swap_their_dimensions_stay_as_they_are() -> None:
    """The first of equal elements is another where the window is turned."""
    text = TURNED.replace("dims = [0, 2, 3, 1]", "dims = [0, 3, 2, 1]").replace("[0, 3, 1, 2]", "[0, 3, 2, 1]")
    text = text.replace("2x9x8x24", "2x8x9x24")
    x, source = np.zeros((2, 24, 9, 8), np.float32), np.ones((2, 24, 4, 4), np.float32)
    x[:, :, 0, 1] = x[:, :, 1, 0] = 1
    result = run(text, [x, source])
    assert result[0, 0, 1, 0] == 1 and result[0, 0, 0, 1] == 0
