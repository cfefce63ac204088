"""Kernels in Triton's interpreter against the CPU backend, and compiled for both makers' chips."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from gpu_programs import check, lowered, numbers

import thalweg as tw
from thalweg.backends.gpu import descriptors
from thalweg.backends.gpu.compile import compile_kernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.dialects import context

pytest.importorskip("triton")


def _layernorm(x: tw.Tensor, scale: tw.Tensor, shift: tw.Tensor) -> tw.Tensor:
    centred = x - tw.mean(x, axis=-1, keepdims=True)
    return centred * tw.rsqrt(tw.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * scale + shift


def _mlp(x: tw.Tensor, w: tw.Tensor, b: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    return tw.softmax(tw.matmul(tw.tanh(tw.matmul(x, w) + b), v))


def _loss_gradients(x: tw.Tensor, w: tw.Tensor, b: tw.Tensor) -> Any:
    return tw.grad(lambda w, b: tw.mean(tw.tanh(tw.matmul(x, w) + b) ** 2), argnums=(0, 1))(w, b)


BF16 = ml_dtypes.bfloat16
PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[np.ndarray, ...]]] = {
    "elementwise": (lambda x, b: (tw.tanh(x * 2 + b), x - b), (numbers(9, 37), numbers(37))),
    "several tiles": (lambda x: tw.exp(x), (numbers(41, 53),)),
    "softmax": (lambda x: tw.softmax(x), (numbers(9, 37),)),
    "layernorm": (_layernorm, (numbers(9, 37), numbers(37), numbers(37))),
    "layernorm of long rows": (_layernorm, (numbers(2, 9000), numbers(9000), numbers(9000))),
    "all kinds of sums": (
        lambda x: (tw.sum(x), tw.max(x, axis=0), tw.sum(x, axis=(0, 2)), tw.min(x, axis=-1)), (numbers(3, 50, 20),)
    ),
    "matmul": (lambda x, y: tw.matmul(x, y), (numbers(70, 90), numbers(90, 50))),
    "matmul of vectors": (lambda x, y: (tw.matmul(x, y), tw.matmul(y, y)), (numbers(7, 30), numbers(30))),
    "batched matmul": (lambda x, y: tw.matmul(x, y), (numbers(3, 20, 70), numbers(3, 70, 40))),
    "many tiles": (lambda x, y: tw.matmul(x, tw.transpose(y)), (numbers(600, 16), numbers(130, 16))),
    "matmul in bf16": (lambda x, y: tw.matmul(x, y), (numbers(30, 70, dtype=BF16), numbers(70, 40, dtype=BF16))),
    "transpose": (lambda x: tw.transpose(x, (2, 0, 1)), (numbers(4, 33, 40),)),
    "rows taken": (lambda w, i: tw.take(w, i, axis=0), (numbers(20, 30), np.array([3, 1, 19, 3], np.int32))),
    "network": (_mlp, (numbers(20, 30), numbers(30, 40), numbers(40), numbers(40, 10))),
    "gradients": (_loss_gradients, (numbers(20, 30), numbers(30, 40), numbers(40))),
}  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreted(name: str, tmp_path: Path) -> None:
    function, arguments = PROGRAMS[name]
    check(function, *arguments, folder=tmp_path)


DESCRIBED = {
    "rows": (lambda x, y: tw.tanh(tw.matmul(x, y)), (numbers(70, 96, dtype=BF16), numbers(96, 40, dtype=BF16))),
    "columns": (
        lambda x, y: tw.matmul(tw.transpose(x), tw.transpose(y)),
        (numbers(96, 72, dtype=BF16), numbers(200, 96, dtype=BF16)),
    ),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_products_by_descriptors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    function, arguments = DESCRIBED[name]
    check(function, *arguments, folder=tmp_path, descriptors=True)
    options = GpuOptions("sm_90", folder=tmp_path, descriptors=True)
    with context.entered():
        program = lowered(function, *arguments, folder=tmp_path, descriptors=True)
        (kernel,) = [k for k in program.kernels if "matmul" in k.name]
        made = compile_kernel(kernel.text, options)
    assert "cp.async.bulk.tensor" in made.assembly and made.image.scratch > 0


LARGE = numbers(2048, 1024, dtype=BF16), numbers(1024, 2560, dtype=BF16)


@pytest.mark.parametrize("chip", ["sm_80", "sm_90", "virtual"])
def test_large_products_are_by_descriptors_where_the_chip_has_an_engine(chip: str, tmp_path: Path) -> None:
    with context.entered():
        (kernel,) = lowered(tw.matmul, *LARGE, folder=tmp_path, chip=chip).kernels
        (small,) = lowered(tw.matmul, *DESCRIBED["rows"][1], folder=tmp_path, chip=chip).kernels
        (asked,) = lowered(tw.matmul, *LARGE, folder=tmp_path, chip=chip, descriptors=False).kernels
    assert ("make_tensor_descriptor" in kernel.source) == (chip == "sm_90")
    assert "make_tensor_descriptor" not in small.source + asked.source


def test_programs_that_stay_go_through_their_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "processors", lambda options: 3)  # of 3 x 3 tiles
    function = lambda x, y: tw.tanh(tw.matmul(x, y))  # noqa: E731
    arguments = numbers(130, 96, dtype=BF16), numbers(96, 136, dtype=BF16)
    with context.entered():
        (kernel,) = lowered(function, *arguments, folder=tmp_path, descriptors=True).kernels
    assert "flatten=True" in kernel.source and kernel.grid == 3
    check(function, *arguments, folder=tmp_path, descriptors=True)


COMPILED = ("elementwise", "softmax", "layernorm of long rows", "matmul in bf16", "network", "rows taken", "transpose")
ALL = [pytest.param(n, marks=[] if n in COMPILED else pytest.mark.slow) for n in PROGRAMS]


@pytest.mark.parametrize("chip", ["sm_90", "gfx942"])
@pytest.mark.parametrize("name", ALL)
def test_compiled(name: str, chip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    function, arguments = PROGRAMS[name]
    options = GpuOptions(chip, folder=tmp_path)
    with context.entered():
        program = lowered(function, *arguments, folder=tmp_path, chip=chip)
        made = [compile_kernel(kernel.text, options) for kernel in program.kernels]
    assert made and all(kernel.image.binary.startswith(b"\x7fELF") for kernel in made)
    assert all(kernel.image.shared <= (232448 if chip == "sm_90" else 65536) for kernel in made)
    if name == "matmul in bf16":
        assert ("mma" if chip == "sm_90" else "v_mfma") in made[0].assembly


def test_a_saved_kernel_runs_by_itself(tmp_path: Path) -> None:
    with context.entered():
        (path,) = lowered(lambda x: tw.softmax(x), numbers(3, 5), folder=tmp_path).save()
    done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "out0: f32[3,5]" in done.stdout
