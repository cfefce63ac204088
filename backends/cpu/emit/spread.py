"""Data gradients of strided convolutions, and convolutions with few results: each place is multiplied by the whole
window, and the products are added up where the window lies.

`tw.spread` (`transposed.py` makes it) has operands g: [batch, *places, inputs] and w, whose dimensions are the
window's, the outputs and the inputs in some order, and computes y: [batch, *spatial, outputs],

    y[n, place * step + k - low, c] += sum over f of  g[n, place, f] * w[k, c, f]

    pack w in panels                columns are (k, c): a vector is full however few outputs there are
    for tile in [lo, hi)            blocks of lines of y
      for every line of places that reaches the block, for some neighbouring places
        register tiles: products with all columns
        add them to the block's lines: a row of the window is one run of neighbouring numbers
      copy the block to y
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.fused import Fused
from thalweg.backends.cpu.emit.image import Scratch, whole
from thalweg.backends.cpu.emit.microkernel import Tile, accumulate
from thalweg.backends.cpu.emit.nest import Buffer, strides
from thalweg.backends.cpu.emit.packing import Source, load_lanes, tail_mask, zero
from thalweg.backends.cpu.emit.registers import register_tile
from thalweg.backends.cpu.emit.scalar import lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.kernel import Kernel, function
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions

BLOCK_BYTES = 1 << 20  # of lines that are added to: they stay in the second cache
UNROLL = 4  # vectors that an addition moves in a step
_NANOSECONDS_PER_PRODUCT = 0.02


@dataclass(frozen=True)
class Axis:
    """One spatial dimension. `apart`: elements of w from one of the window's to the next, from `start` on."""

    places: int
    window: int
    results: int
    step: int
    low: int
    start: int
    apart: int

    @property
    def reach(self) -> int:
        """Results that are added to, or wanted, from `low` before the first on."""
        return max((self.places - 1) * self.step + self.window, self.low + self.results)


