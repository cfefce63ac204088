"""Virtual GPUs are strict: what a real one would only do wrong now and then, they do wrong always."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
import tiny_kernels as tiny

from thalweg.runtime.gpu.driver import DriverError, Packed, Shape
from thalweg.runtime.gpu.virtual import VirtualDriver

X = np.arange(4, dtype=np.float32)


@pytest.fixture
def driver() -> VirtualDriver:
    made = VirtualDriver(2, tiny.interpreter)
    made.use(0)
    return made


def read(address: int) -> np.ndarray:
    return np.ctypeslib.as_array((ctypes.c_float * 4).from_address(address)).copy()


def test_new_memory_holds_nothing_of_use(driver: VirtualDriver) -> None:
    assert np.isnan(read(driver.allocate(16, driver.stream()))).all()


def test_what_is_in_a_stream_runs_when_somebody_waits(driver: VirtualDriver) -> None:
    stream = driver.stream()
    address = driver.allocate(16, stream)
    driver.upload(address, X.ctypes.data, 16, stream)
    assert np.isnan(read(address)).all()
    driver.synchronise(stream)
    np.testing.assert_array_equal(read(address), X)


def test_a_missing_wait_shows(driver: VirtualDriver) -> None:
    first, second = driver.stream(), driver.stream()
    source, target = driver.allocate(16, first), driver.allocate(16, second)
    driver.upload(source, X.ctypes.data, 16, first)
    driver.copy(target, source, 16, second)
    driver.synchronise(second)
    assert np.isnan(read(target)).all()
    event = driver.event()
    driver.record(event, first)
    driver.wait(second, event)
    driver.copy(target, source, 16, second)
    driver.synchronise(second)
    np.testing.assert_array_equal(read(target), X)


def test_a_wait_is_for_what_was_recorded_before_it(driver: VirtualDriver) -> None:
    first, second = driver.stream(), driver.stream()
    address, event = driver.allocate(16, first), driver.event()
    driver.record(event, first)
    driver.wait(second, event)
    driver.upload(address, X.ctypes.data, 16, first)
    driver.record(event, first)
    driver.synchronise(second)
    assert np.isnan(read(address)).all()
    driver.await_event(event)
    np.testing.assert_array_equal(read(address), X)


@pytest.mark.parametrize("wrong", ["freed", "beyond", "another GPU's"])
def test_addresses_are_checked(driver: VirtualDriver, wrong: str) -> None:
    stream = driver.stream()
    address, target = driver.allocate(16, stream), driver.allocate(16, stream)
    if wrong == "freed":
        driver.free(address, stream)
    elif wrong == "beyond":
        address += 8
    else:
        driver.use(1)
        address = driver.allocate(16, driver.stream())
    driver.copy(target, address, 16, stream)
    with pytest.raises(DriverError, match="ILLEGAL_ADDRESS"):
        driver.synchronise(stream)


def test_parameters_are_read_when_a_kernel_is_launched(driver: VirtualDriver) -> None:
    stream = driver.stream()
    source, target = driver.allocate(16, stream), driver.allocate(16, stream)
    driver.upload(source, X.ctypes.data, 16, stream)
    packed = Packed(4)
    launch = driver.launcher(driver.function(driver.load(b"# 2"), "double", 0, 1), Shape((1, 1, 1), 32), packed, stream)
    packed.values[:] = [source, target, 0, 0]
    launch()
    packed.values[:] = [0, 0, 0, 0]
    driver.synchronise(stream)
    np.testing.assert_array_equal(read(target), X * 2)


def test_nothing_waits_or_allocates_while_capturing(driver: VirtualDriver) -> None:
    stream = driver.stream()
    event = driver.event()
    driver.record(event, stream)
    driver.begin_capture(stream)
    for call in (
        lambda: driver.synchronise(stream),
        lambda: driver.allocate(16, stream),
        lambda: driver.wait(stream, event),
        lambda: driver.load(b""),
    ):
        with pytest.raises(DriverError, match="CAPTURE"):
            call()
    driver.end_capture(stream)
    driver.allocate(16, stream)


def test_a_thread_must_say_which_gpu_it_uses() -> None:
    with pytest.raises(DriverError, match="INVALID_CONTEXT"):
        VirtualDriver(1, tiny.interpreter).stream()


def test_polling_an_event_ends(driver: VirtualDriver) -> None:
    stream, event = driver.stream(), driver.event()
    address = driver.allocate(16, stream)
    for _ in range(5):
        driver.fill(address, 0, 16, stream)
    driver.record(event, stream)
    asked = 0
    while not driver.happened(event):
        asked += 1
    assert asked == 5
