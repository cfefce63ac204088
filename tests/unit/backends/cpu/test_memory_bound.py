"""The arena of a training step is within a tenth of what must be in memory at one instant."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu.backend import lower
from thalweg.compiler import driver
from thalweg.dialects import context

RNG = np.random.default_rng(0)


def _weights(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [RNG.normal(size=s).astype(np.float32) * 0.1 for s in shapes]


def mlp(x, a, b, c):
    return tw.sum(tw.tanh(tw.nn.relu(tw.nn.relu(x @ a) @ b) @ c))


def convnet(x, a, b, c):
    x = tw.nn.max_pool(tw.nn.relu(tw.nn.conv(x, a)), 2)
    x = tw.nn.max_pool(tw.nn.relu(tw.nn.conv(x, b)), 2)
    return tw.sum(tw.tanh(tw.reshape(x, (x.shape[0], -1)) @ c))


def attention(x, q, k, v):
    scores = tw.nn.softmax((x @ q) @ tw.permute_dims(x @ k, (0, 2, 1)))
    return tw.sum(tw.tanh(scores @ (x @ v)))


def recurrent(x, w, u, v):
    def step(h, row):
        h = tw.tanh(row @ w + h @ u)
        return h, h

    _, hidden = tw.scan(step, tw.zeros((x.shape[1], w.shape[1])), x)
    return tw.sum(tw.tanh(hidden @ v))


@pytest.mark.parametrize(("model", "x", "weights"), [
    (mlp, (128, 784), [(784, 512), (512, 256), (256, 10)]),
    (convnet, (32, 28, 28, 1), [(5, 5, 1, 32), (5, 5, 32, 64), (3136, 64)]),
    (attention, (8, 96, 128), [(128, 64), (128, 64), (128, 128)]),
    (recurrent, (20, 32, 64), [(64, 128), (128, 128), (128, 100)]),
])  # fmt: skip
@pytest.mark.parametrize("gradients", [False, True])
def test_arena(model: Callable[..., tw.Tensor], x: tuple[int, ...], weights: list[tuple[int, ...]], gradients: bool):
    function = tw.value_and_grad(model, argnums=(1, 2, 3)) if gradients else model
    program = tw.function(lambda *args: function(*args)).program(*_weights(x, *weights))
    with context.entered():
        plan = lower(driver().to_stablehlo(program.module)[0], driver().cpu_options()).plan
    least = plan.least_bytes()
    assert 0 < least <= plan.arena_bytes <= 1.1 * least + 4096
