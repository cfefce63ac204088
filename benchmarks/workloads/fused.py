"""Chains that fusion should make cheap: softmax(gelu(x w + b)) and layer normalisation."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.harness import Step, Workload
from benchmarks.workloads import peers

ROWS, COLUMNS, INNER = 1024, 1024, 256


def _arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return (
        rng.standard_normal((ROWS, INNER), np.float32),
        rng.standard_normal((INNER, COLUMNS), np.float32) / 16,
        rng.standard_normal(COLUMNS, np.float32),
    )


def _thalweg_chain() -> Step:
    import thalweg as tw

    @tw.function
    def chain(x, w, b):  # type: ignore[no-untyped-def]
        return tw.nn.softmax(tw.nn.gelu(x @ w + b, approximate=True))  # as the peers have it

    arrays = _arrays()
    return lambda: chain(*arrays)


def _jax_chain() -> Step:
    import jax
    import jax.numpy as jnp

    chain = jax.jit(lambda x, w, b: jax.nn.softmax(jax.nn.gelu(x @ w + b)))
    arrays = [jnp.asarray(a) for a in _arrays()]
    return lambda: chain(*arrays).block_until_ready()


def _torch_chain() -> Step:
    import torch

    x, w, b = map(torch.from_numpy, _arrays())
    gelu = torch.nn.functional.gelu

    def run() -> object:
        with torch.inference_mode():
            return torch.softmax(gelu(torch.addmm(b, x, w), approximate="tanh"), -1)

    return run


def _tensorflow_chain(xla: bool = False) -> Step:
    import tensorflow as tf

    arrays = [tf.constant(a) for a in _arrays()]
    chain = tf.function(lambda x, w, b: tf.nn.softmax(tf.nn.gelu(x @ w + b, approximate=True)), jit_compile=xla)
    return lambda: chain(*arrays).numpy()


def _thalweg_norm() -> Step:
    import thalweg as tw

    @tw.function
    def norm(x, scale, offset):  # type: ignore[no-untyped-def]
        mean = tw.mean(x, axis=-1, keepdims=True)
        centred = x - mean
        return centred / tw.sqrt(tw.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * scale + offset

    x, scale, offset = _norm_arrays()
    return lambda: norm(x, scale, offset)


def _norm_arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((4096, 768), np.float32), rng.random(768, np.float32), rng.random(768, np.float32)


def _jax_norm() -> Step:
    import jax
    import jax.numpy as jnp

    @jax.jit
    def norm(x, scale, offset):  # type: ignore[no-untyped-def]
        centred = x - x.mean(-1, keepdims=True)
        return centred / jnp.sqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * scale + offset

    arrays = [jnp.asarray(a) for a in _norm_arrays()]
    return lambda: norm(*arrays).block_until_ready()


def _torch_norm() -> Step:
    import torch

    x, scale, offset = map(torch.from_numpy, _norm_arrays())

    def run() -> object:
        with torch.inference_mode():
            return torch.nn.functional.layer_norm(x, (768,), scale, offset)

    return run


WORKLOADS = [
    Workload(
        "softmax-gelu", f"softmax(gelu(x w + b)), {ROWS}x{INNER} by {INNER}x{COLUMNS}",
        {
            "thalweg": _thalweg_chain, "jax": _jax_chain, "torch": _torch_chain,
            "torch.compile": peers.torch_compile(_torch_chain),
            "tensorflow": _tensorflow_chain, "tensorflow-xla": partial(_tensorflow_chain, xla=True),
        },
        rtol=1e-2,
    ),
    Workload(
        "layernorm", "layer normalisation of 4096x768",
        {
            "thalweg": _thalweg_norm, "jax": _jax_norm, "torch": _torch_norm,
            "torch.compile": peers.torch_compile(_torch_norm),
        },
    ),
]
