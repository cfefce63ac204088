"""HIP by ctypes: libamdhip64.so, for AMD's GPUs. The numbers are those of ROCm 6's headers."""

from __future__ import annotations

import ctypes
import threading
from ctypes import byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

from thalweg.runtime.gpu.driver import Handle, Launcher, Packed, Properties, Shape
from thalweg.runtime.gpu.foreign import OUT, Library

_ERROR_NOT_READY = 600
_PEER_ACCESS_ALREADY_ENABLED = 704
_NON_BLOCKING_STREAM = 1
_EVENT_DISABLE_TIMING = 2
_CAPTURE_THREAD_LOCAL = 1
_POOL_RELEASE_THRESHOLD = 4
_CLOCK, _PROCESSORS, _SHARED, _WARP = 5, 63, 74, 87  # attributes of a device
_UP, _DOWN, _WITHIN = 1, 2, 3  # kinds of copies
_PROPERTIES, _CHIP_AT = 4096, 1160  # bytes that hipDeviceProp_t fits into, and where gcnArchName is in it

_CALLS: dict[str, tuple[Any, ...]] = {
    "hipInit": (c_uint,),
    "hipRuntimeGetVersion": (OUT,),
    "hipGetDeviceCount": (OUT,),
    "hipSetDevice": (c_int,),
    "hipDeviceGetName": (OUT, c_int, c_int),
    "hipDeviceTotalMem": (OUT, c_int),
    "hipDeviceGetAttribute": (OUT, c_int, c_int),
    "hipGetDevicePropertiesR0600": (OUT, c_int),
    "hipDeviceSynchronize": (),
    "hipDeviceCanAccessPeer": (OUT, c_int, c_int),
    "hipDeviceEnablePeerAccess": (c_int, c_uint),
    "hipDeviceGetDefaultMemPool": (OUT, c_int),
    "hipMemPoolSetAttribute": (c_void_p, c_int, OUT),
    "hipMemPoolSetAccess": (c_void_p, OUT, c_size_t),
    "hipMemPoolTrimTo": (c_void_p, c_size_t),
    "hipMemGetInfo": (OUT, OUT),
    "hipMallocAsync": (OUT, c_size_t, c_void_p),
    "hipFreeAsync": (c_uint64, c_void_p),
    "hipHostMalloc": (OUT, c_size_t, c_uint),
    "hipHostFree": (c_void_p,),
    "hipMemcpyAsync": (c_uint64, c_uint64, c_size_t, c_int, c_void_p),
    "hipMemcpyPeerAsync": (c_uint64, c_int, c_uint64, c_int, c_size_t, c_void_p),
    "hipMemsetAsync": (c_uint64, c_int, c_size_t, c_void_p),
    "hipStreamCreateWithFlags": (OUT, c_uint),
    "hipStreamSynchronize": (c_void_p,),
    "hipStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "hipStreamBeginCapture": (c_void_p, c_int),
    "hipStreamEndCapture": (c_void_p, OUT),
    "hipEventCreateWithFlags": (OUT, c_uint),
    "hipEventDestroy": (c_void_p,),
    "hipEventRecord": (c_void_p, c_void_p),
    "hipEventQuery": (c_void_p,),
    "hipEventSynchronize": (c_void_p,),
    "hipEventElapsedTime": (OUT, c_void_p, c_void_p),
    "hipModuleLoadData": (OUT, c_char_p),
    "hipModuleUnload": (c_void_p,),
    "hipModuleGetFunction": (OUT, c_void_p, c_char_p),
    "hipModuleLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, c_void_p, c_void_p),
    "hipGraphInstantiateWithFlags": (OUT, c_void_p, ctypes.c_ulonglong),
    "hipGraphLaunch": (c_void_p, c_void_p),
    "hipGraphDestroy": (c_void_p,),
    "hipGraphExecDestroy": (c_void_p,),
    "hipGetErrorName": (c_int,),
}


class _Hip(Library):
    """HIP's errors have their names as a result."""

    def error_name(self, code: int) -> str:
        call = self.find("hipGetErrorName")
        call.restype = c_char_p
        found = call(code)
        return found.decode() if found else "an unknown error"


