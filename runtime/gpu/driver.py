"""What the runtime asks of a GPU's driver, and how it is found.

    driver = find_driver()                       # CUDA's, else HIP's, else UnavailableError
    driver.use(0)                                # this thread works on GPU 0 from now on
    stream = driver.stream()

Three drivers have this face: CUDA (cuda.py) and HIP (hip.py), both by ctypes on the library that the maker's driver
package installs, and the virtual one (virtual.py), whose memory is the host's and whose kernels run in Triton's
interpreter. Handles are integers; an integer of one driver means nothing to another. Everything that takes a stream
returns at once and happens in the stream's order.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Protocol, TypeAlias

from thalweg.dialects.diagnostics import DeviceError, UnavailableError

Handle: TypeAlias = int


@dataclass(frozen=True)
class Properties:
    """What a GPU is.

    Args:
        chip: what kernels are compiled for: `sm_90`, `gfx942`, `virtual`.
        memory: bytes.
        processors: streaming multiprocessors, or compute units.
        shared: bytes of shared memory that a block may ask for.
        clock: kHz at most.
    """

    name: str
    chip: str
    memory: int
    processors: int
    shared: int
    warp_size: int = 32
    clock: int = 0


@dataclass(frozen=True)
class Shape:
    """How a kernel is launched.

    Args:
        grid: blocks along x, y and z, those of clusters counted one by one.
        threads: of a block.
        shared: bytes of dynamic shared memory of a block.
        clusters: blocks of a cluster.
        cooperative: all blocks must be on the GPU at once.
    """

    grid: tuple[int, int, int]
    threads: int
    shared: int = 0
    clusters: int = 1
    cooperative: bool = False


class DriverError(DeviceError):
    """A call of the driver failed.

    Args:
        call: its name.
        code: as the driver numbers it.
        name: what the driver calls the code.
    """

    def __init__(self, call: str, code: int = 0, name: str = "") -> None:
        super().__init__(f"{call} failed: {name} ({code})." if name else call)
        self.call, self.code, self.name = call, code, name

    @property
    def is_out_of_memory(self) -> bool:
        return self.name in ("CUDA_ERROR_OUT_OF_MEMORY", "hipErrorOutOfMemory")


class Packed:
    """The parameters of a kernel as a driver takes them: 64-bit values in a row, and a pointer to each.

    Example:
        >>> packed = Packed(3)
        >>> packed.values[0] = address
    """

    __slots__ = ("pointers", "values")

    def __init__(self, count: int) -> None:
        self.values = (ctypes.c_uint64 * count)()
        first = ctypes.addressof(self.values)
        self.pointers = (ctypes.c_void_p * count)(*(first + 8 * k for k in range(count)))


Launcher: TypeAlias = Callable[[], None]  # puts one launch into its stream


class Driver(Protocol):
    """The calls. Those about memory, streams, events and modules are about the GPU that the thread uses.

    All raise DriverError where the driver refuses.
    """

    kind: str  # cuda, hip, virtual

    def count(self) -> int:
        """How many GPUs there are."""
        ...

    def properties(self, index: int) -> Properties:
        """What a GPU is."""
        ...

    def use(self, index: int) -> None:
        """Have this thread work on a GPU."""
        ...

    def memory(self) -> tuple[int, int]:
        """Bytes that are free, and bytes that there are."""
        ...

    def allocate(self, nbytes: int, stream: Handle) -> int:
        """Memory that what comes later in the stream may use, aligned to 256 bytes."""
        ...

    def free(self, address: int, stream: Handle) -> None:
        """Give memory back once the stream has come here."""
        ...

    def trim(self) -> None:
        """Give what is kept for later allocations back to the system. Waits for the GPU."""
        ...

    def pinned(self, nbytes: int) -> int:
        """Memory of the host that copies to and from the GPU need not go around."""
        ...

    def free_pinned(self, address: int) -> None:
        """Give it back."""
        ...

    def upload(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        """Copy from the host. Memory that is not pinned may be changed when this returns."""
        ...

    def download(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        """Copy to the host."""
        ...

    def copy(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        """Copy on the GPU."""
        ...

    def copy_peer(self, target: int, to: int, source: int, of: int, nbytes: int, stream: Handle) -> None:
        """Copy from the memory of the GPU number `of` to that of the GPU `to`."""
        ...

    def fill(self, target: int, byte: int, nbytes: int, stream: Handle) -> None:
        """Set every byte."""
        ...

    def enable_peer(self, index: int, other: int) -> bool:
        """Let a GPU reach another one's memory; False if there is no way but through the host."""
        ...

    def stream(self) -> Handle:
        """A new stream, which does not wait for any other."""
        ...

    def synchronise(self, stream: Handle) -> None:
        """Wait until the stream is empty."""
        ...

    def event(self, timing: bool = False) -> Handle:
        """A new event."""
        ...

    def destroy_event(self, event: Handle) -> None:
        """Give it back."""
        ...

    def record(self, event: Handle, stream: Handle) -> None:
        """The event happens when the stream comes here."""
        ...

    def wait(self, stream: Handle, event: Handle) -> None:
        """Have a stream wait for an event that has been recorded."""
        ...

    def happened(self, event: Handle) -> bool:
        """Whether an event has happened."""
        ...

    def await_event(self, event: Handle) -> None:
        """Wait for an event, without the interpreter's lock."""
        ...

    def elapsed(self, begin: Handle, end: Handle) -> float:
        """Milliseconds between two events with timing that have happened."""
        ...

    def load(self, binary: bytes) -> Handle:
        """A module of machine code, loaded."""
        ...

    def unload(self, module: Handle) -> None:
        """Give it back."""
        ...

    def function(self, module: Handle, name: str, shared: int, clusters: int) -> Handle:
        """A kernel of a module, allowed that much shared memory and clusters of that size."""
        ...

    def launcher(self, function: Handle, shape: Shape, parameters: Packed, stream: Handle) -> Launcher:
        """What launches a kernel with what the parameters hold when it is called."""
        ...

    def begin_capture(self, stream: Handle) -> None:
        """What this thread puts into the stream from now on becomes a graph and does not run."""
        ...

    def end_capture(self, stream: Handle) -> Handle:
        """The graph, ready to be launched."""
        ...

    def launch_graph(self, graph: Handle, stream: Handle) -> None:
        """Run all of a graph."""
        ...

    def destroy_graph(self, graph: Handle) -> None:
        """Give it back."""
        ...


