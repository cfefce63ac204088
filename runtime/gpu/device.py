"""One GPU of this process: its memory, its streams, its modules.

Three streams: kernels run in `compute`, arrays come by `up` and go by `down`, so that copies overlap with kernels. What
one stream makes for another carries a mark (an event), which the other waits for; the host waits only for what it wants
to look at. All that is put into streams is put there under the GPU's lock.
"""

from __future__ import annotations

import ctypes
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import DeviceError, DeviceMemoryError
from thalweg.runtime.gpu.array import Array, DeviceArray
from thalweg.runtime.gpu.artefact import KernelImage
from thalweg.runtime.gpu.driver import Driver, DriverError, Handle
from thalweg.runtime.gpu.memory import Mark, Memory, Parts, PinnedPool, Staged, size_text

SMALL = 65_536  # bytes that the driver itself takes over at once, without pinned memory
CHUNK = 2**25  # bytes of pinned memory that a large copy goes through at a time
PIECES = 4  # of a large array on their way to the host at a time
ALIGNED = 16  # bytes: what compiled kernels rely on
SHOWN = 5  # of the largest tensors, where memory is used up


class Gpu:
    """Safe to use from several threads.

    Args:
        index: its number with the driver.

    Example:
        >>> gpu = Gpu(driver, 0)
        >>> x = gpu.put(np.ones(3, np.float32))
        >>> gpu.fetch(x)
        array([1., 1., 1.], dtype=float32)
    """

    def __init__(self, driver: Driver, index: int) -> None:
        self.driver, self.index = driver, index
        self.name = f"/device:GPU:{index}"
        self.lock = threading.RLock()
        driver.use(index)
        self.properties = driver.properties(index)
        self.compute, self.up, self.down = driver.stream(), driver.stream(), driver.stream()
        self.staging = PinnedPool(driver)
        self._events: deque[Handle] = deque()  # given back, to be used again
        self._unused: deque[tuple[int, Sequence[Mark]]] = deque()  # memory that nobody refers to any more
        self._live: dict[int, Memory.Row] = {}
        self._modules: dict[str, Handle] = {}
        self._peers: dict[int, bool] = {}

    def enter(self) -> None:
        """Have this thread work on it."""
        self.driver.use(self.index)

    # Memory.

    def allocate(self, nbytes: int, label: str, parts: Parts = None, stream: Handle | None = None) -> Memory:
        """Memory that is given back when nobody refers to it.

        Args:
            label: what messages call it.
            parts: the tensors in it, for messages: bytes and what they are.
            stream: in which it is used first; `compute` by default.

        Raises:
            DeviceMemoryError: there is not as much; names what takes the most.
        """
        stream = self.compute if stream is None else stream
        nbytes = max(nbytes, 1)
        with self.lock:
            self.enter()
            self._take_back()
            try:
                address = self.driver.allocate(nbytes, stream)
            except DriverError as error:
                if not error.is_out_of_memory:
                    raise
                address = self._allocate_again(nbytes, stream, label, parts)
            self._live[address] = nbytes, label, parts
            return Memory(address, nbytes, self._unused)

    def _allocate_again(self, nbytes: int, stream: Handle, label: str, parts: Parts) -> int:
        """Once more, after everything that is not in use has gone back to the driver."""
        self.synchronise()
        self.driver.trim()
        try:
            return self.driver.allocate(nbytes, stream)
        except DriverError as error:
            if not error.is_out_of_memory:
                raise
        free, total = self.driver.memory()
        raise DeviceMemoryError(
            f"{self.name} is out of memory: {size_text(nbytes)} are asked for, for {label}, and {size_text(free)} of "
            f"{size_text(total)} are free. The largest in it now:\n"
            + "\n".join(f"  {size_text(size)}  {what}" for size, what in self.largest((nbytes, label, parts)))
            + "\nUse smaller batches, narrower element types, or tw.checkpoint, which computes values again instead of "
            "keeping them."
        )

    def largest(self, *more: Memory.Row) -> list[tuple[int, str]]:
        """What takes the most memory: bytes and what it is, of the tensors in it where those are known."""
        found: list[tuple[int, str]] = []
        with self.lock:
            rows = [*self._live.values(), *more]
        for nbytes, label, parts in rows:
            inner = list(parts()) if parts is not None else []
            found += inner or [(nbytes, label)]
        return sorted(found, key=lambda one: -one[0])[:SHOWN]

    @property
    def in_use(self) -> int:
        """Bytes that are allocated and referred to."""
        with self.lock:
            self.enter()
            self._take_back()
            return sum(nbytes for nbytes, _, _ in self._live.values())

    def _take_back(self) -> None:
        """Free what nobody refers to, once the streams that use it are done with it. Never while capturing: the lock is
        held then, and whoever holds it allocates nothing."""
        while self._unused:
            address, marks = self._unused.popleft()
            for mark in marks:
                self.order(self.compute, mark)
            self._live.pop(address, None)
            self.driver.free(address, self.compute)

    # Streams.

    def mark(self, stream: Handle) -> Mark:
        """What happens when a stream has done what is in it now."""
        event = self._events.popleft() if self._events else self.driver.event()
        self.driver.record(event, stream)
        return Mark(self.driver, event, stream, self._events)

    def order(self, stream: Handle, mark: Mark | None) -> None:
        """Have a stream wait for a mark."""
        if mark is not None and stream not in mark.seen_by:
            self.driver.wait(stream, mark.event)
            mark.seen_by.add(stream)

    def synchronise(self) -> None:
        """Wait for everything, and free what is not in use."""
        with self.lock:
            self.enter()
            self._take_back()
        try:
            for stream in (self.up, self.compute, self.down):
                self.driver.synchronise(stream)
        except DriverError as error:
            raise self.failed(error) from error

    def failed(self, error: DriverError) -> DeviceError:
        """What to say of an error that shows only when the host waits."""
        return DeviceError(
            f"{self.name} failed in something that was started earlier: {error} Set tw.config.check_launches = True "
            "(THALWEG_CHECK_LAUNCHES=1), which waits for each kernel, to learn which one and the line it is from."
        )

    def time(self, action: Callable[[], None], repeats: int = 10) -> list[float]:
        """Milliseconds that the compute stream takes for what an action puts into it, for each of some repeats.

        Example:
            >>> min(gpu.time(lambda: launch()))
        """
        with self.lock:
            self.enter()
            marks = [(self.driver.event(timing=True), self.driver.event(timing=True)) for _ in range(repeats)]
            for begin, end in marks:
                self.driver.record(begin, self.compute)
                action()
                self.driver.record(end, self.compute)
            self.driver.synchronise(self.compute)
            found = [self.driver.elapsed(begin, end) for begin, end in marks]
            for event in (event for pair in marks for event in pair):
                self.driver.destroy_event(event)
            return found

    # Arrays.

    def empty(self, shape: Sequence[int], dtype: Any, label: str = "an array") -> DeviceArray:
        """An array that something in the compute stream is going to write."""
        kind = np.dtype(dtype)
        nbytes = math.prod(shape) * kind.itemsize
        return DeviceArray(self, self.allocate(nbytes, label), tuple(shape), kind)

    def put(self, array: Array, label: str = "an input") -> DeviceArray:
        """A copy of an array of the host. The host's array may be changed when this returns."""
        source = np.ascontiguousarray(array).reshape(array.shape)
        with self.lock:
            self.enter()
            stream = self.compute if source.nbytes <= SMALL else self.up
            memory = self.allocate(source.nbytes, label, stream=stream)
            found = DeviceArray(self, memory, source.shape, source.dtype)
            self._upload(memory.address, source, stream)
            found.ready = self.mark(stream)
        memory.used_until(found.ready)
        return found

    def refill(self, target: DeviceArray, array: Array) -> None:
        """Write an array of the host into one that is there."""
        source = np.ascontiguousarray(array)
        with self.lock:
            self.enter()
            self.order(self.compute, target.ready)
            self._upload(target.address, source, self.compute)
            target.ready = self.mark(self.compute)

    def _upload(self, target: int, source: Array, stream: Handle) -> None:
        if source.nbytes <= SMALL:
            if source.nbytes:
                self.driver.upload(target, source.ctypes.data, source.nbytes, stream)
            return
        for begin in range(0, source.nbytes, CHUNK):
            size = min(CHUNK, source.nbytes - begin)
            staged = self.staging.take(size)
            ctypes.memmove(staged.address, source.ctypes.data + begin, size)
            self.driver.upload(target + begin, staged.address, size, stream)
            self.staging.give_back(staged, self.mark(stream))

    def receive(self, array: DeviceArray, label: str = "a received array") -> DeviceArray:
        """A copy of an array of another GPU, from memory to memory where the two can reach each other."""
        other = array.gpu
        if other is self:
            return array
        if other.driver is not self.driver:
            return self.put(other.fetch(array), label)
        with self.lock:
            self.enter()
            self.reaches(other)
            memory = self.allocate(array.nbytes, label, stream=self.up)
            found = DeviceArray(self, memory, array.shape, array.dtype)
            self.order(self.up, array.ready)
            # Where there is no way between the two, the driver goes through the host by itself.
            self.driver.copy_peer(memory.address, self.index, array.address, other.index, array.nbytes, self.up)
            found.ready = self.mark(self.up)
        memory.used_until(found.ready)
        array.memory.used_until(found.ready)
        return found

    def join(self, parts: Sequence[DeviceArray], label: str = "a result") -> DeviceArray:
        """Arrays of several GPUs one after the other along their first axis, on this one."""
        first = parts[0]
        with self.lock:
            self.enter()
            shape = (sum(part.shape[0] for part in parts), *first.shape[1:])
            found = self.empty(shape, first.dtype, label)
            at = found.address
            for part in parts:
                self.order(self.compute, part.ready)
                self.reaches(part.gpu)
                self.copy_from(part.gpu, at, part.address, part.nbytes)
                at += part.nbytes
            found.ready = self.mark(self.compute)
        for part in parts:
            part.memory.used_until(found.ready)
        return found

    def copy_from(self, other: Gpu, target: int, source: int, nbytes: int) -> None:
        """Into this GPU's memory, in the compute stream."""
        if other is self:
            self.driver.copy(target, source, nbytes, self.compute)
        else:  # where there is no way between the two, the driver goes through the host by itself
            self.driver.copy_peer(target, self.index, source, other.index, nbytes, self.compute)

    def reaches(self, other: Gpu) -> bool:
        """Whether it can reach another GPU's memory; if not, copies go through the host."""
        if other is self:
            return True
        if other.index not in self._peers:
            self._peers[other.index] = self.driver.enable_peer(self.index, other.index)
        return self._peers[other.index]

    def fetch(self, array: DeviceArray) -> Array:
        """The numbers of an array, on the host. Waits for them, and for nothing else."""
        return self.fetching(array)()

    def fetching(self, array: DeviceArray) -> Callable[[], Array]:
        """Start bringing an array to the host; what is returned waits for it, from any thread.

        A large array goes in pieces, of which a few are under way at a time.

        Raises (what is returned):
            DeviceError: the GPU failed in what made it.
        """
        found = np.empty(array.shape, array.dtype)
        begins = iter(range(0, array.nbytes, CHUNK))
        pieces = deque(self._download(array, begin) for begin in islice(begins, PIECES))

        def wait(_kept: DeviceArray = array) -> Array:  # which keeps its memory
            while pieces:
                begin, size, staged, mark = pieces.popleft()
                try:
                    self.enter()
                    self.driver.await_event(mark.event)
                except DriverError as error:
                    raise self.failed(error) from error
                ctypes.memmove(found.ctypes.data + begin, staged.address, size)
                self.staging.give_back(staged)
                pieces.extend(self._download(array, more) for more in islice(begins, 1))
            return found

        return wait

    def _download(self, array: DeviceArray, begin: int) -> tuple[int, int, Staged, Mark]:
        """Start the copy of a piece of an array: where it begins, its size, where it goes, when it is there."""
        size = min(CHUNK, array.nbytes - begin)
        with self.lock:
            self.enter()
            self.order(self.down, array.ready)
            staged = self.staging.take(size)
            try:
                self.driver.download(staged.address, array.address + begin, size, self.down)
            except DriverError as error:
                raise self.failed(error) from error
            return begin, size, staged, self.mark(self.down)

    def aligned(self, array: DeviceArray) -> DeviceArray:
        """The array, or a copy of one that another library has put where no kernel of ours expects it."""
        if array.address % ALIGNED == 0:
            return array
        with self.lock:
            self.enter()
            found = self.empty(array.shape, array.dtype, "an input")
            self.order(self.compute, array.ready)
            self.driver.copy(found.address, array.address, array.nbytes, self.compute)
            found.ready = self.mark(self.compute)
            return found

    # Kernels.

    def function(self, image: KernelImage) -> Handle:
        """A kernel, its module loaded once.

        Raises:
            DeviceError: it is for another chip, or the driver does not take it.
        """
        if image.chip != self.properties.chip:
            raise DeviceError(
                f"kernel {image.name} is compiled for {image.chip}, but {self.name} ({self.properties.name}) is "
                f"{self.properties.chip}. Compile it for this GPU."
            )
        with self.lock:
            self.enter()
            module = self._modules.get(image.digest)
            if module is None:
                try:
                    module = self._modules[image.digest] = self.driver.load(image.binary)
                except DriverError as error:
                    raise DeviceError(f"{self.name} does not take kernel {image.name}: {error}") from error
            return self.driver.function(module, image.name, image.shared, image.clusters)