class HipDriver:
    """AMD's GPUs. See `Driver`.

    Args:
        library: for tests; by default libamdhip64.so.

    Raises:
        OSError: there is no such library.
        DriverError: it cannot be initialised.
    """

    kind = "hip"

    def __init__(self, library: Any = None) -> None:
        self._library = _Hip("libamdhip64.so" if library is None else library, _CALLS)
        self._here = threading.local()
        self._ready: set[int] = set()
        self._library.call("hipInit", 0)

    @property
    def version(self) -> str:
        """Of HIP."""
        number = self._library.number("hipRuntimeGetVersion")
        return f"{number // 10_000_000}.{number // 100_000 % 100}"

    def count(self) -> int:
        return self._library.number("hipGetDeviceCount")

    def properties(self, index: int) -> Properties:
        name, memory = ctypes.create_string_buffer(256), c_size_t()
        self._library.call("hipDeviceGetName", name, 256, index)
        self._library.call("hipDeviceTotalMem", byref(memory), index)
        everything = ctypes.create_string_buffer(_PROPERTIES)
        self._library.call("hipGetDevicePropertiesR0600", everything, index)
        chip = everything.raw[_CHIP_AT : _CHIP_AT + 256].split(b"\0")[0].decode().split(":")[0]  # gfx942:sramecc+

        def attribute(which: int) -> int:
            return self._library.number("hipDeviceGetAttribute", which, index)

        return Properties(name.value.decode(), chip, memory.value, attribute(_PROCESSORS), attribute(_SHARED),
                          attribute(_WARP), attribute(_CLOCK))  # fmt: skip

    def use(self, index: int) -> None:
        self._library.call("hipSetDevice", index)
        self._here.index = index
        if index not in self._ready:
            everything = c_uint64(2**64 - 1)
            self._library.call("hipMemPoolSetAttribute", self._pool(index), _POOL_RELEASE_THRESHOLD, byref(everything))
            self._ready.add(index)

    def _pool(self, index: int) -> int:
        return self._library.made("hipDeviceGetDefaultMemPool", index)

    # Memory.

    def memory(self) -> tuple[int, int]:
        free, total = c_size_t(), c_size_t()
        self._library.call("hipMemGetInfo", byref(free), byref(total))
        return free.value, total.value

    def allocate(self, nbytes: int, stream: Handle) -> int:
        return self._library.made("hipMallocAsync", nbytes, stream)

    def free(self, address: int, stream: Handle) -> None:
        self._library.call("hipFreeAsync", address, stream)

    def trim(self) -> None:
        self._library.call("hipDeviceSynchronize")
        self._library.call("hipMemPoolTrimTo", self._pool(self._here.index), 0)

    def pinned(self, nbytes: int) -> int:
        return self._library.made("hipHostMalloc", nbytes, 0)

    def free_pinned(self, address: int) -> None:
        self._library.call("hipHostFree", address)

    def upload(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._library.call("hipMemcpyAsync", target, source, nbytes, _UP, stream)

    def download(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._library.call("hipMemcpyAsync", target, source, nbytes, _DOWN, stream)

    def copy(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._library.call("hipMemcpyAsync", target, source, nbytes, _WITHIN, stream)

    def copy_peer(self, target: int, to: int, source: int, of: int, nbytes: int, stream: Handle) -> None:
        self._library.call("hipMemcpyPeerAsync", target, to, source, of, nbytes, stream)

    def fill(self, target: int, byte: int, nbytes: int, stream: Handle) -> None:
        self._library.call("hipMemsetAsync", target, byte, nbytes, stream)

    def enable_peer(self, index: int, other: int) -> bool:
        if not self._library.number("hipDeviceCanAccessPeer", index, other):
            return False
        self.use(index)
        code = self._library.find("hipDeviceEnablePeerAccess")(other, 0)
        if code not in (0, _PEER_ACCESS_ALREADY_ENABLED):
            self._library.fail("hipDeviceEnablePeerAccess", code)
        access = (c_int * 3)(1, index, 3)  # {location {device, number}, read and write}
        self._library.call("hipMemPoolSetAccess", self._pool(other), byref(access), 1)
        return True

    # Streams and events.

    def stream(self) -> Handle:
        return self._library.made("hipStreamCreateWithFlags", _NON_BLOCKING_STREAM)

    def synchronise(self, stream: Handle) -> None:
        self._library.call("hipStreamSynchronize", stream)

    def event(self, timing: bool = False) -> Handle:
        return self._library.made("hipEventCreateWithFlags", 0 if timing else _EVENT_DISABLE_TIMING)

    def destroy_event(self, event: Handle) -> None:
        self._library.call("hipEventDestroy", event)

    def record(self, event: Handle, stream: Handle) -> None:
        self._library.call("hipEventRecord", event, stream)

    def wait(self, stream: Handle, event: Handle) -> None:
        self._library.call("hipStreamWaitEvent", stream, event, 0)

    def happened(self, event: Handle) -> bool:
        code = self._library.find("hipEventQuery")(event)
        if code not in (0, _ERROR_NOT_READY):
            self._library.fail("hipEventQuery", code)
        return bool(code == 0)

    def await_event(self, event: Handle) -> None:
        self._library.call("hipEventSynchronize", event)

    def elapsed(self, begin: Handle, end: Handle) -> float:
        found = c_float()
        self._library.call("hipEventElapsedTime", byref(found), begin, end)
        return found.value

    # Kernels.

    def load(self, binary: bytes) -> Handle:
        return self._library.made("hipModuleLoadData", binary)

    def unload(self, module: Handle) -> None:
        self._library.call("hipModuleUnload", module)

    def function(self, module: Handle, name: str, shared: int, clusters: int) -> Handle:
        return self._library.made("hipModuleGetFunction", module, name.encode())  # all of its shared memory is allowed

    def launcher(self, function: Handle, shape: Shape, parameters: Packed, stream: Handle) -> Launcher:
        call = self._library.find("hipModuleLaunchKernel")
        pointers = ctypes.cast(parameters.pointers, c_void_p)
        arguments = (function, *shape.grid, shape.threads, 1, 1, shape.shared, stream, pointers, None)

        def launch(_kept: Packed = parameters) -> None:
            code = call(*arguments)
            if code:
                self._library.fail("hipModuleLaunchKernel", code)

        return launch

    # Graphs.

    def begin_capture(self, stream: Handle) -> None:
        self._library.call("hipStreamBeginCapture", stream, _CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: Handle) -> Handle:
        graph = self._library.made_last("hipStreamEndCapture", stream)
        try:
            return self._library.made("hipGraphInstantiateWithFlags", graph, 0)
        finally:
            self._library.call("hipGraphDestroy", graph)

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        self._library.call("hipGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Handle) -> None:
        self._library.call("hipGraphExecDestroy", graph)
