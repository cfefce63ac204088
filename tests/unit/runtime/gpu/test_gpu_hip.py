"""HIP's driver against a library that is simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import tiny_kernels as tiny
from simulated_hip import SimulatedHip

from thalweg.dialects.diagnostics import DeviceMemoryError
from thalweg.runtime.gpu.artefact import Launch
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.program import LoadedProgram

X = np.arange(4, dtype=np.float32)


@pytest.fixture
def library() -> SimulatedHip:
    return SimulatedHip(tiny.interpreter, count=2)


def test_properties(library: SimulatedHip) -> None:
    driver = library.driver()
    found = driver.properties(0)
    assert (found.name, found.chip, found.processors, found.shared) == ("Simulated", "gfx942", 304, 65_536)
    assert (found.warp_size, driver.version, driver.count()) == (64, "6.4", 2)


def test_a_launch_has_wavefronts_of_64(library: SimulatedHip) -> None:
    gpu = Gpu(library.driver(), 0)
    program = tiny.program([("add", tiny.argument(0), tiny.argument(1), tiny.result(0))], 2, 1, chip="gfx942")
    (step,) = program.steps
    assert isinstance(step, Launch)
    image = replace(program.images[0], warps=4, warp_size=64, shared=1024)
    program = replace(program, images=(image,), steps=(replace(step, grid=(3, 2, 1)),))
    x, y = gpu.put(X), gpu.put(X * 10)
    (found,) = LoadedProgram(gpu, program)([x, y])
    np.testing.assert_array_equal(found.numpy(), X * 11)
    (launch,) = library.launched
    assert (launch["grid"], launch["block"], launch["shared"]) == ((3, 2, 1), 256, 1024)
    assert launch["values"] == (x.address, y.address, found.address, 0, 0)


def test_steps_and_graphs(library: SimulatedHip) -> None:
    gpu = Gpu(library.driver(), 0)
    steps = [("double", tiny.argument(0), tiny.arena(0)), ("step", tiny.arena(0), tiny.argument(1))]
    program = replace(tiny.program(steps, 2, 1, chip="gfx942"), aliases=((0, 1),))
    loaded = LoadedProgram(gpu, program, state=1)
    w = gpu.put(np.zeros(4, np.float32))
    for turn in range(4):
        loaded([gpu.put(X), w])
        np.testing.assert_array_equal(w.numpy(), -2 * X * (turn + 1))
    assert len(library.launched) == 4, "two launches, and two captured"


def test_memory_goes_from_gpu_to_gpu_and_is_used_up(library: SimulatedHip) -> None:
    driver = library.driver()
    one, other = Gpu(driver, 0), Gpu(driver, 1)
    np.testing.assert_array_equal(other.receive(one.put(X)).numpy(), X)
    with pytest.raises(DeviceMemoryError, match="/device:GPU:0 is out of memory"):
        one.allocate(2**40, "too much")


def test_without_a_library_there_is_no_driver() -> None:
    from thalweg.runtime.gpu.hip import HipDriver

    with pytest.raises(OSError, match="libthalweg_none"):
        HipDriver("libthalweg_none.so")
