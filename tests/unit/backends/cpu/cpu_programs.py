"""Helpers for tests of the CPU backend: StableHLO text in, results out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.backends.cpu.backend import compile_stablehlo, lower
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

Array = np.ndarray[Any, Any]

ONE_THREAD = CpuOptions(threads=1)


def compiled(text: str, options: CpuOptions = ONE_THREAD) -> Executable:
    with context.entered():
        return compile_stablehlo(ir.Module.parse(text), options)


def run(text: str, *arrays: Array) -> list[Array]:
    return compiled(text)(list(arrays))


def kernels_of(text: str) -> list[str]:
    """The names of the kernels that are launched, in order."""
    with context.entered():
        return [kernel.name for kernel in lower(ir.Module.parse(text), ONE_THREAD).program.kernels()]


def step_of(text: str) -> str:
    """The MLIR text of the step function."""
    with context.entered():
        source = lower(ir.Module.parse(text), ONE_THREAD).kernels
    return source[source.index("func.func @step") :]


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def main(arguments: Sequence[str], results: Sequence[str], body: str) -> str:
    """A function over tensors of the given types ('4x8xf32'); the body names its arguments %0, %1… and returns
    itself.
    """
    parameters = ", ".join(f"%{k}: tensor<{kind}>" for k, kind in enumerate(arguments))
    outputs = ", ".join(f"tensor<{kind}>" for kind in results)
    return f"func.func @main({parameters}) -> ({outputs}) {{\n{body}\n}}"
