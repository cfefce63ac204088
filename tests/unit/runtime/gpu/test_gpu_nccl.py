"""Sums over several GPUs, NCCL simulated."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import tiny_kernels as tiny
from simulated_nccl import SimulatedNccl

from thalweg.dialects.diagnostics import DeviceError, UnavailableError
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.nccl import Collective
from thalweg.runtime.gpu.program import LoadedProgram
from thalweg.runtime.gpu.virtual import VirtualDriver

X = np.arange(4, dtype=np.float32)


@pytest.fixture
def driver() -> VirtualDriver:
    return VirtualDriver(3, tiny.interpreter)


@pytest.fixture
def gpus(driver: VirtualDriver) -> list[Gpu]:
    return [Gpu(driver, k) for k in range(3)]


@pytest.mark.parametrize(("operation", "expected"), [("sum", X * 6), ("max", X * 3), ("mean", X * 2)])
def test_every_gpu_has_the_sum(driver: VirtualDriver, gpus: list[Gpu], operation: str, expected: np.ndarray) -> None:
    library = SimulatedNccl(driver)
    group = Collective(gpus, library)
    arrays = [gpu.put(X * (k + 1)) for k, gpu in enumerate(gpus)]
    group.all_reduce(arrays, operation)
    for array in arrays:
        np.testing.assert_array_equal(array.numpy(), expected)
    assert library.calls == ["start", "reduce 500", "reduce 501", "reduce 502", "end"]


def test_sums_wait_for_what_makes_them_and_what_uses_them_waits(driver: VirtualDriver, gpus: list[Gpu]) -> None:
    """Gradients are made, summed and used without the host: nothing runs before the last line."""
    group = Collective(gpus, SimulatedNccl(driver))
    made = [LoadedProgram(g, tiny.program([("double", tiny.argument(0), tiny.result(0))], 1, 1)) for g in gpus]
    gradients = [program([gpu.put(X)])[0] for program, gpu in zip(made, gpus, strict=True)]
    group.all_reduce(gradients)
    used = [program([gradient])[0] for program, gradient in zip(made, gradients, strict=True)]
    for array in used:
        np.testing.assert_array_equal(array.numpy(), X * 2 * 3 * 2)


def test_broadcast(driver: VirtualDriver, gpus: list[Gpu]) -> None:
    arrays = [gpu.put(X + k) for k, gpu in enumerate(gpus)]
    Collective(gpus, SimulatedNccl(driver)).broadcast(arrays, root=1)
    for array in arrays:
        np.testing.assert_array_equal(array.numpy(), X + 1)


def test_what_does_not_fit_is_told(driver: VirtualDriver, gpus: list[Gpu]) -> None:
    group = Collective(gpus, SimulatedNccl(driver))
    arrays = [gpu.put(X) for gpu in gpus]
    with pytest.raises(DeviceError, match=r"one array for each of .*GPU:2, got arrays of /device:GPU:0, /device:GPU:1"):
        group.all_reduce(arrays[:2])
    with pytest.raises(DeviceError, match="the arrays differ"):
        group.all_reduce([*arrays[:2], gpus[2].put(X[:2])])
    with pytest.raises(DeviceError, match="no operation 'median'; there are sum"):
        group.all_reduce(arrays, "median")
    with pytest.raises(DeviceError, match="no sums of bool"):
        group.all_reduce([gpu.put(X > 1) for gpu in gpus])


def test_without_nccl_it_says_what_to_install(driver: VirtualDriver, gpus: list[Gpu]) -> None:
    with pytest.raises(UnavailableError, match="need NCCL, which is not installed: libthalweg_none"):
        Collective(gpus, "libthalweg_none.so")
    with pytest.raises(UnavailableError, match=r"NCCL cannot connect /device:GPU:0.*unhandled system error"):
        Collective(gpus, SimulatedNccl(driver, connected=False))


def test_communicators_go_with_the_group(driver: VirtualDriver, gpus: list[Gpu]) -> None:
    library = SimulatedNccl(driver)
    group = Collective(gpus, library)
    assert group.version == "2.27.3"
    del group
    gc.collect()
    assert library.destroyed == [500, 501, 502]


def test_sums_of_a_program_go_together(driver: VirtualDriver, gpus: list[Gpu]) -> None:
    """What programs ask for: several sums at once, from one place to another."""
    library = SimulatedNccl(driver)
    group = Collective(gpus, library)
    parts = [[gpu.put(X * (k + 1)), gpu.put(X + k)] for k, gpu in enumerate(gpus)]
    wholes = [[gpu.empty((4,), np.float32), gpu.empty((4,), np.float32)] for gpu in gpus]
    group.reduce(
        [
            [(p[at].address, w[at].address, 16, "float32", by) for p, w in zip(parts, wholes, strict=True)]
            for at, by in enumerate(("add", "maximum"))
        ]
    )
    for gpu in gpus:
        gpu.synchronise()
    for part, (total, largest) in zip(parts, wholes, strict=True):
        np.testing.assert_array_equal(total.numpy(), X * 6)
        np.testing.assert_array_equal(largest.numpy(), X + 2)
        assert not np.array_equal(part[0].numpy(), X * 6)
    assert library.calls == ["start", *[f"reduce {500 + k}" for k in range(3)] * 2, "end"]


def test_a_gpu_that_does_not_come_ends_the_sums_of_all(driver: VirtualDriver, gpus: list[Gpu]) -> None:
    """The watch is given what never happens: the sums are given up, and later ones say why."""
    library = SimulatedNccl(driver)
    group = Collective(gpus, library, timeout=0.0)
    arrays = [gpu.put(X) for gpu in gpus]
    driver.happened = lambda event: False  # type: ignore[method-assign]
    group.all_reduce(arrays)
    assert group._watch.thread is not None
    group._watch.thread.join(60)
    assert library.aborted == [500, 501, 502]
    with pytest.raises(DeviceError, match=r"no longer compute together: /device:GPU:0.*did not come .* within 0 s"):
        group.all_reduce(arrays)
    del group
    gc.collect()
    assert library.destroyed == []  # what was aborted is gone already


def test_what_nccl_notices_is_told(driver: VirtualDriver, gpus: list[Gpu]) -> None:
    library = SimulatedNccl(driver)
    library.trouble[501] = 2
    group = Collective(gpus, library)
    arrays = [gpu.put(X) for gpu in gpus]
    driver.happened = lambda event: False  # type: ignore[method-assign]
    group.all_reduce(arrays)
    assert group._watch.thread is not None
    group._watch.thread.join(60)
    with pytest.raises(DeviceError, match=r"NCCL says of /device:GPU:1: unhandled system error \(2\)"):
        group.all_reduce(arrays)
