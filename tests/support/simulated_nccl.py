"""A libnccl.so.2 that is none: sums over virtual GPUs, called by C's types."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_void_p
from functools import partial
from typing import Any

import numpy as np

from thalweg.runtime.gpu import nccl
from thalweg.runtime.gpu.virtual import VirtualDriver

_NUMPY = {2: np.int32, 7: np.float32, 8: np.float64}


class _Text:
    """A function that gives a text."""

    argtypes: Any = None
    restype: Any = None

    def __call__(self, code: int) -> bytes:
        return b"unhandled system error"


class SimulatedNccl:
    """`calls` keeps what was called; a group's sums run when the streams of all of its GPUs are there."""

    def __init__(self, driver: VirtualDriver, connected: bool = True) -> None:
        self.driver, self.connected = driver, connected
        self.calls: list[str] = []
        self.destroyed: list[int] = []
        self._group: list[tuple[int, int, int, int, int]] = []
        self._kept: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        if name == "ncclGetErrorString":
            return _Text()
        if name not in nccl._CALLS:
            raise AttributeError(name)
        method = getattr(type(self), f"_{name}").__get__(self)
        made = ctypes.CFUNCTYPE(c_int, *nccl._CALLS[name])(lambda *arguments: method(*arguments) or 0)
        self.__dict__[name] = made
        return made

    def _ncclGetVersion(self, out: int) -> None:
        c_int.from_address(out).value = 22_703

    def _ncclCommInitAll(self, out: int, count: int, numbers: int) -> int:
        if not self.connected:
            return 2
        for k in range(count):
            c_void_p.from_address(out + 8 * k).value = 500 + c_int.from_address(numbers + 4 * k).value
        return 0

    def _ncclCommDestroy(self, communicator: int) -> None:
        self.destroyed.append(communicator)

    def _ncclGroupStart(self) -> None:
        self.calls.append("start")
        self._group = []

    def _ncclAllReduce(
        self, source: int, target: int, count: int, kind: int, operation: int, communicator: int, stream: int
    ) -> None:
        assert source == target
        self.calls.append(f"reduce {communicator}")
        self._group.append((target, count, kind, operation, stream))

    def _ncclBroadcast(
        self, source: int, target: int, count: int, kind: int, root: int, communicator: int, stream: int
    ) -> None:
        self.calls.append(f"broadcast {communicator}")
        self._group.append((target, count, kind, -1 - root, stream))

    def _ncclGroupEnd(self) -> None:
        self.calls.append("end")
        group: list[tuple[int, int, int, int, int]] = self._group
        arrived: set[int] = set()

        def arrive(number: int) -> None:
            """The first stream that comes here has the others run until they are here, too."""
            arrived.add(number)
            if len(arrived) > 1:
                return
            for other, (_, _, _, _, stream) in enumerate(group):
                while other not in arrived:
                    self.driver._streams[stream].actions.popleft()()
            arrays = [self._array(target, count, kind) for target, count, kind, _, _ in group]
            operation = group[0][3]
            if operation < 0:
                result = arrays[-1 - operation].copy()
            else:
                result = {0: np.sum, 2: np.max, 4: np.mean}[operation](arrays, axis=0)
            for array in arrays:
                array[:] = result

        for number, (_, _, _, _, stream) in enumerate(group):
            self.driver._put(stream, partial(arrive, number))

    def _array(self, address: int, count: int, kind: int) -> np.ndarray:
        raw = (ctypes.c_uint8 * (count * np.dtype(_NUMPY[kind]).itemsize)).from_address(address)
        return np.frombuffer(raw, _NUMPY[kind])
