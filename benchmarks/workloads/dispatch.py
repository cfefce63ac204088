"""The cost of a call: a scalar addition, and a step that touches 100 variables and computes next to nothing."""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Step, Workload
from benchmarks.workloads import peers

COUNT = 100


def _thalweg_scalar() -> Step:
    import thalweg as tw

    add = tw.function(lambda x, y: x + y)
    x, y = tw.asarray(np.float32(1)), tw.asarray(np.float32(2))
    return lambda: add(x, y)


def _jax_scalar() -> Step:
    import jax
    import jax.numpy as jnp

    add = jax.jit(lambda x, y: x + y)
    x, y = jnp.float32(1), jnp.float32(2)
    return lambda: add(x, y).block_until_ready()


def _torch_scalar() -> Step:
    import torch

    x, y = torch.tensor(1.0), torch.tensor(2.0)
    return lambda: x + y


def _tensorflow_scalar() -> Step:
    import tensorflow as tf

    add = tf.function(lambda x, y: x + y)
    x, y = tf.constant(1.0), tf.constant(2.0)
    return lambda: add(x, y)


def _thalweg_variables() -> Step:
    import thalweg as tw

    variables = [tw.Variable(np.zeros(4, np.float32), name=f"null_{i}") for i in range(COUNT)]

    @tw.function
    def step(x):  # type: ignore[no-untyped-def]
        for variable in variables:
            variable.assign_add(x)

    x = np.ones(4, np.float32)
    return lambda: step(x)


def _jax_variables() -> Step:
    import jax
    import jax.numpy as jnp

    step = jax.jit(lambda state, x: [s + x for s in state], donate_argnums=0)
    box = [[jnp.zeros(4) for _ in range(COUNT)]]
    x = jnp.ones(4)

    def run() -> object:
        box[0] = step(box[0], x)
        return jax.block_until_ready(box[0])

    return run


def _torch_variables() -> Step:
    import torch

    variables, x = [torch.zeros(4) for _ in range(COUNT)], torch.ones(4)
    return lambda: torch._foreach_add_(variables, [x] * COUNT)


def _tensorflow_variables() -> Step:
    import tensorflow as tf

    variables = [tf.Variable(tf.zeros(4)) for _ in range(COUNT)]

    @tf.function
    def step(x):  # type: ignore[no-untyped-def]
        for variable in variables:
            variable.assign_add(x)

    x = tf.ones(4)
    return lambda: step(x)


WORKLOADS = [
    Workload(
        "scalar-add", "a compiled function that adds two scalars: dispatch",
        {
            "thalweg": _thalweg_scalar, "jax": _jax_scalar, "torch": _torch_scalar,
            "torch.compile": peers.torch_compile(_torch_scalar), "tensorflow": _tensorflow_scalar,
        },
        unit="us",
    ),
    Workload(
        "null-step-100", f"a step that adds to {COUNT} variables of 4 elements",
        {
            "thalweg": _thalweg_variables, "jax": _jax_variables, "torch": _torch_variables,
            "torch.compile": peers.torch_compile(_torch_variables),
            "tensorflow": _tensorflow_variables,
        },
        rtol=None, unit="us",
    ),
]
