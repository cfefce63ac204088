"""What kernels have to do, and how near they come to what the machine can do."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.peaks import Peaks
from thalweg.backends.cpu.roofline import bound_of, roofline
from thalweg.backends.cpu.work import Work, work_of
from thalweg.compiler import driver
from thalweg.dialects import context


def _module(function, *arrays):
    return driver().to_stablehlo(tw.function(function).program(*arrays).module)[0]


def _works(function, *shapes, dtype=np.float32):
    with context.entered():
        module = _module(function, *(np.ones(shape, dtype) for shape in shapes))
        with module.context:
            lowered = lower(module, CpuOptions(threads=1))
            return [work_of(kernel) for kernel in lowered.program.kernels()]


def test_a_product_and_what_follows_it():
    (work,) = _works(lambda x, w: tw.abs(x @ w), (8, 16), (16, 4))
    assert work == Work({"f32": 2 * 8 * 16 * 4}, 8 * 4, 4 * (8 * 16 + 16 * 4 + 8 * 4))
    assert work.flops == 1056
    (work,) = _works(lambda x, w: x @ w, (8, 16), (16, 4), dtype=np.float64)
    assert work.products == {"f64": 1024} and work.bytes == 8 * (8 * 16 + 16 * 4 + 8 * 4)


def test_only_what_is_read_counts():
    (work,) = _works(lambda x: x[10:20] + 1.0, (1000, 8))
    assert work == Work({}, 80, 4 * (80 + 80))
    (work,) = _works(lambda x: tw.take(x, tw.asarray([1, 5, 7]), axis=0) * 2.0, (1000, 8))
    assert 4 * 2 * 24 <= work.bytes <= 4 * 2 * 24 + 3 * 8


@pytest.mark.parametrize("features", [{}, {"groups": 16}, {"groups": 4}], ids=["dense", "depthwise", "groups"])
def test_convolutions(features):
    groups = features.get("groups", 1)
    works = _works(lambda x, w: tw.nn.conv(x, w, padding="valid", **features), (2, 9, 9, 16), (3, 3, 16 // groups, 16))
    products = sum(n for work in works for n in work.products.values())
    assert products == 2 * (2 * 7 * 7 * 16) * (3 * 3 * 16 // groups)


def test_attention_counts_what_is_visible():
    def attention(causal):
        return lambda q, k, v: tw.nn.attention(q, k, v, causal=causal)

    shape = (1, 2, 512, 64)
    (whole,), (half,) = (_works(attention(causal), shape, shape, shape) for causal in (False, True))
    least = 2 * 2 * 512 * 512 * 64 * 2
    assert least < whole.products["f32"] < 1.2 * least
    assert whole.products["f32"] / half.products["f32"] == pytest.approx(2 * 512 / 513, rel=0.05)


def test_bounds():
    class Time:
        def __init__(self, work: Work) -> None:
            self.work, self.launches, self.seconds = work, 2.0, 1.0

    peaks = Peaks({"f32": 100.0, "bf16": 1600.0}, ((1000.0, 50.0), (float("inf"), 10.0)), 1)
    near, far = bound_of(Time(Work({"bf16": 3200}, 100, 50)), peaks), bound_of(Time(Work({}, 100, 2000)), peaks)  # type: ignore[arg-type]
    assert (near.seconds, near.limit, near.share) == (6.0, "arithmetic", 6.0)
    assert (far.seconds, far.limit) == (400.0, "memory")


def test_kernels_of_a_program_against_this_machine():
    x = np.ones((256, 256), np.float32)
    with context.entered():
        bounds, peaks = roofline(_module(lambda x: tw.nn.softmax(x @ x), x), [x], CpuOptions(threads=1))
    assert {b.limit for b in bounds} <= {"arithmetic", "memory"} and all(b.share > 0 for b in bounds)
    assert peaks.flops["f32"] > peaks.flops["f64"] > 1e8
    assert bounds[0].time.where is not None and bounds[0].time.where.file == __file__
