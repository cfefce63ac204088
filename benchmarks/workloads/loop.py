"""A while loop of 1,000 small matrix products inside one compiled function."""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Step, Workload

SIZE, TRIPS = 32, 1000


def _matrices() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rotation, _ = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))
    return rng.standard_normal((SIZE, SIZE), np.float32), rotation.astype(np.float32)


def _thalweg() -> Step:
    import thalweg as tw

    @tw.function
    def run(x, w):  # type: ignore[no-untyped-def]
        return tw.while_loop(lambda i, v: i < TRIPS, lambda i, v: (i + 1, v @ w), (0, x))[1]

    x, w = _matrices()
    return lambda: run(x, w)


def _jax() -> Step:
    import jax
    import jax.numpy as jnp

    @jax.jit
    def run(x, w):  # type: ignore[no-untyped-def]
        return jax.lax.while_loop(lambda s: s[0] < TRIPS, lambda s: (s[0] + 1, s[1] @ w), (0, x))[1]

    x, w = map(jnp.asarray, _matrices())
    return lambda: run(x, w).block_until_ready()


def _torch() -> Step:
    import torch

    x, w = map(torch.from_numpy, _matrices())

    def run() -> object:
        with torch.inference_mode():
            v = x
            for _ in range(TRIPS):
                v = v @ w
            return v

    return run


def _tensorflow() -> Step:
    import tensorflow as tf

    @tf.function
    def run(x, w):  # type: ignore[no-untyped-def]
        return tf.while_loop(lambda i, v: i < TRIPS, lambda i, v: (i + 1, v @ w), (0, x))[1]

    x, w = map(tf.constant, _matrices())
    return lambda: run(x, w).numpy()


WORKLOADS = [
    Workload(
        "while-1000", f"a while loop of {TRIPS} products of {SIZE}x{SIZE}",
        {"thalweg": _thalweg, "jax": _jax, "torch": _torch, "tensorflow": _tensorflow}, rtol=1e-2,
    ),
]