@register("tw.spread")
def spread(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel."""
    root, w, target = group.root, ScopedWriter(), machine(options)
    fused = Fused(w, group.members, target.lanes(root.element))
    g, weight = root.operands
    buffers = [Buffer(fused.buffer(value), value.shape, value.element) for value in (g, weight)]
    writer = _Spread(w, [*buffers, Buffer("%out0", root.shape, root.element)], _axes(group), target, options)
    writer.outputs, writer.order = root.shape[-1], _order(group)
    tiles = writer.run()
    scratch = writer.scratch.bytes
    body = w.text().replace("SCRATCH", str(scratch))
    operands = [(ssa, value) for value, ssa in fused.buffers.items()]
    text = function(name, operands, [("%out0", root)], body, ("%scratch", scratch))
    products = g.size * weight.size // weight.shape[writer.order[-1]]
    cost = products * _NANOSECONDS_PER_PRODUCT
    return Kernel(name, text, tuple(fused.buffers), (root,), tiles, scratch, nanoseconds=cost, setup=True)


def _order(group: Group) -> list[int]:
    """Where w has the window's dimensions, the outputs and the inputs."""
    assert group.root.op is not None
    return integers(group.root.op, "order", [])


def _axes(group: Group) -> list[Axis]:
    """The spatial dimensions, three of them: the lines of a block, those between, and along a row. Where there are
    fewer, others have a single place."""
    root = group.root
    assert root.op is not None
    g, weight = root.operands
    order, apart = _order(group), strides(weight.shape)
    steps, low, flip = (integers(root.op, name, []) for name in ("steps", "low", "flip"))
    axes = []
    for d in range(len(root.shape) - 2):
        window, along = weight.shape[order[d]], apart[order[d]]
        start, along = ((window - 1) * along, -along) if flip[d] else (0, along)
        axes.append(Axis(g.shape[1 + d], window, root.shape[1 + d], steps[d], low[d], start, along))
    single = Axis(1, 1, 1, 1, 0, 0, 0)
    return [*axes[:-1], *[single] * (3 - len(axes)), axes[-1]]


class _Spread:
    """Writes one kernel."""

    outputs: int
    order: list[int]

    def __init__(
        self, w: ScopedWriter, buffers: list[Buffer], axes: list[Axis], target: Machine, options: CpuOptions
    ) -> None:
        self.w, self.axes = w, axes
        self.g, self.weight, self.out = buffers
        self.machine, self.threads = target, options.worker_count()
        self.dtype, self.lanes = self.out.dtype, target.lanes(self.out.dtype)
        self.scratch = Scratch(w, self.dtype)

    def run(self) -> int:
        """Write everything; the number of tiles."""
        w, (lines, between, along) = self.w, self.axes
        self.inputs = self.weight.shape[self.order[-1]]
        self.columns = lines.window * between.window * along.window * self.outputs
        wide = ceil_div(self.columns, self.lanes)
        self.rows, self.vectors = register_tile(along.places, wide, self.machine, self.inputs)
        self.width = self.vectors * self.lanes
        self.panels = ceil_div(wide, self.vectors)
        self.row = along.reach * self.outputs  # elements of the block: of a row,
        self.line = between.reach * self.row  # of a line
        batch = self.g.shape[0]
        self.block = ceil_div(lines.results, self._blocks(batch))
        blocks = ceil_div(lines.results, self.block)
        self.packed = self.scratch.view(self.panels * self.inputs * self.width)
        self.products = self.scratch.view(self.rows * self.panels * self.width)
        self.sums = self.scratch.view(self.block * self.line)
        self._pack()
        with w.for_("%lo", "%hi", 1) as tile:
            n, k = w.delinearize(tile, [batch, blocks])
            self._tile(n, w.mul(k, self.block))
        return batch * blocks

    def _blocks(self, batch: int) -> int:
        """How many blocks of lines an image has: as many as the second cache asks for, or for which no thread waits
        long for another. A line of places is multiplied for every block that its window reaches."""
        lines, *_ = self.axes
        least = max(ceil_div(lines.results * self.line * 4, BLOCK_BYTES), 1)
        most = max(least, min(ceil_div(4 * self.threads, batch), lines.results)) if self.threads > 1 else least

        def awaited(count: int) -> int:
            return ceil_div(batch * count, self.threads) * (ceil_div(lines.results, count) + lines.window - 1)

        return min(range(least, most + 1), key=lambda count: (awaited(count), count))

    def _pack(self) -> None:
        """w as [panel, input, column]; columns past the last are zero."""
        w, (_, between, along), apart = self.w, self.axes, strides(self.weight.shape)
        source, size = whole(w, self.weight), self.panels * self.inputs * self.width
        self._each(0, size, lambda at, count: self._put(self.packed, at, count, None))
        outputs, inputs = apart[self.order[-2]], apart[self.order[-1]]
        first = sum(axis.start for axis in self.axes)
        columns = [self.outputs * along.window * between.window, self.outputs * along.window, self.outputs]

        def element(at: list[Index]) -> None:
            if len(at) < len(self.axes):
                walk(w, self.axes[len(at)].window, 1, lambda k: element([*at, k]))
                return
            with w.for_(0, self.outputs, 1) as c:
                start = w.linear(first, [(c, outputs), *zip(at, (axis.apart for axis in self.axes), strict=True)])
                self._pack_column(source, w.linear(c, zip(at, columns, strict=True)), start, inputs)

        element([])

    def _pack_column(self, source: Source, column: Index, start: Index, step: int) -> None:
        """The inputs of one element of the window, for one output."""
        w = self.w
        panel, at = w.delinearize(column, [self.panels, self.width])
        goal = w.linear(at, [(panel, self.inputs * self.width)])
        with w.for_(0, self.inputs, 1) as f:
            value = w.op(f"memref.load {source.name}[{w.ssa(w.linear(start, [(f, step)]))}] : {source.memref}")
            place = w.ssa(w.linear(goal, [(f, self.width)]))
            w.emit(f"memref.store {value}, {self.packed.name}[{place}] : {self.packed.memref}")

    def _tile(self, n: Index, first: Index) -> None:
        w, (lines, between, along) = self.w, self.axes
        count: Index = self.block
        if lines.results % self.block:
            count = w.minimum(w.sub(lines.results, first), self.block)
        self._each(0, self.block * self.line, lambda at, size: self._put(self.sums, at, size, None))
        # Lines of places whose windows reach the block.
        begin = self._rounded(w.add(first, lines.low - lines.window + lines.step), lines.step)
        end = self._rounded(w.add(w.add(first, count), lines.low + lines.step - 1), lines.step)
        with w.for_(begin, w.minimum(end, lines.places), 1) as y:

            def row(z: Index) -> None:
                full = along.places - along.places % self.rows
                walk(w, full, self.rows, lambda x: some(z, x, self.rows))
                if along.places > full:
                    some(z, full, along.places - full)

            def some(z: Index, x: Index, rows: int) -> None:
                self._multiply(n, (y, z, x), rows)
                with w.for_(0, rows, 1) as r:
                    self._add((y, z, w.add(x, r)), w.mul(r, self.panels * self.width), first, count)

            walk(w, between.places, 1, row)
        self._finish(n, first, count)

    def _rounded(self, distance: Index, step: int) -> Index:
        """distance / step, rounded down; 0 for less."""
        w = self.w
        if isinstance(distance, int):
            return max(distance, 0) // step
        positive = w.op(f"arith.maxsi {distance}, {w.index(0)} : index")
        return positive if step == 1 else w.op(f"arith.divui {positive}, {w.index(step)} : index")

    def _multiply(self, n: Index, place: tuple[Index, Index, Index], rows: int) -> None:
        """The products of `rows` neighbouring places with all columns."""
        w, steps = self.w, strides(self.g.shape)
        source = whole(w, self.g)
        spatial = steps[1:-1]
        outer = zip(place, spatial[:-1], strict=False)  # those that there are
        base = w.linear(0, [(n, steps[0]), *outer, (place[-1], spatial[-1])])
        lhs = replace(source, base=base, sums=(1,), lane=0)
        places = tuple(r * steps[-2] for r in range(rows))

        def panel(k: Index, vectors: int) -> None:
            rhs = replace(self.packed, base=w.mul(k, self.inputs * self.width), sums=(self.width,))
            tile = Tile(lhs, rhs, places, vectors * self.lanes, self.lanes, self.dtype, unroll=self.machine.unroll)
            nothing = [zero(w, self.lanes, self.dtype)] * (rows * vectors)
            kind = lanes_type(self.dtype, self.lanes)
            for i, value in enumerate(accumulate(w, tile, [self.inputs], nothing)):
                r, v = divmod(i, vectors)
                at = w.linear(r * self.panels * self.width + v * self.lanes, [(k, self.width)])
                w.emit(f"vector.store {value}, {self.products.name}[{w.ssa(at)}] : {self.products.memref}, {kind}")

        wide = ceil_div(self.columns, self.lanes)
        full, rest = divmod(wide, self.vectors)
        walk(w, full, 1, lambda k: panel(k, self.vectors))
        if rest:
            panel(full, rest)

    def _add(self, place: tuple[Index, Index, Index], products: Index, first: Index, count: Index) -> None:
        """The products of one place, to the lines of the block that its window meets."""
        w, (lines, between, along), (y, z, x) = self.w, self.axes, place
        run = along.window * self.outputs
        column = w.linear(0, [(z, between.step * self.row), (x, along.step * self.outputs)])
        top = w.sub(w.linear(-lines.low, [(y, lines.step)]), first)
        with w.for_(0, lines.window, 1) as k:
            line = w.add(top, k)
            with w.branch(w.op(f"arith.cmpi ult, {w.ssa(line)}, {w.ssa(count)} : index")):
                goal = w.linear(column, [(line, self.line)])
                start = w.linear(products, [(k, between.window * run)])

                def row(m: Index) -> None:
                    to, from_ = w.linear(goal, [(m, self.row)]), w.linear(start, [(m, run)])
                    self._each(0, run, lambda at, size: self._sum(w.add(to, at), w.add(from_, at), size))

                walk(w, between.window, 1, row)

    def _finish(self, n: Index, first: Index, count: Index) -> None:
        """Copy the block to the result."""
        w, (lines, between, along), out = self.w, self.axes, whole(self.w, self.out, scratch=True)
        length = along.results * self.outputs
        with w.for_(0, count, 1) as k:
            start = w.linear(between.low * self.row + along.low * self.outputs, [(k, self.line)])
            goal = w.mul(w.add(w.mul(n, lines.results), w.add(first, k)), between.results * length)

            def row(m: Index) -> None:
                to, from_ = w.linear(goal, [(m, length)]), w.linear(start, [(m, self.row)])
                self._each(0, length, lambda at, size: self._copy(out, w.add(to, at), w.add(from_, at), size))

            walk(w, between.results, 1, row)

    # Runs of neighbouring numbers.

    def _each(self, start: int, count: int, body: Callable[[Index, int], None]) -> None:
        """`body` for pieces of a run."""
        step = UNROLL * self.lanes
        full = count - count % step
        walk(self.w, full, step, lambda at: body(self.w.add(at, start), step))
        if count > full:
            body(start + full, count - full)

    def _sum(self, goal: Index, start: Index, count: int) -> None:
        w, kind = self.w, lanes_type(self.dtype, self.lanes)
        for first in range(0, count, self.lanes):
            mask = tail_mask(w, self.lanes, min(self.lanes, count - first))
            a = load_lanes(w, self.sums, w.add(goal, first), self.lanes, mask)
            b = load_lanes(w, self.products, w.add(start, first), self.lanes, mask)
            self._put(self.sums, w.add(goal, first), count - first, w.op(f"arith.addf {a}, {b} : {kind}"))

    def _copy(self, out: Source, goal: Index, start: Index, count: int) -> None:
        w = self.w
        for first in range(0, count, self.lanes):
            mask = tail_mask(w, self.lanes, min(self.lanes, count - first))
            value = load_lanes(w, self.sums, w.add(start, first), self.lanes, mask)
            self._put(out, w.add(goal, first), count - first, value)

    def _put(self, target: Source, at: Index, count: int, value: str | None) -> None:
        """One vector, of which at most `count` lanes are stored; without a value, zeros in all `count` places."""
        w, kind = self.w, lanes_type(self.dtype, self.lanes)
        if value is None:
            nothing = zero(w, self.lanes, self.dtype)
            for first in range(0, count, self.lanes):
                self._put(target, w.add(at, first), count - first, nothing)
            return
        mask, place = tail_mask(w, self.lanes, min(self.lanes, count)), f"{target.name}[{w.ssa(at)}]"
        if mask is None:
            w.emit(f"vector.store {value}, {place} : {target.memref}, {kind}")
        else:
            w.emit(f"vector.maskedstore {place}, {mask}, {value} : {target.memref}, vector<{self.lanes}xi1>, {kind}")
