"""A libamdhip64.so that is none: what `HipDriver` calls, with C's types, over a `VirtualDriver`."""

from __future__ import annotations

import ctypes
from ctypes import c_int, c_uint64, c_void_p
from typing import Any

from thalweg.runtime.gpu import hip
from thalweg.runtime.gpu.driver import DriverError, Packed, Shape
from thalweg.runtime.gpu.hip import HipDriver
from thalweg.runtime.gpu.virtual import Interpreter, VirtualDriver

_ATTRIBUTES = {63: 304, 74: 65_536, 87: 64, 5: 2_100_000}


class _Text:
    """A function that gives a text."""

    argtypes: Any = None
    restype: Any = None

    def __init__(self, names: dict[int, str]) -> None:
        self.names = names

    def __call__(self, code: int) -> bytes:
        return self.names[code].encode()


class SimulatedHip:
    """The library's functions. `launched` keeps grid, block, shared memory and parameters of each launch."""

    def __init__(self, interpreter: Interpreter, count: int = 1) -> None:
        self.virtual = VirtualDriver(count, interpreter)
        self.launched: list[dict[str, Any]] = []
        self._names: dict[int, str] = {}
        v = self.virtual
        self._table: dict[str, Any] = {
            "hipInit": lambda flags: None,
            "hipRuntimeGetVersion": lambda out: _put(c_int, out, 60_443_483),
            "hipGetDeviceCount": lambda out: _put(c_int, out, v.count()),
            "hipSetDevice": v.use,
            "hipDeviceGetName": lambda out, size, device: ctypes.memmove(out, b"Simulated\0", 10),
            "hipDeviceTotalMem": lambda out, device: _put(c_uint64, out, v.properties(device).memory),
            "hipDeviceGetAttribute": lambda out, which, device: _put(c_int, out, _ATTRIBUTES[which]),
            "hipGetDevicePropertiesR0600": lambda out, device: ctypes.memmove(out + 1160, b"gfx942:sramecc+\0", 16),
            "hipDeviceSynchronize": v.trim,
            "hipDeviceCanAccessPeer": lambda out, a, b: _put(c_int, out, 1),
            "hipDeviceEnablePeerAccess": lambda other, flags: None,
            "hipDeviceGetDefaultMemPool": lambda out, device: _put(c_void_p, out, 2000 + device),
            "hipMemPoolSetAttribute": lambda pool, which, value: None,
            "hipMemPoolSetAccess": lambda pool, access, count: None,
            "hipMemPoolTrimTo": lambda pool, kept: None,
            "hipMemGetInfo": lambda *outs: [_put(c_uint64, o, n) for o, n in zip(outs, v.memory(), strict=True)],
            "hipMallocAsync": lambda out, nbytes, stream: _put(c_void_p, out, v.allocate(nbytes, stream)),
            "hipFreeAsync": v.free,
            "hipHostMalloc": lambda out, nbytes, flags: _put(c_void_p, out, v.pinned(nbytes)),
            "hipMemcpyAsync": self._copy,
            "hipMemcpyPeerAsync": v.copy_peer,
            "hipMemsetAsync": v.fill,
            "hipStreamCreateWithFlags": lambda out, flags: _put(c_void_p, out, v.stream()),
            "hipStreamSynchronize": v.synchronise,
            "hipStreamWaitEvent": lambda stream, event, flags: v.wait(stream, event),
            "hipStreamBeginCapture": lambda stream, mode: v.begin_capture(stream),
            "hipStreamEndCapture": lambda stream, out: _put(c_void_p, out, v.end_capture(stream)),
            "hipEventCreateWithFlags": lambda out, flags: _put(c_void_p, out, v.event()),
            "hipEventDestroy": v.destroy_event,
            "hipEventRecord": v.record,
            "hipEventSynchronize": v.await_event,
            "hipModuleLoadData": lambda out, binary: _put(c_void_p, out, v.load(binary)),
            "hipModuleGetFunction": lambda out, module, name: _put(
                c_void_p, out, v.function(module, name.decode(), 0, 1)
            ),
            "hipModuleLaunchKernel": self._launch,
            "hipGraphInstantiateWithFlags": lambda out, graph, flags: _put(c_void_p, out, graph),
            "hipGraphLaunch": v.launch_graph,
            "hipGraphDestroy": lambda graph: None,
            "hipGraphExecDestroy": v.destroy_graph,
        }

    def driver(self) -> HipDriver:
        return HipDriver(self)

    def __getattr__(self, name: str) -> Any:
        if name == "hipGetErrorName":
            return _Text(self._names)
        if name not in hip._CALLS:
            raise AttributeError(name)
        method = self._table[name]

        def call(*arguments: Any) -> int:
            try:
                method(*arguments)
            except DriverError as error:
                self._names[error.code] = {2: "hipErrorOutOfMemory"}.get(error.code, error.name)
                return error.code
            return 0

        made = ctypes.CFUNCTYPE(c_int, *hip._CALLS[name])(call)
        self.__dict__[name] = made
        return made

    def _copy(self, target: int, source: int, nbytes: int, kind: int, stream: int) -> None:
        {1: self.virtual.upload, 2: self.virtual.download, 3: self.virtual.copy}[kind](target, source, nbytes, stream)

    def _launch(self, function: int, *rest: Any) -> None:
        gx, gy, gz, bx, by, bz, shared, stream, parameters, extra = rest
        assert (by, bz, extra) == (1, 1, None)
        text, _ = self.virtual._functions[function]
        count = int(text.split("\n")[0].removeprefix("# ")) + 2
        packed = Packed(count)
        for k in range(count):
            packed.values[k] = c_uint64.from_address(c_void_p.from_address(parameters + 8 * k).value or 0).value
        self.launched.append({"grid": (gx, gy, gz), "block": bx, "shared": shared, "values": tuple(packed.values)})
        self.virtual.launcher(function, Shape((gx, gy, gz), bx, shared), packed, stream)()


def _put(kind: Any, out: int, value: int) -> None:
    kind.from_address(out).value = value
