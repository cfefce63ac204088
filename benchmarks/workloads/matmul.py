"""Square matrix products in f32."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.harness import Step, Workload

SIZES = (128, 256, 512, 1024, 2048)


def _operands(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, n), np.float32), rng.standard_normal((n, n), np.float32)


def _thalweg(n: int) -> Step:
    import thalweg as tw

    product = tw.function(lambda a, b: a @ b)
    a, b = _operands(n)
    return lambda: product(a, b)


def _jax(n: int) -> Step:
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda a, b: a @ b)
    a, b = map(jnp.asarray, _operands(n))
    return lambda: product(a, b).block_until_ready()


def _torch(n: int) -> Step:
    import torch

    a, b = map(torch.from_numpy, _operands(n))
    return lambda: a @ b


def _tensorflow(n: int) -> Step:
    import tensorflow as tf

    a, b = map(tf.constant, _operands(n))
    product = tf.function(lambda a, b: a @ b)
    return lambda: product(a, b).numpy()


WORKLOADS = [
    Workload(
        f"matmul-{n}", f"{n}x{n} by {n}x{n}, f32",
        {name: partial(make, n) for name, make in
         (("thalweg", _thalweg), ("jax", _jax), ("torch", _torch), ("tensorflow", _tensorflow))},
    )
    for n in SIZES
]
