"""Depthwise convolutions, channels last: each channel with a window of its own, vectors of channels, padding left out.

`tw.depthwise` (`convolution.py` makes it) has operands x: [batch, *spatial, channels] and weight: [*window, channels].
A tile is one line of results. A line is cut into register tiles of neighbouring results, which share what they read.
Where a window reaches over the border its elements beyond are not visited: along the line that is known when the code
is written, along the other dimensions the loop over the window is shorter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.elementwise import at_tail, finish, inplace_pairs, lanes_for
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.scalar import Num, constant, lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions

SIDE_BY_SIDE = 16  # results of a register tile, at most: as many sums, beside a row of the window and what is read
SPARE = 4  # registers that are left to those where there are few

Place1 = int | str  # along one dimension: known, or an SSA name


@register("tw.depthwise", epilogue=True)
def depthwise(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel of a depthwise convolution, with the elementwise values that follow it."""
    return depthwise_kernel(group, name, options, Depthwise)


def depthwise_kernel(group: Group, name: str, options: CpuOptions, write: type[Depthwise]) -> Kernel:
    """The kernel that a writer writes."""
    w, target = ScopedWriter(), machine(options)
    lanes = min(target.lanes(group.root.element), lanes_for([*group.members, *group.root.operands], group.stores))
    fused = Fused(w, group.members, lanes)
    results = [f"%out{k}" for k in range(len(group.stores))]
    writer = write(fused, group, results, min(SIDE_BY_SIDE, target.registers - SPARE))
    tiles = writer.write()
    operands = list(fused.buffers)
    pairs = tuple(
        (result, k)
        for result, k in inplace_pairs(fused, group.stores, writer.places)
        if operands[k] not in writer.read_around
    )
    return finish(name, w, fused, group.stores, results, tiles, inplace=pairs)


@dataclass(frozen=True)
class _Axis:
    """How the window slides along one spatial dimension."""

    extent: int  # of the image
    results: int
    window: int
    stride: int
    dilation: int
    low: int  # padding before

    def first(self, result: int) -> int:
        """Where in the image the window of a result begins; less than 0 in the padding."""
        return result * self.stride - self.low

    def inside(self, result: int) -> list[int]:
        """The window's elements that lie in the image."""
        return [k for k in range(self.window) if 0 <= self.first(result) + k * self.dilation < self.extent]

    def whole(self) -> tuple[int, int]:
        """The first result, and the one after the last, whose windows lie in the image as a whole."""
        found = [r for r in range(self.results) if len(self.inside(r)) == self.window]
        return (found[0], found[-1] + 1) if found else (0, 0)


