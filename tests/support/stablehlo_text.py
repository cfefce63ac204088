"""Programs of StableHLO as text: the CPU backend compared with the reference interpreter."""

from __future__ import annotations

import os

import numpy as np

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.pjrt.lower import lower
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import ir


def tensor(shape: tuple[int, ...], element: str) -> str:
    return f"tensor<{''.join(f'{n}x' for n in shape)}{element}>"


def exactly(text: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The results of a program of f32, computed by XLA in f64: StableHLO's reference interpreter takes seconds for a
    convolution of many channels."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from thalweg.runtime.pjrt.client import client_for

    client = client_for(virtual=True)
    with context.entered():
        program = client.compile(lower(ir.Module.parse(text.replace("xf32>", "xf64>"))).data, [0])
    return [np.asarray(result) for result in program([client.put(array.astype(np.float64), [0]) for array in arrays])]


def compare(text: str, shapes: list[tuple[int, ...]], element: str = "f32", threads: int = 1) -> None:
    """Run `text` on the CPU and in the reference interpreter, or by XLA if it is a convolution of f32, on the same
    random arrays."""
    rng = np.random.default_rng(3)
    if element[0] == "i":
        arrays = [rng.integers(-9, 9, s).astype({"i8": np.int8, "i32": np.int32}[element]) for s in shapes]
    else:
        arrays = [rng.standard_normal(s).astype({"f32": np.float32, "f64": np.float64}[element]) for s in shapes]
    with context.entered():
        module = ir.Module.parse(text)
        wide = element == "f32" and "stablehlo.convolution" in text
        expected = exactly(text, arrays) if wide else evaluate(module, arrays)
        executable = compile_stablehlo(module, CpuOptions(threads=threads))
    for result, wanted in zip(executable(arrays), expected, strict=True):
        assert result.shape == wanted.shape
        np.testing.assert_allclose(result, wanted, rtol=2e-5, atol=2e-5)
