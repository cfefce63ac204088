"""The layers of `benchmarks.convolutions`: those with names, and others drawn at random."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

PARTS = ("forward", "data", "weight")  # the result, the gradient of the image, that of the weights
LIGHTEST, HEAVIEST = 1 << 20, 1 << 28  # products of a layer that is drawn at random


@dataclass(frozen=True)
class Case:
    """A convolution, or a pooling where `outputs` is "max" or "mean"."""

    name: str
    image: tuple[int, ...]  # batch, *spatial, channels
    window: int
    outputs: int | str
    stride: int = 1
    pad: int = 0
    dilation: int = 1
    groups: int = 1
    first: bool = False  # channels first
    transposed: bool = False

    @property
    def rank(self) -> int:
        return len(self.image) - 2

    @property
    def parts(self) -> tuple[str, ...]:
        return PARTS[:2] if isinstance(self.outputs, str) else PARTS

    @property
    def extents(self) -> list[int]:
        """The result's spatial extents."""
        reach = (self.window - 1) * self.dilation + 1
        if self.transposed:
            return [(n - 1) * self.stride + reach - 2 * self.pad for n in self.image[1:-1]]
        return [(n + 2 * self.pad - reach) // self.stride + 1 for n in self.image[1:-1]]

    @property
    def channels(self) -> int:
        """The result's channels."""
        return self.image[-1] if isinstance(self.outputs, str) else self.outputs

    @property
    def weights(self) -> tuple[int, ...]:
        """The shape of the weights."""
        return (*[self.window] * self.rank, self.image[-1] // self.groups, self.channels)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(image, weights, the cotangent of the result)."""
        rng = np.random.default_rng(0)
        shapes = (self.image, self.weights, (self.image[0], *self.extents, self.channels))
        x, w, g = (rng.standard_normal(shape, np.float32) for shape in shapes)
        return self.held(x), w, self.held(g)

    def held(self, image: np.ndarray) -> np.ndarray:
        """An image with channels last, as the row holds it."""
        return np.ascontiguousarray(np.moveaxis(image, -1, 1)) if self.first else image


CASES = (
    Case("1x1 64-256", (4, 56, 56, 64), 1, 256),
    Case("1x1 512-512", (1, 14, 14, 512), 1, 512),
    Case("1x1 stride 2", (2, 56, 56, 256), 1, 512, 2),
    Case("3x3 64", (4, 56, 56, 64), 3, 64, 1, 1),
    Case("3x3 256", (4, 14, 14, 256), 3, 256, 1, 1),
    Case("3x3 odd channels", (4, 29, 27, 35), 3, 51, 1, 1),
    Case("3x3 stride 2", (4, 56, 56, 128), 3, 128, 2, 1),
    Case("3x3 first layer", (4, 224, 224, 3), 3, 32, 2, 1),
    Case("5x5 32-64", (4, 28, 28, 32), 5, 64, 1, 2),
    Case("7x7 stride 2", (4, 224, 224, 3), 7, 64, 2, 3),
    Case("11x11 stride 4", (4, 227, 227, 3), 11, 64, 4),
    Case("3x3 dilated", (2, 40, 40, 64), 3, 64, 1, 2, 2),
    Case("3x3 4 groups", (2, 28, 28, 128), 3, 128, 1, 1, 1, 4),
    Case("3x3 32 groups", (2, 28, 28, 256), 3, 256, 1, 1, 1, 32),
    Case("depthwise 3x3", (1, 56, 56, 128), 3, 128, 1, 1, 1, 128),
    Case("depthwise stride 2", (1, 112, 112, 64), 3, 64, 2, 1, 1, 64),
    Case("1-D 9", (8, 400, 64), 9, 64, 1, 4),
    Case("3-D 3x3x3", (1, 16, 28, 28, 16), 3, 32, 1, 1),
    Case("3x3 64-3", (4, 56, 56, 64), 3, 3, 1, 1),
    Case("1-D dilated", (8, 400, 64), 3, 64, 1, 4, 4),
    Case("depthwise 5x5", (1, 28, 28, 240), 5, 240, 1, 2, 1, 240),
    Case("transposed 4x4", (4, 28, 28, 64), 4, 32, 2, 1, transposed=True),
    Case("transposed 3x3", (4, 14, 14, 128), 3, 128, 2, 1, transposed=True),
    Case("3x3 64 NCHW", (4, 56, 56, 64), 3, 64, 1, 1, first=True),
    Case("3x3 stride 2 NCHW", (4, 56, 56, 128), 3, 128, 2, 1, first=True),
    Case("7x7 stride 2 NCHW", (4, 224, 224, 3), 7, 64, 2, 3, first=True),
    Case("max-pool 3x3 s2", (4, 112, 112, 64), 3, "max", 2, 1),
    Case("max-pool 2x2", (4, 112, 112, 64), 2, "max", 2),
    Case("max-pool 3x3", (4, 28, 28, 256), 3, "max", 1, 1),
    Case("max-pool 2x2 NCHW", (4, 112, 112, 64), 2, "max", 2, first=True),
    Case("mean-pool 3x3 s2", (4, 56, 56, 64), 3, "mean", 2),
    Case("mean-pool 2x2", (4, 56, 56, 64), 2, "mean", 2),
    Case("mean-pool 3x3", (4, 28, 28, 256), 3, "mean", 1, 1),
)


def random_cases(count: int, seed: int) -> Iterator[Case]:
    """Layers drawn at random: of one to three dimensions, odd channels, groups, strides, dilated, channels first."""
    rng = random.Random(seed)
    while count:
        case = _pooling(rng) if rng.random() < 0.25 else _convolution(rng)
        products = case.image[0] * math.prod(case.extents) * case.channels * case.window**case.rank
        if not isinstance(case.outputs, str):
            products *= case.image[-1] // case.groups
        if min(case.extents) > 0 and LIGHTEST <= products <= HEAVIEST:
            count -= 1
            yield case


def _image(rng: random.Random, channels: int) -> tuple[int, ...]:
    rank = rng.choice((1, 2, 2, 2, 3))
    extents = {1: (50, 128, 333, 1000), 2: (7, 13, 14, 28, 33, 56, 112), 3: (8, 15, 24)}[rank]
    return (rng.choice((1, 1, 2, 4, 16, 64)), *(rng.choice(extents) for _ in range(rank)), channels)


def _convolution(rng: random.Random) -> Case:
    inputs, outputs = (rng.choice((3, 5, 8, 16, 17, 32, 33, 64, 100, 128, 256)) for _ in range(2))
    groups = 1
    if rng.random() < 0.3:
        groups = rng.choice([n for n in (2, 3, 4, 8, 16, 33, inputs) if inputs % n == 0] or [1])
        outputs = inputs * rng.choice((1, 1, 2))
    image, window = _image(rng, inputs), rng.choice((1, 2, 3, 3, 3, 4, 5, 7))
    dilation = rng.choice((1, 1, 1, 2, 3)) if window > 1 else 1
    stride = rng.choice((1, 1, 2, 3)) if dilation == 1 else 1
    pad = rng.choice((0, (window - 1) * dilation // 2))
    transposed = stride > 1 and window >= stride and groups == 1 and rng.random() < 0.3
    first = rng.random() < 0.25
    sizes = f"{'x'.join(map(str, image))} w{window} -> {outputs}"
    marks = [f"{letter}{n}" for letter, n in (("s", stride), ("d", dilation), ("g", groups)) if n > 1]
    marks += [f"p{pad}"] * (pad > 0) + ["transposed"] * transposed + ["channels first"] * first
    name = " ".join([sizes, *marks])
    return Case(name, image, window, outputs, stride, pad, dilation, groups, first, transposed)


def _pooling(rng: random.Random) -> Case:
    image = _image(rng, rng.choice((3, 5, 16, 17, 33, 64, 100, 128)))
    window, kind, first = rng.choice((2, 2, 3, 3, 5)), rng.choice(("max", "max", "mean")), rng.random() < 0.3
    stride, pad = rng.randint(1, window), rng.choice((0, window // 2))
    marks = f"s{stride} p{pad}{' channels first' * first}"
    return Case(f"{kind} {'x'.join(map(str, image))} w{window} {marks}", image, window, kind, stride, pad, first=first)
