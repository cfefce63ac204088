"""Random compositions of array functions differentiate to JAX's numbers, first and second order."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import thalweg as tw

jax = pytest.importorskip("jax")

Namespace = Any
Function = Callable[[Namespace, Any, Any], Any]

# (xp, x, y) -> something of x's shape (4, 6); x and y are both (4, 6).
BINARY: list[tuple[str, Function]] = [
    ("add", lambda xp, x, y: x + y),
    ("mul", lambda xp, x, y: x * y),
    ("ratio", lambda xp, x, y: x / (1.5 + y * y)),
    ("where", lambda xp, x, y: xp.where(x > y, x * 0.5, y)),
    ("maximum", lambda xp, x, y: xp.maximum(x, y * 0.7)),
    ("matmul", lambda xp, x, y: (x @ y.T) @ y * 0.1),
    ("hypot", lambda xp, x, y: xp.sqrt(x * x + y * y + 0.3)),
    ("atan2", lambda xp, x, y: xp.atan2(x, y * y + 1.0)),
    ("outer-sum", lambda xp, x, y: x + xp.sum(y, axis=0, keepdims=True) * 0.2),
    ("concat", lambda xp, x, y: xp.concat([x[:, 3:], y[:, :3]], axis=1)),
    ("stack", lambda xp, x, y: xp.sum(xp.stack([x, y * 2.0, x * y]), axis=0)),
    ("power", lambda xp, x, y: (xp.abs(x) + 0.5) ** (xp.tanh(y))),
    ("einsum", lambda xp, x, y: xp.einsum("ij,kj,kl->il", x, y, y) * 0.1),
]
UNARY: list[tuple[str, Function]] = [
    ("tanh", lambda xp, x, y: xp.tanh(x)),
    ("sin", lambda xp, x, y: xp.sin(x) * xp.cos(x * 0.5)),
    ("log1p", lambda xp, x, y: xp.log1p(x * x)),
    ("expm1", lambda xp, x, y: xp.expm1(x * 0.3)),
    ("softmax", lambda xp, x, y: xp.exp(x - xp.max(x, axis=1, keepdims=True))
     / xp.sum(xp.exp(x - xp.max(x, axis=1, keepdims=True)), axis=1, keepdims=True)),
    ("normalise", lambda xp, x, y: (x - xp.mean(x, axis=1, keepdims=True)) / (xp.std(x, axis=1, keepdims=True) + 1)),
    ("flip", lambda xp, x, y: xp.flip(x, axis=0) + x),
    ("roll", lambda xp, x, y: xp.roll(x, 2, axis=1) * x),
    ("take", lambda xp, x, y: xp.take(x, np.array([3, 1, 1, 0]), axis=0)),
    ("index", lambda xp, x, y: xp.concat([x[::2, :], x[1::2, ::-1]], axis=0)),
    ("cumulative", lambda xp, x, y: xp.cumulative_sum(x, axis=1) * 0.3),
    ("reshape", lambda xp, x, y: xp.reshape(xp.permute_dims(xp.reshape(x, (2, 2, 6)), (1, 0, 2)), (4, 6))),
    ("sort", lambda xp, x, y: xp.sort(x, axis=1)),
    ("prod", lambda xp, x, y: x + xp.prod(x[:, :3] * 0.5 + 1.0, axis=1, keepdims=True)),
    ("min", lambda xp, x, y: x - xp.min(x, axis=0, keepdims=True)),
    ("clip", lambda xp, x, y: xp.clip(x, -0.6, 0.9) + 0.1 * x),
    ("pad", lambda xp, x, y: xp.pad(x, ((1, 0), (0, 2)))[:4, 2:] + x),
    ("update", lambda xp, x, y: x.at[1:3, 2].multiply(2.0) if xp is not tw else x.at[1:3, 2].mul(2.0)),
]


def compose(seed: int, xp: Namespace, x: Any, y: Any) -> Any:
    """A scalar from a random composition of six functions; equal for equal seeds, whatever the namespace."""
    choose = random.Random(seed)
    values = [x, y]
    for _ in range(6):
        _, function = choose.choice(BINARY + UNARY)
        values.append(function(xp, choose.choice(values), choose.choice(values)))
    return xp.sum(values[-1] * values[-2]) + xp.mean(values[-1] ** 2)


def _operands(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-1.2, 1.2, (4, 6)), rng.uniform(-1.2, 1.2, (4, 6))


@pytest.fixture(scope="module", autouse=True)
def _double_precision() -> Any:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def _compare(seed: int) -> None:
    x, y = _operands(seed)
    ours, ours_gradients = tw.function(
        lambda x, y: tw.value_and_grad(lambda x, y: compose(seed, tw, x, y), argnums=(0, 1))(x, y)
    )(x, y)
    theirs, theirs_gradients = jax.jit(
        jax.value_and_grad(lambda x, y: compose(seed, jax.numpy, x, y), argnums=(0, 1))
    )(x, y)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)
    for mine, other in zip(ours_gradients, theirs_gradients, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-7, atol=1e-9 * (1 + np.abs(np.asarray(other)).max()))


@pytest.mark.parametrize("seed", range(30))
def test_gradients_of_random_compositions(seed: int) -> None:
    _compare(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1300))
def test_gradients_of_many_random_compositions(seed: int) -> None:
    _compare(seed)


@pytest.mark.parametrize("seed", range(100, 106))
def test_second_derivatives_of_random_compositions(seed: int) -> None:
    x, y = _operands(seed)

    def second(grad: Any, xp: Namespace) -> Callable[[Any, Any], Any]:
        inner = grad(lambda x, y: compose(seed, xp, x, y))
        return grad(lambda x, y: xp.sum(inner(x, y) ** 2))  # type: ignore[no-any-return]

    ours = tw.function(lambda x, y: second(tw.grad, tw)(x, y))(x, y)
    theirs = jax.jit(lambda x, y: second(jax.grad, jax.numpy)(x, y))(x, y)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8 * (1 + np.abs(np.asarray(theirs)).max()))
