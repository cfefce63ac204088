"""Rows of `benchmarks.sweep` that change variables: optimisers of 50 parameters of mixed shapes, gradients clipped by
their common norm.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import Step, Workload

RATE, DECAY = 1e-3, 1e-2
SHAPES = [(64, 128), (128,), (7, 33), (33,), (256, 100), (100,), (3, 3, 16, 32), (32,), (1000, 17), (17,)] * 5


def _numbers(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in SHAPES]


def _thalweg(name: str) -> Step:
    import thalweg as tw

    variables = [tw.Variable(x) for x in _numbers(0)]
    gradients = [tw.Variable(x, trainable=False) for x in _numbers(1)]
    optimizer = getattr(tw.optim, name)(RATE, **({"decay": DECAY} if name == "AdamW" else {}))

    @tw.function
    def step() -> Any:
        optimizer.apply([(tw.asarray(g), v) for g, v in zip(gradients, variables, strict=True)])
        return tw.sum(gradients[1])

    return step


def _torch(name: str) -> Step:
    import torch

    parameters = [torch.from_numpy(x).requires_grad_() for x in _numbers(0)]
    for parameter, gradient in zip(parameters, _numbers(1), strict=True):
        parameter.grad = torch.from_numpy(gradient)
    options: dict[str, Any] = {"SGD": {}, "Momentum": {"momentum": 0.9}, "AdamW": {"weight_decay": DECAY}}.get(name, {})
    fused = {} if name == "RMSProp" else {"fused": True}
    optimizer = getattr(torch.optim, {"Momentum": "SGD", "RMSProp": "RMSprop"}.get(name, name))(
        parameters, lr=RATE, **options, **fused
    )

    def step() -> object:
        optimizer.step()
        return torch.sum(parameters[1].grad)

    return step


def _jax(name: str) -> Step:
    import jax
    import jax.numpy as jnp

    values = [jnp.asarray(x) for x in _numbers(0)]
    gradients = [jnp.asarray(x) for x in _numbers(1)]
    zeros = [jnp.zeros_like(x) for x in values]
    state = {"values": values, "m": zeros, "v": [jnp.zeros_like(x) for x in values], "step": jnp.zeros((), jnp.int32)}

    def update(state: Any, gradients: Any) -> Any:
        step, m, v = state["step"] + 1, state["m"], state["v"]
        if name == "SGD":
            values = [x - RATE * g for x, g in zip(state["values"], gradients, strict=True)]
        elif name == "Momentum":
            m = [0.9 * a + g for a, g in zip(m, gradients, strict=True)]
            values = [x - RATE * a for x, a in zip(state["values"], m, strict=True)]
        elif name == "RMSProp":
            v = [0.9 * a + 0.1 * g * g for a, g in zip(v, gradients, strict=True)]
            values = [x - RATE * g / (a**0.5 + 1e-7) for x, g, a in zip(state["values"], gradients, v, strict=True)]
        else:
            m = [0.9 * a + 0.1 * g for a, g in zip(m, gradients, strict=True)]
            v = [0.999 * a + 0.001 * g * g for a, g in zip(v, gradients, strict=True)]
            scale = RATE * (1 - 0.999**step) ** 0.5 / (1 - 0.9**step)
            fade = 1 - RATE * DECAY if name == "AdamW" else 1.0
            values = [x * fade - scale * a / (b**0.5 + 1e-8) for x, a, b in zip(state["values"], m, v, strict=True)]
        return {"values": values, "m": m, "v": v, "step": step}, jnp.sum(gradients[1])

    compiled = jax.jit(update, donate_argnums=0)
    held = [jax.tree.map(lambda x: x + 0, state)]

    def step() -> object:
        held[0], value = compiled(held[0], gradients)
        return jax.block_until_ready((held[0], value))[1]

    return step


def _clip_thalweg() -> Step:
    import thalweg as tw

    gradients = [tw.Variable(x) for x in _numbers(1)]
    clip = tw.function(lambda: tw.optim.clip_by_global_norm([tw.asarray(g) for g in gradients], 1.0)[0])

    return lambda: clip()[0]


def _clip_torch() -> Step:
    import torch

    gradients = [torch.from_numpy(x) for x in _numbers(1)]

    def step() -> object:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        return torch._foreach_mul(gradients, torch.clamp(1.0 / norm, max=1.0))[0]

    return step


def _clip_jax() -> Step:
    import jax
    import jax.numpy as jnp

    gradients = [jnp.asarray(x) for x in _numbers(1)]

    def clip(gradients: Any) -> Any:
        norm = jnp.sqrt(sum(jnp.sum(g * g) for g in gradients))
        return [g * jnp.minimum(1.0, 1.0 / norm) for g in gradients]

    compiled = jax.jit(clip)
    return lambda: jax.block_until_ready(compiled(gradients))[0]


def training() -> Iterator[Workload]:
    """The rows: updates in place, of the same gradients again and again."""
    for name in ("SGD", "Momentum", "RMSProp", "Adam", "AdamW"):
        makers = {f: partial(m, name) for f, m in (("thalweg", _thalweg), ("jax", _jax), ("torch", _torch))}
        yield Workload(f"{name} of 50", name, makers, None, "us")
    makers = {"thalweg": _clip_thalweg, "jax": _clip_jax, "torch": _clip_torch}
    yield Workload("clip by global norm of 50", "clip", makers, 2e-3, "us")