@functools.cache
def find_driver() -> Driver:
    """This machine's driver.

    Raises:
        UnavailableError: there is none, or it finds no GPU; says which, and what to do.
    """
    from thalweg.runtime.gpu.cuda import CudaDriver
    from thalweg.runtime.gpu.hip import HipDriver

    seen: list[str] = []
    for make in (CudaDriver, HipDriver):
        try:
            driver: Driver = make()
            if driver.count():
                return driver
            seen.append(f"{driver.kind}: the driver finds no GPU")
        except OSError as error:
            seen.append(str(error))
        except DriverError as error:
            seen.append(str(error))
    raise UnavailableError(
        f"no GPU found: {'; '.join(seen)}. Install the maker's driver, check nvidia-smi (or rocm-smi) and "
        "CUDA_VISIBLE_DEVICES, or use tw.config.set_virtual_devices(gpu=1) to try programs without one."
    )


@functools.cache
def usable_gpus() -> int:
    """How many GPUs programs can run on; 0 without a driver, or without Triton, which compiles for them. The first call
    wakes the driver, if there is one."""
    if find_spec("triton") is None:
        return 0
    try:
        return find_driver().count()
    except UnavailableError:
        return 0


def why_none() -> str:
    """Why there is no GPU, and what to do about it; empty if there is one."""
    try:
        find_driver()
    except UnavailableError as error:
        return str(error)
    return "" if find_spec("triton") else "GPUs need the package triton: pip install 'thalweg[gpu]'."
