"""CUDA's driver by ctypes: libcuda.so.1, which the driver's package installs; no toolkit, no Python package.

The structures of a launch are made once and used again: what a launch costs then is one call through ctypes.
"""

from __future__ import annotations

import ctypes
import threading
from ctypes import POINTER, byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any, ClassVar

from thalweg.runtime.gpu.driver import Handle, Launcher, Packed, Properties, Shape
from thalweg.runtime.gpu.foreign import OUT, Library
from thalweg.runtime.gpu.native import NativeDriver, calls

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


# What native.py asks of the library.
NAMES = {
    "allocate": "cuMemAllocAsync", "await event": "cuEventSynchronize", "begin capture": "cuStreamBeginCapture_v2",
    "create event": "cuEventCreate", "create stream": "cuStreamCreate", "destroy event": "cuEventDestroy_v2",
    "destroy graph": "cuGraphDestroy", "destroy instance": "cuGraphExecDestroy", "elapsed": "cuEventElapsedTime",
    "end capture": "cuStreamEndCapture", "find kernel": "cuModuleGetFunction", "free": "cuMemFreeAsync",
    "free pinned": "cuMemFreeHost", "instantiate": "cuGraphInstantiateWithFlags", "launch graph": "cuGraphLaunch",
    "load": "cuModuleLoadData", "memory": "cuMemGetInfo_v2", "pin": "cuMemHostAlloc",
    "pool access": "cuMemPoolSetAccess", "pool of": "cuDeviceGetDefaultMemPool", "query event": "cuEventQuery",
    "record": "cuEventRecord", "set pool": "cuMemPoolSetAttribute", "synchronise": "cuStreamSynchronize",
    "trim pool": "cuMemPoolTrimTo", "unload": "cuModuleUnload", "wait": "cuStreamWaitEvent",
    "wait for all": "cuCtxSynchronize",
}  # fmt: skip
# What is called here: the names in the library, and the types of the parameters.
_OWN: dict[str, tuple[Any, ...]] = {
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
    "cuCtxSetCurrent": (c_void_p,),
    "cuCtxEnablePeerAccess": (c_void_p, c_uint),
    "cuMemcpyHtoDAsync_v2": (c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemcpyDtoHAsync_v2": (c_void_p, c_uint64, c_size_t, c_void_p),
    "cuMemcpyDtoDAsync_v2": (c_uint64, c_uint64, c_size_t, c_void_p),
    "cuMemcpyPeerAsync": (c_uint64, c_void_p, c_uint64, c_void_p, c_size_t, c_void_p),
    "cuMemsetD8Async": (c_uint64, ctypes.c_ubyte, c_size_t, c_void_p),
    "cuFuncSetAttribute": (c_void_p, c_int, c_int),
    "cuLaunchKernelEx": (POINTER(LaunchConfig), c_void_p, c_void_p, c_void_p),
}
_CALLS = calls(NAMES, _OWN)


class CudaDriver(NativeDriver):
    """NVIDIA's GPUs. See `Driver`.

    Args:
        library: for tests; by default libcuda.so.1.

    Raises:
        OSError: there is no such library: no driver is installed.
        DriverError: the driver cannot be initialised.
    """

    kind = "cuda"
    NAMES = NAMES

    def __init__(self, library: Any = None) -> None:
        super().__init__(Library("libcuda.so.1" if library is None else library, _CALLS))
        self._contexts: dict[int, int] = {}
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
                self._keep_memory(index, device)
                self._contexts[index] = context
            return self._contexts[index]

    # Memory.

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
        self._enabled("cuCtxEnablePeerAccess", context, 0)
        self._share_pool(devices[0], other)
        return True

    # Kernels.

    def function(self, module: Handle, name: str, shared: int, clusters: int) -> Handle:
        found = self._made("find kernel", module, name.encode())
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


def _attributes(shape: Shape) -> list[LaunchAttribute]:
    found = []
    if shape.clusters > 1:
        found.append(LaunchAttribute(_CLUSTER, 0, (c_uint * 16)(shape.clusters, 1, 1)))
        found.append(LaunchAttribute(_CLUSTER_POLICY, 0, (c_uint * 16)(_SPREAD)))
    if shape.cooperative:
        found.append(LaunchAttribute(_COOPERATIVE, 0, (c_uint * 16)(1)))
    return found
