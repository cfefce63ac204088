"""Models trained on a virtual GPU as on the host: the same losses, step by step. Most are in the slow suite."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import thalweg as tw


class Text(tw.nn.Module):
    """Tokens to tokens, with something that looks at a sequence in between."""

    def __init__(self, inner, rng) -> None:
        self.embed = tw.nn.Embedding(7, 8, rng)
        self.norm = tw.nn.LayerNorm(8)
        self.inner = inner
        self.head = tw.nn.Dense(8, 7, rng)

    def __call__(self, x, *, training=False):
        found = self.inner(self.norm(self.embed(x)))
        return self.head(found[0] if isinstance(found, tuple) else found)


def convnet(rng):
    """Few channels, so that the host has kernels of its own for gradients that a GPU has not."""
    layers = tw.nn.Conv(1, 4, 3, rng), tw.nn.Conv(4, 8, 3, rng, activation=tw.nn.relu)
    return tw.nn.Sequential(*layers, lambda x: tw.mean(x, axis=(1, 2)), tw.nn.Dense(8, 5, rng))


def normalised(rng):
    layers = tw.nn.Conv(1, 8, 3, rng, activation=tw.nn.relu), tw.nn.BatchNorm(8), lambda x: tw.nn.max_pool(x, 2)
    return tw.nn.Sequential(*layers, lambda x: tw.mean(x, axis=(1, 2)), tw.nn.Dense(8, 5, rng))


def transformer(rng):
    return Text(tw.nn.MultiHeadAttention(8, 2, rng, causal=True), rng)


def recurrent(rng):
    return Text(tw.nn.LSTM(8, 8, rng), rng)


def images(rng) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(2, 6, 6, 1)).astype(np.float32), rng.integers(0, 5, 2).astype(np.int32)


def sentences(rng) -> tuple[np.ndarray, np.ndarray]:
    text = rng.integers(0, 7, (4, 6)).astype(np.int32)
    return np.ascontiguousarray(text[:, :-1]), np.ascontiguousarray(text[:, 1:])


def losses_of(make: Callable, x: np.ndarray, y: np.ndarray, device: str) -> list[float]:
    with tw.config.override(default_device=device):
        model, optimizer = make(np.random.default_rng(0)), tw.optim.Momentum(0.05)
        weights = model.trainable

        @tw.function
        def step(x, y):
            def loss():
                return tw.mean(tw.nn.softmax_cross_entropy(model(x, training=True), y))

            value, gradients = tw.value_and_grad(loss, wrt=weights)()
            optimizer.apply(zip(gradients, weights, strict=True))
            return value

        return [float(step(x, y)) for _ in range(2)]


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
def test_training_is_what_it_is_on_the_host(make: Callable, data: Callable) -> None:
    x, y = data(np.random.default_rng(1))
    on_host, on_gpu = (losses_of(make, x, y, device) for device in ("cpu", "gpu"))
    assert on_gpu[-1] < on_gpu[0]
    np.testing.assert_allclose(on_gpu, on_host, rtol=2e-4)
