"""Five kinds of networks, small: what each computes, and how it is exported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import thalweg as tw
from thalweg.backends.reference import run

Model = tuple[Callable[[Any], Any], tuple[int, ...]]  # the function, and the shape of its argument


def _weights(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(sum(shape))
    return (rng.normal(size=shape) / np.sqrt(max(1, np.prod(shape[:-1]) / 2))).astype(np.float32)


def mlp() -> Model:
    def infer(x):
        return tw.nn.softmax(tw.nn.relu(x @ _weights(40, 33) + _weights(33)) @ _weights(33, 7))

    return infer, (3, 40)


def convnet() -> Model:
    def infer(x):
        for kernel in (_weights(5, 5, 1, 6), _weights(3, 3, 6, 9)):
            x = tw.nn.max_pool(tw.nn.relu(tw.nn.conv(x, kernel)), 2, stride=2)
        return tw.nn.softmax(tw.reshape(x, (x.shape[0], -1)) @ _weights(81, 5))

    return infer, (2, 12, 12, 1)


def lstm() -> Model:
    weight, bias = _weights(3 + 5, 20), _weights(20)

    def step(carry, row):
        c, h = carry
        i, f, g, o = tw.split(tw.concat([row, h], axis=1) @ weight + bias, 4, axis=1)
        c = tw.nn.sigmoid(f) * c + tw.nn.sigmoid(i) * tw.tanh(g)
        return (c, tw.nn.sigmoid(o) * tw.tanh(c)), None

    def infer(x):
        zeros = tw.zeros((x.shape[0], 5))
        (_, last), _ = tw.scan(step, (zeros, zeros), tw.permute_dims(x, (1, 0, 2)))
        return last

    return infer, (2, 9, 3)


def mobilenet() -> Model:
    """Depthwise and pointwise convolutions by turns."""

    def infer(x):
        x = tw.nn.relu6(tw.nn.conv(x, _weights(3, 3, 3, 8), stride=2))
        for inputs, outputs, stride in ((8, 16, 1), (16, 20, 2), (20, 20, 1)):
            x = tw.nn.relu6(tw.nn.conv(x, _weights(3, 3, 1, inputs), stride=stride, groups=inputs))
            x = tw.nn.relu6(tw.nn.conv(x, _weights(1, 1, inputs, outputs)))
        return tw.nn.softmax(tw.mean(x, axis=(1, 2)) @ _weights(20, 6))

    return infer, (1, 18, 18, 3)


def transformer() -> Model:
    width, heads = 12, 3

    def infer(x):
        batch, steps, _ = x.shape
        q, k, v = (
            tw.permute_dims(tw.reshape(p, (batch, steps, heads, width // heads)), (0, 2, 1, 3))
            for p in tw.split(tw.nn.layer_norm(x) @ _weights(width, 3 * width), 3, axis=-1)
        )
        scores = tw.nn.softmax(q @ tw.permute_dims(k, (0, 1, 3, 2)) / 2)
        x = x + tw.reshape(tw.permute_dims(scores @ v, (0, 2, 1, 3)), (batch, steps, width)) @ _weights(width, width)
        return x + tw.nn.gelu(tw.nn.layer_norm(x) @ _weights(width, 25)) @ _weights(25, width)

    return infer, (2, 7, width)


ZOO: dict[str, Callable[[], Model]] = {
    "mlp": mlp, "convnet": convnet, "lstm": lstm, "mobilenet": mobilenet, "transformer": transformer,
}  # fmt: skip


def sample(shape: tuple[int, ...]) -> np.ndarray:
    """What every language makes in the same way: x[i] = (i % 17 - 8) / 8."""
    return ((np.arange(np.prod(shape)) % 17 - 8) / 8).astype(np.float32).reshape(shape)


def expected(function: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The function's result on the sample, by the NumPy reference."""
    program = function.program(tw.spec(shape))
    (result,) = run(program.module, [sample(shape), *program.constants])
    return result
