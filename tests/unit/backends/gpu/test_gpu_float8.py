"""Floats of 8 bits on GPUs: products by tensor cores that have them, widened elsewhere; conversions bit by bit."""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from gpu_programs import check, lowered, numbers, simulated, sources

import thalweg as tw
from thalweg.backends.gpu.compile import compile_kernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.dialects import context
from thalweg.dialects.types import FLOATS8, DType

E4M3, E5M2 = ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2


def _product(a: tw.Tensor, b: tw.Tensor) -> tw.Tensor:
    return tw.matmul(a, b, dtype=tw.float32)


def _transposed(a: tw.Tensor, b: tw.Tensor) -> tw.Tensor:
    return tw.matmul(a, b.T, dtype=tw.float32)


def _scaled(a: tw.Tensor, b: tw.Tensor, scale: tw.Tensor, bias: tw.Tensor) -> tw.Tensor:
    return tw.cast(tw.nn.relu(tw.matmul(a, b.T, dtype=tw.float32) * scale + bias), tw.float8_e4m3fn)


def _rounded_first(a: tw.Tensor, b: tw.Tensor) -> tw.Tensor:
    return tw.matmul(tw.cast(a * 0.5, tw.float8_e4m3fn), tw.cast(b, tw.float8_e5m2).T, dtype=tw.float32)


def _scores(q: tw.Tensor, k: tw.Tensor, v: tw.Tensor) -> tw.Tensor:
    return tw.nn.softmax(tw.matmul(q, tw.swapaxes(k, -1, -2), dtype=tw.float32) / 4) @ v


@pytest.mark.parametrize("dtype", FLOATS8, ids=str)
def test_conversions_of_every_number(dtype: DType, tmp_path: Path) -> None:
    """From all codes, and to them from all halves, what rounds to the next code and what is too large among them."""
    codes = np.arange(256, dtype=np.uint8).view(dtype.numpy)
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    pytest.importorskip("triton")
    (wide,) = simulated(lambda x: tw.cast(x, tw.float32), codes, folder=tmp_path)
    np.testing.assert_array_equal(wide, codes.astype(np.float32))
    (narrow,) = simulated(lambda x: tw.cast(x, dtype), halves.astype(np.float32), folder=tmp_path)
    with np.errstate(invalid="ignore", over="ignore"):
        np.testing.assert_array_equal(narrow.astype(np.float32), halves.astype(dtype.numpy).astype(np.float32))


@pytest.mark.parametrize("chip", ["virtual", "sm_80"], ids=["as they are", "widened"])
@pytest.mark.parametrize("kinds", [(E4M3, E4M3), (E4M3, E5M2), (E5M2, E5M2)], ids=str)
def test_products(kinds: tuple[type, type], chip: str, tmp_path: Path) -> None:
    """Odd sizes, by either text: the interpreter runs what is written for any chip."""
    pytest.importorskip("triton")
    a, b = numbers(67, 45, dtype=kinds[0]), numbers(45, 33, dtype=kinds[1])
    check(_product, a, b, folder=tmp_path, chip=chip)


def test_scales_and_bias_are_of_the_same_kernel(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    arguments = (numbers(40, 64, dtype=E4M3), numbers(24, 64, dtype=E4M3), np.float32(0.125), numbers(24))
    assert len(sources(_scaled, *arguments)) == 1
    check(_scaled, *arguments, folder=tmp_path, error=0.13)  # a last place, where sums are in another order


def test_operands_are_rounded_as_they_are_loaded(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    check(_rounded_first, numbers(40, 70), numbers(24, 70), folder=tmp_path)


def test_scores_of_8_bits_are_a_product(tmp_path: Path) -> None:
    """And no attention, whose kernels multiply what they hold."""
    pytest.importorskip("triton")
    arguments = numbers(2, 32, 16, dtype=E4M3), numbers(2, 40, 16, dtype=E4M3), numbers(2, 40, 16)
    assert len(sources(_scores, *arguments)) > 1
    check(_scores, *arguments, folder=tmp_path)


def test_by_descriptors(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    a, b = numbers(40, 64, dtype=E4M3), numbers(24, 64, dtype=E4M3)
    (source,) = sources(_transposed, a, b, descriptors=True)
    assert source.count("tl.make_tensor_descriptor") == 2
    check(_transposed, a, b, folder=tmp_path, descriptors=True)


MULTIPLIES = {
    "sm_90": r"wgmma\.mma_async\.sync\.aligned\.m64n\d+k32\.f32\.e4m3\.e5m2",
    "sm_89": r"mma\.sync\.aligned\.m16n8k32\.row\.col\.f32\.e4m3\.e5m2\.f32",
    "sm_80": r"mma\.sync\.aligned\.m16n8k16\.row\.col\.f32\.bf16\.bf16\.f32",
    "gfx942": r"v_mfma_f32_\d+x\d+x\d+_bf16",  # its own formats have another bias
}


@pytest.mark.parametrize("chip", MULTIPLIES)
def test_machine_code_of_products(chip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    a, b = np.zeros((4096, 256), E4M3), np.zeros((4096, 256), E5M2)
    with context.entered():
        (kernel,) = lowered(_transposed, a, b, folder=tmp_path, chip=chip).kernels
    assert re.search(MULTIPLIES[chip], compile_kernel(kernel.text, GpuOptions(chip, folder=tmp_path)).assembly)
