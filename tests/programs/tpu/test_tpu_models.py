"""Whole models, trained through PJRT on one and on four devices: a convnet, a recurrent one, a transformer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw

STEPS = 3


@pytest.fixture(autouse=True)
def four_tpus() -> Iterator[None]:
    with tw.config.override(virtual_tpus=4):
        yield


def convnet(rng):
    def flat(x):
        return tw.reshape(x, (x.shape[0], -1))

    layers = tw.nn.Conv(1, 4, 3, rng, activation=tw.nn.relu), lambda x: tw.nn.max_pool(x, 2), flat
    return tw.nn.Sequential(*layers, tw.nn.Dropout(0.2, seed=1), tw.nn.Dense(4 * 4 * 4, 5, rng))


class LanguageModel(tw.nn.Module):
    """Characters to characters, with something that looks at a sequence in between."""

    def __init__(self, rng, inner) -> None:
        self.embed = tw.nn.Embedding(7, 8, rng)
        self.norm = tw.nn.LayerNorm(8)
        self.inner = inner
        self.head = tw.nn.Dense(8, 7, rng)

    def __call__(self, x, *, training=False):
        found = self.inner(self.norm(self.embed(x)))
        return self.head(found[0] if isinstance(found, tuple) else found)


def recurrent(rng):
    return LanguageModel(rng, tw.nn.LSTM(8, 8, rng))


def transformer(rng):
    return LanguageModel(rng, tw.nn.MultiHeadAttention(8, 2, rng, causal=True))


def images(rng) -> tuple[np.ndarray, np.ndarray]:
    return rng.normal(size=(8, 8, 8, 1)).astype(np.float32), rng.integers(0, 5, 8).astype(np.int32)


def sentences(rng) -> tuple[np.ndarray, np.ndarray]:
    text = rng.integers(0, 7, (8, 6)).astype(np.int32)
    return text[:, :-1], text[:, 1:]


def step_of(make: Callable) -> Callable:
    """A training step of a model with weights of its own, which are the same in every model."""
    model = make(np.random.default_rng(0))
    optimizer = tw.optim.Adam(0.01)
    weights = model.trainable

    @tw.function
    def step(x, y):
        def loss():
            return tw.mean(tw.nn.softmax_cross_entropy(model(x, training=True), y))

        value, gradients = tw.value_and_grad(loss, wrt=weights)()
        optimizer.apply(zip(gradients, weights, strict=True))
        return value

    return step


@pytest.mark.usefixtures("four_devices")
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(
    ("make", "data"), [(convnet, images), (recurrent, sentences), (transformer, sentences)],
    ids=["convnet", "lstm", "transformer"],
)  # fmt: skip
def test_training_follows_the_function(tmp_path: Path, make: Callable, data: Callable, shards: int) -> None:
    x, y = data(np.random.default_rng(2))
    specs = [tw.spec(x.shape, x.dtype), tw.spec(y.shape, y.dtype)]
    tw.export({"step": (step_of(make), specs)}, tmp_path, targets=["tpu"], shards=shards)
    model, ours = tw.load(tmp_path, device="tpu"), step_of(make)
    losses = [float(ours(x, y)) for _ in range(STEPS)]
    assert losses[-1] < losses[0]
    np.testing.assert_allclose([float(model.step(x, y)) for _ in range(STEPS)], losses, rtol=2e-4)
