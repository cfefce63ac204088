"""Timing of device programs, on virtual GPUs: that it runs what it is given; times of theirs mean nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tiny_kernels as tiny
from simulated_gpu import SimulatedCuda

from thalweg.dialects.diagnostics import DeviceError
from thalweg.runtime.gpu.artefact import Tensor
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.timing import FLUSHED, milliseconds

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
