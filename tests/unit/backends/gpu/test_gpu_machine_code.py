"""What the kernels of `thalweg gpu-check`'s benchmarks are compiled to, of the sizes that they are measured with, for
sm_90: tensor cores and copies beside them in products, wide loads and stores elsewhere, no register in memory."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gpu_programs import lowered

import thalweg as tw
from thalweg.backends.gpu.compile import compile_kernel
from thalweg.backends.gpu.configurations import shared
from thalweg.backends.gpu.options import GpuOptions
from thalweg.dialects import context

triton = pytest.importorskip("triton")

F8, BF16, F16, F32 = ml_dtypes.float8_e4m3fn, ml_dtypes.bfloat16, np.dtype(np.float16), np.dtype(np.float32)
Arguments = tuple[np.ndarray, ...]


def _zeros(dtype: Any, *shapes: tuple[int, ...]) -> Arguments:
    """Arrays that nobody looks at."""
    return tuple(np.zeros(shape, dtype) for shape in shapes)


def _product(a: tw.Tensor, b: tw.Tensor) -> tw.Tensor:
    return a @ b


def _scaled(a: tw.Tensor, b: tw.Tensor, of_a: tw.Tensor, of_b: tw.Tensor) -> tw.Tensor:
    return tw.cast(tw.matmul(a, b.T, dtype=tw.float32) * of_a * of_b, tw.bfloat16)


def _norm(x: tw.Tensor) -> tw.Tensor:
    return tw.nn.layer_norm(x, np.ones(4096, np.float32), np.ones(4096, np.float32))


def _entropy(x: tw.Tensor, labels: tw.Tensor) -> tw.Tensor:
    return tw.mean(tw.nn.softmax_cross_entropy(x, labels))


def _entropy_gradient(x: tw.Tensor, labels: tw.Tensor) -> tw.Tensor:
    return tw.grad(lambda x: _entropy(x, labels))(x)


def _attention(q: tw.Tensor, k: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    return tw.nn.attention(q, k, v, causal=True)


def _attention_gradients(*x: tw.Tensor) -> Any:
    return tw.grad(lambda *x: tw.sum(tw.astype(_attention(*x), tw.float32)), argnums=(0, 1, 2))(*x)


def _convolution(x: tw.Tensor, w: tw.Tensor) -> tw.Tensor:
    return tw.nn.conv(x, w, padding="same")


def _strided(x: tw.Tensor, w: tw.Tensor) -> tw.Tensor:
    return tw.nn.conv(x, w, padding="same", stride=2)


def _gradients(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, w: tw.grad(lambda x, w: tw.sum(tw.astype(function(x, w), tw.float32) ** 2), argnums=(0, 1))(x, w)


@dataclass(frozen=True)
class Case:
    """A program; `kernels` is how many products (of matrices, in attention, in convolutions) it has."""

    function: Callable[..., Any]
    arguments: Arguments
    kernels: int = 0
    tf32: bool = False
    slow: bool = True


HEADS = [(8, 16, 1024, 64)] * 3
WIDE_HEADS = [(2, 16, 4096, 128)] * 3
ROWS, LABELS = (8192, 4096), np.zeros(8192, np.int32)
IMAGES, WINDOW = (32, 56, 56, 64), (3, 3, 64, 64)
CASES = {
    "matmul of bf16": Case(_product, _zeros(BF16, (4096, 4096), (4096, 4096)), 1, slow=False),
    "matmul of f16": Case(_product, _zeros(F16, (1024, 1024), (1024, 1024)), 1),
    "matmul of e4m3": Case(_scaled, (*_zeros(F8, (4096, 4096), (4096, 4096)), *_zeros(F32, (), ())), 1, slow=False),
    "matmul by tf32": Case(_product, _zeros(F32, (4096, 4096), (4096, 4096)), 1, tf32=True, slow=False),
    "matmul of long rows": Case(_product, _zeros(BF16, (8192, 8192), (8192, 1024)), 1),
    "softmax": Case(tw.nn.softmax, _zeros(F32, ROWS), slow=False),
    "softmax of long rows": Case(tw.nn.softmax, _zeros(F32, (256, 50304))),
    "softmax of bf16": Case(tw.nn.softmax, _zeros(BF16, ROWS), slow=False),
    "layer norm": Case(_norm, _zeros(F32, ROWS)),
    "layer norm of bf16": Case(_norm, _zeros(BF16, ROWS)),
    "cross-entropy": Case(_entropy, (*_zeros(F32, ROWS), LABELS)),
    "gradient of cross-entropy": Case(_entropy_gradient, (*_zeros(F32, ROWS), LABELS)),
    "gelu": Case(lambda x: tw.nn.gelu(x * 2 + 1) * x, _zeros(BF16, ROWS), slow=False),
    "attention": Case(_attention, _zeros(BF16, *HEADS), 1, slow=False),
    "attention by tf32": Case(_attention, _zeros(F32, *HEADS), 1, tf32=True),
    "attention of 128 features": Case(_attention, _zeros(BF16, *WIDE_HEADS), 1),
    "gradients of attention": Case(_attention_gradients, _zeros(BF16, *HEADS), 2),
    "gradients of attention by tf32": Case(_attention_gradients, _zeros(F32, *HEADS), 2, tf32=True),
    "gradients of attention of 128 features": Case(_attention_gradients, _zeros(BF16, *WIDE_HEADS), 2),
    "convolution": Case(_convolution, _zeros(F32, IMAGES, WINDOW), 1, tf32=True),
    "convolution of bf16": Case(_convolution, _zeros(BF16, IMAGES, WINDOW), 1),
    "gradients of a convolution": Case(_gradients(_convolution), _zeros(F32, IMAGES, WINDOW), 3, tf32=True),
    "gradients of a strided one": Case(_gradients(_strided), _zeros(F32, IMAGES, (1, 1, 64, 256)), 3, tf32=True),
}


def in_memory(binary: bytes, folder: Path) -> int:
    """Bytes of memory that a thread of a cubin uses because it has too few registers, or for arrays of its own."""
    path = folder / "kernel.cubin"
    path.write_bytes(binary)
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    text = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True, timeout=600).stdout
    ((stack, local),) = re.findall(r"STACK:(\d+) .*LOCAL:(\d+)", text)
    return int(stack) + int(local)


def count(assembly: str, instruction: str) -> int:
    """How often an instruction is there, whatever it says about caches."""
    plain = re.sub(r"\.L[12]::\w+", "", assembly)
    return len(re.findall(rf"^\s*(?:@%\w+ )?{re.escape(instruction)}", plain, re.MULTILINE))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if c.slow else []) for n, c in CASES.items()]
)
def test_machine_code(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    case = CASES[name]
    options = GpuOptions("sm_90", tf32=case.tf32, folder=tmp_path)
    with context.entered():
        program = lowered(case.function, *case.arguments, folder=tmp_path, tf32=case.tf32)
    products = 0
    for kernel in program.kernels:
        made = compile_kernel(kernel.text, options)
        assert made.image.shared <= shared(options)
        assert in_memory(made.image.binary, tmp_path) == 0, f"{kernel.name} has too few registers"
        large = max(value.size for value in (*kernel.operands, *kernel.results)) >= 1 << 20
        if "tl.dot(" in kernel.source:
            products += 1
            assert count(made.assembly, "wgmma.mma_async") and not count(made.assembly, "mma.sync"), kernel.name
            copies = count(made.assembly, "cp.async.c") + count(made.assembly, "cp.async.bulk.tensor")
            assert copies or kernel.text.stages == 1, f"{kernel.name} waits for its loads"
        elif large:
            wide = sum(count(made.assembly, f"{way}.global.v4") for way in ("ld", "st"))
            assert wide > sum(count(made.assembly, f"{way}.global.b") for way in ("ld", "st")), kernel.name
        if large:  # a number of each row may be stored by itself
            narrow = count(made.assembly, "st.global.b16")
            assert narrow <= count(made.assembly, "st.global.v4"), f"{kernel.name} stores {narrow} times 2 bytes"
    assert products == case.kernels
