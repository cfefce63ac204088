"""A transformer block, forward and backward: 256 wide, 4 heads, 128 long, batch 8, pre-norm, gelu, causal."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.harness import Step, Workload
from benchmarks.workloads import peers

WIDTH, HEADS, LENGTH, BATCH = 256, 4, 128, 8
DEPTH = WIDTH // HEADS


def _parameters() -> list[np.ndarray]:
    rng = np.random.default_rng(0)

    def dense(m: int, n: int) -> np.ndarray:
        return (rng.standard_normal((m, n)) / np.sqrt(m)).astype(np.float32)

    one, zero = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    return [
        one, zero, dense(WIDTH, 3 * WIDTH), dense(WIDTH, WIDTH), one, zero,
        dense(WIDTH, 4 * WIDTH), np.zeros(4 * WIDTH, np.float32), dense(4 * WIDTH, WIDTH), zero,
    ]


def _inputs() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((BATCH, LENGTH, WIDTH), np.float32)


def _block(xp, softmax, gelu, p, x, mask):  # type: ignore[no-untyped-def]
    """The block over any array namespace with `reshape`, `permute_dims`, `mean`, `sqrt` and `where`."""

    def norm(v, scale, offset):  # type: ignore[no-untyped-def]
        centred = v - xp.mean(v, axis=-1, keepdims=True)
        return centred / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * scale + offset

    qkv = xp.reshape(norm(x, p[0], p[1]) @ p[2], (BATCH, LENGTH, 3, HEADS, DEPTH))
    q, k, v = (xp.permute_dims(qkv[:, :, i], (0, 2, 1, 3)) for i in range(3))
    scores = q @ xp.permute_dims(k, (0, 1, 3, 2)) * DEPTH**-0.5
    mixed = softmax(xp.where(mask, scores, -1e9)) @ v
    x = x + xp.reshape(xp.permute_dims(mixed, (0, 2, 1, 3)), (BATCH, LENGTH, WIDTH)) @ p[3]
    return x + gelu(norm(x, p[4], p[5]) @ p[6] + p[7]) @ p[8] + p[9]


def _thalweg() -> Step:
    import thalweg as tw

    def gelu(v):  # type: ignore[no-untyped-def]
        return tw.nn.gelu(v, approximate=True)  # as the peers have it

    def loss(p, x):  # type: ignore[no-untyped-def]
        mask = tw.tril(tw.ones((LENGTH, LENGTH), dtype=tw.bool))
        return tw.mean(_block(tw, tw.nn.softmax, gelu, p, x, mask) ** 2)

    step = tw.function(lambda p, x: tw.value_and_grad(loss)(p, x))
    p, x = _parameters(), _inputs()
    return lambda: step(p, x)[0]


def _jax() -> Step:
    import jax
    import jax.numpy as jnp

    mask = jnp.tril(jnp.ones((LENGTH, LENGTH), bool))

    def loss(p, x):  # type: ignore[no-untyped-def]
        return jnp.mean(_block(jnp, jax.nn.softmax, jax.nn.gelu, p, x, mask) ** 2)

    step = jax.jit(jax.value_and_grad(loss))
    p, x = [jnp.asarray(a) for a in _parameters()], jnp.asarray(_inputs())
    return lambda: jax.block_until_ready(step(p, x))[0]


def _torch() -> Step:
    import torch
    from torch.nn import functional as F

    p = [torch.from_numpy(a).requires_grad_() for a in _parameters()]
    x = torch.from_numpy(_inputs())

    def run() -> object:
        for a in p:
            a.grad = None
        h = F.layer_norm(x, (WIDTH,), p[0], p[1])
        q, k, v = (h @ p[2]).reshape(BATCH, LENGTH, 3, HEADS, DEPTH).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        y = x + mixed.transpose(1, 2).reshape(BATCH, LENGTH, WIDTH) @ p[3]
        h = F.gelu(F.layer_norm(y, (WIDTH,), p[4], p[5]) @ p[6] + p[7], approximate="tanh")
        loss = ((y + h @ p[8] + p[9]) ** 2).mean()
        loss.backward()
        return loss.item()

    return run


def _tensorflow(xla: bool = False) -> Step:
    import tensorflow as tf

    p = [tf.Variable(a) for a in _parameters()]
    x = tf.constant(_inputs())
    mask = tf.linalg.band_part(tf.ones((LENGTH, LENGTH)), -1, 0) > 0

    def norm(v, scale, offset):  # type: ignore[no-untyped-def]
        mean, variance = tf.nn.moments(v, -1, keepdims=True)
        return (v - mean) * tf.math.rsqrt(variance + 1e-5) * scale + offset

    @tf.function(jit_compile=xla)
    def step():  # type: ignore[no-untyped-def]
        with tf.GradientTape() as tape:
            qkv = tf.reshape(norm(x, p[0], p[1]) @ p[2], (BATCH, LENGTH, 3, HEADS, DEPTH))
            q, k, v = tf.unstack(tf.transpose(qkv, (2, 0, 3, 1, 4)))
            scores = tf.where(mask, tf.matmul(q, k, transpose_b=True) * DEPTH**-0.5, -1e9)
            mixed = tf.transpose(tf.nn.softmax(scores) @ v, (0, 2, 1, 3))
            y = x + tf.reshape(mixed, (BATCH, LENGTH, WIDTH)) @ p[3]
            y = y + tf.nn.gelu(norm(y, p[4], p[5]) @ p[6] + p[7], approximate=True) @ p[8] + p[9]
            loss = tf.reduce_mean(y**2)
        return loss, tape.gradient(loss, p)

    return lambda: step()[0].numpy()


WORKLOADS = [
    Workload(
        "transformer-block", "a transformer block, 256 wide, 4 heads, 128 long, batch 8: value and gradients",
        {
            "thalweg": _thalweg, "jax": _jax, "torch": _torch, "torch.compile": peers.torch_compile(_torch),
            "tensorflow": _tensorflow, "tensorflow-xla": partial(_tensorflow, xla=True),
        },
    ),
]
