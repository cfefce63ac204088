"""The same work by PyTorch and JAX on the same GPU, where they are installed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from thalweg.tools.gpu_check.check import Finding

Step = Callable[[], Any]


def torch_or_none() -> Any:
    """PyTorch with a GPU; None without."""
    try:
        import torch
    except ImportError:
        return None
    return torch if torch.cuda.is_available() else None


def jax_or_none() -> Any:
    """JAX with a GPU; None without."""
    try:
        import jax

        return jax if jax.default_backend() == "gpu" else None
    except (ImportError, RuntimeError):
        return None


def torch_milliseconds(step: Step, rounds: int = 5, least: float = 20.0) -> float:
    """The least time of a step by PyTorch's events, measured as ours is."""
    import torch

    def once(count: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            step()
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / count

    for _ in range(3):
        step()
    torch.cuda.synchronize()
    count = max(1, min(200, int(least / max(once(1), 1e-3))))
    return min(once(count) for _ in range(rounds))


def jax_milliseconds(step: Step, rounds: int = 5, count: int = 20) -> float:
    """The least time of a step of JAX, over several that are waited for together."""
    import time

    import jax

    jax.block_until_ready([step() for _ in range(3)])
    best = math.inf
    for _ in range(rounds):
        began = time.perf_counter()
        jax.block_until_ready([step() for _ in range(count)])
        best = min(best, (time.perf_counter() - began) / count)
    return best * 1e3


def times(found: Finding, ours: float, *peers: Iterator[tuple[str, Step]]) -> None:
    """Put the peers' milliseconds beside ours, and how many times ours each takes. One that cannot do it says so, and
    the others are measured; one that takes the process with it leaves what was found before."""
    found["ms"] = ours
    found.save()
    for steps in peers:
        while True:
            name = "a peer"
            try:
                name, step = next(steps)
                ms = jax_milliseconds(step) if name.startswith("jax") else torch_milliseconds(step)
            except StopIteration:
                break
            except Exception as error:
                found[f"{name} failed"] = f"{type(error).__name__}: {error}"[:300]
                continue  # a generator that raised is at its end
            found[f"{name}_ms"], found[f"{name}_ratio"] = ms, ms / ours
            found.save()


def jax_arrays(jax: Any, shapes: Sequence[tuple[int, ...]], dtype: str) -> list[Any]:
    """Random arrays on the GPU."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [
        jax.random.normal(key, shape, getattr(jax.numpy, dtype)) for key, shape in zip(keys, shapes, strict=True)
    ]


def torch_dtype(torch: Any, name: str) -> Any:
    """PyTorch's type of a name."""
    return getattr(torch, name)

