"""Programs that multiply bytes, and the kinds of processors whose code this machine runs."""

from __future__ import annotations

import llvmlite.binding as llvm
import numpy as np

from thalweg.backends.cpu.backend import compile_stablehlo
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

_HOST = {name for name, present in llvm.get_host_cpu_features().items() if present}
_KINDS = [
    ("x86-64-v4", "+avx512vnni", {"avx512bw", "avx512vl", "avx512vnni"}),
    ("x86-64-v4", "", {"avx512bw", "avx512vl"}),
    ("x86-64-v3", "+avxvnni", {"avx2", "avxvnni"}),
    ("x86-64-v3", "", {"avx2"}),
    ("x86-64-v2", "", {"sse2"}),
]
OPTIONS = [
    CpuOptions(threads=1), CpuOptions(threads=2),
    *(CpuOptions(threads=1, cpu=cpu, features=features) for cpu, features, needs in _KINDS if needs <= _HOST),
]  # fmt: skip
IDS = [f"{o.cpu or 'host'}{o.features}-{o.threads}" for o in OPTIONS]


def tensor(shape, element):
    return f"tensor<{''.join(f'{n}x' for n in shape)}{element}>"


def numbers(shape, unsigned=False, seed=0):
    """All bytes, the extreme ones too."""
    low, high, dtype = (0, 256, np.uint8) if unsigned else (-128, 128, np.int8)
    found = np.random.default_rng(seed).integers(low, high, shape).astype(dtype)
    found.reshape(-1)[: found.size // 3] = high - 1 if unsigned else -128
    return found


def compiled(text, options, change=lambda module: None):
    """The program of StableHLO text; `change` rewrites the module first."""
    with context.entered():
        module = ir.Module.parse(text)
        change(module)
        return compile_stablehlo(module, options)


def convolved(x, w, stride=1, pad=0, dilation=1):
    """x: [batch, height, width, channels], w: [height, width, channels, columns], in 64-bit integers."""
    x = np.pad(x.astype(np.int64), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    size, _, _, columns = w.shape
    places = [range(0, n - (size - 1) * dilation, stride) for n in x.shape[1:3]]
    total = np.zeros((len(x), *map(len, places), columns), np.int64)
    for i in range(size):
        for j in range(size):
            rows = x[:, [p + i * dilation for p in places[0]]][:, :, [p + j * dilation for p in places[1]]]
            total += rows @ w[i, j].astype(np.int64)
    return total
