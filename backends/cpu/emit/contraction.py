"""Kernels for sums of products: matrix products of any orientation, rank and batch, convolutions, and their gradients.

    contraction -> nest (roles of the loops) -> schedule (tiles, order, packing) -> text

The loops of a kernel, outermost first:

    for block of the summed axis                 (only when the sum is long; partial sums wait in a buffer)
      for tile in [lo, hi)                       batch x panels of columns, or batch x tiles of rows
        pack the tile's own operand
        for the other axis
          register tile over the block, then the epilogue
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.blocking import Machine, Schedule, ceil_div, choose
from thalweg.backends.cpu.emit.microkernel import Tile, accumulate, accumulate_dot
from thalweg.backends.cpu.emit.nest import Buffer, Contraction, Fused, Nest, accumulator, bits, classify
from thalweg.backends.cpu.emit.packing import (
    Index,
    Panel,
    Source,
    convert,
    flat_type,
    pack_lanes,
    pack_rows,
    pack_transposed,
    transposable,
    vector_type,
    zero,
)
from thalweg.backends.cpu.emit.writer import Writer


@dataclass(frozen=True)
class Element:
    """One vector of finished sums, as the epilogue gets it.

    Args:
        value: SSA name of a `vector<lanes x dtype>`.
        indices: its first lane's place in the result, an SSA index for each dimension; lanes run along `dim`.
        mask: SSA name of a `vector<lanes x i1>`, or None where all lanes count.
    """

    value: str
    dtype: str
    lanes: int
    indices: tuple[str, ...]
    dim: int | None
    mask: str | None


Epilogue = Callable[[Writer, Element], None]


@dataclass(frozen=True)
class Generated:
    """The body of a kernel and what goes with it. `partial`: elements of the buffer `%partial` (accumulator type), or 0."""

    body: str
    tiles: int
    scratch: int
    partial: int = 0


def contraction(
    spec: Contraction, machine: Machine, epilogue: Epilogue | None = None, threads: int = 1, schedule: Schedule | None = None
) -> Generated:
    """The body of a kernel that computes `spec`, to be put in a function with `%lo`, `%hi` and, if asked for, `%scratch`.

    Args:
        epilogue: writes what becomes of each vector of sums; None stores it in `spec.out`.
        schedule: overrides the one chosen for the machine.
    """
    nest = classify(spec, machine.lanes(spec.accumulate), epilogue is None)
    chosen = schedule or choose(nest, machine, threads)
    return _Generator(nest, chosen, epilogue).run()


class _Generator:
    """Writes one kernel."""

    def __init__(self, nest: Nest, schedule: Schedule, epilogue: Epilogue | None) -> None:
        self.nest, self.schedule, self.epilogue = nest, schedule, epilogue
        self.w = Writer()
        self.dtype = accumulator(nest.out.dtype)
        self.kind = vector_type(schedule.lanes, self.dtype)
        self.scratch = 0
        rows, columns = nest.row_count, nest.lane.extent
        self.panels = ceil_div(columns, schedule.width)
        self.row_tiles = ceil_div(rows, schedule.rows)
        self.units = self.panels if schedule.order == "panels" else self.row_tiles
        self.tiles = nest.batch_count * self.units if nest.out.size else 0
        outer = nest.sums[0].extent if nest.sums else 1
        self.passes = ceil_div(outer, schedule.block) if outer else 1
        self.last: str | None = None  # is this the last pass? None: there is only one
        self.first: str | None = None

    def run(self) -> Generated:
        if not self.tiles:
            return Generated("", 0, 0)
        nest = self.nest
        self.lhs = self._flat(nest.lhs, nest.lane.lhs, [a.lhs for a in nest.sums])
        self.rhs = self._flat(nest.rhs, nest.lane.rhs, [a.rhs for a in nest.sums])
        self.out = self._flat(nest.out, 1, [])
        self.partial = self._partial() if self.passes > 1 else None
        self._reserve()
        if self.passes == 1:
            self._pass(0, [a.extent for a in nest.sums])
        else:
            outer, block = nest.sums[0].extent, self.schedule.block

            def one(start: str, _: list[str]) -> list[str]:
                extent = self.w.minimum(self.w.sub(outer, start), block) if outer % block else block
                final = (self.passes - 1) * block
                self.first = self.w.op(f"arith.cmpi eq, {start}, {self.w.index(0)} : index", "first")
                self.last = self.w.op(f"arith.cmpi eq, {start}, {self.w.index(final)} : index", "last")
                self._pass(start, [extent, *(a.extent for a in nest.sums[1:])])
                return []

            self.w.loop(0, outer, block, one)
        needs_partial = self.passes > 1 and self.partial is not self.out
        text = self.w.text().replace("SCRATCH", str(self.scratch))
        return Generated(text, self.tiles, self.scratch, nest.out.size if needs_partial else 0)

    # Buffers

    def _flat(self, buffer: Buffer, lane: int, sums: list[int]) -> Source:
        """The buffer as one dimension."""
        kind = flat_type(buffer.size, buffer.dtype)
        name = buffer.name
        if len(buffer.shape) == 0:
            name = self.w.unique(f"memref.expand_shape {name} [] output_shape [1] : {buffer.memref} into {kind}", "flat")
        elif len(buffer.shape) > 1:
            dims = ", ".join(str(d) for d in range(len(buffer.shape)))
            name = self.w.unique(f"memref.collapse_shape {name} [[{dims}]] : {buffer.memref} into {kind}", "flat")
        return Source(name, kind, buffer.dtype, buffer.offset, tuple(sums), lane)

    def _partial(self) -> Source:
        """Where sums wait between passes: in the result itself if nothing follows the sum."""
        if self.epilogue is None and self.nest.out.dtype == self.dtype:
            return self.out
        kind = flat_type(self.nest.out.size, self.dtype)
        return Source("%partial", kind, self.dtype, 0, (), 1)

    def _view(self, elements: int, dtype: str) -> tuple[str, str]:
        """A new piece of the scratch buffer: its name and type. `%scratch`'s type is filled in at the end."""
        kind = flat_type(elements, dtype)
        at = self.w.index(self.scratch)
        self.scratch += ceil_div(elements * bits(dtype) // 8, 64) * 64
        return self.w.unique(f"memref.view %scratch[{at}][] : memref<SCRATCHxi8> to {kind}", "pack"), kind

    def _reserve(self) -> None:
        """Scratch for the packed tile and for finished sums on their way to the epilogue."""
        nest, schedule = self.nest, self.schedule
        inner = math.prod(a.extent for a in nest.sums[1:])
        depth = schedule.block * inner
        self.packed_lhs: Panel | None = None
        self.packed_rhs: Panel | None = None
        self.depth = depth
        if schedule.pack_rhs:
            name, kind = self._view((depth + schedule.lanes) * schedule.width, self.dtype)
            self.packed_rhs = Panel(name, kind, self.dtype, 0, self._packed_strides(schedule.width), nest.signed)
        if schedule.pack_lhs:
            tiles = self.row_tiles if schedule.order == "panels" else 1
            name, kind = self._view(depth * schedule.rows * tiles, self.dtype)
            self.packed_lhs = Panel(name, kind, self.dtype, 0, self._packed_strides(schedule.rows), nest.signed)
        if self.epilogue is not None:
            self.sums_name, self.sums_kind = self._view(schedule.rows * schedule.width, self.dtype)

    def _packed_strides(self, width: int) -> tuple[int, ...]:
        extents = [a.extent for a in self.nest.sums]
        return tuple(math.prod(extents[d + 1 :]) * width for d in range(len(extents)))

    # Loops

    def _pass(self, start: Index, extents: list[Index]) -> None:
        """All tiles, for the summed positions from `start` of the outermost summed axis."""
        if self.packed_lhs is not None and self.schedule.order == "panels":
            lhs = replace(self.lhs, base=self.w.linear(self.lhs.base, [(start, self.nest.sums[0].lhs)]))
            self.w.walk(self.nest.row_count, self.schedule.rows, lambda row: self._pack_rows(lhs, row, row, extents))

        def tile(t: str, _: list[str]) -> list[str]:
            self._tile(t, start, extents)
            return []

        self.w.loop("%lo", "%hi", 1, tile)

    def _tile(self, t: str, start: Index, extents: list[Index]) -> None:
        w, nest, schedule = self.w, self.nest, self.schedule
        *places, unit = w.delinearize(t, [*(a.extent for a in nest.batch), self.units])
        lhs, rhs, out = self.lhs, self.rhs, self.out
        lhs = replace(lhs, base=w.linear(lhs.base, [(p, a.lhs) for p, a in zip(places, nest.batch, strict=True)]))
        rhs = replace(rhs, base=w.linear(rhs.base, [(p, a.rhs) for p, a in zip(places, nest.batch, strict=True)]))
        if nest.sums:
            lhs = replace(lhs, base=w.linear(lhs.base, [(start, nest.sums[0].lhs)]))
            rhs = replace(rhs, base=w.linear(rhs.base, [(start, nest.sums[0].rhs)]))
        corner = w.linear(out.base, [(p, a.out) for p, a in zip(places, nest.batch, strict=True)])
        spot = _Spot(tuple(places), corner, lhs, rhs, extents)
        if schedule.order == "panels":
            self._columns_of_panel(spot, unit)
        else:
            self._row_tile(spot, w.mul(unit, schedule.rows))

    def _columns_of_panel(self, spot: _Spot, unit: Index) -> None:
        """One panel: all rows. The last panel may be narrower, and is another piece of code then."""
        w, width = self.w, self.schedule.width
        rest = self.nest.lane.extent - (self.panels - 1) * width
        lanes = self.schedule.lanes
        if self.packed_rhs is not None and transposable(spot.rhs, lanes):
            column = w.mul(unit, width)
            pack_transposed(w, spot.rhs, self.packed_rhs, spot.extents, lanes, column, width, self.nest.lane.extent)
        if self.panels == 1 or rest == width:
            self._panel(spot, w.mul(unit, width), min(rest, width))
            return
        is_last = w.op(f"arith.cmpi eq, {w.ssa(unit)}, {w.index(self.panels - 1)} : index")
        with w.block(f"scf.if {is_last}"):
            self._panel(spot, (self.panels - 1) * width, rest)
        with w.block("else"):
            self._panel(spot, w.mul(unit, width), width)

    def _panel(self, spot: _Spot, column: Index, columns: int) -> None:
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

        w.walk(self.nest.row_count, schedule.rows, rows)

    def _row_tile(self, spot: _Spot, row: Index) -> None:
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
        if full:
            w.walk(full * width, width, lambda column: panel(column, width))
        if rest:
            panel(full * width, rest)

    def _pack_rows(self, lhs: Source, row: Index, place: Index, extents: list[Index]) -> None:
        """Copy one tile of rows; `place`: the first row's number among the packed ones."""
        w, nest, panel = self.w, self.nest, self.packed_lhs
        assert panel is not None
        offsets = self._row_offsets(row)
        adjacent = len(nest.rows) == 1 and nest.rows[0].lhs == 1 and nest.row_count % len(offsets) == 0
        pack_rows(w, lhs, replace(panel, base=w.mul(place, self.depth)), extents, offsets, adjacent)

    # The register tile

    def _row_offsets(self, row: Index) -> list[Index]:
        """Offset in `lhs` of each row of the tile; rows past the end repeat the last one."""
        w, nest = self.w, self.nest
        count = min(self.schedule.rows, nest.row_count)
        if len(nest.rows) == 1 and nest.row_count % count == 0:
            first = w.mul(row, nest.rows[0].lhs)
            return [w.add(first, r * nest.rows[0].lhs) for r in range(count)]
        offsets = []
        for r in range(count):
            at = w.add(row, r)
            if nest.row_count % count:
                at = w.minimum(at, nest.row_count - 1)
            places = w.delinearize(at, [a.extent for a in nest.rows])
            offsets.append(w.linear(0, [(p, a.lhs) for p, a in zip(places, nest.rows, strict=True)]))
        return offsets

    def _register_tile(
        self, spot: _Spot, rhs: Source, row: Index, column: Index, columns: int, packed: Source | None
    ) -> None:
        w, schedule, nest = self.w, self.schedule, self.nest
        count = min(schedule.rows, nest.row_count)
        if packed is not None:
            lhs, rows = packed, list(range(count))
        else:
            lhs = replace(spot.lhs, base=w.linear(spot.lhs.base, [(column, nest.lane.lhs)]))
            rows = self._row_offsets(row)
            if rows and isinstance(rows[0], str) and len(nest.rows) == 1 and nest.row_count % count == 0:
                lhs = replace(lhs, base=w.add(lhs.base, rows[0]))
                rows = [r * nest.rows[0].lhs for r in range(count)]
        tile = Tile(lhs, rhs, tuple(rows), columns, schedule.lanes, self.dtype, nest.signed)
        vectors = len(tile.widths)
        places = _Places(self, spot, row, column, tile)
        nothing = [zero(w, schedule.lanes, self.dtype)] * (count * vectors)
        start = places.reload(nothing) if self.passes > 1 else nothing
        run = accumulate_dot if schedule.dot else accumulate
        sums = run(w, tile, spot.extents, start)
        if self.last is None:
            places.finish(sums)
        elif self.partial is self.out:
            places.store(sums, self.out)
        else:
            with w.block(f"scf.if {self.last}"):
                places.finish(sums)
            with w.block("else"):
                assert self.partial is not None
                places.store(sums, self.partial)


@dataclass(frozen=True)
class _Spot:
    """Where a tile is: batch coordinates, the result's offset there, the operands based there, the extents to sum over."""

    batch: tuple[Index, ...]
    corner: Index
    lhs: Source
    rhs: Source
    extents: list[Index]


class _Places:
    """Where the sums of one register tile go."""

    def __init__(self, generator: _Generator, spot: _Spot, row: Index, column: Index, tile: Tile) -> None:
        self.g, self.spot, self.row, self.column, self.tile = generator, spot, row, column, tile
        self.w = generator.w
        self.count = len(tile.rows)
        self.ragged = generator.nest.row_count % self.count != 0

    def _mask(self, used: int) -> str | None:
        lanes = self.tile.lanes
        return None if used == lanes else self.w.hoisted(f"vector.constant_mask [{used}] : vector<{lanes}xi1>", "mask")

    def _offset(self, row: Index) -> Index:
        """Offset in the result of column 0 of the tile in `row`."""
        nest, w = self.g.nest, self.w
        places = w.delinearize(row, [a.extent for a in nest.rows])
        start = w.linear(self.spot.corner, [(p, a.out) for p, a in zip(places, nest.rows, strict=True)])
        return w.linear(start, [(self.column, nest.lane.out)])

    def reload(self, nothing: list[str]) -> list[str]:
        """The partial sums of the earlier passes; zeros in the first pass."""
        w, tile, partial = self.w, self.tile, self.g.partial
        assert partial is not None
        types = ", ".join([self.g.kind] * len(nothing))
        result = w.fresh("start")
        w.emit(f"{result}:{len(nothing)} = scf.if {self.g.first} -> ({types}) {{")
        w.emit(f"scf.yield {', '.join(nothing)} : {types}\n}} else {{")
        values = []
        for r in range(self.count):
            row = w.add(self.row, r)
            if self.ragged:
                row = w.minimum(row, self.g.nest.row_count - 1)
            offset = self._offset(row)
            for v, used in enumerate(tile.widths):
                values.append(self._load(partial, w.add(offset, v * tile.lanes), self._mask(used)))
        w.emit(f"scf.yield {', '.join(values)} : {types}\n}}")
        return [f"{result}#{k}" for k in range(len(nothing))]

    def _load(self, source: Source, offset: Index, mask: str | None) -> str:
        w, kind, at = self.w, self.g.kind, f"{source.name}[{self.w.ssa(offset)}]"
        if mask is None:
            return w.op(f"vector.load {at} : {source.memref}, {kind}")
        pad = zero(w, self.tile.lanes, self.g.dtype)
        return w.op(f"vector.maskedload {at}, {mask}, {pad} : {source.memref}, vector<{self.tile.lanes}xi1>, {kind} into {kind}")

    def store(self, sums: list[str], target: Source) -> None:
        """Write the sums as they are, converted to the target's type."""
        w, tile = self.w, self.tile
        vectors = len(tile.widths)
        kind = vector_type(tile.lanes, target.dtype)

        def line(r: int) -> None:
            offset = self._offset(w.add(self.row, r))
            for v, used in enumerate(tile.widths):
                value = convert(w, sums[r * vectors + v], tile.dtype, target.dtype, tile.lanes)
                at = f"{target.name}[{w.ssa(w.add(offset, v * tile.lanes))}]"
                mask = self._mask(used)
                if mask is None:
                    w.emit(f"vector.store {value}, {at} : {target.memref}, {kind}")
                else:
                    w.emit(f"vector.maskedstore {at}, {mask}, {value} : {target.memref}, vector<{tile.lanes}xi1>, {kind}")

        for r in range(self.count):
            if not self.ragged or r == 0:
                line(r)
                continue
            inside = w.op(f"arith.cmpi slt, {w.ssa(w.add(self.row, r))}, {w.index(self.g.nest.row_count)} : index")
            with w.block(f"scf.if {inside}"):
                line(r)

    def finish(self, sums: list[str]) -> None:
        """Hand the sums to the epilogue, through a buffer, so that its code is written once and not for every register."""
        if self.g.epilogue is None:
            self.store(sums, self.g.out)
            return
        w, tile, lanes = self.w, self.tile, self.tile.lanes
        vectors, width = len(tile.widths), self.g.schedule.width
        name, kind, vector = self.g.sums_name, self.g.sums_kind, self.g.kind
        for k, value in enumerate(sums):
            r, v = divmod(k, vectors)
            w.emit(f"vector.store {value}, {name}[{w.index(r * width + v * lanes)}] : {kind}, {vector}")
        count = w.minimum(w.sub(self.g.nest.row_count, self.row), self.count) if self.ragged else self.count

        def column(r: Index, v: Index) -> None:
            at = w.linear(0, [(r, width), (v, lanes)])
            value = w.op(f"vector.load {name}[{w.ssa(at)}] : {kind}, {vector}")
            self._element(value, w.add(self.row, r), w.linear(self.column, [(v, lanes)]))

        def line(r: Index) -> None:
            w.walk(vectors, 1, lambda v: column(r, v))

        w.walk(count, 1, line)

    def _element(self, value: str, row: Index, column: Index) -> None:
        g, w, lanes = self.g, self.w, self.tile.lanes
        mask = None
        if self.tile.columns % lanes:
            left = w.sub(g.nest.lane.extent, column)
            mask = w.op(f"vector.create_mask {w.ssa(left)} : vector<{lanes}xi1>")
        value = convert(w, value, g.dtype, g.nest.out.dtype, lanes)
        indices: dict[int, Index] = {}
        for axes, places in (
            (g.nest.batch, self.spot.batch),
            (g.nest.rows, w.delinearize(row, [a.extent for a in g.nest.rows])),
            ((g.nest.lane,), [column]),
        ):
            for axis, place in zip(axes, places, strict=True):
                indices.update(_parts(w, axis, place))
        names = tuple(w.ssa(indices.get(d, 0)) for d in range(len(g.nest.out.shape)))
        dim = g.nest.lane.dims[-1][0] if g.nest.lane.dims else None
        assert g.epilogue is not None
        g.epilogue(w, Element(value, g.nest.out.dtype, lanes, names, dim, mask))


def _parts(w: Writer, axis: Fused, place: Index) -> dict[int, Index]:
    """The coordinates in the result's dimensions of a place on a merged axis."""
    places = w.delinearize(place, [extent for _, extent in axis.dims])
    return {dim: p for (dim, _), p in zip(axis.dims, places, strict=True)}
