"""A libnccl.so.2 that is none: sums over virtual GPUs, called by C's types."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_void_p
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from thalweg.runtime.gpu import nccl
from thalweg.runtime.gpu.virtual import VirtualDriver

Call: TypeAlias = tuple[int, int, int, int, int, int, int]  # source, target, count, type, operation, stream, of whom
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
        self.aborted: list[int] = []
        self.trouble: dict[int, int] = {}  # what NCCL has noticed, by communicator
        self._group: list[Call] = []
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

    def _ncclCommAbort(self, communicator: int) -> None:
        self.aborted.append(communicator)

    def _ncclCommGetAsyncError(self, communicator: int, out: int) -> None:
        c_int.from_address(out).value = self.trouble.get(communicator, 0)

    def _ncclGroupStart(self) -> None:
        self.calls.append("start")
        self._group = []

    def _ncclAllReduce(
        self, source: int, target: int, count: int, kind: int, operation: int, communicator: int, stream: int
    ) -> None:
        self.calls.append(f"reduce {communicator}")
        self._group.append((source, target, count, kind, operation, stream, communicator))

    def _ncclBroadcast(
        self, source: int, target: int, count: int, kind: int, root: int, communicator: int, stream: int
    ) -> None:
        self.calls.append(f"broadcast {communicator}")
        self._group.append((source, target, count, kind, -1 - root, stream, communicator))

    def _ncclGroupEnd(self) -> None:
        self.calls.append("end")
        first = self._group[0][-1]
        starts = [number for number, call in enumerate(self._group) if call[-1] == first]  # of each sum in the group
        for start, end in zip(starts, [*starts[1:], len(self._group)], strict=True):
            self._together(self._group[start:end])

    def _together(self, group: list[Call]) -> None:
        """One sum, in the streams of all of its GPUs."""
        arrived: set[int] = set()

        def arrive(number: int) -> None:
            """The first stream that comes here has the others run until they are here, too."""
            arrived.add(number)
            if len(arrived) > 1:
                return
            for other, (*_, stream, _) in enumerate(group):
                while other not in arrived:
                    self.driver._streams[stream].actions.popleft()()
            parts = [self._array(source, count, kind) for source, _, count, kind, *_ in group]
            operation = group[0][4]
            if operation < 0:
                result = parts[-1 - operation].copy()
            else:
                result = {0: np.sum, 2: np.max, 4: np.mean}[operation](parts, axis=0)
            for _, target, count, kind, *_ in group:
                self._array(target, count, kind)[:] = result

        for number, (*_, stream, _) in enumerate(group):
            self.driver._put(stream, partial(arrive, number))

    def _array(self, address: int, count: int, kind: int) -> np.ndarray:
        raw = (ctypes.c_uint8 * (count * np.dtype(_NUMPY[kind]).itemsize)).from_address(address)
        return np.frombuffer(raw, _NUMPY[kind])
