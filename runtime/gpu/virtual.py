"""GPUs that are none: memory of the host, streams that run when somebody waits for them, kernels in an interpreter.

For tests, and to try programs for GPUs on a machine that has none. It is stricter than a GPU. What is put into a stream
runs as late as it may: at the latest when the host waits for it, or another stream that is run waits for it. So a wait
that is missing shows at once, as numbers that are not there yet: new memory is filled with the byte 0xFF. An address
that a kernel or copy is given must lie in memory that is allocated, on the stream's own GPU.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from thalweg.runtime.gpu.driver import DriverError, Handle, Launcher, Packed, Properties, Shape

Action: TypeAlias = Callable[[], None]
MEMORY = 2**32  # bytes of each
SHARED = 232_448  # bytes of shared memory of a block, as on sm_90
UNWRITTEN = 0xFF  # a NaN in every float


@dataclass(frozen=True)
class Span:
    """Where a kernel's parameter points: `nbytes` are left of the allocation from there."""

    address: int
    nbytes: int


# Runs a kernel: the text of its module, its name, the grid, its buffers.
Interpreter: TypeAlias = Callable[[str, str, tuple[int, int, int], Sequence[Span]], None]


@dataclass
class _Stream:
    device: int
    actions: deque[Action] = field(default_factory=deque)
    capturing: list[Action] | None = None


@dataclass
class _Event:
    stream: int = 0
    recorded: int = 0  # how often it was put into a stream
    happened: int = 0  # how often it was reached
    at: float = 0.0


