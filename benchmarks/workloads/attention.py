"""Attention by itself: forward, and with the gradients of queries, keys and values; causal and not, short and long."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.harness import Step, Workload

HEADS, FEATURES = 12, 64
SIZES = {128: 8, 512: 4, 2048: 1}  # length -> batch


def _arrays(length: int, batch: int) -> list[np.ndarray]:
    """Queries, keys and values: [batch, heads, length, features]."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((batch, HEADS, length, FEATURES), np.float32) for _ in range(3)]


def _thalweg(length: int, batch: int, causal: bool, gradients: bool) -> Step:
    import thalweg as tw

    q, k, v = _arrays(length, batch)

    def loss(q, k, v):  # type: ignore[no-untyped-def]
        return tw.mean(tw.nn.attention(q, k, v, causal=causal) ** 2)

    if gradients:
        step = tw.function(lambda q, k, v: tw.value_and_grad(loss, argnums=(0, 1, 2))(q, k, v))
        return lambda: step(q, k, v)[0]
    forward = tw.function(lambda q, k, v: tw.nn.attention(q, k, v, causal=causal))
    return lambda: forward(q, k, v)


def _jax(length: int, batch: int, causal: bool, gradients: bool) -> Step:
    import jax
    import jax.numpy as jnp

    q, k, v = (jnp.asarray(a) for a in _arrays(length, batch))

    def attend(q, k, v):  # type: ignore[no-untyped-def]
        moved = (jnp.swapaxes(a, 1, 2) for a in (q, k, v))
        return jnp.swapaxes(jax.nn.dot_product_attention(*moved, is_causal=causal), 1, 2)

    if gradients:
        step = jax.jit(jax.value_and_grad(lambda q, k, v: jnp.mean(attend(q, k, v) ** 2), argnums=(0, 1, 2)))
        return lambda: jax.block_until_ready(step(q, k, v))[0]
    forward = jax.jit(attend)
    return lambda: forward(q, k, v).block_until_ready()


def _torch(length: int, batch: int, causal: bool, gradients: bool) -> Step:
    import torch

    qkv = [torch.from_numpy(a) for a in _arrays(length, batch)]
    attend = torch.nn.functional.scaled_dot_product_attention

    def forward() -> object:
        with torch.inference_mode():
            return attend(*qkv, is_causal=causal)

    def step() -> object:
        for a in qkv:
            a.grad = None
        loss = (attend(*qkv, is_causal=causal) ** 2).mean()
        loss.backward()
        return loss.item()

    for a in qkv:
        a.requires_grad_(gradients)
    return step if gradients else forward


def _workload(length: int, causal: bool, gradients: bool) -> Workload:
    batch = SIZES[length]
    name = f"attention-{length}{'-causal' if causal else ''}{'-step' if gradients else ''}"
    what = "value and gradients" if gradients else "forward"
    kind = "causal attention" if causal else "attention"
    makers = {"thalweg": _thalweg, "jax": _jax, "torch": _torch}
    peers = {peer: partial(make, length, batch, causal, gradients) for peer, make in makers.items()}
    return Workload(name, f"{kind}, batch {batch}, {HEADS} heads, {length} long, {FEATURES} wide: {what}", peers)


WORKLOADS = [
    _workload(length, causal, gradients)
    for length in SIZES
    for causal in (False, True)
    for gradients in (False, True)
    if length == 512 or causal  # the others say little more
]
