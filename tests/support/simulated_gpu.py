"""A libcuda.so.1 that is none: every function that `CudaDriver` calls, with C's types, over a `VirtualDriver`.

What a test runs this way goes through ctypes as it does with the real library: the structures of a launch are read from
the memory that the driver would read them from.
"""

from __future__ import annotations

import ast
import ctypes
import re
from collections.abc import Callable, Sequence
from ctypes import c_int, c_uint64, c_void_p
from typing import Any

from thalweg.runtime.gpu import cuda
from thalweg.runtime.gpu.cuda import CudaDriver, LaunchConfig
from thalweg.runtime.gpu.driver import DriverError, Packed, Shape
from thalweg.runtime.gpu.virtual import Interpreter, VirtualDriver

MAJOR, MINOR = 9, 0
CAPABILITIES = {16: 132, 75: MAJOR, 76: MINOR, 97: 232_448, 13: 1_980_000}
CONTEXT = 1000  # context = CONTEXT + number of the GPU; its pool is POOL + number
POOL = 2000


class SimulatedCuda:
    """The library's functions. `launched` keeps what came in at each launch."""

    def __init__(self, interpreter: Interpreter, count: int = 2, memory: int = 2**30) -> None:
        self.virtual = VirtualDriver(count, interpreter, memory)
        self.launched: list[dict[str, Any]] = []
        self.attributes: list[tuple[int, int]] = []  # of functions, as they were set
        self.peers: list[int] = []
        self._names: dict[int, bytes] = {}
        self._kept: list[Any] = []
        self._graphs: dict[int, int] = {}

    def driver(self) -> CudaDriver:
        return CudaDriver(self)

    def __getattr__(self, name: str) -> Any:
        """The C function of a name: a callback with the types that the header gives it."""
        if name not in cuda._CALLS:
            raise AttributeError(name)
        method = getattr(type(self), f"_{name}").__get__(self)
        made = ctypes.CFUNCTYPE(c_int, *cuda._CALLS[name])(self._guarded(method))
        self.__dict__[name] = made
        return made

    def _guarded(self, method: Callable[..., None]) -> Callable[..., int]:
        def call(*arguments: Any) -> int:
            try:
                method(*arguments)
            except DriverError as error:
                self._names[error.code] = error.name.encode()
                return error.code
            return 0

        return call

    # One method for each function.

    def _cuInit(self, flags: int) -> None:
        assert flags == 0

    def _cuGetErrorName(self, code: int, out: int) -> None:
        text = ctypes.create_string_buffer(self._names.get(code, b"CUDA_ERROR_UNKNOWN"))
        self._kept.append(text)
        c_void_p.from_address(out).value = ctypes.addressof(text)

    def _cuDriverGetVersion(self, out: int) -> None:
        c_int.from_address(out).value = 13_000

    def _cuDeviceGetCount(self, out: int) -> None:
        c_int.from_address(out).value = self.virtual.count()

    def _cuDeviceGet(self, out: int, number: int) -> None:
        self.virtual.properties(number)
        c_int.from_address(out).value = number

    def _cuDeviceGetName(self, out: int, size: int, device: int) -> None:
        ctypes.memmove(out, f"Simulated {device}\0".encode(), len(f"Simulated {device}") + 1)

    def _cuDeviceGetAttribute(self, out: int, attribute: int, device: int) -> None:
        c_int.from_address(out).value = CAPABILITIES[attribute]

    def _cuDeviceTotalMem_v2(self, out: int, device: int) -> None:
        c_uint64.from_address(out).value = self.virtual.properties(device).memory

    def _cuDevicePrimaryCtxRetain(self, out: int, device: int) -> None:
        c_void_p.from_address(out).value = CONTEXT + device

    def _cuDeviceCanAccessPeer(self, out: int, device: int, other: int) -> None:
        c_int.from_address(out).value = 1

    def _cuDeviceGetDefaultMemPool(self, out: int, device: int) -> None:
        c_void_p.from_address(out).value = POOL + device

    def _cuCtxSetCurrent(self, context: int) -> None:
        self.virtual.use(context - CONTEXT)

    def _cuCtxSynchronize(self) -> None:
        self.virtual.trim()

    def _cuCtxEnablePeerAccess(self, context: int, flags: int) -> None:
        self.peers.append(context - CONTEXT)

    def _cuMemGetInfo_v2(self, free: int, total: int) -> None:
        c_uint64.from_address(free).value, c_uint64.from_address(total).value = self.virtual.memory()

    def _cuMemAllocAsync(self, out: int, nbytes: int, stream: int) -> None:
        c_void_p.from_address(out).value = self.virtual.allocate(nbytes, stream)

    def _cuMemFreeAsync(self, address: int, stream: int) -> None:
        self.virtual.free(address, stream)

    def _cuMemPoolTrimTo(self, pool: int, kept: int) -> None:
        assert POOL <= pool < POOL + self.virtual.count() and kept == 0

    def _cuMemPoolSetAttribute(self, pool: int, attribute: int, value: int) -> None:
        assert attribute == 4 and c_uint64.from_address(value).value == 2**64 - 1

    def _cuMemPoolSetAccess(self, pool: int, access: int, count: int) -> None:
        kind, number, rights = (c_int * 3).from_address(access)
        assert (kind, rights, count) == (1, 3, 1) and number != pool - POOL

    def _cuMemHostAlloc(self, out: int, nbytes: int, flags: int) -> None:
        c_void_p.from_address(out).value = self.virtual.pinned(nbytes)

    def _cuMemFreeHost(self, address: int) -> None:
        self.virtual.free_pinned(address)

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self.virtual.upload(target, source, nbytes, stream)

    def _cuMemcpyDtoHAsync_v2(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self.virtual.download(target, source, nbytes, stream)

    def _cuMemcpyDtoDAsync_v2(self, target: int, source: int, nbytes: int, stream: int) -> None:
        self.virtual.copy(target, source, nbytes, stream)

    def _cuMemcpyPeerAsync(self, target: int, to: int, source: int, of: int, nbytes: int, stream: int) -> None:
        self.virtual.copy_peer(target, to - CONTEXT, source, of - CONTEXT, nbytes, stream)

    def _cuMemsetD8Async(self, target: int, byte: int, nbytes: int, stream: int) -> None:
        self.virtual.fill(target, byte, nbytes, stream)

    def _cuStreamCreate(self, out: int, flags: int) -> None:
        assert flags == 1, "streams do not wait for the default stream"
        c_void_p.from_address(out).value = self.virtual.stream()

    def _cuStreamSynchronize(self, stream: int) -> None:
        self.virtual.synchronise(stream)

    def _cuStreamWaitEvent(self, stream: int, event: int, flags: int) -> None:
        self.virtual.wait(stream, event)

    def _cuStreamBeginCapture_v2(self, stream: int, mode: int) -> None:
        assert mode == 1, "other threads go on"
        self.virtual.begin_capture(stream)

    def _cuStreamEndCapture(self, stream: int, out: int) -> None:
        c_void_p.from_address(out).value = self.virtual.end_capture(stream)

    def _cuEventCreate(self, out: int, flags: int) -> None:
        c_void_p.from_address(out).value = self.virtual.event(timing=flags == 0)

    def _cuEventDestroy_v2(self, event: int) -> None:
        self.virtual.destroy_event(event)

    def _cuEventRecord(self, event: int, stream: int) -> None:
        self.virtual.record(event, stream)

    def _cuEventQuery(self, event: int) -> None:
        if not self.virtual.happened(event):
            raise DriverError("cuEventQuery", 600, "CUDA_ERROR_NOT_READY")

    def _cuEventSynchronize(self, event: int) -> None:
        self.virtual.await_event(event)

    def _cuEventElapsedTime(self, out: int, begin: int, end: int) -> None:
        ctypes.c_float.from_address(out).value = self.virtual.elapsed(begin, end)

    def _cuModuleLoadData(self, out: int, binary: bytes) -> None:
        c_void_p.from_address(out).value = self.virtual.load(binary)

    def _cuModuleUnload(self, module: int) -> None:
        self.virtual.unload(module)

    def _cuModuleGetFunction(self, out: int, module: int, name: bytes) -> None:
        c_void_p.from_address(out).value = self.virtual.function(module, name.decode(), 0, 1)

    def _cuFuncSetAttribute(self, function: int, attribute: int, value: int) -> None:
        self.attributes.append((attribute, value))

    def _cuLaunchKernelEx(self, config: Any, function: int, parameters: int, extra: int | None) -> None:
        assert extra is None
        found: LaunchConfig = config.contents
        attributes = {found.attributes[k].id: tuple(found.attributes[k].value)[:3] for k in range(found.count)}
        count = self._parameters(function)
        packed = Packed(count)
        for k in range(count):
            packed.values[k] = c_uint64.from_address(c_void_p.from_address(parameters + 8 * k).value or 0).value
        clusters = attributes.get(4, (1, 1, 1))[0]
        grid, block = tuple(found.grid), tuple(found.block)
        self.launched.append(
            {"grid": grid, "block": block, "shared": found.shared, "attributes": attributes,
             "values": tuple(packed.values)}
        )  # fmt: skip
        shape = Shape((grid[0], grid[1], grid[2]), block[0], found.shared, clusters)
        self.virtual.launcher(function, shape, packed, found.stream)()

    def _parameters(self, function: int) -> int:
        """How many parameters a kernel has: by its module's BUFFERS, or by what `with_count` wrote."""
        text, _ = self.virtual._functions[function]
        found = re.search(r"^BUFFERS = (\{.*?\})$", text, re.MULTILINE | re.DOTALL)
        pointers = len(ast.literal_eval(found[1])) if found else int(text.split("\n")[0].removeprefix("# "))
        return pointers + 2

    def _cuGraphInstantiateWithFlags(self, out: int, graph: int, flags: int) -> None:
        assert flags == 0
        self._graphs[graph] = graph
        c_void_p.from_address(out).value = graph

    def _cuGraphLaunch(self, graph: int, stream: int) -> None:
        self.virtual.launch_graph(graph, stream)

    def _cuGraphDestroy(self, graph: int) -> None:
        assert graph in self._graphs, "what is instantiated stays"

    def _cuGraphExecDestroy(self, graph: int) -> None:
        self.virtual.destroy_graph(graph)


def with_count(text: str, parameters: Sequence[object]) -> bytes:
    """The text of a module whose first line says how many pointers its kernel takes."""
    return f"# {len(parameters)}\n{text}".encode()
