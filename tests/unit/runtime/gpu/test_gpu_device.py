"""A GPU's memory, streams and arrays, on a virtual one."""

from __future__ import annotations

import gc

import ml_dtypes
import numpy as np
import pytest
import tiny_kernels as tiny
from deadlines import together

from thalweg.dialects.diagnostics import DeviceError, DeviceMemoryError, UnavailableError
from thalweg.runtime.gpu import driver as drivers
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.gpu.device import CHUNK, PIECES, SMALL, Gpu
from thalweg.runtime.gpu.dlpack import from_dlpack
from thalweg.runtime.gpu.driver import DriverError
from thalweg.runtime.gpu.memory import size_text
from thalweg.runtime.gpu.program import LoadedProgram
from thalweg.runtime.gpu.virtual import VirtualDriver

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def driver() -> VirtualDriver:
    return VirtualDriver(2, tiny.interpreter, memory=2**28)


@pytest.fixture
def gpu(driver: VirtualDriver) -> Gpu:
    return Gpu(driver, 0)


@pytest.mark.parametrize("dtype", ["float64", "int8", "bool", "bfloat16", "uint64", "float16"])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (1,), (2, 3)])
def test_arrays_come_back_as_they_went(gpu: Gpu, shape, dtype: str) -> None:
    array = np.ones(shape).astype(getattr(ml_dtypes, dtype, dtype))
    there = gpu.put(array)
    assert (there.shape, there.dtype, there.nbytes, there.ndim) == (shape, array.dtype, array.nbytes, array.ndim)
    back = np.asarray(there)
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back.astype(np.float64), array.astype(np.float64))


