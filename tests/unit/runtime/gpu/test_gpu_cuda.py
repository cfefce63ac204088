"""CUDA's driver, down to the bytes that the library would read, against a library that is simulated."""

from __future__ import annotations

import ctypes
from dataclasses import replace

import numpy as np
import pytest
import tiny_kernels as tiny
from simulated_gpu import CAPABILITIES, SimulatedCuda, with_count

from thalweg.dialects.diagnostics import DeviceError
from thalweg.runtime.gpu.artefact import Buffer, KernelImage, Launch
from thalweg.runtime.gpu.cuda import CudaDriver, LaunchAttribute, LaunchConfig
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.driver import DriverError
from thalweg.runtime.gpu.program import LoadedProgram

X = np.arange(4, dtype=np.float32)


@pytest.fixture
def cuda() -> SimulatedCuda:
    return SimulatedCuda(tiny.interpreter)


def test_structures_lie_as_in_the_header() -> None:
    assert (ctypes.sizeof(LaunchAttribute), LaunchAttribute.value.offset) == (72, 8)
    assert ctypes.sizeof(LaunchConfig) == 56
    offsets = [LaunchConfig.shared.offset, LaunchConfig.stream.offset, LaunchConfig.attributes.offset]
    assert [*offsets, LaunchConfig.count.offset] == [24, 32, 40, 48]


def test_properties(cuda: SimulatedCuda) -> None:
    driver = cuda.driver()
    found = driver.properties(1)
    assert (found.name, found.chip, found.processors, found.shared) == ("Simulated 1", "sm_90", 132, 232_448)
    assert found.clock == CAPABILITIES[13]
    assert (driver.count(), driver.version) == (2, "13.0")


def test_a_launch_is_packed_as_triton_expects(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    program = tiny.program([("add", tiny.argument(0), tiny.argument(1), tiny.result(0))], 2, 1, chip="sm_90")
    image = replace(program.images[0], warps=8, shared=196_608, clusters=2, scratch=128, scratch_alignment=128)
    (step,) = program.steps
    assert isinstance(step, Launch)
    scratch = Buffer("arena", 0, 512, 1024)
    program = replace(program, images=(image,), steps=(replace(step, grid=(3, 2, 1), scratch=scratch),))
    loaded = LoadedProgram(gpu, program)
    x, y = gpu.put(X), gpu.put(X * 10)
    (found,) = loaded([x, y])
    np.testing.assert_array_equal(found.numpy(), X * 11)
    (launch,) = cuda.launched
    assert launch["grid"] == (6, 2, 1), "blocks, of which a cluster has two"
    assert launch["block"] == (256, 1, 1)
    assert launch["shared"] == 196_608
    assert launch["attributes"] == {4: (2, 1, 1), 5: (1, 0, 0)}, "the cluster, and blocks spread as Triton has them"
    *buffers, global_scratch, profile_scratch = launch["values"]
    assert buffers == [x.address, y.address, found.address]
    assert (global_scratch - loaded._where["arena", 0], profile_scratch) == (512, 0)
    assert cuda.attributes == [(8, 196_608)], "more than 48 KiB of shared memory are asked for"


def test_little_shared_memory_is_not_asked_for(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    gpu.function(KernelImage("double", "sm_90", with_count("", [0, 1]), 4, shared=49_152))
    assert cuda.attributes == []
    gpu.function(KernelImage("double", "sm_90", with_count("", [0, 1]), 4, clusters=16))
    assert cuda.attributes == [(14, 1)], "clusters of more than 8 blocks are not portable"


def test_steps_and_graphs_through_the_library(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 1)
    steps = [("double", tiny.argument(0), tiny.arena(0)), ("step", tiny.arena(0), tiny.argument(1))]
    program = replace(tiny.program(steps, 2, 1, chip="sm_90"), aliases=((0, 1),))
    loaded = LoadedProgram(gpu, program, state=1)
    w = gpu.put(np.zeros(4, np.float32))
    for turn in range(4):
        assert loaded([gpu.put(X), w])[0] is w
        np.testing.assert_array_equal(w.numpy(), -2 * X * (turn + 1))
    assert len(cuda.launched) == 4, "two launches, and two captured"


def test_memory_goes_from_gpu_to_gpu(cuda: SimulatedCuda) -> None:
    driver = cuda.driver()
    one, other = Gpu(driver, 0), Gpu(driver, 1)
    found = other.receive(one.put(X))
    assert found.gpu is other
    np.testing.assert_array_equal(found.numpy(), X)
    other.receive(one.put(X))
    assert cuda.peers == [0], "peers are introduced once"


def test_errors_have_the_drivers_names(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    with pytest.raises(DriverError, match=r"cuMemAllocAsync failed: CUDA_ERROR_OUT_OF_MEMORY \(2\)"):
        gpu.driver.allocate(2**40, gpu.compute)
    with pytest.raises(DriverError, match="CUDA_ERROR_INVALID_DEVICE"):
        gpu.driver.use(7)


def test_a_kernel_that_cannot_be_launched_is_named_with_its_line(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    loaded = LoadedProgram(gpu, tiny.program([("double", tiny.argument(0), tiny.result(0))], 1, 1, "sm_90"), name="f()")
    cuda.virtual.faults["launch"] = DriverError("cuLaunchKernelEx", 701, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES")
    with pytest.raises(DeviceError, match=r"k0_double of model.py:1 failed on /device:GPU:0, in f\(\): .*OUT_OF_RES"):
        loaded([gpu.put(X)])
    np.testing.assert_array_equal(loaded([gpu.put(X)])[0].numpy(), X * 2)


def test_a_kernel_for_another_chip_is_refused(cuda: SimulatedCuda) -> None:
    gpu = Gpu(cuda.driver(), 0)
    with pytest.raises(DeviceError, match=r"is compiled for sm_80, but /device:GPU:0 \(Simulated 0\) is sm_90"):
        LoadedProgram(gpu, tiny.program([("double", tiny.argument(0), tiny.result(0))], 1, 1, chip="sm_80"))


def test_without_a_library_there_is_no_driver() -> None:
    with pytest.raises(OSError, match=r"libthalweg_none"):
        CudaDriver("libthalweg_none.so.1")


def test_an_old_library_is_told() -> None:
    class Old:
        """Has no functions."""

    with pytest.raises(DriverError, match="the driver has no cuInit: it is too old"):
        CudaDriver(Old())
