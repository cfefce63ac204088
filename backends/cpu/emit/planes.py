"""Tensors as windows see them: planes side by side, spatial dimensions, channels; and planes taken apart.

A vector holds channels that lie side by side in memory. Where a tensor has none (channels first), a block of planes is
copied so that `lanes` of them lie side by side, transposed in registers, and results are copied back:

    [planes, *spatial, channels]  ->  [*spatial, channels * lanes]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.packing import transpose
from thalweg.backends.cpu.emit.scalar import (
    Num,
    from_storage,
    lanes_type,
    register_type,
    store_lanes,
    to_storage,
)
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.taps import Spot
from thalweg.backends.cpu.kernel import storage_type


@dataclass(frozen=True)
class Frame:
    """How the dimensions of a tensor are seen: those before the first that windows extend over are planes, those after
    the last are channels."""

    outer: tuple[int, ...]  # dimensions of planes
    spatial: tuple[int, ...]
    inner: tuple[int, ...]  # dimensions of channels

    @staticmethod
    def of(free: Sequence[bool]) -> Frame:
        """From whether windows do not extend over each dimension."""
        rank = len(free)
        windowed = [d for d in range(rank) if not free[d]] or list(range(rank))[-1:]
        if not windowed:
            return Frame((), (), ())
        first, last = windowed[0], windowed[-1] + 1
        return Frame(tuple(range(first)), tuple(range(first, last)), tuple(range(last, rank)))

    def planes(self, shape: Sequence[int]) -> int:
        """How many images of one channel there are."""
        return math.prod(shape[d] for d in self.outer)

    def channels(self, shape: Sequence[int]) -> int:
        """How many channels there are: the elements that lie at a place of an image."""
        return math.prod(shape[d] for d in self.inner)

    def apart(self, shape: Sequence[int], lanes: int) -> bool:
        """Do vectors of planes hold more than vectors of channels?"""

        def share(count: int) -> float:
            return count / (-(-count // lanes) * lanes)

        return share(self.channels(shape)) < 0.7 * share(self.planes(shape))


@dataclass(frozen=True)
class Array:
    """One plane of a buffer, or a block of lines of it: [*extents, channels] from element `base` on.

    `element` is that in memory; `own`: the kernel writes it, so that reads are not moved.
    """

    name: str
    size: int
    element: str
    extents: tuple[int, ...]
    channels: int
    base: Index = 0
    own: bool = False

    @property
    def memref(self) -> str:
        """The type of the buffer: all elements in one row."""
        return f"memref<{self.size}x{storage_type(self.element)}>"

    def at(self, w: ScopedWriter, place: Sequence[Spot], channel: Index) -> str:
        """The buffer at a place: '%x[%i]'. What is known is added last, so that it is part of the address."""
        known, total, scale = 0, self.base, math.prod(self.extents) * self.channels
        for (index, offset), extent in zip(place, self.extents, strict=True):
            scale //= extent
            known += offset * scale
            if isinstance(index, int):
                known += index * scale
            else:
                total = w.add(total, w.mul(index, scale))
        if isinstance(channel, int):
            known += channel
        else:
            total = w.add(total, channel)
        return f"{self.name}[{w.ssa(w.add(total, known))}]"

    def moved(self, w: ScopedWriter, line: Index) -> Array:
        """A block whose first line is line `line` of a tensor, as that tensor."""
        scale = math.prod(self.extents[1:]) * self.channels
        return replace(self, base=w.sub(self.base, w.mul(line, scale)))

    def load(self, w: ScopedWriter, where: str, lanes: int, mask: str = "") -> Num:
        """Read neighbouring elements; zeros where a mask leaves them out."""
        kind = lanes_type(storage_type(self.element), lanes)
        text = f"vector.load {where} : {self.memref}, {kind}"
        if mask:
            zero = w.hoisted(f"arith.constant dense<{'0.0' if 'f' in kind else '0'}> : {kind}", "zero")
            text = f"vector.maskedload {where}, {mask}, {zero} : {self.memref}, vector<{lanes}xi1>, {kind} into {kind}"
        return from_storage(w, w.ordered(text) if self.own else w.op(text), self.element, lanes)

    def store(self, w: ScopedWriter, where: str, number: Num, mask: str = "", used: int = 0) -> None:
        """Write neighbouring elements, those of a mask or the first `used`."""
        element = storage_type(self.element)
        store_lanes(w, to_storage(w, number), element, number.lanes, where, self.memref, mask, used)


class Pieces:
    """Pieces of a kernel's scratch buffer, whose type is filled in at the end, in place of SCRATCH."""

    def __init__(self, w: ScopedWriter) -> None:
        self.w, self.bytes = w, 0

    def piece(self, element: str, extents: Sequence[int], channels: int, spare: int = 0) -> Array:
        """A new one, with `spare` elements behind it that may be written."""
        size = math.prod(extents) * channels + spare
        at = self.w.index(self.bytes)
        kind = f"memref<{size}x{element}>"
        name = self.w.unique(f"memref.view %scratch[{at}][] : memref<SCRATCHxi8> to {kind}", "piece")
        bits = int("".join(c for c in element if c.isdigit()))
        self.bytes += -(-size * bits // 512) * 64
        return Array(name, size, element, tuple(extents), channels, 0, True)


@dataclass(frozen=True)
class Side:
    """`lanes` planes from `first` on of a buffer, each of `size` elements; those past the last repeat it."""

    buffer: Array
    planes: int
    size: int
    first: Index
    lanes: int

    def _bases(self, w: ScopedWriter) -> list[Index]:
        if self.planes <= self.lanes:
            return [min(j, self.planes - 1) * self.size for j in range(self.lanes)]
        every = [w.add(self.first, j) for j in range(self.lanes)]
        if self.planes % self.lanes:
            every = [w.minimum(plane, self.planes - 1) for plane in every]
        return [w.mul(plane, self.size) for plane in every]

    def gather(self, w: ScopedWriter, start: Index, count: Index, block: Array) -> None:
        """Copy `count` elements of each plane from `start` on to the begin of `block`, planes side by side."""
        bases, lanes = self._bases(w), self.lanes

        def step(at: Index, mask: str) -> None:
            vectors = []
            for base in bases:
                where = f"{self.buffer.name}[{w.ssa(w.add(w.add(base, start), at))}]"
                vectors.append(self.buffer.load(w, where, lanes, mask).name)
            kind = lanes_type(register_type(self.buffer.element), lanes)
            for j, name in enumerate(transpose(w, vectors, kind)):
                where = f"{block.name}[{w.ssa(w.add(w.mul(at, lanes), j * lanes))}]"
                block.store(w, where, Num(name, block.element, lanes))

        self._steps(w, count, step)

    def scatter(self, w: ScopedWriter, start: Index, count: Index, block: Array) -> None:
        """Copy the begin of `block` to `count` elements of each plane from `start` on."""
        bases, lanes = self._bases(w), self.lanes

        def step(at: Index, mask: str) -> None:
            vectors = []
            for j in range(lanes):
                where = f"{block.name}[{w.ssa(w.add(w.mul(at, lanes), j * lanes))}]"
                vectors.append(block.load(w, where, lanes).name)
            kind = lanes_type(block.element, lanes)
            for base, name in zip(bases, transpose(w, vectors, kind), strict=True):
                where = f"{self.buffer.name}[{w.ssa(w.add(w.add(base, start), at))}]"
                self.buffer.store(w, where, Num(name, self.buffer.element, lanes), mask)

        self._steps(w, count, step)

    def _steps(self, w: ScopedWriter, count: Index, step: Callable[[Index, str], None]) -> None:
        """`step(position, mask)` for every `lanes` of `count` elements."""
        lanes = self.lanes
        rest = count % lanes if isinstance(count, int) else w.op(f"arith.remui {count}, {w.index(lanes)} : index")
        whole = w.sub(count, rest)
        if whole != 0:
            with w.for_(0, whole, lanes) as i:
                step(i, "")
        if rest == 0:
            return
        with w.branch(w.op(f"arith.cmpi ne, {w.ssa(rest)}, {w.index(0)} : index")):
            step(whole, w.op(f"vector.create_mask {w.ssa(rest)} : vector<{lanes}xi1>"))