@pytest.mark.parametrize("nbytes", [SMALL, SMALL + 8, CHUNK + 8, 2 * CHUNK])
def test_large_arrays_go_in_pieces(gpu: Gpu, nbytes: int) -> None:
    array = np.arange(nbytes // 8)
    there = gpu.put(array)
    array[:] = 0  # the copy is ours
    np.testing.assert_array_equal(there.numpy(), np.arange(nbytes // 8))


def test_strided_arrays_are_made_contiguous(gpu: Gpu) -> None:
    np.testing.assert_array_equal(gpu.put(X.T).numpy(), X.T)


def test_pinned_memory_is_not_written_to_while_a_copy_reads_it(gpu: Gpu) -> None:
    """The virtual driver reads pinned memory when the stream comes there, as late as it may."""
    arrays = [gpu.put(np.full(SMALL, k)) for k in range(4)]
    for k, array in enumerate(arrays):
        assert (array.numpy() == k).all()


def test_pinned_memory_is_used_again(gpu: Gpu) -> None:
    for _ in range(20):
        gpu.put(np.zeros(SMALL)).numpy()
    assert gpu.staging.taken <= 4 * SMALL * 8


def test_memory_goes_back_when_nobody_refers_to_it(gpu: Gpu, driver: VirtualDriver) -> None:
    array = gpu.put(np.zeros(1000))
    assert gpu.in_use == 8000
    del array
    assert gpu.in_use == 0
    gpu.synchronise()
    assert driver.memory() == (2**28, 2**28)


def test_memory_in_flight_to_another_gpu_is_kept(gpu: Gpu, driver: VirtualDriver) -> None:
    other = Gpu(driver, 1)
    there = other.receive(gpu.put(X))  # nothing refers to the source any more, and nothing has run yet
    gc.collect()
    assert gpu.in_use == 0
    gpu.put(np.zeros(6, np.float32)).numpy()
    np.testing.assert_array_equal(there.numpy(), X)


def test_gpus_of_two_drivers_go_through_the_host(gpu: Gpu) -> None:
    other = Gpu(VirtualDriver(1, tiny.interpreter), 0)
    np.testing.assert_array_equal(other.receive(gpu.put(X)).numpy(), X)


def test_out_of_memory_names_what_takes_the_most(gpu: Gpu) -> None:
    kept = gpu.put(np.zeros(2**24), "variable 'weights' of model.py:3")
    gpu.put(np.zeros(100), "an input")
    with pytest.raises(DeviceMemoryError) as raised:
        gpu.allocate(2**28, "the arena of train()", lambda: [(2**27, "f32[32,1048576] of model.py:12: in loss()")])
    lines = str(raised.value).split("\n")
    assert lines[0].startswith("/device:GPU:0 is out of memory: 256.0 MiB are asked for, for the arena of train()")
    assert "128.0 MiB of 256.0 MiB are free" in lines[0]
    assert lines[1] in ("  128.0 MiB  variable 'weights' of model.py:3", f"  {lines[2].strip()}")
    assert any("128.0 MiB  f32[32,1048576] of model.py:12: in loss()" in line for line in lines)
    assert isinstance(raised.value, MemoryError)
    assert kept.numpy()[0] == 0, "what was there is there"


def test_what_is_not_in_use_is_given_back_before_memory_is_out(gpu: Gpu) -> None:
    for _ in range(5):
        array = gpu.empty((2**27 + 2**26,), np.uint8)
        del array


def test_other_errors_of_allocations_are_told_as_they_are(gpu: Gpu, driver: VirtualDriver) -> None:
    driver.faults["allocate"] = DriverError("cuMemAllocAsync", 999, "CUDA_ERROR_UNKNOWN")
    with pytest.raises(DriverError, match="CUDA_ERROR_UNKNOWN"):
        gpu.empty((3,), np.float32)


def test_threads_share_a_gpu(gpu: Gpu) -> None:
    program = tiny.program([("double", tiny.argument(0), tiny.arena(0)), ("increment", tiny.arena(0), tiny.result(0))],
                           1, 1)  # fmt: skip
    loaded = LoadedProgram(gpu, program)
    wrong = []

    def work(number: int) -> None:
        for k in range(20):
            x = np.full(4, number * 100 + k, np.float32)
            if not (loaded([gpu.put(x)])[0].numpy() == 2 * x + 1).all():
                wrong.append(number)

    together([lambda n=n: work(n) for n in range(4)])
    assert not wrong


def test_refill_keeps_the_address(gpu: Gpu) -> None:
    array = gpu.put(X)
    address = array.address
    gpu.refill(array, X * 2)
    np.testing.assert_array_equal(array.numpy(), X * 2)
    assert array.address == address


def test_what_others_put_at_odd_addresses_is_copied(gpu: Gpu) -> None:
    whole = gpu.put(np.arange(8, dtype=np.float32))
    assert gpu.aligned(whole) is whole
    part = DeviceArray(gpu, whole.memory, (4,), np.dtype(np.float32), offset=4)
    part.ready = whole.ready
    found = gpu.aligned(part)
    assert found.address % 256 == 0
    np.testing.assert_array_equal(found.numpy(), [1, 2, 3, 4])


def test_a_large_array_takes_a_bounded_amount_of_pinned_memory(gpu: Gpu) -> None:
    array = np.arange(6 * CHUNK // 8)
    there = gpu.put(array)
    gpu.synchronise()
    before = gpu.staging.taken
    np.testing.assert_array_equal(there.numpy(), array)
    assert gpu.staging.taken <= max(before, PIECES * CHUNK)


def test_timing_gives_a_number_for_each_repeat(gpu: Gpu) -> None:
    array = gpu.put(X)
    found = gpu.time(lambda: gpu.driver.fill(array.address, 0, array.nbytes, gpu.compute), repeats=3)
    assert len(found) == 3 and all(ms >= 0 for ms in found)


def test_numpy_takes_an_array_by_dlpack(gpu: Gpu) -> None:
    program = tiny.program([("double", tiny.argument(0), tiny.result(0))], 1, 1)
    x = np.arange(4, dtype=np.float32)
    (made,) = LoadedProgram(gpu, program)([gpu.put(x)])  # started, not run
    view = np.from_dlpack(made)
    np.testing.assert_array_equal(view, x * 2)
    assert view.ctypes.data == made.address, "no copy"
    before = gpu.in_use
    del made
    gc.collect()
    assert gpu.in_use == before, "the view keeps it"
    np.testing.assert_array_equal(view, x * 2)
    del view
    gc.collect()
    assert gpu.in_use < before


@pytest.mark.parametrize("dtype", [np.float64, np.int16, np.uint8, np.bool_])
def test_an_array_comes_by_dlpack(gpu: Gpu, dtype) -> None:
    np.testing.assert_array_equal(from_dlpack(gpu, X.astype(dtype)).numpy(), X.astype(dtype))


def test_what_dlpack_cannot_bring_is_told(gpu: Gpu) -> None:
    with pytest.raises(DeviceError, match="not contiguous"):
        from_dlpack(gpu, np.zeros((4, 6))[:, ::2])

    class Elsewhere:
        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 3)

    with pytest.raises(DeviceError, match=r"on DLPack's device \(2, 3\), not on /device:GPU:0"):
        from_dlpack(gpu, Elsewhere())


def test_no_copy_cannot_be_had(gpu: Gpu) -> None:
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(gpu.put(X), copy=False)


def test_why_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr("ctypes.CDLL", missing)
    drivers.find_driver.cache_clear()
    try:
        with pytest.raises(UnavailableError, match=r"no GPU found: libcuda.so.1: cannot open.*set_virtual_devices"):
            drivers.find_driver()
        assert "nvidia-smi" in drivers.why_none()
    finally:
        drivers.find_driver.cache_clear()


def test_sizes_as_people_read_them() -> None:
    assert [size_text(n) for n in (12, 2048, 3 * 2**20, 5 * 2**30)] == ["12 bytes", "2.0 KiB", "3.0 MiB", "5.0 GiB"]
