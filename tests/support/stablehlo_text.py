"""Programs of StableHLO as text: the CPU backend compared with the reference interpreter."""

from __future__ import annotations

import numpy as np

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


def tensor(shape: tuple[int, ...], element: str) -> str:
    return f"tensor<{''.join(f'{n}x' for n in shape)}{element}>"


def compare(text: str, shapes: list[tuple[int, ...]], element: str = "f32", threads: int = 1) -> None:
    """Run `text` on the CPU and in the reference interpreter, on the same random arrays."""
    rng = np.random.default_rng(3)
    if element[0] == "i":
        arrays = [rng.integers(-9, 9, s).astype({"i8": np.int8, "i32": np.int32}[element]) for s in shapes]
    else:
        arrays = [rng.standard_normal(s).astype({"f32": np.float32, "f64": np.float64}[element]) for s in shapes]
    with context.entered():
        module = ir.Module.parse(text)
        expected = evaluate(module, arrays)
        executable = compile_stablehlo(module, CpuOptions(threads=threads))
    for result, wanted in zip(executable(arrays), expected, strict=True):
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-5)
