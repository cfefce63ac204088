"""The loops of a sum-of-products kernel around its register tile.

Outermost first:

    for block of the summed axis                 (only when the sum is long; partial sums wait in a buffer)
      for tile in [lo, hi)                       batch x panels of columns, or batch x tiles of rows
        pack the tile's own operand
        for the other axis
          register tile over the block, then the epilogue
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.blocking import Schedule, ceil_div
from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.finishing import Epilogue, Finish
from thalweg.backends.cpu.emit.microkernel import Tile, accumulate, accumulate_dot
from thalweg.backends.cpu.emit.nest import Buffer, Nest, accumulator, item_bytes
from thalweg.backends.cpu.emit.packing import (
    Panel,
    Source,
    flat_type,
    pack_lanes,
    pack_rows,
    pack_transposed,
    transposable,
    zero,
)
from thalweg.backends.cpu.emit.scalar import lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter


@dataclass(frozen=True)
class Spot:
    """Where a tile is.

    Args:
        batch: its coordinates on the batch axes; `corner`: the result's offset there; `lhs`, `rhs`: based there.
        extents: of the summed axes.
    """

    batch: tuple[Index, ...]
    corner: Index
    lhs: Source
    rhs: Source
    extents: list[Index]


class Tiling:
    """Writes one kernel's body with `w`; `tiles` and `scratch` (bytes, as `%scratch`) are known afterwards.

    Args:
        epilogue: what becomes of the sums; None stores them in `nest.out`.
    """

    def __init__(self, w: ScopedWriter, nest: Nest, schedule: Schedule, epilogue: Epilogue | None) -> None:
        self.w, self.nest, self.schedule, self.epilogue = w, nest, schedule, epilogue
        self.dtype = accumulator(nest.out.dtype)
        self.kind = lanes_type(self.dtype, schedule.lanes)
        self.scratch = 0
        self.panels = ceil_div(nest.lane.extent, schedule.width)
        self.row_tiles = ceil_div(nest.row_count, schedule.rows)
        self.by_panels = schedule.order == "panels"
        # Rows in each piece of a panel, a whole number of row tiles.
        self.chunk = ceil_div(self.row_tiles, schedule.splits) * min(schedule.rows, nest.row_count)
        self.splits = ceil_div(nest.row_count, self.chunk)
        self.units = self.panels * self.splits if self.by_panels else self.row_tiles
        self.tiles = nest.batch_count * self.units
        outer = nest.sums[0].extent if nest.sums else 1
        self.passes = ceil_div(outer, schedule.block)
        self.first = self.last = ""  # is this the first, the last pass? Where there are several
        self.depth = schedule.block * math.prod(a.extent for a in nest.sums[1:])
        self.lhs = self._flat(nest.lhs, nest.lane.lhs, [a.lhs for a in nest.sums])
        self.rhs = self._flat(nest.rhs, nest.lane.rhs, [a.rhs for a in nest.sums])
        self.out = self._flat(nest.out, 1, []) if epilogue is None else None
        self.packed_lhs, self.packed_rhs = self._packs()
        self.partial = self._partial()
        self.finished: Panel | None = None
        if epilogue is not None:
            self.finished = self._view(schedule.rows * schedule.width, 0)

    def run(self) -> None:
        """Write everything."""
        w, nest = self.w, self.nest
        extents: list[Index] = [a.extent for a in nest.sums]
        if self.passes == 1:
            self._pass(0, extents)
            return
        outer, block = nest.sums[0].extent, self.schedule.block
        with w.for_(0, outer, block) as start:
            extents[0] = w.minimum(w.sub(outer, start), block) if outer % block else block
            self.first = w.op(f"arith.cmpi eq, {start}, {w.index(0)} : index", "first")
            self.last = w.op(f"arith.cmpi eq, {start}, {w.index((self.passes - 1) * block)} : index", "last")
            self._pass(start, extents)

    # Buffers.

    def _flat(self, buffer: Buffer, lane: int, sums: list[int]) -> Source:
        """The buffer as one dimension."""
        kind, name = flat_type(buffer.size, buffer.dtype), buffer.name
        if len(buffer.shape) == 0:
            flat = f"memref.expand_shape {name} [] output_shape [1]"
            name = self.w.hoisted(f"{flat} : {buffer.memref} into {kind}", "flat")
        elif len(buffer.shape) > 1:
            dims = ", ".join(str(d) for d in range(len(buffer.shape)))
            name = self.w.hoisted(f"memref.collapse_shape {name} [[{dims}]] : {buffer.memref} into {kind}", "flat")
        return Source(name, kind, buffer.dtype, buffer.offset, tuple(sums), lane, buffer.signed)

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
            rhs = self._view((self.depth + schedule.lanes) * schedule.width, schedule.width)
        return lhs, rhs

    def _partial(self) -> Source | None:
        """Where sums wait between passes: in the result itself, if they go there as they are."""
        if self.passes == 1:
            return None
        if self.out is not None and self.nest.out.dtype == self.dtype:
            return replace(self.out, scratch=True)
        return self._view(self.nest.out.size, 0).source(1)

    # Loops over tiles.

    def _pass(self, start: Index, extents: list[Index]) -> None:
        """All tiles, for the summed positions from `start` of the outermost summed axis."""
        w, nest = self.w, self.nest
        lhs, rhs = self.lhs, self.rhs
        if nest.sums:
            lhs = replace(lhs, base=w.linear(lhs.base, [(start, nest.sums[0].lhs)]))
            rhs = replace(rhs, base=w.linear(rhs.base, [(start, nest.sums[0].rhs)]))
        if self.packed_lhs is not None and self.by_panels:
            walk(w, nest.row_count, self.schedule.rows, lambda row: self._pack_rows(lhs, row, row, extents))
        with w.for_("%lo", "%hi", 1) as tile:
            units = [self.panels, self.splits] if self.by_panels else [self.units, 1]
            *batch, unit, split = w.delinearize(tile, [*(a.extent for a in nest.batch), *units])
            spot = Spot(
                tuple(batch),
                w.linear(0, [(p, a.out) for p, a in zip(batch, nest.batch, strict=True)]),
                replace(lhs, base=w.linear(lhs.base, [(p, a.lhs) for p, a in zip(batch, nest.batch, strict=True)])),
                replace(rhs, base=w.linear(rhs.base, [(p, a.rhs) for p, a in zip(batch, nest.batch, strict=True)])),
                extents,
            )
            if self.by_panels:
                self._panel_tile(spot, unit, w.mul(split, self.chunk))
            else:
                self._row_tile(spot, w.mul(unit, self.schedule.rows))

    def _panel_tile(self, spot: Spot, unit: Index, row: Index) -> None:
        """One panel of columns, from `row` on. The last panel may be narrower, and is another piece of code then."""
        w, width, lanes = self.w, self.schedule.width, self.schedule.lanes
        rest = self.nest.lane.extent - (self.panels - 1) * width
        if self.packed_rhs is not None and transposable(spot.rhs, lanes):
            column, limit = w.mul(unit, width), self.nest.lane.extent
            pack_transposed(w, spot.rhs, self.packed_rhs, spot.extents, lanes, column, width, limit)
        if self.panels == 1 or rest == width:
            self._panel(spot, w.mul(unit, width), min(rest, width), row)
            return
        is_last = w.op(f"arith.cmpi eq, {w.ssa(unit)}, {w.index(self.panels - 1)} : index")
        with w.branch(is_last):
            self._panel(spot, (self.panels - 1) * width, rest, row)
        with w.scope("else", fence=True):
            self._panel(spot, w.mul(unit, width), width, row)

    def _panel(self, spot: Spot, column: Index, columns: int, first: Index) -> None:
        w, schedule = self.w, self.schedule
        rhs = replace(spot.rhs, base=w.linear(spot.rhs.base, [(column, self.nest.lane.rhs)]))
        if self.packed_rhs is not None:
            if not transposable(rhs, schedule.lanes):
                pack_lanes(w, rhs, self.packed_rhs, spot.extents, schedule.lanes, columns)
            rhs = self.packed_rhs.source(1)

        def rows(row: Index) -> None:
            packed = None
            if self.packed_lhs is not None:
                packed = replace(self.packed_lhs.source(0), base=w.mul(row, self.depth))
            self._register_tile(spot, rhs, row, column, columns, packed)

        if self.splits == 1:
            walk(w, self.nest.row_count, schedule.rows, rows)
            return
        last = w.minimum(w.add(first, self.chunk), self.nest.row_count)
        with w.for_(first, last, self.row_step) as row:
            rows(row)

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

    def _pack_rows(self, lhs: Source, row: Index, place: Index, extents: list[Index]) -> None:
        """Copy one tile of rows; `place`: the first row's number among the packed ones."""
        w, nest, panel = self.w, self.nest, self.packed_lhs
        assert panel is not None
        offsets = self._row_offsets(row)
        adjacent = bool(nest.rows) and nest.rows[-1].lhs == 1 and nest.row_run % len(offsets) == 0
        pack_rows(w, lhs, replace(panel, base=w.mul(place, self.depth)), extents, offsets, adjacent)

    # The register tile.

    def _row_offsets(self, row: Index) -> list[Index]:
        """Offset in `lhs` of each row of the tile; rows past the end repeat the last one."""
        w, nest = self.w, self.nest
        count = self.row_step
        offsets = []
        for r in range(count):
            at = w.add(row, r)
            if nest.row_count % count:
                at = w.minimum(at, nest.row_count - 1)
            places = w.delinearize(at, [a.extent for a in nest.rows])
            offsets.append(w.linear(0, [(p, a.lhs) for p, a in zip(places, nest.rows, strict=True)]))
        return offsets

    @property
    def row_step(self) -> int:
        """Rows in each tile."""
        return min(self.schedule.rows, self.nest.row_count)

    def _lhs_rows(self, lhs: Source, row: Index) -> tuple[Source, tuple[Index, ...]]:
        """The operand based at the tile, and the offset of each row from there, constant if possible."""
        w, rows = self.w, self.nest.rows
        if self.nest.row_run % self.row_step == 0:
            places = w.delinearize(row, [a.extent for a in rows])
            base = w.linear(lhs.base, [(p, a.lhs) for p, a in zip(places, rows, strict=True)])
            stride = rows[-1].lhs if rows else 0
            return replace(lhs, base=base), tuple(r * stride for r in range(self.row_step))
        return lhs, tuple(self._row_offsets(row))

    def _register_tile(
        self, spot: Spot, rhs: Source, row: Index, column: Index, columns: int, packed: Source | None
    ) -> None:
        w, schedule, nest = self.w, self.schedule, self.nest
        if packed is not None:
            lhs = packed
            rows: tuple[Index, ...] = tuple(range(self.row_step))
        else:
            based = replace(spot.lhs, base=w.linear(spot.lhs.base, [(column, nest.lane.lhs)]))
            lhs, rows = self._lhs_rows(based, row)
        tile = Tile(lhs, rhs, rows, columns, schedule.lanes, self.dtype, nest.logical)
        finish = Finish(w, nest, tile, spot.batch, spot.corner, row, column)
        start = [zero(w, schedule.lanes, self.dtype)] * (len(rows) * len(tile.widths))
        if self.partial is not None:
            start = finish.reload(self.partial, self.first, start)
        run = accumulate_dot if schedule.dot else accumulate
        sums = run(w, tile, spot.extents, start)
        if self.partial is None:
            self._deliver(finish, sums)
        elif self.out is not None and self.partial.name == self.out.name:
            finish.store(sums, self.partial)
        else:
            with w.branch(self.last):
                self._deliver(finish, sums)
            with w.scope("else", fence=True):
                finish.store(sums, self.partial)

    def _deliver(self, finish: Finish, sums: list[str]) -> None:
        if self.epilogue is None:
            assert self.out is not None
            finish.store(sums, self.out)
        else:
            assert self.finished is not None
            finish.hand_over(sums, self.finished.source(1), self.schedule.width, self.epilogue)
