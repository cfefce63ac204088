"""Select and scatter, the gradient of pooling: each source element goes to the element that its window chose.

A tile is a block of lines of one plane. First the number of the chosen element is found for every window that meets the
block, and kept as a byte; then each element of the block adds up the source elements of those windows over it that
chose it. Every element of the result is written once, and nothing is written by two tiles.

    for every window over the block:    chosen[window] = number of its element that beats all others
    for every element of the block:     result = start + source of each window over it that chose its number

Where windows lie side by side, one pass does both. Vectors run through channels, or, where there are few, through
planes that are copied to lie side by side (`planes.py`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.planes import Array, Frame, Pieces, Side
from thalweg.backends.cpu.emit.scalar import Num, constant, evaluate, from_storage, register_type, select, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.taps import Nest, Spot, Window
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel, function, memref_type
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.windows import Taps, windows_of

MOST_LANES = 16
TILES = 4  # for each thread, at least


@register("stablehlo.select_and_scatter")
def select_and_scatter(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel of a select and scatter."""
    root = group.root
    w, target = ScopedWriter(), machine(options)
    w.has_avx512, w.has_fma = target.has_avx512, target.has_fma
    writer = _SelectScatter(w, root, target, options.worker_count())
    writer.write()
    operand, source, initial = root.operands
    kinds = [writer.x.memref, writer.s.memref, memref_type(initial), writer.out.memref]
    named = list(zip(("%x", "%s", "%start", "%out"), kinds, strict=True))
    scratch = writer.pieces.bytes
    body = w.text().replace("SCRATCH", str(scratch))
    text = function(name, named[:3], named[3:], body, ("%scratch", scratch) if scratch else None)
    return Kernel(name, text, (operand, source, initial), (root,), writer.tiles, scratch, types=tuple(kinds))


