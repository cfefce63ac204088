"""Reduced precision: products of bfloat16 and of bytes, a training step in bfloat16."""

from __future__ import annotations

from functools import partial
from itertools import chain, pairwise, repeat

import numpy as np

from benchmarks.harness import Step, Workload

SIZES, BATCH, RATE = (1024, 1024, 1024, 10), 256, 0.01


def _operands(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, n), np.float32), rng.standard_normal((n, n), np.float32)


def _thalweg_product(n: int) -> Step:
    import thalweg as tw

    product = tw.function(lambda a, b: a @ b)
    a, b = (x.astype(tw.bfloat16.numpy) for x in _operands(n))
    return lambda: product(a, b)


def _jax_product(n: int) -> Step:
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda a, b: a @ b)
    a, b = (jnp.asarray(x, jnp.bfloat16) for x in _operands(n))
    return lambda: product(a, b).block_until_ready()


def _torch_product(n: int) -> Step:
    import torch

    a, b = (torch.from_numpy(x).bfloat16() for x in _operands(n))
    # NumPy, which compares the first results, does not know PyTorch's bfloat16.
    seen = chain([torch.Tensor.float], repeat(lambda product: product))
    return lambda: next(seen)(a @ b)


def _thalweg_high(n: int) -> Step:
    import thalweg as tw

    product = tw.function(lambda a, b: a @ b)
    a, b = _operands(n)
    with tw.config.override(matmul_precision="high"):
        product(a, b)
    return lambda: product(a, b)


def _jax_high(n: int) -> Step:
    import jax
    import jax.numpy as jnp

    product = jax.jit(lambda a, b: jnp.matmul(a, b, precision="high"))
    a, b = map(jnp.asarray, _operands(n))
    return lambda: product(a, b).block_until_ready()


def _torch_high(n: int) -> Step:
    import torch

    a, b = map(torch.from_numpy, _operands(n))

    def run() -> torch.Tensor:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            return a @ b
        finally:
            torch.set_float32_matmul_precision(before)

    return run


def _bytes(n: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-128, 128, (n, n)).astype(np.int8) for _ in range(2))
    return a, b


def _thalweg_bytes(n: int) -> Step:
    import thalweg as tw

    product = tw.function(lambda a, b: tw.astype(a, tw.int32) @ tw.astype(b, tw.int32))
    a, b = _bytes(n)
    return lambda: product(a, b)


def _torch_bytes(n: int) -> Step:
    import torch

    a, b = map(torch.from_numpy, _bytes(n))
    return lambda: torch._int_mm(a, b)


def _weights() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [(rng.standard_normal((m, n)) / np.sqrt(m)).astype(np.float32) for m, n in pairwise(SIZES)]


def _data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((BATCH, SIZES[0]), np.float32), rng.integers(0, 10, BATCH).astype(np.int32)


def _thalweg_step() -> Step:
    import thalweg as tw

    weights = [tw.Variable(w, name=f"reduced_{k}") for k, w in enumerate(_weights())]

    @tw.function
    def step(x, y):  # type: ignore[no-untyped-def]
        def loss():  # type: ignore[no-untyped-def]
            h = x
            for k, w in enumerate(weights):
                h = tw.astype(h, tw.bfloat16) @ tw.astype(w, tw.bfloat16)
                h = tw.nn.relu(h) if k < len(weights) - 1 else tw.astype(h, tw.float32)
            return tw.mean(tw.nn.softmax_cross_entropy(h, y))

        value, gradients = tw.value_and_grad(loss, wrt=weights)()
        for w, g in zip(weights, gradients, strict=True):
            w.assign_sub(RATE * g)
        return value

    x, y = _data()
    return lambda: step(x, y)


def _jax_step() -> Step:
    import jax
    import jax.numpy as jnp

    def loss(weights, x, y):  # type: ignore[no-untyped-def]
        h = x
        for k, w in enumerate(weights):
            h = h.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)
            h = jnp.maximum(h, 0) if k < len(weights) - 1 else h.astype(jnp.float32)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], 1))

    def update(weights, x, y):  # type: ignore[no-untyped-def]
        value, gradients = jax.value_and_grad(loss)(weights, x, y)
        return [w - RATE * g for w, g in zip(weights, gradients, strict=True)], value

    step = jax.jit(update, donate_argnums=0)
    box = [list(map(jnp.asarray, _weights()))]
    x, y = map(jnp.asarray, _data())

    def run() -> object:
        box[0], value = step(box[0], x, y)
        jax.block_until_ready(box[0])
        return value

    return run


def _torch_step() -> Step:
    import torch

    weights = [torch.tensor(w, requires_grad=True) for w in _weights()]
    optimizer = torch.optim.SGD(weights, RATE)
    x, y = (torch.from_numpy(a) for a in _data())
    y = y.long()

    def run() -> object:
        optimizer.zero_grad()
        h = x
        with torch.autocast("cpu", torch.bfloat16):
            for k, w in enumerate(weights):
                h = h @ w
                h = torch.relu(h) if k < len(weights) - 1 else h
        loss = torch.nn.functional.cross_entropy(h.float(), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


WORKLOADS = [
    *(
        Workload(
            f"matmul-bf16-{n}", f"{n}x{n} by {n}x{n}, bfloat16",
            {name: partial(make, n) for name, make in
             (("thalweg", _thalweg_product), ("jax", _jax_product), ("torch", _torch_product))},
            rtol=2e-2,
        )
        for n in (512, 1024)
    ),
    Workload(
        "matmul-high-1024", "1024x1024 by 1024x1024, f32 at precision high",
        {"thalweg": partial(_thalweg_high, 1024), "jax": partial(_jax_high, 1024), "torch": partial(_torch_high, 1024)},
    ),
    Workload(
        "matmul-int8-1024", "1024x1024 by 1024x1024, int8 with sums in int32",
        {"thalweg": partial(_thalweg_bytes, 1024), "torch": partial(_torch_bytes, 1024)},
    ),
    Workload(
        "mlp-bf16-step", "MLP 1024-1024-1024-10, batch 256, products in bfloat16: one training step",
        {"thalweg": _thalweg_step, "jax": _jax_step, "torch": _torch_step},
        rtol=2e-2,
    ),
]  # fmt: skip
