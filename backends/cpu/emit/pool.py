"""Pooling: sums, products, largest and smallest elements of windows, whose padding is left out.

`tw.pool` (`pooling.py` makes it) has operands x and the number that windows start from, which changes nothing. Vectors
run through channels, and a tile is one line; where there are few channels, through planes that are copied to lie side
by side (`planes.py`), and a tile is a block of lines of them. Elements of x may be some places apart: the gradient of
mean pooling is a pooling of such a tensor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.control import Index as Place1
from thalweg.backends.cpu.emit.control import walk
from thalweg.backends.cpu.emit.elementwise import at_tail, inplace_pairs, lanes_for
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.packing import transpose
from thalweg.backends.cpu.emit.planes import Array, Frame, Pieces, Side
from thalweg.backends.cpu.emit.scalar import Num, constant, evaluate, register_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.taps import Nest, Spot, Window
from thalweg.backends.cpu.kernel import Kernel, function
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.windows import Taps, taps_of, windows_of

MOST_LANES = 16
TILES = 4  # for each thread, at least


@register("tw.pool", epilogue=True)
def pool(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel of a pooling, with the elementwise values that follow it."""
    w, target, root = ScopedWriter(), machine(options), group.root
    w.has_avx512, w.has_fma = target.has_avx512, target.has_fma
    widest = lanes_for([*group.members, *root.operands], group.stores)
    lanes = min(MOST_LANES, target.lanes(register_type(root.element)), widest)
    fused = Fused(w, group.members, max(lanes, 2))
    writer = _Apart if frame_of(group).apart(root.shape, fused.lanes) else _Pool
    made = writer(fused, group, target, options.worker_count())
    made.write()
    operands = [("%x", made.x.memref), *((ssa, fused.memory(value)[0]) for value, ssa in fused.buffers.items())]
    outputs = [(ssa, fused.memory(value)[0]) for ssa, value in zip(made.outputs, group.stores, strict=True)]
    scratch = made.pieces.bytes
    body = w.text().replace("SCRATCH", str(scratch))
    text = function(name, operands, outputs, body, ("%scratch", scratch) if scratch else None)
    types = tuple(kind for _, kind in (*operands, *outputs))
    values = (root.operands[0], *fused.buffers)
    pairs = () if scratch else inplace_pairs(fused, group.stores, made.places)
    safe = tuple((result, k + 1) for result, k in pairs if values[k + 1] is not root.operands[0])
    return Kernel(name, text, values, tuple(group.stores), made.tiles, scratch, (), safe, types)


def frame_of(group: Group) -> Frame:
    """The dimensions that the windows of a pooling leave alone, around those that they walk."""
    root = group.root
    return Frame.of(windows_of(root).free(root.operands[0].shape, root.shape))