class Depthwise:
    """Writes one kernel."""

    def __init__(self, fused: Fused, group: Group, results: Sequence[str], most: int) -> None:
        self.fused, self.w, self.group, self.results = fused, fused.w, group, results
        self.most = most  # results of a register tile
        self.root = group.root
        self.x, self.weight = self.root.operands
        assert self.root.op is not None
        spatial = len(self.x.shape) - 2
        strides, dilations, low = (
            integers(self.root.op, name, [1] * spatial) for name in ("strides", "dilations", "low")
        )
        extents = (self.x.shape[1:-1], self.root.shape[1:-1], self.weight.shape[:spatial])
        self.axes = [_Axis(*numbers) for numbers in zip(*extents, strides, dilations, low, strict=True)]
        self.kind = lanes_type(self.root.element, fused.lanes)
        self.places: list[Place] = []
        self.read_around: tuple[Value, ...] = ()  # operands that are not read through `fused`, at places of their own

    def write(self) -> int:
        """The number of tiles."""
        lines = self.root.shape[:-2]
        channels, lanes = self.root.shape[-1], self.fused.lanes
        main = channels - channels % lanes
        with self.w.for_("%lo", "%hi", 1) as tile:
            corner = self.w.delinearize(tile, lines)
            if main:
                with self.w.for_(0, main, lanes) as c:
                    self._line(corner, Index(c, 1 if lanes > 1 else 0))
            if main < channels:
                with self.w.branch(self.w.hoisted("arith.constant true")):
                    at_tail(self.fused, channels - main, lambda: self._line(corner, Index(main, 1)))
        return math.prod(lines)

    def _line(self, corner: Sequence[Place1], channel: Index) -> None:
        """All results of a line, for one vector of channels."""
        axis = self.axes[-1]
        first, last = axis.whole()
        count = last - first
        wide = -(-count // max(1, -(-count // self.most)))
        loops = count // wide if wide else 0
        if loops < 2:
            self._known(corner, channel, 0, axis.results)
            return
        self._known(corner, channel, 0, first)
        with self.w.for_(first, first + loops * wide, wide) as start:
            self._tile(corner, channel, [self.w.add(start, k) for k in range(wide)], [range(axis.window)] * wide)
        self._known(corner, channel, first + loops * wide, axis.results)

    def _known(self, corner: Sequence[Place1], channel: Index, start: int, stop: int) -> None:
        """Results whose place on the line is known."""
        for first in range(start, stop, self.most):
            along = range(first, min(stop, first + self.most))
            self._tile(corner, channel, list(along), [self.axes[-1].inside(r) for r in along])

    def _tile(
        self, corner: Sequence[Place1], channel: Index, along: Sequence[Place1], inside: Sequence[Sequence[int]]
    ) -> None:
        """Neighbouring results; `inside`: the window's elements along the line that each visits."""
        zero = constant(self.w, "0.0", self.root.element, self.fused.lanes).name
        batch, *outer = corner
        sums = self._window(batch, outer, channel, along, inside, [], [zero] * len(along))
        self._deliver(corner, channel, along, sums)

    def _deliver(self, corner: Sequence[Place1], channel: Index, along: Sequence[Place1], sums: Sequence[str]) -> None:
        """Store neighbouring results."""
        for place, total in zip(along, sums, strict=True):
            self._store((*map(Index, corner), Index(place), channel), Num(total, self.root.element, self.fused.lanes))

    def _window(
        self,
        batch: Place1,
        outer: Sequence[Place1],
        channel: Index,
        along: Sequence[Place1],
        inside: Sequence[Sequence[int]],
        at: list[Place1],
        sums: list[str],
    ) -> list[str]:
        """The sums over the window's elements from `at` on: one for each dimension before the line."""
        w, depth = self.w, len(at)
        if depth < len(outer):
            lower, upper = self._bounds(self.axes[depth], outer[depth])
            with w.reduction(lower, upper, 1, sums, [self.kind] * len(sums)) as loop:
                following = [*at, loop.index]
                loop.next = self._window(batch, outer, channel, along, inside, following, loop.carried)
            return loop.results
        line = [
            Index(w.add(w.add(w.mul(o, axis.stride), -axis.low), w.mul(k, axis.dilation)))
            for axis, o, k in zip(self.axes, outer, at, strict=False)
        ]
        return self.products(batch, line, at, channel, along, inside, sums)

    def products(
        self, batch: Place1, line: Sequence[Index], at: Sequence[Place1], channel: Index, along: Sequence[Place1],
        inside: Sequence[Sequence[int]], sums: list[str],
    ) -> list[str]:  # fmt: skip
        """The sums with the products of one line of the window, which is number `at` in it and reads `line`."""
        w, axis, sums = self.w, self.axes[-1], list(sums)
        for k in range(axis.window):
            for n, place in enumerate(along):
                if k in inside[n]:
                    read = Index(w.add(w.mul(place, axis.stride), k * axis.dilation - axis.low))
                    number = self._load(self.x, (Index(batch), *line, read, channel))
                    factor = self._load(self.weight, (*map(Index, at), Index(k), channel))
                    product = w.op(f"arith.mulf {number}, {factor} fastmath<contract> : {self.kind}")
                    sums[n] = w.op(f"arith.addf {sums[n]}, {product} fastmath<contract> : {self.kind}")
        return sums

    def _bounds(self, axis: _Axis, result: Place1) -> tuple[Place1, Place1]:
        """The first of the window's elements that lies in the image, and the one after the last."""
        w = self.w
        if len(axis.inside(0)) == len(axis.inside(axis.results - 1)) == axis.window:
            return 0, axis.window
        before = w.sub(axis.low, w.mul(result, axis.stride))  # elements of the image's line before the window begins
        lower = w.op(f"arith.maxsi {w.ssa(self._steps(before, axis))}, {w.index(0)} : index")
        return lower, w.minimum(self._steps(w.add(before, axis.extent), axis), axis.window)

    def _steps(self, distance: Place1, axis: _Axis) -> Place1:
        """Steps of the window that a distance takes, rounded up; a division of what is not negative."""
        if axis.dilation == 1:
            return distance
        shift = axis.results * axis.stride
        shifted = self.w.add(distance, axis.dilation * shift + axis.dilation - 1)
        steps = self.w.op(f"arith.divui {self.w.ssa(shifted)}, {self.w.index(axis.dilation)} : index")
        return self.w.add(steps, -shift)

    def _load(self, value: Value, place: Place) -> str:
        return self.fused.get(value, place).name

    def _store(self, place: Place, total: Num) -> None:
        fused, stores = self.fused, self.group.stores
        place = tuple(Index(0) if n == 1 else index for n, index in zip(self.root.shape, place, strict=True))
        fused.define(self.root, place, total)
        fused.put(stores, self.results, place)
        self.places.append(place)