class _SelectScatter:
    """Writes one kernel."""

    def __init__(self, w: ScopedWriter, root: Value, target: Machine, threads: int) -> None:
        self.w, self.root, self.element = w, root, root.element
        windows = windows_of(root)
        assert windows.choose is not None
        self.choose, self.combine = windows.choose, windows.combine
        self.lanes = min(MOST_LANES, target.lanes(register_type(root.element)))
        source = root.operands[1]
        frame = Frame.of(windows.free(root.shape, source.shape))
        self.planes, channels = frame.planes(root.shape), frame.channels(root.shape)
        self.apart = root.element != "i1" and frame.apart(root.shape, self.lanes)
        spatial = list(frame.spatial)
        self.extents, self.results = ([shape[d] for d in spatial] for shape in (root.shape, source.shape))
        axes = [(windows.size[d], windows.stride[d], windows.low[d]) for d in spatial]
        if len(axes) == 1:  # a line of its own, and a block of one of them
            self.extents, self.results, axes = [1, *self.extents], [1, *self.results], [(1, 1, 0), *axes]
        reading, giving = [], []
        for extent, result, (size, stride, low) in zip(self.extents, self.results, axes, strict=True):
            reading.append(Taps.reading(extent, result, size, stride, 1, low))
            giving.append(Taps.spread(result, extent, size, stride, size - 1 - low, backwards=True))
        self.reading, self.giving = reading, giving
        self.side_by_side = all(
            size == stride and low == 0 and result * size <= extent
            for extent, result, (size, stride, low) in zip(self.extents, self.results, axes, strict=True)
        )
        self.numbers = "i8" if math.prod(size for size, _, _ in axes) < 128 and target.has_avx512 else "i32"
        self.tiled = self.planes if not self.apart else -(-self.planes // self.lanes)
        self.x = Array("%x", root.size, root.element, tuple(self.extents), channels)
        self.s = Array("%s", source.size, root.element, tuple(self.results), channels)
        self.out = Array("%out", root.size, root.element, tuple(self.extents), channels)
        self.depth = channels * self.lanes if self.apart else channels
        self.pieces = Pieces(w)
        self.block = self._cut(target, threads)
        self.blocks = -(-self.giving[0].places // self.block)
        self.tiles = self.tiled * self.blocks
        self.channel: Index = 0
        self.mask, self.used = "", 0

    # How the work is cut.

    def _lines(self, block: int) -> tuple[int, int, int]:
        """Lines of windows, of what they read, and of results, at most, of a block of so many places."""
        (giving, *_), (reading, *_) = self.giving, self.reading
        least, most = giving.reach
        windows = min(self.results[0], block + most - least)
        size = len(reading.phases[0])
        return windows, min(self.extents[0], (windows - 1) * reading.step + size), block * giving.period

    def _bytes(self, block: int) -> int:
        """Of scratch memory, for a block of so many places."""
        windows, read, given = self._lines(block)
        line, item = (math.prod(extents[1:]) * self.depth for extents in (self.extents, self.results)), 4
        image, result = line
        chosen = windows * result * (1 if self.numbers == "i8" else 4)
        return chosen * (not self.side_by_side) + ((read + given) * image + windows * result) * item * self.apart

    def _cut(self, target: Machine, threads: int) -> int:
        """Places of a block: as many as the second cache holds, if there are blocks for all threads."""
        places, (least, most) = self.giving[0].places, self.giving[0].reach
        block = places
        shortest = min(places, max(1, 4 * (most - least)))
        while block > shortest and (
            self._bytes(block) > target.second_cache // 4
            or (threads > 1 and self.tiled * -(-places // block) < TILES * threads)
        ):
            block = max(shortest, -(-block // 2))
        return block

    # Code.

    def write(self) -> None:
        w, (giving, *_), (reading, *_) = self.w, self.giving, self.reading
        if 0 in (self.root.size, self.x.size):
            return
        windows, read, given = self._lines(self.block)
        tail = self.results[1:]
        depth = -(-self.depth // self.lanes) * self.lanes
        chosen = Array("", 0, self.numbers, (windows, *tail), depth)
        if not self.side_by_side:
            chosen = self.pieces.piece(self.numbers, chosen.extents, depth)
        with w.for_("%lo", "%hi", 1) as tile:
            plane, block = w.delinearize(tile, [self.tiled, self.blocks])
            first = w.mul(block, self.block)
            last = w.minimum(w.add(first, self.block), giving.places)
            begin, end = reading.touching()
            least, most = giving.reach
            start = w.op(f"arith.maxsi {w.ssa(w.add(first, least))}, {w.index(begin)} : index")
            stop = w.minimum(w.add(last, most), end)
            chosen = chosen.moved(w, start)
            if self.apart:
                self._copied(plane, (first, last), (start, stop), (read, given), chosen)
                return
            x, s, out = (
                replace(array, base=w.mul(plane, math.prod(array.extents) * array.channels))
                for array in (self.x, self.s, self.out)
            )
            self._block((first, last), (start, stop), x, s, chosen, out)

    def _block(
        self, places: tuple[Index, Index], windows: tuple[Index, Index], x: Array, s: Array, chosen: Array, out: Array
    ) -> None:
        """A block, from x and the source's lines to the result's."""
        if self.side_by_side:
            self._choose(windows, x, lambda at, window, result: self._write(at, window, result, s, out))
            self._fill(places, out)
        else:
            w = self.w
            self._choose(windows, x, lambda at, _, place: chosen.store(w, chosen.at(w, place, self.channel), at))
            self._give(places, s, chosen, out)

    def _copied(
        self, plane: Index, places: tuple[Index, Index], windows: tuple[Index, Index], lines: tuple[int, int],
        chosen: Array,
    ) -> None:  # fmt: skip
        """A tile whose planes are copied to lie side by side."""
        w, (reading, *_), (giving, *_) = self.w, self.reading, self.giving
        held, spare = register_type(self.element), self.lanes * self.lanes
        x, out = (
            self.pieces.piece(held, (count, *self.extents[1:]), self.depth, spare) for count in lines
        )
        s = self.pieces.piece(held, (chosen.extents[0], *self.results[1:]), self.depth, spare)
        low, size = -reading.phases[0][0][0], len(reading.phases[0])
        from_ = w.op(f"arith.maxsi {w.ssa(w.add(w.mul(windows[0], reading.step), -low))}, {w.index(0)} : index")
        to = w.add(w.mul(windows[1], reading.step), size - reading.step - low)
        to = w.minimum(to, reading.extent)
        begin, end = w.mul(places[0], giving.period), w.minimum(w.mul(places[1], giving.period), giving.results)
        first = w.mul(plane, self.lanes)
        across = {
            array.name: Side(array, self.planes, math.prod(array.extents) * array.channels, first, self.lanes)
            for array in (self.x, self.s, self.out)
        }
        image, result = (math.prod(extents[1:]) * self.x.channels for extents in (self.extents, self.results))
        copied = ((across["%x"], x, (from_, to), image), (across["%s"], s, windows, result))
        for side, block, (start, stop), line in copied:
            with w.branch(w.op(f"arith.cmpi slt, {w.ssa(start)}, {w.ssa(stop)} : index")):
                side.gather(w, w.mul(start, line), w.mul(w.sub(stop, start), line), block)
        moves = ((x, from_), (s, windows[0]), (out, begin))
        moved = [block.moved(w, line) for block, line in moves]
        self._block(places, windows, moved[0], moved[1], chosen, moved[2])
        with w.branch(w.hoisted("arith.constant true")):
            across["%out"].scatter(w, w.mul(begin, image), w.mul(w.sub(end, begin), image), out)

    def _across(self, body: Callable[[], None]) -> None:
        """`body` for each vector of channels."""
        main = self.depth - self.depth % self.lanes
        if main == self.lanes:
            self.channel = 0
            body()
        elif main:
            with self.w.for_(0, main, self.lanes) as c:
                self.channel = c
                body()
        if main < self.depth:
            self.channel, self.used = main, self.depth - main
            self.mask = self.w.hoisted(f"vector.constant_mask [{self.used}] : vector<{self.lanes}xi1>", "mask")
            with self.w.branch(self.w.hoisted("arith.constant true")):
                body()
            self.mask, self.used = "", 0

    def _choose(
        self, windows: tuple[Index, Index], x: Array, then: Callable[[Num, Window, list[Spot]], None]
    ) -> None:
        """Find the number of the chosen element of each window: `then(number, window, place of the window)`."""
        w, lanes = self.w, self.lanes

        def load(place: list[Spot]) -> Num:
            return x.load(w, x.at(w, place, self.channel), lanes, self.mask)

        def look(place: list[Spot], number: Index, carried: list[Num]) -> list[Num]:
            best, at = carried
            found = load(place)
            (stays,) = evaluate(w, self.choose, [best, found])
            stay, here = widen(w, stays, lanes).name, self._number(number)
            value = select(w, stay, best.name, found.name, found.type, lanes)
            return [Num(value, found.element, lanes), Num(select(w, stay, at.name, here.name, here.type, lanes),
                                                          here.element, lanes)]  # fmt: skip

        def visit(result: list[Spot], window: Window) -> None:
            if window.empty:
                return
            place, number = window.first()
            _, at = window.each([load(place), self._number(number)], look, begun=True)
            then(at, window, result)

        with w.branch(w.hoisted("arith.constant true")):
            Nest(w, self.reading, self._across, skip=True).run(*windows, visit)

    def _write(self, at: Num, window: Window, place: list[Spot], s: Array, out: Array) -> None:
        """Write all elements of a window that no other meets."""
        w, lanes, start = self.w, self.lanes, self._start()
        (new,) = evaluate(w, self.combine, [start, s.load(w, s.at(w, place, self.channel), lanes, self.mask)])

        def element(place: list[Spot], number: Index, carried: list[Num]) -> list[Num]:
            here = self._number(number)
            own = w.op(f"arith.cmpi eq, {at.name}, {here.name} : {here.type}")
            value = select(w, own, widen(w, new, lanes).name, start.name, start.type, lanes)
            held = Num(value, start.element, lanes)
            out.store(w, out.at(w, place, self.channel), held, self.mask, self.used)
            return carried

        window.each([], element)

    def _fill(self, places: tuple[Index, Index], out: Array) -> None:
        """Write what lies behind the last window along each dimension."""
        w, start = self.w, self._start()
        covered = [n * axis.period for n, axis in zip(self.results, self.giving, strict=True)]
        start_, stop = (w.mul(place, self.giving[0].period) for place in places)
        inside_, end = (w.minimum(stop, n) for n in (covered[0], self.extents[0]))
        behind = w.op(f"arith.maxsi {w.ssa(start_)}, {w.index(covered[0])} : index")

        def box(place: list[Spot], d: int) -> None:
            """What is behind the last window along d, before its end along those before."""
            depth = len(place)
            if depth == len(self.extents):
                self._across(lambda: out.store(w, out.at(w, place, self.channel), start, self.mask, self.used))
                return
            bounds: tuple[Index, Index] = (behind, end) if d == 0 else (start_, inside_)
            if depth:
                bounds = covered[d] if depth == d else 0, covered[depth] if depth < d else self.extents[depth]
            with w.for_(*bounds, 1) as i:
                box([*place, (i, 0)], d)

        for d, (extent, inside) in enumerate(zip(self.extents, covered, strict=True)):
            if inside < extent:
                box([], d)

    def _start(self) -> Num:
        """The number that sums start from, in all lanes."""
        loaded = self.w.op(f"memref.load %start[] : {memref_type(self.root.operands[2])}")
        start = widen(self.w, from_storage(self.w, loaded, self.element, 1), self.lanes)
        return replace(start, element=register_type(self.element)) if self.apart else start

    def _give(self, places: tuple[Index, Index], s: Array, chosen: Array, out: Array) -> None:
        """Add up what the windows over each element give it."""
        w, lanes = self.w, self.lanes
        start = self._start()

        def take(place: list[Spot], number: Index, carried: list[Num]) -> list[Num]:
            here = self._number(number)
            at = chosen.load(w, chosen.at(w, place, self.channel), lanes)
            given = s.load(w, s.at(w, place, self.channel), lanes, self.mask)
            (total,) = carried
            (new,) = evaluate(w, self.combine, [total, given])
            own = w.op(f"arith.cmpi eq, {at.name}, {here.name} : {here.type}")
            return [Num(select(w, own, widen(w, new, lanes).name, total.name, total.type, lanes), total.element, lanes)]

        def visit(result: list[Spot], window: Window) -> None:
            (total,) = window.each([start], take)
            out.store(w, out.at(w, result, self.channel), total, self.mask, self.used)

        with w.branch(w.hoisted("arith.constant true")):
            Nest(w, self.giving, self._across).run(*places, visit)

    def _number(self, number: Index) -> Num:
        """The number of an element in its window, in all lanes."""
        if isinstance(number, int):
            return constant(self.w, str(number), self.numbers, self.lanes)
        narrow = self.w.op(f"arith.index_cast {number} : index to {self.numbers}")
        return widen(self.w, Num(narrow, self.numbers), self.lanes)
