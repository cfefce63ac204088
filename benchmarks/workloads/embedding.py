"""An embedding of 1,000,000 x 32: lookup of 1,024 rows, and a sparse AdaGrad step that never makes a dense table."""

from __future__ import annotations

import numpy as np

from benchmarks.harness import Step, Workload
from benchmarks.workloads import peers

ROWS, WIDTH, BATCH, RATE = 1_000_000, 32, 1024, 0.1


def _table() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((ROWS, WIDTH), np.float32)


def _indices() -> np.ndarray:
    return np.random.default_rng(1).choice(ROWS, BATCH, replace=False).astype(np.int32)


def _targets() -> np.ndarray:
    """What the looked-up rows are drawn to: not to 0, where all frameworks would be timed on subnormal numbers."""
    return np.random.default_rng(2).standard_normal((BATCH, WIDTH), np.float32)


def _thalweg_lookup() -> Step:
    import thalweg as tw

    table = tw.Variable(_table(), name="lookup_table")
    lookup = tw.function(lambda i: tw.sum(tw.take(table, i, axis=0), axis=0))
    indices = _indices()
    return lambda: lookup(indices)


def _jax_lookup() -> Step:
    import jax
    import jax.numpy as jnp

    table, indices = jnp.asarray(_table()), jnp.asarray(_indices())
    lookup = jax.jit(lambda t, i: t[i].sum(0))
    return lambda: lookup(table, indices).block_until_ready()


def _torch_lookup() -> Step:
    import torch

    table, indices = torch.from_numpy(_table()), torch.from_numpy(_indices()).long()

    def run() -> object:
        with torch.inference_mode():
            return torch.nn.functional.embedding(indices, table).sum(0)

    return run


def _thalweg_adagrad() -> Step:
    import thalweg as tw

    table = tw.Variable(_table(), name="adagrad_table")
    optimizer = tw.optim.AdaGrad(RATE)

    @tw.function
    def step(indices, targets):  # type: ignore[no-untyped-def]
        def loss():  # type: ignore[no-untyped-def]
            return tw.sum((tw.take(table, indices, axis=0) - targets) ** 2) * 0.5

        value, (gradient,) = tw.value_and_grad(loss, wrt=[table])()
        optimizer.apply([(gradient, table)])
        return value

    indices, targets = _indices(), _targets()
    return lambda: step(indices, targets)


def _jax_adagrad() -> Step:
    import jax
    import jax.numpy as jnp

    def update(table, accumulated, indices, targets):  # type: ignore[no-untyped-def]
        gradient = table[indices] - targets
        accumulated = accumulated.at[indices].add(gradient * gradient)
        table = table.at[indices].add(-RATE * gradient / jnp.sqrt(accumulated[indices] + 1e-7))
        return table, accumulated, 0.5 * jnp.sum(gradient * gradient)

    step = jax.jit(update, donate_argnums=(0, 1))
    box = [(jnp.asarray(_table()), jnp.full((ROWS, WIDTH), 0.1, jnp.float32))]
    indices, targets = jnp.asarray(_indices()), jnp.asarray(_targets())

    def run() -> object:
        table, accumulated, loss = step(*box[0], indices, targets)
        box[0] = (table, accumulated)
        return jax.block_until_ready(loss)

    return run


def _torch_adagrad() -> Step:
    import torch

    table = torch.nn.Embedding(ROWS, WIDTH, sparse=True, _weight=torch.from_numpy(_table()))
    optimizer = torch.optim.Adagrad(table.parameters(), RATE, initial_accumulator_value=0.1)
    indices, targets = torch.from_numpy(_indices()).long(), torch.from_numpy(_targets())

    def run() -> object:
        optimizer.zero_grad()
        loss = ((table(indices) - targets) ** 2).sum() * 0.5
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


WORKLOADS = [
    Workload(
        "embedding-lookup", "sum of 1,024 rows of a 1,000,000 x 32 table",
        {
            "thalweg": _thalweg_lookup, "jax": _jax_lookup, "torch": _torch_lookup,
            "torch.compile": peers.torch_compile(_torch_lookup),
        },
        unit="us",
    ),
    Workload(
        "sparse-adagrad", "a sparse AdaGrad step on 1,024 rows of that table",
        {"thalweg": _thalweg_adagrad, "jax": _jax_adagrad, "torch": _torch_adagrad}, unit="us",
    ),
]
