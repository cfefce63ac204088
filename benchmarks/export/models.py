"""The models, as layers with random weights: NumPy alone, so that every runtime's builder reads the same ones.

Images are [batch, height, width, channels]; convolutions pad so that the extent is divided by the stride.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Activation = Literal["", "relu", "relu6"]


@dataclass(frozen=True)
class Dense:
    weight: Array  # [inputs, outputs]
    bias: Array
    activation: Activation = ""


@dataclass(frozen=True)
class Conv:
    weight: Array  # [height, width, inputs / groups, outputs]
    bias: Array
    stride: int
    activation: Activation
    groups: int = 1


@dataclass(frozen=True)
class MaxPool:
    """2 by 2."""


@dataclass(frozen=True)
class Mean:
    """Over an image."""


@dataclass(frozen=True)
class Flatten: ...


@dataclass(frozen=True)
class Softmax: ...


@dataclass(frozen=True)
class Lstm:
    """The last state of a sequence [batch, steps, inputs]; gates in the order input, forget, cell, output."""

    weight: Array  # [inputs + units, 4 * units]
    bias: Array

    @property
    def units(self) -> int:
        return len(self.bias) // 4


@dataclass(frozen=True)
class Encoder:
    """A transformer's block, normalised before its parts: [batch, steps, width]."""

    heads: int
    qkv: Dense
    out: Dense
    wide: Dense
    narrow: Dense


Layer = Dense | Conv | MaxPool | Mean | Flatten | Softmax | Lstm | Encoder


@dataclass(frozen=True)
class Model:
    name: str
    shape: tuple[int, ...]  # of the input, a batch of one
    layers: tuple[Layer, ...]

    @property
    def classes(self) -> int:
        """How many numbers come out."""
        return next(len(layer.bias) for layer in reversed(self.layers) if isinstance(layer, Dense))

    def sample(self) -> Array:
        return np.random.default_rng(1).normal(size=self.shape).astype(np.float32)


class _Weights:
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def dense(self, inputs: int, outputs: int, activation: Activation = "") -> Dense:
        return Dense(self._normal(inputs, inputs, outputs), self._normal(100, outputs), activation)

    def conv(self, size: int, inputs: int, outputs: int, stride: int = 1, groups: int = 1) -> Conv:
        inner = inputs // groups
        weight = self._normal(size * size * inner / 2, size, size, inner, outputs)
        return Conv(weight, self._normal(100, outputs), stride, "relu6", groups)

    def lstm(self, inputs: int, units: int) -> Lstm:
        return Lstm(self._normal(inputs + units, inputs + units, 4 * units), self._normal(100, 4 * units))

    def encoder(self, width: int, heads: int) -> Encoder:
        return Encoder(heads, self.dense(width, 3 * width), self.dense(width, width),
                       self.dense(width, 4 * width, "relu"), self.dense(4 * width, width))  # fmt: skip

    def _normal(self, fan: float, *shape: int) -> Array:
        return (self.rng.normal(size=shape) / np.sqrt(fan)).astype(np.float32)


def _mlp() -> Model:
    w = _Weights()
    return Model("mlp", (1, 784), (w.dense(784, 256, "relu"), w.dense(256, 10), Softmax()))


def _convnet() -> Model:
    w = _Weights()
    layers = (w.conv(5, 1, 32), MaxPool(), w.conv(5, 32, 64), MaxPool(), Flatten(), w.dense(3136, 128, "relu"),
              w.dense(128, 10), Softmax())  # fmt: skip
    return Model("convnet", (1, 28, 28, 1), layers)


def _mobilenet() -> Model:
    w, layers, channels = _Weights(), [], 32
    layers.append(w.conv(3, 3, 32, 2))
    rows = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]
    for outputs, stride in rows:
        layers += [w.conv(3, channels, channels, stride, channels), w.conv(1, channels, outputs)]
        channels = outputs
    return Model("mobilenet", (1, 224, 224, 3), (*layers, Mean(), w.dense(1024, 1000), Softmax()))


def _lstm() -> Model:
    w = _Weights()
    return Model("lstm", (1, 28, 28), (w.lstm(28, 128), w.dense(128, 10), Softmax()))


def _transformer() -> Model:
    w = _Weights()
    return Model("transformer", (1, 64, 128), (w.encoder(128, 4), w.encoder(128, 4), Flatten(), w.dense(8192, 10)))


MODELS: dict[str, Callable[[], Model]] = {
    "mlp": _mlp, "convnet": _convnet, "mobilenet": _mobilenet, "lstm": _lstm, "transformer": _transformer,
}  # fmt: skip
EPSILON = 1e-5  # of normalisation