class VirtualDriver:
    """`count` GPUs. See `Driver`; `log` holds what was called, in order, and `faults` errors to raise at a call's next
    use, both for tests.

    Example:
        >>> driver = VirtualDriver(2, interpreter)
        >>> driver.faults["launch"] = DriverError("cuLaunchKernelEx", 719, "CUDA_ERROR_LAUNCH_FAILED")
    """

    kind = "virtual"
    version = "0"

    def __init__(self, count: int, interpreter: Interpreter, memory: int = MEMORY) -> None:
        self.log: deque[tuple[Any, ...]] = deque(maxlen=100_000)
        self.faults: dict[str, Exception] = {}
        self._count, self._interpreter, self._limit = count, interpreter, memory
        self._live: dict[int, tuple[int, Any]] = {}  # by address: of which GPU, and the memory
        self._starts: list[int] = []  # the addresses, sorted
        self._pinned: dict[int, Any] = {}
        self._handles = itertools.count(1)
        self._streams: dict[int, _Stream] = {}
        self._events: dict[int, _Event] = {}
        self._modules: dict[int, str] = {}
        self._functions: dict[int, tuple[str, str]] = {}
        self._graphs: dict[int, list[Action]] = {}
        self._here = threading.local()
        self._lock = threading.RLock()

    def _called(self, name: str, *arguments: Any) -> None:
        self.log.append((name, *arguments))
        fault = self.faults.pop(name, None)
        if fault is not None:
            raise fault

    # GPUs.

    def count(self) -> int:
        return self._count

    def properties(self, index: int) -> Properties:
        self._expect(index)
        return Properties(f"virtual GPU {index}", "virtual", self._limit, 1, SHARED)

    def use(self, index: int) -> None:
        self._expect(index)
        self._here.index = index

    def _expect(self, index: int) -> None:
        if not 0 <= index < self._count:
            raise DriverError("cuDeviceGet", 101, "CUDA_ERROR_INVALID_DEVICE")

    def _device(self) -> int:
        index = getattr(self._here, "index", None)
        if index is None:
            raise DriverError("a call", 201, "CUDA_ERROR_INVALID_CONTEXT")
        return int(index)

    # Memory.

    def memory(self) -> tuple[int, int]:
        return self._limit - self._used(self._device()), self._limit

    def _used(self, device: int) -> int:
        with self._lock:
            return sum(array.nbytes for owner, array in self._live.values() if owner == device)

    def allocate(self, nbytes: int, stream: Handle) -> int:
        with self._lock:
            self._called("allocate", nbytes)
            self._expect_no_capture("allocate", stream)
            device = self._streams[stream].device
            if self._used(device) + nbytes > self._limit:
                raise DriverError("cuMemAllocAsync", 2, "CUDA_ERROR_OUT_OF_MEMORY")
            raw = np.full(nbytes + 256, UNWRITTEN, np.uint8)
            start = -raw.ctypes.data % 256
            array = raw[start : start + nbytes]
            address = int(raw.ctypes.data) + start
            self._live[address] = device, array
            bisect.insort(self._starts, address)
            return address

    def free(self, address: int, stream: Handle) -> None:
        with self._lock:
            self._called("free", address)
            self._expect_no_capture("free", stream)
            if address not in self._live:
                raise DriverError("cuMemFreeAsync", 1, "CUDA_ERROR_INVALID_VALUE")
            self._put(stream, lambda: self._forget(address))

    def _forget(self, address: int) -> None:
        _, array = self._live.pop(address)
        self._starts.remove(address)
        array[:] = UNWRITTEN

    def trim(self) -> None:
        with self._lock:
            for stream in list(self._streams):
                self.synchronise(stream)

    def pinned(self, nbytes: int) -> int:
        with self._lock:
            array = np.full(nbytes, UNWRITTEN, np.uint8)
            self._pinned[int(array.ctypes.data)] = array
            return int(array.ctypes.data)

    def free_pinned(self, address: int) -> None:
        with self._lock:
            del self._pinned[address]

    def _is_pinned(self, address: int) -> bool:
        return any(start <= address < start + array.nbytes for start, array in self._pinned.items())

    def span(self, address: int, device: int) -> Span:
        """What is left of the allocation that an address lies in.

        Raises:
            DriverError: it lies in none, or in one of another GPU.
        """
        at = bisect.bisect_right(self._starts, address) - 1
        if at >= 0:
            start = self._starts[at]
            owner, array = self._live[start]
            if address < start + array.nbytes and owner == device:
                return Span(address, start + array.nbytes - address)
        raise DriverError("an access", 700, "CUDA_ERROR_ILLEGAL_ADDRESS")

    def _expect_span(self, address: int, nbytes: int, device: int) -> None:
        if nbytes and self.span(address, device).nbytes < nbytes:
            raise DriverError("an access", 700, "CUDA_ERROR_ILLEGAL_ADDRESS")

    def upload(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        with self._lock:
            self._called("upload", nbytes)
            device = self._streams[stream].device
            pinned = self._is_pinned(source)
            data = b"" if pinned else ctypes.string_at(source, nbytes)  # pinned memory is read when the stream is there

            def act() -> None:
                self._expect_span(target, nbytes, device)
                ctypes.memmove(target, source if pinned else data, nbytes)

            self._put(stream, act)

    def download(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        with self._lock:
            self._called("download", nbytes)
            device = self._streams[stream].device

            def act() -> None:
                self._expect_span(source, nbytes, device)
                ctypes.memmove(target, source, nbytes)

            self._put(stream, act)
            if not self._is_pinned(target):
                self.synchronise(stream)

    def copy(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        with self._lock:
            self._called("copy", nbytes)
            device = self._streams[stream].device

            def act() -> None:
                self._expect_span(source, nbytes, device)
                self._expect_span(target, nbytes, device)
                ctypes.memmove(target, source, nbytes)

            self._put(stream, act)

    def copy_peer(self, target: int, to: int, source: int, of: int, nbytes: int, stream: Handle) -> None:
        with self._lock:
            self._called("copy_peer", to, of, nbytes)

            def act() -> None:
                self._expect_span(source, nbytes, of)
                self._expect_span(target, nbytes, to)
                ctypes.memmove(target, source, nbytes)

            self._put(stream, act)

    def fill(self, target: int, byte: int, nbytes: int, stream: Handle) -> None:
        with self._lock:
            self._called("fill", nbytes)
            device = self._streams[stream].device

            def act() -> None:
                self._expect_span(target, nbytes, device)
                ctypes.memset(target, byte, nbytes)

            self._put(stream, act)

    def enable_peer(self, index: int, other: int) -> bool:
        self._called("enable_peer", index, other)
        return True

    # Streams and events.

    def stream(self) -> Handle:
        with self._lock:
            handle = next(self._handles)
            self._streams[handle] = _Stream(self._device())
            return handle

    def _put(self, stream: Handle, action: Action) -> None:
        found = self._streams[stream]
        (found.actions if found.capturing is None else found.capturing).append(action)

    def _expect_no_capture(self, call: str, stream: Handle) -> None:
        if self._streams[stream].capturing is not None:
            raise DriverError(call, 900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")

    def synchronise(self, stream: Handle) -> None:
        with self._lock:
            self._called("synchronise")
            self._expect_no_capture("cuStreamSynchronize", stream)
            actions = self._streams[stream].actions
            while actions:
                actions.popleft()()

    def event(self, timing: bool = False) -> Handle:
        with self._lock:
            handle = next(self._handles)
            self._events[handle] = _Event()
            return handle

    def destroy_event(self, event: Handle) -> None:
        with self._lock:
            del self._events[event]

    def record(self, event: Handle, stream: Handle) -> None:
        with self._lock:
            found = self._events[event]
            found.stream = stream
            found.recorded += 1
            number = found.recorded

            def act() -> None:  # as on a GPU, the last record counts: an earlier one may still wait in another stream
                found.happened = max(found.happened, number)
                found.at = time.perf_counter()

            self._put(stream, act)

    def wait(self, stream: Handle, event: Handle) -> None:
        with self._lock:
            if self._streams[stream].capturing is not None:
                raise DriverError("cuStreamWaitEvent", 905, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION")
            found = self._events[event]
            wanted = found.recorded
            self._put(stream, lambda: self._until(found, wanted))

    def _until(self, event: _Event, wanted: int) -> None:
        """Run the stream in which an event is until it has happened."""
        while event.happened < wanted:
            self._streams[event.stream].actions.popleft()()

    def happened(self, event: Handle) -> bool:
        with self._lock:
            found = self._events[event]
            if found.happened < found.recorded:  # who asks again and again is told so in the end
                self._streams[found.stream].actions.popleft()()
            return found.happened == found.recorded

    def await_event(self, event: Handle) -> None:
        with self._lock:
            found = self._events[event]
            self._until(found, found.recorded)

    def elapsed(self, begin: Handle, end: Handle) -> float:
        return (self._events[end].at - self._events[begin].at) * 1e3

    # Kernels.

    def load(self, binary: bytes) -> Handle:
        with self._lock:
            self._called("load")
            self._expect_here_no_capture("cuModuleLoadData")
            handle = next(self._handles)
            self._modules[handle] = binary.decode()
            return handle

    def _expect_here_no_capture(self, call: str) -> None:
        device = self._device()
        for number, stream in self._streams.items():
            if stream.device == device:
                self._expect_no_capture(call, number)

    def unload(self, module: Handle) -> None:
        with self._lock:
            del self._modules[module]

    def function(self, module: Handle, name: str, shared: int, clusters: int) -> Handle:
        with self._lock:
            if shared > SHARED:
                raise DriverError("cuFuncSetAttribute", 1, "CUDA_ERROR_INVALID_VALUE")
            handle = next(self._handles)
            self._functions[handle] = self._modules[module], name
            return handle

    def launcher(self, function: Handle, shape: Shape, parameters: Packed, stream: Handle) -> Launcher:
        source, name = self._functions[function]
        x, y, z = shape.grid
        programs = x // shape.clusters, y, z
        device = self._streams[stream].device

        def launch() -> None:
            with self._lock:
                self._called("launch", name, shape)
                # What the pointers point to, now: as cuLaunchKernelEx reads them.
                values = [ctypes.c_uint64.from_address(pointer or 0).value for pointer in parameters.pointers]

                def act() -> None:
                    spans = [self.span(value, device) for value in values[:-2]]
                    self._interpreter(source, name, programs, spans)

                self._put(stream, act)

        return launch

    # Graphs.

    def begin_capture(self, stream: Handle) -> None:
        with self._lock:
            self._called("begin_capture")
            self._expect_no_capture("cuStreamBeginCapture", stream)
            self._streams[stream].capturing = []

    def end_capture(self, stream: Handle) -> Handle:
        with self._lock:
            self._called("end_capture")
            found = self._streams[stream]
            assert found.capturing is not None
            handle = next(self._handles)
            self._graphs[handle], found.capturing = found.capturing, None
            return handle

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        with self._lock:
            self._called("launch_graph")
            for action in self._graphs[graph]:
                self._put(stream, action)

    def destroy_graph(self, graph: Handle) -> None:
        with self._lock:
            self._called("destroy_graph")
            del self._graphs[graph]
