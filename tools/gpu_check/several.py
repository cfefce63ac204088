"""Several GPUs: sums of them by NCCL, and a model whose batch is shared out among them."""

from __future__ import annotations

from typing import Any

import numpy as np

import thalweg as tw
from thalweg.dialects.devices import parse
from thalweg.dialects.diagnostics import UnavailableError
from thalweg.gpus import gpu_of
from thalweg.runtime.config import config
from thalweg.runtime.gpu.nccl import Collective
from thalweg.tools.gpu_check.check import SKIPPED, Check, milliseconds, on_gpu

Array = np.ndarray[Any, Any]


def collectives(check: Check) -> None:
    """Sums over all GPUs, their speed, and data-parallel training in one program."""
    names = [name for name in config.devices if "GPU" in name]
    if len(names) < 2:
        check.note("several GPUs", SKIPPED, why="there is one GPU")
        return
    with check.attempt(f"sums over {len(names)} GPUs") as found:
        try:
            _sums(check, names, found)
        except UnavailableError as error:
            found["status"], found["why"] = SKIPPED, str(error)
    with check.attempt("training with the batch shared out", gpus=len(names)) as found:
        one, several = (_trained(check, shards, found) for shards in (1, len(names)))
        found["off"] = off = max(float(np.abs(a - b).max()) for a, b in zip(one, several, strict=True))
        assert off < 1e-4, f"weights differ by {off:.2g}"


def _sums(check: Check, names: list[str], found: dict[str, Any]) -> None:
    gpus = [gpu_of(parse(name)) for name in names]
    group = Collective(gpus)
    found["nccl"] = group.version
    rng = np.random.default_rng(0)
    parts = [rng.standard_normal(100_003).astype(np.float32) for _ in gpus]
    arrays = [gpu.put(part) for gpu, part in zip(gpus, parts, strict=True)]
    group.all_reduce(arrays)
    for gpu, array in zip(gpus, arrays, strict=True):
        off = np.abs(array.numpy() - np.sum(parts, axis=0)).max()
        assert off < 1e-4, f"{gpu.name} is off by {off}"
    size = check.size(2**28, 2**10)
    large = [gpu.empty((size // 4,), np.float32) for gpu in gpus]
    ms = min(gpus[0].time(lambda: group.all_reduce(large), 5))
    found["bus_gb_s"] = 2 * (len(gpus) - 1) / len(gpus) * size / ms / 1e6


def _trained(check: Check, shards: int, found: dict[str, Any]) -> list[Array]:
    """Weights after some steps, each with the batch shared out among GPUs."""
    rng = np.random.default_rng(0)
    batch, inputs, outputs = check.size((4096, 1024, 1024), (8, 6, 4))
    x = rng.normal(size=(batch, inputs)).astype(np.float32)
    y = rng.normal(size=(batch, outputs)).astype(np.float32)
    w = tw.Variable(rng.normal(size=(inputs, outputs)).astype(np.float32) * 0.1, name="shared_out")

    @tw.function(shards=shards)
    def step(x: Any, y: Any) -> Any:
        loss, gradient = tw.value_and_grad(lambda v: tw.mean((tw.tanh(x @ v) - y) ** 2))(w.value)
        w.assign_sub(gradient * 0.1)
        return loss

    with on_gpu():
        for _ in range(check.size(10, 3)):
            float(step(x, y))
        if not check.simulated:
            found[f"{shards}_gpus_ms"] = milliseconds(check, lambda: step(x, y))
    return [w.numpy()]
