"""Timing of device programs, on virtual GPUs: that it runs what it is given; times of theirs mean nothing."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import tiny_kernels as tiny
from simulated_gpu import SimulatedCuda, with_count

from thalweg.dialects.diagnostics import DeviceError
from thalweg.runtime.gpu.artefact import KernelImage, Tensor
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.driver import DriverError
from thalweg.runtime.gpu.timing import FLUSHED, launch_seconds, milliseconds

TWO = [("double", tiny.argument(0), tiny.arena(0)), ("increment", tiny.arena(0), tiny.result(0))]


@pytest.fixture
def cuda() -> SimulatedCuda:
    return SimulatedCuda(tiny.interpreter)


def test_each_run_finds_a_cold_cache(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    assert milliseconds(gpu, tiny.program(TWO, 1, 1, chip="sm_90"), repeats=3) >= 0
    calls = [call[0] for call in cuda.virtual.log if call[0] in ("launch", "fill")]
    assert calls == ["launch"] * 4 + ["fill", "launch", "launch"] * 3
    assert ("fill", FLUSHED) in cuda.virtual.log
    assert gpu.in_use == 0


def test_a_slow_one_is_not_run_again(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    milliseconds(gpu, tiny.program(TWO, 1, 1, chip="sm_90"), repeats=3, most=-1.0)
    assert [call[0] for call in cuda.virtual.log].count("launch") == 4


def test_operands_of_every_type_are_made(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    program = tiny.program([("double", tiny.argument(0), tiny.result(0))], 4, 1, chip="sm_90")
    kinds = ("float32", "bfloat16", "int32", "bool")
    milliseconds(gpu, replace(program, arguments=tuple(Tensor((4,), k) for k in kinds)), repeats=1)


def test_one_for_another_chip_is_refused(cuda: SimulatedCuda) -> None:
    with pytest.raises(DeviceError, match="compiled for sm_80"):
        milliseconds(Gpu(cuda.driver(), 0), tiny.program(TWO, 1, 1, chip="sm_80"))


def test_a_kernel_alone(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    image = KernelImage("double", "sm_90", with_count("", [0, 1]), 4, scratch=100, clusters=2)
    assert 0 <= launch_seconds(gpu, image, 3, [tiny.NBYTES, tiny.NBYTES]) < 60
    launch = cuda.launched[-1]
    assert launch["grid"] == (6, 1, 1)
    assert launch["values"][2] != 0, "it has its scratch"


def test_a_kernel_that_cannot_be_launched_is_never_the_fastest(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    cuda.virtual.faults["launch"] = DriverError("cuLaunchKernelEx", 701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")
    image = KernelImage("double", "sm_90", with_count("", [0, 1]), 4)
    assert launch_seconds(gpu, image, 1, [tiny.NBYTES, tiny.NBYTES]) == math.inf
