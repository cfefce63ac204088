"""Small models, their data and a training step: for tests that train the same on several kinds of device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import thalweg as tw

Array = np.ndarray[Any, Any]
TOKENS, CLASSES, WIDTH = 7, 5, 8


class Text(tw.nn.Module):
    """Tokens to tokens, with something that looks at a sequence in between."""

    def __init__(self, inner: Any, rng: np.random.Generator) -> None:
        self.embed = tw.nn.Embedding(TOKENS, WIDTH, rng)
        self.norm = tw.nn.LayerNorm(WIDTH)
        self.inner = inner
        self.head = tw.nn.Dense(WIDTH, TOKENS, rng)

    def __call__(self, x: Any, *, training: bool = False) -> Any:
        found = self.inner(self.norm(self.embed(x)))
        return self.head(found[0] if isinstance(found, tuple) else found)


def recurrent(rng: np.random.Generator) -> tw.nn.Module:
    return Text(tw.nn.LSTM(WIDTH, WIDTH, rng), rng)


def transformer(rng: np.random.Generator) -> tw.nn.Module:
    return Text(tw.nn.MultiHeadAttention(WIDTH, 2, rng, causal=True), rng)


def images(rng: np.random.Generator, count: int = 8, side: int = 8) -> tuple[Array, Array]:
    """Images of one channel, and their classes."""
    return rng.normal(size=(count, side, side, 1)).astype(np.float32), rng.integers(0, CLASSES, count).astype(np.int32)


def sentences(rng: np.random.Generator, count: int = 8, length: int = 5) -> tuple[Array, Array]:
    """Tokens, and those that follow them."""
    text = rng.integers(0, TOKENS, (count, length + 1)).astype(np.int32)
    return np.ascontiguousarray(text[:, :-1]), np.ascontiguousarray(text[:, 1:])


def step_of(make: Callable[[np.random.Generator], Any], optimizer: Any, **options: Any) -> Callable[..., Any]:
    """A training step of a model with weights of its own, which are the same in every model.

    Args:
        options: of `tw.function`.
    """
    model = make(np.random.default_rng(0))
    weights = model.trainable

    @tw.function(**options)
    def step(x: Any, y: Any) -> Any:
        def loss() -> Any:
            return tw.mean(tw.nn.softmax_cross_entropy(model(x, training=True), y))

        value, gradients = tw.value_and_grad(loss, wrt=weights)()
        optimizer.apply(zip(gradients, weights, strict=True))
        return value

    return step
