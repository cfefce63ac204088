"""Gradients and trained models: on the GPU as on the host."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import thalweg as tw
from thalweg.tools.gpu_check.check import Check, on_cpu, on_gpu

Array = np.ndarray[Any, Any]
STEPS = 20


def gradients(check: Check) -> None:
    """Losses of many kinds: value and gradients on both, compared."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> Array:
        return rng.normal(size=shape).astype(np.float32)

    b, t, n = check.size((16, 64, 96), (2, 6, 8))
    mask = np.tril(np.ones((t, t), bool))
    cases: dict[str, tuple[Callable[..., Any], Sequence[Array]]] = {
        "elementwise": (lambda x: tw.sum(tw.tanh(x) * tw.exp(-x * x) + tw.log1p(x * x)), [normal(b, n)]),
        "broadcast": (lambda x, y: tw.sum((x + y) ** 2), [normal(b, n), normal(n)]),
        "matmul": (lambda x, w: tw.sum(tw.tanh(x @ w)), [normal(b, n), normal(n, n)]),
        "batched matmul": (lambda x, y: tw.sum((x @ y) ** 2), [normal(b, t, n), normal(b, n, t)]),
        "softmax": (lambda x: tw.sum(tw.nn.softmax(x) ** 2), [normal(b, n)]),
        "cross-entropy": (lambda x: tw.mean(tw.nn.softmax_cross_entropy(x, np.arange(b, dtype=np.int32) % n)),
                          [normal(b, n)]),
        "layer norm": (lambda x, s, o: tw.sum(tw.nn.layer_norm(x, s, o) ** 3), [normal(b, n), normal(n), normal(n)]),
        "attention": (lambda q, k, v: tw.sum(tw.nn.attention(q, k, v, mask=mask) ** 2),
                      [normal(b, t, n), normal(b, t, n), normal(b, t, n)]),
        "embedding": (lambda e: tw.sum(tw.take(e, np.arange(3 * b, dtype=np.int32) % 7, axis=0) ** 2), [normal(9, n)]),
        "convolution": (lambda x, w: tw.sum(tw.tanh(tw.nn.conv(x, w, padding="same"))),
                        [normal(b, 8, 8, 4), normal(3, 3, 4, 8)]),
        "max pool": (lambda x: tw.sum(tw.nn.max_pool(x, 2) ** 2), [normal(b, 8, 8, 4)]),
        "loop": (lambda x: tw.sum(tw.scan(lambda c, _: (tw.tanh(c) * 1.1, None), x, None, length=5)[0]),
                 [normal(b, n)]),
    }  # fmt: skip
    for name in check.left(cases, str, 150):
        loss, arrays = cases[name]
        with check.attempt(name) as found:
            both = []
            for place in (on_cpu, on_gpu):
                with place():
                    both_of = tw.value_and_grad(loss, argnums=range(len(arrays)))
                    value, grads = tw.function(lambda *a, f=both_of: f(*a))(*arrays)
                    both.append([np.asarray(v) for v in (value, *grads)])
            off = found["off"] = max(_error(got, want) for want, got in zip(*both, strict=True))
            assert off < 1e-3, f"off by {off:.2g} of the largest element"


def _error(got: Array, want: Array) -> float:
    """The largest error, as part of the largest element."""
    return float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-6))


class _Text(tw.nn.Module):
    """Tokens to tokens, with something that looks at a sequence in between."""

    def __init__(self, tokens: int, features: int, inner: Any, rng: np.random.Generator) -> None:
        self.embed = tw.nn.Embedding(tokens, features, rng)
        self.norm = tw.nn.LayerNorm(features)
        self.inner = inner
        self.head = tw.nn.Dense(features, tokens, rng)

    def __call__(self, x: Any, *, training: bool = False) -> Any:
        found = self.inner(self.norm(self.embed(x)))
        return self.head(found[0] if isinstance(found, tuple) else found)


def training(check: Check) -> None:
    """Whole models from the same weights on the same data: their losses, step by step, on both."""
    f, steps = check.size(64, 8), check.size(STEPS, 3)

    def mlp(rng: np.random.Generator) -> Any:
        relu = tw.nn.relu
        return tw.nn.Sequential(tw.nn.Dense(64, 2 * f, rng, activation=relu), tw.nn.Dense(2 * f, 10, rng))

    def convnet(rng: np.random.Generator) -> Any:
        layers = tw.nn.Conv(1, 8, 3, rng, activation=tw.nn.relu), lambda x: tw.nn.max_pool(x, 2)
        normed = tw.nn.BatchNorm(8), lambda x: tw.reshape(x, (x.shape[0], -1)), tw.nn.Dropout(0.2, seed=1)
        return tw.nn.Sequential(*layers, *normed, tw.nn.Dense(8 * 4 * 4, 10, rng))

    def lstm(rng: np.random.Generator) -> Any:
        return _Text(17, f, tw.nn.LSTM(f, f, rng), rng)

    def transformer(rng: np.random.Generator) -> Any:
        return _Text(17, f, tw.nn.MultiHeadAttention(f, 4, rng, causal=True), rng)

    rng = np.random.default_rng(1)
    batch, time = check.size((64, 32), (4, 6))
    rows = rng.normal(size=(batch, 64)).astype(np.float32), rng.integers(0, 10, batch).astype(np.int32)
    images = rng.normal(size=(batch, 8, 8, 1)).astype(np.float32), rows[1]
    text = rng.integers(0, 17, (batch, time + 1)).astype(np.int32)
    tokens = np.ascontiguousarray(text[:, :-1]), np.ascontiguousarray(text[:, 1:])
    makes = ((mlp, rows), (convnet, images), (lstm, tokens), (transformer, tokens))
    for make, data in check.left(makes, lambda case: case[0].__name__, 120):
        with check.attempt(make.__name__, steps=steps) as found:
            losses = []
            for place in (on_cpu, on_gpu):
                with place():
                    step = step_of(make(np.random.default_rng(0)))
                    losses.append([float(step(*data)) for _ in range(steps)])
            want, got = map(np.array, losses)
            found["first_loss"], found["last_loss"] = float(got[0]), float(got[-1])
            found["off"] = float(np.abs(got - want).max() / np.abs(want).max())
            assert np.isfinite(got).all() and found["off"] < 5e-3, f"host {want.tolist()}, GPU {got.tolist()}"


def step_of(model: Any, optimizer: Any = None) -> Callable[..., Any]:
    """A training step of a model."""
    weights, optimizer = model.trainable, optimizer or tw.optim.Adam(0.01)

    @tw.function
    def step(x: Any, y: Any) -> Any:
        def loss() -> Any:
            return tw.mean(tw.nn.softmax_cross_entropy(model(x, training=True), y))

        value, gradients = tw.value_and_grad(loss, wrt=weights)()
        optimizer.apply(zip(gradients, weights, strict=True))
        return value

    return step