class _Pool:
    """Writes a kernel whose vectors run through channels."""

    def __init__(self, fused: Fused, group: Group, target: Machine, threads: int) -> None:
        self.w, self.fused, self.group, self.root = fused.w, fused, group, group.root
        self.target, self.threads, self.lanes = target, threads, fused.lanes
        image, windows, self.frame = self.root.operands[0], windows_of(group.root), frame_of(group)
        self.combine = windows.combine
        spatial = list(self.frame.spatial)
        self.axes = [taps_of(windows, d, image.shape[d], self.root.shape[d]) for d in spatial]
        self.lone = len(self.axes) < 2  # the first of two axes is made up
        if self.lone:
            self.axes = [Taps.reading(1, 1, 1), *self.axes]
        self.channels = self.frame.channels(image.shape)
        self.x = Array("%x", image.size, image.element, tuple(axis.extent for axis in self.axes), self.channels)
        self.outputs = [f"%out{k}" for k in range(len(group.stores))]
        self.places: list[Place] = []
        self.pieces = Pieces(self.w)
        self.planes = self.frame.planes(self.root.shape)
        self.tiles = self.planes * self.axes[0].places
        self.inner = [self.root.shape[d] for d in self.frame.inner]
        self.channel: list[Index] = []

    def write(self) -> None:
        with self.w.for_("%lo", "%hi", 1) as tile:
            plane, line = self.w.delinearize(tile, [self.planes, self.axes[0].places])
            x = replace(self.x, base=self.w.mul(plane, math.prod(self.x.extents) * self.channels))
            outer = self._outer(plane)

            def visit(result: list[Spot], window: Window) -> None:
                total = self.reduced(window, x, self._channel_offset())
                self.give((*outer, *self.spatial(result), *self.channel), total)

            Nest(self.w, self.axes, self._across).run(line, self.w.add(line, 1), visit)

    def reduced(self, window: Window, x: Array, channel: Place1) -> Num:
        """A window's elements combined."""
        w = self.w
        splat = self.root.operands[1].splat
        assert splat is not None

        def look(place: list[Spot], _: Place1, carried: list[Num]) -> list[Num]:
            found = x.load(w, x.at(w, place, channel), self.lanes, "" if x.own else self.fused.mask)
            return evaluate(w, self.combine, [*carried, replace(found, element=self.root.element)])

        (total,) = window.each([constant(w, splat, self.root.element, self.lanes)], look)
        return total

    def give(self, place: Place, total: Num) -> None:
        """Store what follows the result at a place."""
        fused, stores = self.fused, self.group.stores
        place = tuple(Index(0) if n == 1 and at.uniform else at for n, at in zip(self.root.shape, place, strict=True))
        fused.define(self.root, place, total)
        fused.put(stores, self.outputs, place)
        self.places.append(place)

    def spatial(self, result: Sequence[Spot]) -> list[Index]:
        """The place of a result along the dimensions that windows extend over."""
        return [Index(self.w.add(*spot)) for spot in result[self.lone :]]

    def _outer(self, plane: Place1) -> list[Index]:
        return [Index(at) for at in self.w.delinearize(plane, [self.root.shape[d] for d in self.frame.outer])]

    def _channel_offset(self) -> Place1:
        total: Place1 = 0
        for at, extent in zip(self.channel, self.inner, strict=True):
            total = self.w.add(self.w.mul(total, extent), at.base)
        return total

    def _across(self, body: Callable[[], None]) -> None:
        """`body` for each vector of channels."""
        w, lanes = self.w, self.lanes

        def level(found: list[Index]) -> None:
            if len(found) < len(self.inner) - 1:
                with w.for_(0, self.inner[len(found)], 1) as i:
                    level([*found, Index(i)])
                return
            extent = self.inner[-1]
            main = extent - extent % lanes

            def at(c: Place1) -> None:
                self.channel = [*found, Index(c, 1)]
                body()

            if main == lanes:
                at(0)
            elif main:
                with w.for_(0, main, lanes) as c:
                    at(c)
            if main < extent:
                with w.branch(w.hoisted("arith.constant true")):
                    at_tail(self.fused, extent - main, lambda: at(main))

        level([])


