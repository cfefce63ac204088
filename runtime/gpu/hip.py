"""HIP by ctypes: libamdhip64.so, for AMD's GPUs. The numbers are those of ROCm 6's headers."""

from __future__ import annotations

import ctypes
from ctypes import byref, c_char_p, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

from thalweg.runtime.gpu.driver import Handle, Launcher, Packed, Properties, Shape
from thalweg.runtime.gpu.foreign import OUT, Library
from thalweg.runtime.gpu.native import NativeDriver, calls

_CLOCK, _PROCESSORS, _SHARED, _WARP = 5, 63, 74, 87  # attributes of a device
_UP, _DOWN, _WITHIN = 1, 2, 3  # kinds of copies
_PROPERTIES, _CHIP_AT = 4096, 1160  # bytes that hipDeviceProp_t fits into, and where gcnArchName is in it

# What native.py asks of the library.
NAMES = {
    "allocate": "hipMallocAsync", "await event": "hipEventSynchronize", "begin capture": "hipStreamBeginCapture",
    "create event": "hipEventCreateWithFlags", "create stream": "hipStreamCreateWithFlags",
    "destroy event": "hipEventDestroy", "destroy graph": "hipGraphDestroy",
    "destroy instance": "hipGraphExecDestroy", "elapsed": "hipEventElapsedTime",
    "end capture": "hipStreamEndCapture", "find kernel": "hipModuleGetFunction", "free": "hipFreeAsync",
    "free pinned": "hipHostFree", "instantiate": "hipGraphInstantiateWithFlags", "launch graph": "hipGraphLaunch",
    "load": "hipModuleLoadData", "memory": "hipMemGetInfo", "pin": "hipHostMalloc",
    "pool access": "hipMemPoolSetAccess", "pool of": "hipDeviceGetDefaultMemPool", "query event": "hipEventQuery",
    "record": "hipEventRecord", "set pool": "hipMemPoolSetAttribute", "synchronise": "hipStreamSynchronize",
    "trim pool": "hipMemPoolTrimTo", "unload": "hipModuleUnload", "wait": "hipStreamWaitEvent",
    "wait for all": "hipDeviceSynchronize",
}  # fmt: skip
# What is called here: the names in the library, and the types of the parameters.
_OWN: dict[str, tuple[Any, ...]] = {
    "hipInit": (c_uint,),
    "hipRuntimeGetVersion": (OUT,),
    "hipGetDeviceCount": (OUT,),
    "hipSetDevice": (c_int,),
    "hipDeviceGetName": (OUT, c_int, c_int),
    "hipDeviceTotalMem": (OUT, c_int),
    "hipDeviceGetAttribute": (OUT, c_int, c_int),
    "hipGetDevicePropertiesR0600": (OUT, c_int),
    "hipDeviceCanAccessPeer": (OUT, c_int, c_int),
    "hipDeviceEnablePeerAccess": (c_int, c_uint),
    "hipMemcpyAsync": (c_uint64, c_uint64, c_size_t, c_int, c_void_p),
    "hipMemcpyPeerAsync": (c_uint64, c_int, c_uint64, c_int, c_size_t, c_void_p),
    "hipMemsetAsync": (c_uint64, c_int, c_size_t, c_void_p),
    "hipModuleLaunchKernel": (c_void_p, *(c_uint,) * 7, c_void_p, c_void_p, c_void_p),
    "hipGetErrorName": (c_int,),
}
_CALLS = calls(NAMES, _OWN)


class _Hip(Library):
    """HIP's errors have their names as a result."""

    def error_name(self, code: int) -> str:
        call = self.find("hipGetErrorName")
        call.restype = c_char_p
        found = call(code)
        return found.decode() if found else "an unknown error"


class HipDriver(NativeDriver):
    """AMD's GPUs. See `Driver`.

    Args:
        library: for tests; by default libamdhip64.so.

    Raises:
        OSError: there is no such library.
        DriverError: it cannot be initialised.
    """

    kind = "hip"
    NAMES = NAMES

    def __init__(self, library: Any = None) -> None:
        super().__init__(_Hip("libamdhip64.so" if library is None else library, _CALLS))
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
        if index not in self._pools:
            self._keep_memory(index, index)

    # Memory.

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
        self.use(other)  # whose pool is known from then on
        self.use(index)
        self._enabled("hipDeviceEnablePeerAccess", other, 0)
        self._share_pool(index, other)
        return True

    # Kernels.

    def function(self, module: Handle, name: str, shared: int, clusters: int) -> Handle:
        return self._made("find kernel", module, name.encode())  # all of its shared memory is allowed

    def launcher(self, function: Handle, shape: Shape, parameters: Packed, stream: Handle) -> Launcher:
        call = self._library.find("hipModuleLaunchKernel")
        pointers = ctypes.cast(parameters.pointers, c_void_p)
        arguments = (function, *shape.grid, shape.threads, 1, 1, shape.shared, stream, pointers, None)

        def launch(_kept: Packed = parameters) -> None:
            code = call(*arguments)
            if code:
                self._library.fail("hipModuleLaunchKernel", code)

        return launch
