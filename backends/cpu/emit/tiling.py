"""The loops of a sum-of-products kernel around its register tile.

Outermost first:

    for block of the summed axes                 (only when the sum is long; partial sums wait in a buffer)
      for tile in [lo, hi)                       batch x panels of columns, or batch x tiles of rows
        pack the tile's own operand
        for the other axis
          register tile over the block, then the epilogue

Where rows do not stay in the second cache, several panels are packed at a time, and each tile of rows walks them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce

from thalweg.backends.cpu.emit.blocking import Schedule, ceil_div
from thalweg.backends.cpu.emit.control import Index, in_parts, walk
from thalweg.backends.cpu.emit.finishing import Epilogue, Finish
from thalweg.backends.cpu.emit.microkernel import Tile, accumulate, accumulate_dot
from thalweg.backends.cpu.emit.nest import Nest, accumulator, item_bytes
from thalweg.backends.cpu.emit.packing import (
    Panel,
    Source,
    flat_type,
    flattened,
    pack_lanes,
    pack_rows,
    pack_transposed,
    transposable,
    zero,
)
from thalweg.backends.cpu.emit.places import RowPlaces, Spot
from thalweg.backends.cpu.emit.scalar import lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter

SHORT_SUM = 1024  # up to here it shows whether sums wait in memory for what becomes of them
PAGES = 16  # summed elements that are packed at a time: the processor fetches ahead in so many places
COPIED = 4  # of them are copied in each round of a loop, for every one that is multiplied


class Tiling:
    """Writes one kernel's body with `w`; `tiles` and `scratch` (bytes, as `%scratch`) are known afterwards.

    Args:
        epilogue: what becomes of the sums; None stores them in `nest.out`.
        light: is the epilogue so short that it may be written for each register?
    """

    def __init__(
        self, w: ScopedWriter, nest: Nest, schedule: Schedule, epilogue: Epilogue | None, light: bool = False
    ) -> None:
        self.w, self.nest, self.schedule, self.epilogue = w, nest, schedule, epilogue
        self.dtype = accumulator(nest.out.dtype)
        self.kind = lanes_type(self.dtype, schedule.lanes)
        self.scratch = 0
        self.panels = ceil_div(nest.lane.extent, schedule.width)
        self.row_tiles = ceil_div(nest.row_count, schedule.rows)
        self.by_panels = schedule.order == "panels"
        self.rows = min(schedule.rows, nest.row_count)  # of a tile; the last may have fewer
        self.places = RowPlaces(w, nest, self.rows)
        # Rows in each piece of a panel, a whole number of row tiles.
        self.chunk = ceil_div(self.row_tiles, schedule.splits) * self.rows
        self.splits = ceil_div(nest.row_count, self.chunk)
        self.units = self.panels * self.splits if self.by_panels else self.row_tiles
        self.tiles = nest.batch_count * self.units
        sizes = [size for size in (schedule.block, schedule.within) if size]
        self.cuts = [(axis.extent, size) for axis, size in zip(nest.sums, sizes, strict=False)]
        self.passes = math.prod(ceil_div(extent, size) for extent, size in self.cuts)
        self.first = self.last = ""  # is this the first, the last pass? Where there are several
        whole = [axis.extent for axis in nest.sums[len(self.cuts) :]]
        self.depth = math.prod([*(size for _, size in self.cuts), *whole])
        self.lhs = flattened(w, nest.lhs, nest.lane.lhs, [a.lhs for a in nest.sums])
        self.rhs = flattened(w, nest.rhs, 1 if nest.rhs.panel else nest.lane.rhs, [a.rhs for a in nest.sums])
        self.out = flattened(w, nest.out, 1, []) if epilogue is None else None
        self.packed_lhs, self.packed_rhs = self._packs()
        self.partial = self._partial()
        self.finished: Panel | None = None
        self.direct = light and self.partial is None and not schedule.dot and self.depth <= SHORT_SUM
        if epilogue is not None and not self.direct:
            self.finished = self._view(schedule.rows * schedule.width, 0)

    def run(self) -> None:
        """Write everything."""
        extents: list[Index] = [a.extent for a in self.nest.sums]
        if self.schedule.deep:
            self._deep(extents)
        elif self.passes == 1:
            self._pass([], extents)
        else:
            self._passes([], extents, self._pass)

    def _passes(
        self, starts: list[Index], extents: list[Index], body: Callable[[list[Index], list[Index]], None]
    ) -> None:
        """`body` for all passes over what is summed; `starts`: where they begin along the axes of the loops around."""
        w, axis = self.w, len(starts)
        if axis == len(self.cuts):
            ends = [(extent - 1) // size * size for extent, size in self.cuts]
            self.first, self.last = self._all_equal(starts, [0] * axis, "first"), self._all_equal(starts, ends, "last")
            body(starts, extents)
            return
        extent, size = self.cuts[axis]
        with w.for_(0, extent, size) as start:
            count = w.minimum(w.sub(extent, start), size) if extent % size else size
            self._passes([*starts, start], [*extents[:axis], count, *extents[axis + 1 :]], body)

    def _all_equal(self, places: list[Index], wanted: list[int], name: str) -> str:
        w = self.w
        pairs = zip(places, wanted, strict=True)
        equal = [w.op(f"arith.cmpi eq, {w.ssa(place)}, {w.index(n)} : index", name) for place, n in pairs]
        return equal[0] if len(equal) == 1 else w.op(f"arith.andi {equal[0]}, {equal[1]} : i1", name)

    # Buffers.

    def _view(self, elements: int, width: int) -> Panel:
        """A new piece of the scratch buffer, `width` elements per summed position. Its type is filled in at the end."""
        kind = flat_type(elements, self.dtype)
        at = self.w.index(self.scratch)
        self.scratch += ceil_div(elements * item_bytes(self.dtype), 64) * 64
        name = self.w.unique(f"memref.view %scratch[{at}][] : memref<SCRATCHxi8> to {kind}", "pack")
        extents = [a.extent for a in self.nest.sums]
        strides = tuple(math.prod(extents[d + 1 :]) * width for d in range(len(extents)))
        return Panel(name, kind, self.dtype, 0, strides)

    def _packs(self) -> tuple[Panel | None, Panel | None]:
        schedule = self.schedule
        lhs = rhs = None
        if schedule.pack_lhs:
            tiles = self.row_tiles if self.by_panels else 1
            lhs = self._view(self.depth * schedule.rows * tiles, schedule.rows)
        if schedule.pack_rhs:
            positions = self.depth * schedule.group + schedule.lanes
            rhs = self._view(positions * schedule.width, schedule.width)
        return lhs, rhs

    def _partial(self) -> Source | None:
        """Where sums wait between passes: in the result itself, if they go there as they are."""
        if self.passes == 1:
            return None
        if self.out is not None and self.nest.out.dtype == self.dtype:
            return replace(self.out, scratch=True)
        return self._view(self.nest.out.size, 0).source(1)

    # Loops over tiles.

    def _moved(self, starts: list[Index]) -> tuple[Source, Source]:
        """The operands, based at `starts` of the outermost summed axes."""
        w, moved = self.w, list(zip(starts, self.nest.sums, strict=False))
        lhs = replace(self.lhs, base=w.linear(self.lhs.base, [(start, axis.lhs) for start, axis in moved]))
        return lhs, replace(self.rhs, base=w.linear(self.rhs.base, [(start, axis.rhs) for start, axis in moved]))

    def _deep(self, extents: list[Index]) -> None:
        """All tiles, each with all its passes: what the rows read of a panel in one stays in the first cache."""
        w, nest = self.w, self.nest
        with w.for_("%lo", "%hi", 1) as tile:
            *batch, split, unit = w.delinearize(tile, [*(a.extent for a in nest.batch), self.splits, self.panels])

            def part(starts: list[Index], some: list[Index]) -> None:
                spot = self._spot(batch, *self._moved(starts), some)
                # What follows in memory, in this panel or in the next one.
                here = w.linear(spot.rhs.base, [(unit, self.schedule.width * nest.lane.rhs)])
                after = w.add(here, self._passed(some))
                spot = replace(spot, following=after)
                self._by_width(unit, lambda column, columns: self._panel(spot, column, columns, split))

            self._passes([], extents, part)

    def _pass(self, starts: list[Index], extents: list[Index]) -> None:
        """All tiles, for the summed positions from `starts` of the outermost summed axes."""
        w, nest = self.w, self.nest
        lhs, rhs = self._moved(starts)
        if not self.by_panels:
            with w.for_("%lo", "%hi", 1) as tile:
                *batch, unit = w.delinearize(tile, [*(a.extent for a in nest.batch), self.units])
                self._row_tile(self._spot(batch, lhs, rhs, extents), w.mul(unit, self.rows))
            return
        pieces = [*(a.extent for a in nest.batch), self.splits]
        if self.schedule.group == 1 and self.packed_lhs is None:
            with w.for_("%lo", "%hi", 1) as tile:
                *batch, split, unit = w.delinearize(tile, [*pieces, self.panels])
                spot = self._spot(batch, lhs, rhs, extents)
                if self.schedule.fetch and nest.rhs.panel:
                    spot = replace(spot, following=self._following(spot, tile))
                self._by_width(unit, lambda column, columns: self._panel(spot, column, columns, split))
            return
        end = w.op(f"arith.ceildivui %hi, {w.index(self.panels)} : index")
        with w.for_(w.op(f"arith.divui %lo, {w.index(self.panels)} : index"), end, 1) as piece:
            *batch, split = w.delinearize(piece, pieces)
            spot = self._spot(batch, lhs, rhs, extents)
            if self.packed_lhs is not None:
                self._pack_piece(spot.lhs, split, extents)
            start = w.mul(piece, self.panels)
            first = w.op(f"arith.maxsi {w.ssa(w.sub('%lo', start))}, {w.index(0)} : index")
            last = w.minimum(w.sub("%hi", start), self.panels)
            with w.for_(first, last, self.schedule.group) as unit:
                self._group(spot, unit, w.minimum(w.sub(last, unit), self.schedule.group), split)

    def _passed(self, extents: list[Index]) -> Index:
        return reduce(self.w.mul, extents, self.w.mul(self.schedule.width, 1))

    def _following(self, spot: Spot, tile: str) -> Index:
        """Where the panel of the next tile begins: after the last tile that of the first one, a pass further."""
        w, step = self.w, self.schedule.width * self.nest.lane.rhs
        after = w.add(tile, 1)
        *_, unit = w.delinearize(after, [self.splits, self.panels])
        *_, again = w.delinearize("%lo", [self.splits, self.panels])
        there = w.ssa(w.linear(spot.rhs.base, [(unit, step)]))
        back = w.ssa(w.add(w.linear(spot.rhs.base, [(again, step)]), self._passed(spot.extents)))
        more = w.op(f"arith.cmpi slt, {w.ssa(after)}, %hi : index")
        return w.op(f"arith.select {more}, {there}, {back} : index")

    def _spot(self, batch: Sequence[Index], lhs: Source, rhs: Source, extents: list[Index]) -> Spot:
        w, axes = self.w, self.nest.batch
        return Spot(
            tuple(batch),
            w.linear(0, [(p, a.out) for p, a in zip(batch, axes, strict=True)]),
            replace(lhs, base=w.linear(lhs.base, [(p, a.lhs) for p, a in zip(batch, axes, strict=True)])),
            replace(rhs, base=w.linear(rhs.base, [(p, a.rhs) for p, a in zip(batch, axes, strict=True)])),
            extents,
        )

    # Two pieces of code where the last panel is narrower, or the last tile lower.

    def _by_width(self, unit: Index, body: Callable[[Index, int], None]) -> None:
        """`body` for the first column, and how many, of panel number `unit`."""
        w, width = self.w, self.schedule.width
        rest = self.nest.lane.extent - (self.panels - 1) * width
        if self.panels == 1 or rest == width:
            body(w.mul(unit, width), rest)
            return
        is_last = w.op(f"arith.cmpi eq, {w.ssa(unit)}, {w.index(self.panels - 1)} : index")
        with w.branch(is_last):
            body((self.panels - 1) * width, rest)
        with w.scope("else", fence=True):
            body(w.mul(unit, width), width)

    def _by_height(self, row: Index, body: Callable[[int], None]) -> None:
        """`body` for how many rows the tile at `row` has."""
        w, rest = self.w, self.nest.row_count % self.rows
        if not rest:
            body(self.rows)
            return
        is_last = w.op(f"arith.cmpi eq, {w.ssa(row)}, {w.index(self.nest.row_count - rest)} : index")
        with w.branch(is_last):
            body(rest)
        with w.scope("else", fence=True):
            body(self.rows)

    # One tile of the result, or several.

    def _panel(self, spot: Spot, column: Index, columns: int, split: Index) -> None:
        """One panel of columns."""
        rhs = replace(spot.rhs, base=self.w.linear(spot.rhs.base, [(column, self.nest.lane.rhs)]))
        if self.packed_rhs is not None:
            self._pack_panel(spot, self.packed_rhs, column, columns)
            rhs = self.packed_rhs.source(1)
        self._walk_rows(split, lambda row: self._register_tile(spot, rhs, row, column, columns, None))

    def _group(self, spot: Spot, unit: Index, count: Index, split: Index) -> None:
        """`count` panels from number `unit` on, packed first where they are packed."""
        w, packed = self.w, self.packed_rhs
        size = self.depth * self.schedule.width

        def pack(k: Index, spot: Spot, after: Index) -> None:
            assert packed is not None
            panel = replace(packed, base=w.add(w.mul(k, size), after))
            self._by_width(w.add(unit, k), lambda column, columns: self._pack_panel(spot, panel, column, columns))

        def pack_part(first: Index, extents: list[Index]) -> None:
            assert packed is not None
            rhs = replace(spot.rhs, base=w.linear(spot.rhs.base, [(first, s) for s in spot.rhs.sums[-1:]]))
            after = w.linear(0, [(first, s) for s in packed.sums[-1:]])
            walk(w, count, 1, lambda k: pack(k, replace(spot, rhs=rhs, extents=extents), after))

        def tile(row: Index, k: Index) -> None:
            lhs = self._packed_rows(row)

            def registers(column: Index, columns: int) -> None:
                rhs = replace(spot.rhs, base=w.linear(spot.rhs.base, [(column, self.nest.lane.rhs)]))
                if packed is not None:
                    rhs = replace(packed, base=w.mul(k, size)).source(1)
                self._register_tile(spot, rhs, row, column, columns, lhs)

            self._by_width(w.add(unit, k), registers)

        if packed is not None and transposable(spot.rhs, self.schedule.lanes):
            walk(w, count, 1, lambda k: pack(k, spot, 0))
        elif packed is not None:
            in_parts(w, spot.extents, PAGES, pack_part)
        self._walk_rows(split, lambda row: walk(w, count, 1, lambda k: tile(row, k)))

    def _walk_rows(self, split: Index, body: Callable[[Index], None]) -> None:
        """`body` for each tile of rows of a piece."""
        w, count = self.w, self.nest.row_count
        if self.splits == 1:
            walk(w, count, self.rows, body)
            return
        first = w.mul(split, self.chunk)
        with w.for_(first, w.minimum(w.add(first, self.chunk), count), self.rows) as row:
            body(row)

    def _pack_panel(self, spot: Spot, panel: Panel, column: Index, columns: int) -> None:
        w, lanes, lane = self.w, self.schedule.lanes, self.nest.lane
        if transposable(spot.rhs, lanes):
            pack_transposed(w, spot.rhs, panel, spot.extents, lanes, column, self.schedule.width, lane.extent)
        else:
            rhs = replace(spot.rhs, base=w.linear(spot.rhs.base, [(column, lane.rhs)]))
            pack_lanes(w, rhs, panel, spot.extents, lanes, columns, COPIED * self.schedule.unroll)

    def _packed_rows(self, row: Index) -> Source | None:
        """Where the tile at `row` is, if all rows are packed."""
        if self.packed_lhs is None:
            return None
        return replace(self.packed_lhs.source(0), base=self.w.mul(row, self.depth))

    def _row_tile(self, spot: Spot, row: Index) -> None:
        """One tile of rows: all panels."""
        w, width = self.w, self.schedule.width
        packed: Source | None = None
        if self.packed_lhs is not None:
            self._pack_rows(spot.lhs, row, 0, spot.extents)
            packed = self.packed_lhs.source(0)

        def panel(column: Index, columns: int) -> None:
            rhs = replace(spot.rhs, base=w.linear(spot.rhs.base, [(column, self.nest.lane.rhs)]))
            self._register_tile(spot, rhs, row, column, columns, packed)

        full, rest = divmod(self.nest.lane.extent, width)
        walk(w, full * width, width, lambda column: panel(column, width))
        if rest:
            panel(full * width, rest)

    def _pack_piece(self, lhs: Source, split: Index, extents: list[Index]) -> None:
        """The rows of a piece."""
        w, packed = self.w, self.packed_lhs
        assert packed is not None

        def part(first: Index, some: list[Index]) -> None:
            source = replace(lhs, base=w.linear(lhs.base, [(first, lhs.sums[-1])]))
            after = w.mul(first, packed.sums[-1])
            self._walk_rows(split, lambda row: self._pack_rows(source, row, row, some, after))

        in_parts(w, extents, PAGES, part)

    def _pack_rows(self, lhs: Source, row: Index, place: Index, extents: list[Index], after: Index = 0) -> None:
        """Copy one tile of rows; `place`: the first row's number among the packed ones; `after`: elements further."""
        w, packed = self.w, self.packed_lhs
        assert packed is not None
        panel = replace(packed, base=w.add(w.mul(place, self.depth), after))

        def pack(rows: int) -> None:
            unroll = COPIED * self.schedule.unroll if self.places.adjacent else 1
            pack_rows(w, lhs, panel, extents, self.places.offsets(row, rows), self.places.adjacent, unroll)

        self._by_height(row, pack)

    # The register tile.

    def _register_tile(
        self, spot: Spot, rhs: Source, row: Index, column: Index, columns: int, packed: Source | None
    ) -> None:
        w, nest = self.w, self.nest
        finishes: list[Finish] = []

        def tile(count: int) -> None:
            if packed is not None:
                lhs = packed
                rows: tuple[Index, ...] = tuple(range(count))
            else:
                based = replace(spot.lhs, base=w.linear(spot.lhs.base, [(column, nest.lane.lhs)]))
                lhs, rows = self.places.based(based, row, count)
            unroll, (ahead, lines) = self.schedule.unroll, self._ahead(spot, row, column, columns)
            registers = Tile(
                lhs, rhs, rows, columns, self.schedule.lanes, self.dtype, nest.logical, unroll, ahead, lines
            )
            finish = Finish(w, nest, registers, spot.batch, spot.corner, row, column, self.places.straight_out)
            self._sum(finish, spot.extents)
            finishes.append(finish)

        self._by_height(row, tile)
        if self.epilogue is None or self.direct:
            return
        assert self.finished is not None
        count: Index = self.rows
        if nest.row_count % self.rows:
            count = w.minimum(w.sub(nest.row_count, row), self.rows)
        buffer, width = self.finished.source(1), self.schedule.width
        with w.branch(self.last) if self.last else w.staying():
            finishes[0].hand_over(count, buffer, width, self.epilogue)

    def _ahead(self, spot: Spot, row: Index, column: Index, columns: int) -> tuple[Source | None, int]:
        """The same summed elements of the next panel, and how many vectors of them to ask for at a time. If the matrix
        lies in panels, each tile of rows asks for its share, unless that is one: to ask for a line again and again
        takes longer than to wait for it. Else for all, a vector for each that it reads."""
        w, nest, width = self.w, self.nest, self.schedule.width
        tiles = self.chunk // self.rows
        share = ceil_div(width, tiles)  # of the elements of a panel that are multiplied by at a time
        if not self.schedule.fetch or (nest.rhs.panel and share == 1):
            return None, 0
        following = spot.following
        if following is None or not nest.rhs.panel:
            following = w.linear(spot.rhs.base, [(column, nest.lane.rhs), (columns, nest.lane.rhs)])
        if not nest.rhs.panel:
            return replace(spot.rhs, base=following), 0
        *_, tile, _ = w.delinearize(row, [self.splits, tiles, self.rows])
        following = w.linear(following, [(tile, self.depth * share)])
        sums = tuple(step // width * share for step in spot.rhs.sums)
        return replace(spot.rhs, base=following, sums=sums), ceil_div(share, self.schedule.lanes)

    def _sum(self, finish: Finish, extents: list[Index]) -> None:
        """Run the loops over the sum, and store the result, or keep it for what comes next."""
        w, tile, schedule = self.w, finish.tile, self.schedule
        start = [zero(w, schedule.lanes, self.dtype)] * (len(tile.rows) * len(tile.widths))
        if self.partial is not None:
            start = finish.reload(self.partial, self.first, start)
        sums = (accumulate_dot if schedule.dot else accumulate)(w, tile, extents, start)
        if self.epilogue is None:
            self._deliver(finish, sums)
        elif self.direct:
            finish.deliver(sums, self.epilogue)
        elif self.partial is None:
            self._keep(finish, sums)
        else:
            with w.branch(self.last):
                self._keep(finish, sums)
            with w.scope("else", fence=True):
                finish.store(sums, self.partial)

    def _keep(self, finish: Finish, sums: list[str]) -> None:
        assert self.finished is not None
        finish.keep(sums, self.finished.source(1), self.schedule.width)

    def _deliver(self, finish: Finish, sums: list[str]) -> None:
        """Store sums without an epilogue: in the result, or where they wait for the last pass."""
        assert self.out is not None
        if self.partial is None or self.partial.name == self.out.name:
            finish.store(sums, self.out)
            return
        with self.w.branch(self.last):
            finish.store(sums, self.out)
        with self.w.scope("else", fence=True):
            finish.store(sums, self.partial)