class _Apart(_Pool):
    """Writes a kernel whose vectors run through planes."""

    def __init__(self, fused: Fused, group: Group, target: Machine, threads: int) -> None:
        super().__init__(fused, group, target, threads)
        self.depth = self.channels * self.lanes
        self.tiled = -(-self.planes // self.lanes)
        self.block = self._cut()
        self.blocks = -(-self.axes[0].places // self.block)
        self.tiles = self.tiled * self.blocks

    def _lines(self, block: int) -> tuple[int, int]:
        """Lines that a block of so many places reads and makes, at most."""
        axis, (least, most) = self.axes[0], self.axes[0].reach
        return min(axis.extent, (block - 1) * axis.step + most - least + 1), block * axis.period

    def _cut(self) -> int:
        """Places of a block: as many as the second cache holds, if there are blocks for all threads."""
        places = block = self.axes[0].places
        rest = self.axes[1:]
        line = [math.prod(n) * self.depth * 4 for n in ([a.extent for a in rest], [a.results for a in rest])]
        while block > 1 and (
            sum(n * size for n, size in zip(self._lines(block), line, strict=True)) > self.target.second_cache // 4
            or (self.threads > 1 and self.tiled * -(-places // block) < TILES * self.threads and block > 4)
        ):
            block = -(-block // 2)
        return block

    def write(self) -> None:
        w, axis, lanes = self.w, self.axes[0], self.lanes
        read, given = self._lines(self.block)
        held, spare = register_type(self.root.element), lanes * lanes
        x = self.pieces.piece(held, (read, *(a.extent for a in self.axes[1:])), self.depth, spare)
        out = self.pieces.piece(held, (given, *(a.results for a in self.axes[1:])), self.depth, spare)
        size = math.prod(self.x.extents) * self.channels
        line = size // axis.extent
        with w.for_("%lo", "%hi", 1) as tile:
            plane, block = w.delinearize(tile, [self.tiled, self.blocks])
            first = w.mul(block, self.block)
            last = w.minimum(w.add(first, self.block), axis.places)
            least, most = axis.reach
            from_ = w.op(f"arith.maxsi {w.ssa(w.add(w.mul(first, axis.step), least))}, {w.index(0)} : index")
            to = w.minimum(w.add(w.mul(last, axis.step), most + 1 - axis.step), axis.extent)
            side = Side(self.x, self.planes, size, w.mul(plane, lanes), lanes)
            with w.branch(w.op(f"arith.cmpi slt, {w.ssa(from_)}, {w.ssa(to)} : index")):
                side.gather(w, w.mul(from_, line), w.mul(w.sub(to, from_), line), x)
            begin = w.mul(first, axis.period)
            self._reduce((first, last), x.moved(w, from_), out.moved(w, begin))
            end = w.minimum(w.mul(last, axis.period), axis.results)
            with w.branch(w.hoisted("arith.constant true")):
                self._give_back(w.mul(plane, lanes), (begin, end), out.moved(w, begin))

    def _reduce(self, places: tuple[Place1, Place1], x: Array, out: Array) -> None:
        w = self.w
        channel: list[Place1] = [0]

        def across(body: Callable[[], None]) -> None:
            def at(c: Place1) -> None:
                channel[0] = c
                body()

            walk(w, self.depth, self.lanes, at)

        def visit(result: list[Spot], window: Window) -> None:
            total = self.reduced(window, x, channel[0])
            out.store(w, out.at(w, result, channel[0]), replace(total, element=out.element))

        with w.branch(w.hoisted("arith.constant true")):
            Nest(w, self.axes, across).run(*places, visit)

    def _give_back(self, first: Place1, lines: tuple[Place1, Place1], out: Array) -> None:
        """Store what follows the results, vectors along the last dimension of each plane."""
        w, lanes = self.w, self.lanes
        every = [w.add(first, j) for j in range(min(self.planes, lanes))]
        outer = [self._outer(w.minimum(plane, self.planes - 1)) for plane in every]
        extents = [*(axis.results for axis in self.axes), *self.inner]
        along = extents[-1]
        shape = replace(out, extents=(*out.extents[:1], *extents[1:]), channels=lanes)

        def chunk(place: list[Place1], start: Place1) -> None:
            spots: list[Spot] = [(at, 0) for at in place]
            vectors = [shape.load(w, shape.at(w, [*spots, (start, j)], 0), lanes).name for j in range(lanes)]
            kind = Num("", out.element, lanes).type
            rest = [Index(at) for at in place[self.lone :]]
            for plane, name in zip(outer, transpose(w, vectors, kind), strict=False):
                self.give((*plane, *rest, Index(start, 1)), Num(name, self.root.element, lanes))

        def single(place: list[Place1]) -> None:
            total = shape.load(w, shape.at(w, [*((at, 0) for at in place), (0, 0)], 0), lanes)
            for lane, plane in enumerate(outer):
                name = w.op(f"vector.extract {total.name}[{lane}] : {out.element} from {total.type}")
                self.give((*plane, *map(Index, place[self.lone :]), Index(0)), Num(name, self.root.element))

        def level(place: list[Place1]) -> None:
            depth = len(place)
            if depth == len(extents) - 1 and along == 1:
                single(place)
                return
            if depth == len(extents) - 1:
                main = along - along % lanes
                if main:
                    with w.for_(0, main, lanes) as i:
                        chunk(place, i)
                if main < along:
                    with w.branch(w.hoisted("arith.constant true")):
                        at_tail(self.fused, along - main, lambda: chunk(place, main))
                return
            with w.for_(*(lines if depth == 0 else (0, extents[depth])), 1) as i:
                level([*place, i])

        level([])
