"""CUDA's driver by ctypes: libcuda.so.1, which the driver's package installs; no toolkit, no Python package.

The structures of a launch are made once and used again: what a launch costs then is one call through ctypes.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, ClassVar

from thalweg.runtime.gpu.driver import Handle, Launcher, Packed, Properties, Shape
from thalweg.runtime.gpu.foreign import OUT, Library

_ERROR_NOT_READY = 600
_PEER_ACCESS_ALREADY_ENABLED = 704
_NON_BLOCKING_STREAM = 1
_EVENT_DISABLE_TIMING = 2
_CAPTURE_THREAD_LOCAL = 1
_POOL_RELEASE_THRESHOLD = 4
_CLOCK, _PROCESSORS, _MAJOR, _MINOR, _SHARED = 13, 16, 75, 76, 97  # attributes of a device
_FUNCTION_SHARED, _FUNCTION_NON_PORTABLE = 8, 14  # attributes of a function
_COOPERATIVE, _CLUSTER, _CLUSTER_POLICY = 2, 4, 5  # attributes of a launch
_SPREAD = 1  # Triton's choice for the blocks of clusters
_PORTABLE_CLUSTER = 8
STATIC_SHARED = 48 * 1024  # bytes that a block may have without asking


class LaunchAttribute(ctypes.Structure):
    """CUlaunchAttribute: an id, and 64 bytes of which each kind uses some."""

    _fields_: ClassVar[Any] = [("id", c_int), ("pad", c_int), ("value", c_uint * 16)]


class LaunchConfig(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_: ClassVar[Any] = [
        ("grid", c_uint * 3), ("block", c_uint * 3), ("shared", c_uint), ("stream", c_void_p),
        ("attributes", POINTER(LaunchAttribute)), ("count", c_uint),
    ]  # fmt: skip


# Every function that is called: its name in the library, and the types of its parameters.
_CALLS: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuGetErrorName": (c_int, OUT),
    "cuDriverGetVersion": (OUT,),
    "cuDeviceGetCount": (OUT,),
    "cuDeviceGet": (OUT, c_int),
    "cuDeviceGetName": (OUT, c_int, c_int),
    "cuDeviceGetAttribute": (OUT, c_int, c_int),
    "cuDeviceTotalMem_v2": (OUT, c_int),
    "cuDevicePrimaryCtxRetain": (OUT, c_int),
    "cuDeviceCanAccessPeer": (OUT, c_int, c_int),
    "cuDeviceGetDefaultMemPool": (OUT, c_int),
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxSynchronize": (),
    "cuCtxEnablePeerAccess": (c_void_p, c_uint),
    "cuMemGetInfo_v2": (OUT, OUT),
    "cuMemAllocAsync": (OUT, c_size_t, c_void_p),
    "cuMemFreeAsync": (c_uint64, c_void_p),
    "cuMemPoolTrimTo": (c_void_p, c_size_t),
    "cuMemPoolSetAttribute": (c_void_p, c_int, OUT),
    "cuMemPoolSetAccess": (c_void_p, OUT, c_size_t),
    "cuMemHostAlloc": (OUT, c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemcpyDtoDAsync_v2": (c_uint64, c_uint64, c_size_t, c_void_p),
    "cuMemcpyPeerAsync": (c_uint64, c_void_p, c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemsetD8Async": (c_uint64, ctypes.c_ubyte, c_size_t, c_void_p),
    "cuStreamCreate": (OUT, c_uint),
    "cuStreamSynchronize": (c_void_p,),
    "cuStreamWaitEvent": (c_void_p, c_void_p, c_uint),
    "cuStreamBeginCapture_v2": (c_void_p, c_int),
    "cuStreamEndCapture": (c_void_p, OUT),
    "cuEventCreate": (OUT, c_uint),
    "cuEventDestroy_v2": (c_void_p,),
    "cuEventRecord": (c_void_p, c_void_p),
    "cuEventQuery": (c_void_p,),
    "cuEventSynchronize": (c_void_p,),
    "cuEventElapsedTime": (OUT, c_void_p, c_void_p),
    "cuModuleLoadData": (OUT, c_char_p),
    "cuModuleUnload": (c_void_p,),
    "cuModuleGetFunction": (OUT, c_void_p, c_char_p),
    "cuFuncSetAttribute": (c_void_p, c_int, c_int),
    "cuLaunchKernelEx": (POINTER(LaunchConfig), c_void_p, c_void_p, c_void_p),
    "cuGraphInstantiateWithFlags": (OUT, c_void_p, ctypes.c_ulonglong),
    "cuGraphLaunch": (c_void_p, c_void_p),
    "cuGraphDestroy": (c_void_p,),
    "cuGraphExecDestroy": (c_void_p,),
}


class CudaDriver:
    """NVIDIA's GPUs. See `Driver`.

    Args:
        library: for tests; by default libcuda.so.1.

    Raises:
        OSError: there is no such library: no driver is installed.
        DriverError: the driver cannot be initialised.
    """

    kind = "cuda"

    def __init__(self, library: Any = None) -> None:
        self._library = Library("libcuda.so.1" if library is None else library, _CALLS)
        self._contexts: dict[int, int] = {}
        self._pools: dict[int, int] = {}
        self._here = threading.local()  # the number of the GPU that a thread uses
        self._lock = threading.Lock()
        self._library.call("cuInit", 0)

    # GPUs.

    @property
    def version(self) -> str:
        """Of CUDA, that the driver can do."""
        number = self._library.number("cuDriverGetVersion")
        return f"{number // 1000}.{number % 1000 // 10}"

    def count(self) -> int:
        return self._library.number("cuDeviceGetCount")

    def properties(self, index: int) -> Properties:
        device = self._library.number("cuDeviceGet", index)
        name, memory = ctypes.create_string_buffer(256), c_size_t()
        self._library.call("cuDeviceGetName", name, 256, device)
        self._library.call("cuDeviceTotalMem_v2", byref(memory), device)

        def attribute(which: int) -> int:
            return self._library.number("cuDeviceGetAttribute", which, device)

        chip = f"sm_{attribute(_MAJOR)}{attribute(_MINOR)}"
        return Properties(name.value.decode(), chip, memory.value, attribute(_PROCESSORS), attribute(_SHARED),
                          clock=attribute(_CLOCK))  # fmt: skip

    def use(self, index: int) -> None:
        context = self._contexts.get(index) or self._open(index)
        self._library.call("cuCtxSetCurrent", context)
        self._here.index = index

    def _open(self, index: int) -> int:
        """The context that everybody in the process shares (PyTorch, too). Memory that is freed is kept for later."""
        with self._lock:
            if index not in self._contexts:
                device = self._library.number("cuDeviceGet", index)
                context = self._library.made("cuDevicePrimaryCtxRetain", device)
                pool = self._pools[index] = self._library.made("cuDeviceGetDefaultMemPool", device)
                everything = c_uint64(2**64 - 1)
                self._library.call("cuMemPoolSetAttribute", pool, _POOL_RELEASE_THRESHOLD, byref(everything))
                self._contexts[index] = context
            return self._contexts[index]

    # Memory.

    def memory(self) -> tuple[int, int]:
        free, total = c_size_t(), c_size_t()
        self._library.call("cuMemGetInfo_v2", byref(free), byref(total))
        return free.value, total.value

    def allocate(self, nbytes: int, stream: Handle) -> int:
        return self._library.made("cuMemAllocAsync", nbytes, stream)

    def free(self, address: int, stream: Handle) -> None:
        self._library.call("cuMemFreeAsync", address, stream)

    def trim(self) -> None:
        self._library.call("cuCtxSynchronize")
        self._library.call("cuMemPoolTrimTo", self._pools[self._here.index], 0)

    def pinned(self, nbytes: int) -> int:
        return self._library.made("cuMemHostAlloc", nbytes, 0)

    def free_pinned(self, address: int) -> None:
        self._library.call("cuMemFreeHost", address)

    def upload(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._library.call("cuMemcpyHtoDAsync_v2", target, source, nbytes, stream)

    def download(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._library.call("cuMemcpyDtoHAsync_v2", target, source, nbytes, stream)

    def copy(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._library.call("cuMemcpyDtoDAsync_v2", target, source, nbytes, stream)

    def copy_peer(self, target: int, to: int, source: int, of: int, nbytes: int, stream: Handle) -> None:
        there, here = (self._contexts.get(n) or self._open(n) for n in (to, of))
        self._library.call("cuMemcpyPeerAsync", target, there, source, here, nbytes, stream)

    def fill(self, target: int, byte: int, nbytes: int, stream: Handle) -> None:
        self._library.call("cuMemsetD8Async", target, byte, nbytes, stream)

    def enable_peer(self, index: int, other: int) -> bool:
        devices = [self._library.number("cuDeviceGet", n) for n in (index, other)]
        if not self._library.number("cuDeviceCanAccessPeer", *devices):
            return False
        self.use(other)
        context = self._contexts[other]
        self.use(index)
        code = self._library.find("cuCtxEnablePeerAccess")(context, 0)
        if code not in (0, _PEER_ACCESS_ALREADY_ENABLED):
            self._library.fail("cuCtxEnablePeerAccess", code)
        # Memory of a pool has permissions of its own: {location {device = 1, number}, read and write = 3}.
        access = (c_int * 3)(1, devices[0], 3)
        self._library.call("cuMemPoolSetAccess", self._pools[other], byref(access), 1)
        return True

    # Streams and events.

    def stream(self) -> Handle:
        return self._library.made("cuStreamCreate", _NON_BLOCKING_STREAM)

    def synchronise(self, stream: Handle) -> None:
        self._library.call("cuStreamSynchronize", stream)

    def event(self, timing: bool = False) -> Handle:
        return self._library.made("cuEventCreate", 0 if timing else _EVENT_DISABLE_TIMING)

    def destroy_event(self, event: Handle) -> None:
        self._library.call("cuEventDestroy_v2", event)

    def record(self, event: Handle, stream: Handle) -> None:
        self._library.call("cuEventRecord", event, stream)

    def wait(self, stream: Handle, event: Handle) -> None:
        self._library.call("cuStreamWaitEvent", stream, event, 0)

    def happened(self, event: Handle) -> bool:
        code = self._library.find("cuEventQuery")(event)
        if code not in (0, _ERROR_NOT_READY):
            self._library.fail("cuEventQuery", code)
        return bool(code == 0)

    def await_event(self, event: Handle) -> None:
        self._library.call("cuEventSynchronize", event)

    def elapsed(self, begin: Handle, end: Handle) -> float:
        found = c_float()
        self._library.call("cuEventElapsedTime", byref(found), begin, end)
        return found.value

    # Kernels.

    def load(self, binary: bytes) -> Handle:
        return self._library.made("cuModuleLoadData", binary)

    def unload(self, module: Handle) -> None:
        self._library.call("cuModuleUnload", module)

    def function(self, module: Handle, name: str, shared: int, clusters: int) -> Handle:
        found = self._library.made("cuModuleGetFunction", module, name.encode())
        if shared > STATIC_SHARED:
            self._library.call("cuFuncSetAttribute", found, _FUNCTION_SHARED, shared)
        if clusters > _PORTABLE_CLUSTER:
            self._library.call("cuFuncSetAttribute", found, _FUNCTION_NON_PORTABLE, 1)
        return found

    def launcher(self, function: Handle, shape: Shape, parameters: Packed, stream: Handle) -> Launcher:
        attributes = _attributes(shape)
        made = (LaunchAttribute * len(attributes))(*attributes)
        config = LaunchConfig((c_uint * 3)(*shape.grid), (c_uint * 3)(shape.threads, 1, 1), shape.shared, stream, made,
                              len(attributes))  # fmt: skip
        call, where, handle = self._library.find("cuLaunchKernelEx"), byref(config), c_void_p(function)
        pointers = ctypes.cast(parameters.pointers, c_void_p)

        def launch(_kept: Any = (made, parameters)) -> None:
            code = call(where, handle, pointers, None)
            if code:
                self._library.fail("cuLaunchKernelEx", code)

        return launch

    # Graphs.

    def begin_capture(self, stream: Handle) -> None:
        self._library.call("cuStreamBeginCapture_v2", stream, _CAPTURE_THREAD_LOCAL)

    def end_capture(self, stream: Handle) -> Handle:
        graph = self._library.made_last("cuStreamEndCapture", stream)
        try:
            return self._library.made("cuGraphInstantiateWithFlags", graph, 0)
        finally:
            self._library.call("cuGraphDestroy", graph)

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        self._library.call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: Handle) -> None:
        self._library.call("cuGraphExecDestroy", graph)


def _attributes(shape: Shape) -> list[LaunchAttribute]:
    found = []
    if shape.clusters > 1:
        found.append(LaunchAttribute(_CLUSTER, 0, (c_uint * 16)(shape.clusters, 1, 1)))
        found.append(LaunchAttribute(_CLUSTER_POLICY, 0, (c_uint * 16)(_SPREAD)))
    if shape.cooperative:
        found.append(LaunchAttribute(_COOPERATIVE, 0, (c_uint * 16)(1)))
    return found
