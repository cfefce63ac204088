"""Subnormal numbers: kept, or taken for zero while a program runs, on all its threads, and only while it runs."""

from __future__ import annotations

import ctypes
import platform

import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.subnormals import EXACT, mode
from thalweg.dialects.diagnostics import LoweringError

HAS_MODE = platform.machine().lower() in ("x86_64", "amd64", "aarch64", "arm64")
needs_mode = pytest.mark.skipif(not HAS_MODE, reason="no state that is known here")
SMALL = np.float32(1e-39)


def halved(x: np.ndarray) -> np.ndarray:
    return np.asarray(tw.function(lambda x: x * 0.5)(x))


@needs_mode
@pytest.mark.parametrize("size", [1, 40, 3_000_000])
def test_numbers_that_are_too_small_are_zero(size: int) -> None:
    """As operands and as results; large programs run on several threads."""
    operands, results = np.full(size, SMALL), np.full(size, np.finfo(np.float32).tiny)
    with tw.config.override(threads=3):
        assert halved(operands).all()
        assert halved(results).all()
        with tw.config.override(flush_subnormals=True):
            assert not halved(operands).any()
            assert not halved(results).any()
            np.testing.assert_array_equal(halved(np.ones(size, np.float32)), 0.5)
        assert halved(operands).all(), "programs compiled before are asked for again"


@needs_mode
def test_the_state_is_put_back() -> None:
    """Of the calling thread, whose own arithmetic NumPy does, and of the pool's."""
    x = np.full(2_000_000, SMALL)
    with tw.config.override(threads=3):
        exact = tw.function(lambda x: x + x)
        assert np.asarray(exact(x)).all()
        with tw.config.override(flush_subnormals=True):
            assert not np.asarray(tw.function(lambda x: x + x)(x)).any()
        for _ in range(20):
            assert np.asarray(exact(x)).all()
    assert (x[:100] * np.float32(0.5)).all()
    assert ctypes.c_float(1e-39).value != 0


def test_doubles_and_halves() -> None:
    """Half precision keeps its subnormal numbers: they are normal ones in single precision."""
    if not HAS_MODE:
        pytest.skip("no state that is known here")
    with tw.config.override(flush_subnormals=True):
        assert not halved(np.full(100, 1e-310)).any()
        assert halved(np.full(100, 3e-7, np.float16)).all()


def test_what_the_options_ask_for() -> None:
    assert mode(CpuOptions()) is EXACT
    x86 = mode(CpuOptions(cpu="x86-64-v3", features="+sse2", flush_subnormals=True))
    arm = mode(CpuOptions(cpu="cortex-a76", features="+neon", flush_subnormals=True))
    assert "ldmxcsr" in x86.after[0]
    assert "fpcr" in arm.after[0]
    with pytest.raises(LoweringError, match="Leave flush_subnormals off"):
        mode(CpuOptions(cpu="generic", features="+simd128", flush_subnormals=True))
    assert CpuOptions(flush_subnormals=True).key() != CpuOptions().key()
