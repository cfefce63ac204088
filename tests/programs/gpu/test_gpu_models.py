"""Models trained on one and on two virtual GPUs as on the host: the same losses, step by step. Most are in the slow
suite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from small_models import CLASSES, images, recurrent, sentences, step_of, transformer

import thalweg as tw


def convnet(rng):
    """Few channels, so that the host has kernels of its own for gradients that a GPU has not."""
    layers = tw.nn.Conv(1, 4, 3, rng), tw.nn.Conv(4, 8, 3, rng, activation=tw.nn.relu)
    return tw.nn.Sequential(*layers, lambda x: tw.mean(x, axis=(1, 2)), tw.nn.Dense(8, CLASSES, rng))


def normalised(rng):
    layers = tw.nn.Conv(1, 8, 3, rng, activation=tw.nn.relu), tw.nn.BatchNorm(8), lambda x: tw.nn.max_pool(x, 2)
    return tw.nn.Sequential(*layers, lambda x: tw.mean(x, axis=(1, 2)), tw.nn.Dense(8, CLASSES, rng))


def losses_of(make: Callable, x: np.ndarray, y: np.ndarray, device: str, shards: int = 1) -> list[float]:
    with tw.config.override(default_device=device):
        step = step_of(make, tw.optim.Momentum(0.05), shards=shards)
        return [float(step(x, y)) for _ in range(2)]


@pytest.mark.parametrize("shards", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("make", "data"),
    [
        (convnet, images),
        pytest.param(normalised, images, marks=pytest.mark.slow),
        pytest.param(transformer, sentences, marks=pytest.mark.slow),
        pytest.param(recurrent, sentences, marks=pytest.mark.slow),
    ],
    ids=["convnet", "batch norm", "transformer", "lstm"],
)
def test_training_is_what_it_is_on_the_host(make: Callable, data: Callable, shards: int) -> None:
    x, y = data(np.random.default_rng(1), 2, 6)
    on_host, on_gpus = losses_of(make, x, y, "cpu"), losses_of(make, x, y, "gpu", shards)
    assert on_gpus[-1] < on_gpus[0]
    np.testing.assert_allclose(on_gpus, on_host, rtol=2e-4)
