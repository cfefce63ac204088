"""Where a variable's newest value is."""

from __future__ import annotations

import threading

import numpy as np

from thalweg.runtime.residence import Residence

TPU0, TPU1 = "/device:TPU:0", "/device:TPU:1"


class Puts:
    """Counts what travels to a device."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, array: np.ndarray) -> np.ndarray:
        self.count += 1
        return array.copy()


def test_a_value_travels_when_it_is_needed_elsewhere_only() -> None:
    memory, residence, put = np.array([1.0, 2.0]), Residence(), Puts()
    first = residence.on_device(TPU0, memory, put)
    assert residence.on_device(TPU0, memory, put) is first and put.count == 1
    residence.changed_on_device(TPU0, first + 1)
    assert residence.host_is_old and memory.tolist() == [1, 2], "nobody has looked"
    residence.to_host(memory)
    assert memory.tolist() == [2, 3] and not residence.host_is_old
    assert residence.on_device(TPU0, memory, put).tolist() == [2, 3] and put.count == 1


def test_what_the_host_writes_is_what_the_device_reads_next() -> None:
    memory, residence, put = np.array([1.0]), Residence(), Puts()
    residence.changed_on_device(TPU0, residence.on_device(TPU0, memory, put) * 5)
    memory[:] = 7
    residence.changed_on_host()
    residence.to_host(memory)
    assert memory.tolist() == [7], "the device's value is of the past"
    assert residence.on_device(TPU0, memory, put).tolist() == [7] and put.count == 2


def test_it_goes_from_device_to_device() -> None:
    memory, residence, put = np.array([1.0]), Residence(), Puts()
    residence.changed_on_device(TPU0, residence.on_device(TPU0, memory, put) + 1)
    assert residence.on_device(TPU1, memory, put).tolist() == [2] and put.count == 2


def test_many_readers_bring_it_once() -> None:
    memory, residence = np.zeros(1000), Residence()
    asked = []

    class Slow:
        def __array__(self, dtype=None, copy=None) -> np.ndarray:
            asked.append(threading.get_ident())
            return np.ones(1000)

    residence.changed_on_device(TPU0, Slow())
    threads = [threading.Thread(target=residence.to_host, args=(memory,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(asked) == 1 and memory.sum() == 1000
