"""Products of bytes by the instructions that add up groups of them (groups.py).

    for tile in [lo, hi)          batch x panels of columns x pieces of the rows
      pack the tile's panel: the summed elements of a group side by side (weights of exported models lie so already)
      for each tile of rows
        registers over the whole sum, then the epilogue

A run of summed elements, those that lie side by side in the left operand, is cut into groups, and what is left at its
end is one more: zeros in the packed operand meet whatever stands there for the left one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index, carry, sum_loops, walk
from thalweg.backends.cpu.emit.finishing import Epilogue, Finish
from thalweg.backends.cpu.emit.groups import COLUMNS, Groups, GroupWriter, groups_for
from thalweg.backends.cpu.emit.microkernel import Tile
from thalweg.backends.cpu.emit.nest import Buffer, Contraction, Fused, Nest, classify
from thalweg.backends.cpu.emit.packing import Panel, Source, flat_type, load_lanes, tail_mask, zero
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions

TALLEST, WIDEST, WIDEST_OF_ONE = 12, 6, 16
SPLIT_ROWS = 64  # fewer rows are not worth packing a panel for
TOGETHER = 64  # bytes that are copied at a time


@dataclass(frozen=True)
class Shape:
    """A register tile of `rows` by `vectors`, and the pieces that the rows are cut into."""

    rows: int
    vectors: int
    splits: int


def suits(nest: Nest, groups: Groups, packed: bool) -> bool:
    """Whether `Grouped` can run a nest: the left operand's summed elements lie side by side, and there are some."""
    if not nest.sums or nest.lane.lhs or not nest.out.shape or 0 in (nest.row_count, nest.lane.extent, nest.sum_count):
        return False
    run = nest.sums[-1]
    return run.lhs == 1 and (packed or run.extent >= groups.size) and groups.takes(nest.lhs.signed, nest.rhs.signed)


def choose(nest: Nest, groups: Groups, machine: Machine, threads: int, packed: bool) -> Shape:
    """The register tile that costs least: instructions for products, loads, and addresses of rows."""
    wide, extra = ceil_div(nest.lane.extent, groups.lanes), int(groups.flips(nest.lhs.signed, nest.rhs.signed))
    depth = ceil_div(nest.sum_count, groups.size)
    if nest.row_count == 1:
        most = (machine.registers - groups.spare - groups.parts) // (groups.parts * (1 + extra))
        return Shape(1, max(1, min(wide, most, WIDEST_OF_ONE, max(4, wide // (2 * threads)))), 1)
    best = (float("inf"), 1, 1)
    for vectors in range(1, min(wide, WIDEST) + 1):
        for rows in range(1, min(nest.row_count, TALLEST) + 1):
            held = ((rows + extra) * vectors + vectors) * groups.parts + groups.spare
            if held > machine.registers and (rows, vectors) != (1, 1):
                continue
            addresses = 40 if nest.row_run % rows == 0 else (20 if len(nest.rows) > 1 else 3) * rows + 40
            cycles = 0.0
            for count, v in zip((wide // vectors, 1), (vectors, wide % vectors), strict=True):
                inner = max((rows + extra) * v * groups.cycles, 0.6 * (rows + v), 5.0 if groups.kind == "vnni" else 4.0)
                cycles += (count * (depth * inner + rows * v + addresses)) if v else 0.0
            best = min(best, (ceil_div(nest.row_count, rows) * cycles, -rows, vectors))
    rows, vectors, splits = -best[1], best[2], 1
    units = ceil_div(wide, vectors) * nest.batch_count
    if threads > 1 and units < 4 * threads:
        most = max(1, nest.row_count // (rows if packed else SPLIT_ROWS))
        splits = min(ceil_div(4 * threads, units), most)
    return Shape(rows, vectors, splits)


class Grouped:
    """Writes one kernel's body with `w`; `tiles` and `scratch` (bytes, as `%scratch`) are known afterwards.

    Args:
        packed: the right operand is laid out as [blocks of columns, outer sums…, groups of a run, 16, 4] already.
        epilogue: what becomes of the sums; None stores them in `nest.out`.
    """

    def __init__(
        self, w: ScopedWriter, nest: Nest, groups: Groups, shape: Shape, epilogue: Epilogue | None, packed: bool
    ) -> None:
        self.w, self.nest, self.groups, self.shape, self.epilogue = w, nest, groups, shape, epilogue
        self.scratch, self.packed = 0, packed
        self.width = shape.vectors * groups.lanes
        self.panels = ceil_div(nest.lane.extent, self.width)
        self.chunk = ceil_div(ceil_div(nest.row_count, shape.rows), shape.splits) * shape.rows
        self.splits = ceil_div(nest.row_count, self.chunk)
        self.tiles = nest.batch_count * self.panels * self.splits
        self.run_groups = ceil_div(nest.sums[-1].extent, groups.size)
        # Packed elements from a group to the next: a block of columns, or the panel, lies in one piece.
        self.group_step = (COLUMNS if packed else self.width) * groups.size
        self.flips = groups.flips(nest.lhs.signed, nest.rhs.signed)
        # Widening a row's bytes to pairs takes as long as multiplying them: they are widened once, for all panels.
        self.widens = groups.kind == "pairs" and nest.row_count > 1
        self.lhs = self._flat(nest.lhs)
        self.rhs = self._flat(nest.rhs)
        self.out = self._flat(nest.out) if epilogue is None else None
        self.finished = None if epilogue is None else self._view(shape.rows * self.width, groups.sums)

    @property
    def copies(self) -> bool:
        """Is the left operand copied by every call?"""
        return self.flips or self.widens

    def run(self) -> None:
        """Write everything."""
        w, nest = self.w, self.nest
        lhs = self._copied() if self.copies else self.lhs
        lhs = replace(lhs, sums=tuple(a.lhs for a in nest.sums))
        panel = None if self.packed else self._packed_panel()
        with w.for_("%lo", "%hi", 1) as tile:
            *batch, unit, split = w.delinearize(tile, [*(a.extent for a in nest.batch), self.panels, self.splits])
            at = [(p, a) for p, a in zip(batch, nest.batch, strict=True)]
            left = replace(lhs, base=w.linear(lhs.base, [(p, a.lhs) for p, a in at]))
            right = replace(self.rhs, base=w.linear(self.rhs.base, [(p, a.rhs) for p, a in at]))
            corner = w.linear(0, [(p, a.out) for p, a in at])

            def one(column: Index, columns: int) -> None:
                first = w.mul(split, self.chunk)
                if panel is not None:
                    self._pack(right, panel, column, columns)
                self._rows(left, panel or right, tuple(batch), corner, first, column, columns)

            self._each_width(unit, one)

    def _each_width(self, unit: Index, one: Callable[[Index, int], None]) -> None:
        """The panel, whose last one may be narrower, and is another piece of code then."""
        w, width = self.w, self.width
        rest = self.nest.lane.extent - (self.panels - 1) * width
        if self.panels == 1 or rest == width:
            one(w.mul(unit, width), min(rest, width))
            return
        with w.branch(w.op(f"arith.cmpi eq, {w.ssa(unit)}, {w.index(self.panels - 1)} : index")):
            one((self.panels - 1) * width, rest)
        with w.scope("else", fence=True):
            one(w.mul(unit, width), width)

    # Buffers.

    def _flat(self, buffer: Buffer) -> Source:
        """The buffer as one dimension."""
        kind, name = flat_type(buffer.size, buffer.dtype), buffer.name
        if len(buffer.shape) != 1:
            dims = ", ".join(str(d) for d in range(len(buffer.shape)))
            name = self.w.hoisted(f"memref.collapse_shape {name} [[{dims}]] : {buffer.memref} into {kind}", "flat")
        return Source(name, kind, buffer.dtype, buffer.offset, (), 0, buffer.signed)

    def _view(self, elements: int, dtype: str) -> Panel:
        """A new piece of the scratch buffer. Its type is filled in at the end."""
        kind, at = flat_type(elements, dtype), self.w.index(self.scratch)
        bytes_ = {"i8": 1, "i16": 2, "bf16": 2}.get(dtype, 4)
        self.scratch += ceil_div(elements * bytes_, 64) * 64
        name = self.w.unique(f"memref.view %scratch[{at}][] : memref<SCRATCHxi8> to {kind}", "pack")
        return Panel(name, kind, dtype, 0, ())

    def _copied(self) -> Source:
        """The left operand with the other sign, or widened: a copy, made by every call."""
        w, size = self.w, self.nest.lhs.size
        copy = self._view(size, "i16" if self.widens else "i8")
        full = size - size % TOGETHER

        def some(at: Index, count: int) -> None:
            kind, place = f"vector<{count}xi8>", f"[{w.ssa(at)}]"
            value = w.op(f"vector.load {self.lhs.name}{place} : {self.lhs.memref}, {kind}")
            if self.widens:
                to = f"vector<{count}xi16>"
                turned = w.op(f"arith.ext{'si' if self.lhs.signed else 'ui'} {value} : {kind} to {to}")
            else:
                to, bits = kind, w.hoisted(f"arith.constant dense<-128> : {kind}", "sign")
                turned = w.op(f"arith.xori {value}, {bits} : {kind}")
            w.emit(f"vector.store {turned}, {copy.name}{place} : {copy.memref}, {to}")

        walk(w, full, TOGETHER, lambda at: some(at, TOGETHER))
        if full < size:
            walk(w, size - full, 1, lambda at: some(w.add(at, full), 1))
        signed = self.lhs.signed if self.widens else not self.lhs.signed
        return replace(copy.source(0), base=self.lhs.base, signed=signed)

    # Packing.

    def _packed_panel(self) -> Source:
        outer = math.prod(a.extent for a in self.nest.sums[:-1])
        panel = self._view(outer * self.run_groups * self.group_step, self.groups.element)
        return replace(panel.source(0), signed=self.nest.rhs.signed)

    def _outer_steps(self) -> tuple[int, ...]:
        """Packed elements that each of the outer sums moves."""
        steps, step = [], self.run_groups * self.group_step
        for axis in reversed(self.nest.sums[:-1]):
            steps.append(step)
            step *= axis.extent
        return tuple(reversed(steps))

    def _pack(self, rhs: Source, panel: Source, column: Index, columns: int) -> None:
        """Copy `columns` columns from `column` on into groups."""
        w, nest, size = self.w, self.nest, self.groups.size
        *outer, run = nest.sums
        start = w.linear(rhs.base, [(column, nest.lane.rhs)])

        def body(indices: list[Index], _: list[str]) -> list[str]:
            source = w.linear(start, [(i, a.rhs) for i, a in zip(indices, outer, strict=True)])
            steps = [math.prod(a.extent for a in outer[d + 1 :]) * self.run_groups for d in range(len(outer))]
            number = w.linear(0, zip(indices, steps, strict=True))
            full, rest = divmod(run.extent, size)

            def group(g: Index, used: int) -> None:
                at = w.linear(source, [(g, size * run.rhs)])
                to = self._group_place(w.add(number, g))
                if nest.lane.rhs != 1 and run.rhs == 1 and used == size:
                    self._pack_apart(rhs, panel, at, to, columns)
                else:
                    self._pack_side_by_side(rhs, panel, at, to, columns, used, run)

            walk(w, full, 1, lambda g: group(g, size))
            if rest:
                group(full, rest)
            return []

        sum_loops(w, [a.extent for a in outer], body)

    def _group_place(self, number: Index) -> Index:
        """Where group `number` of the whole sum begins in the packed panel, and, from there, the vector of `column`."""
        return self.w.mul(number, self.group_step)

    def _vector_place(self, column: int) -> int:
        return column * self.groups.size

    def _pack_side_by_side(
        self, rhs: Source, panel: Source, at: Index, to: Index, columns: int, used: int, run: Fused
    ) -> None:
        """One group whose columns lie side by side (or are gathered): its vectors are interleaved."""
        w, size, lanes = self.w, self.groups.size, self.groups.lanes
        source = replace(rhs, lane=self.nest.lane.rhs)
        for first in range(0, self.width, lanes):
            mask = tail_mask(w, lanes, columns - first) if columns > first else None
            rows = []
            for k in range(size):
                if k < used and columns > first:
                    place = w.linear(at, [(k, run.rhs), (first, self.nest.lane.rhs)])
                    rows.append(load_lanes(w, source, place, lanes, mask))
                else:
                    rows.append(zero(w, lanes, self.groups.element))
            while len(rows) > 1:
                half, count = len(rows) // 2, lanes * size // len(rows)
                kind = f"vector<{count}x{self.groups.element}>"
                order = ", ".join(str(q) for k in range(count) for q in (k, count + k))
                pairs = zip(rows[:half], rows[half:], strict=True)
                rows = [w.op(f"vector.shuffle {a}, {b} [{order}] : {kind}, {kind}") for a, b in pairs]
            place = w.ssa(w.add(to, self._vector_place(first)))
            w.emit(
                f"vector.store {rows[0]}, {panel.name}[{place}] : {panel.memref}, vector<{lanes * size}x{panel.dtype}>"
            )

    def _pack_apart(self, rhs: Source, panel: Source, at: Index, to: Index, columns: int) -> None:
        """One group whose summed elements lie side by side: they are copied, column by column."""
        w, size = self.w, self.groups.size
        kind = f"vector<{size}x{panel.dtype}>"

        for first in range(0, columns, self.groups.lanes):
            start = w.linear(at, [(first, self.nest.lane.rhs)])
            target = w.add(to, self._vector_place(first))

            def one(n: Index, start: Index = start, target: Index = target) -> None:
                place = w.ssa(w.linear(start, [(n, self.nest.lane.rhs)]))
                value = w.op(f"vector.load {rhs.name}[{place}] : {rhs.memref}, {kind}")
                to = w.ssa(w.linear(target, [(n, size)]))
                w.emit(f"vector.store {value}, {panel.name}[{to}] : {panel.memref}, {kind}")

            walk(w, min(columns - first, self.groups.lanes), 1, one)

    # The register tile.

    def _rows(
        self,
        lhs: Source,
        packed: Source,
        batch: tuple[Index, ...],
        corner: Index,
        first: Index,
        column: Index,
        columns: int,
    ) -> None:
        """All rows of a piece, for one panel."""
        w, count, step = self.w, self.nest.row_count, min(self.shape.rows, self.nest.row_count)
        rest = count % step

        def tile(row: Index, rows: int) -> Finish:
            source, offsets, straight = self._lhs_rows(lhs, row, rows, step)
            tile = Tile(source, packed, offsets, columns, self.groups.lanes, self.groups.sums)
            finish = Finish(w, self.nest, tile, batch, corner, row, column, straight)
            sums = self._accumulate(tile, column)
            if self.epilogue is None:
                assert self.out is not None
                finish.store(sums, self.out)
            else:
                assert self.finished is not None
                finish.keep(sums, self.finished.source(1), self.width)
            return finish

        def rows(row: Index) -> None:
            if not rest or isinstance(row, int):
                finish = tile(row, step)
            else:
                with w.branch(w.op(f"arith.cmpi ne, {w.ssa(row)}, {w.index(count - rest)} : index")):
                    finish = tile(row, step)
                with w.scope("else", fence=True):
                    tile(row, rest)
            if self.epilogue is not None:
                assert self.finished is not None
                left = w.minimum(w.sub(count, row), step) if rest else step
                finish.hand_over(left, self.finished.source(1), self.width, self.epilogue, by_columns=True)

        if self.splits == 1:
            walk(w, count, step, rows)
            return
        with w.for_(first, w.minimum(w.add(first, self.chunk), count), step) as row:
            rows(row)

    def _lhs_rows(self, lhs: Source, row: Index, count: int, step: int) -> tuple[Source, tuple[Index, ...], bool]:
        """The operand based at the tile, the offset of each row from there, and whether they lie at one stride."""
        w, rows = self.w, self.nest.rows
        extents = [a.extent for a in rows]

        def place(at: Index) -> Index:
            return w.linear(0, [(p, a.lhs) for p, a in zip(w.delinearize(at, extents), rows, strict=True)])

        if self.nest.row_run % step == 0 or len(rows) < 2:
            stride = rows[-1].lhs if rows else 0
            return replace(lhs, base=w.add(lhs.base, place(row))), tuple(r * stride for r in range(count)), True
        return lhs, tuple(place(w.add(row, r)) for r in range(count)), False

    def _vectors(self, tile: Tile, column: Index) -> list[Index]:
        """Where each vector of columns begins in the packed operand."""
        w, lanes, size = self.w, self.groups.lanes, self.groups.size
        if not self.packed:
            return [v * lanes * size for v in range(len(tile.widths))]
        block = math.prod(a.extent for a in self.nest.sums[:-1]) * self.run_groups * self.group_step
        places = [w.delinearize(w.add(column, v * lanes), [0, COLUMNS]) for v in range(len(tile.widths))]
        return [w.linear(tile.rhs.base, [(b, block), (n, size)]) for b, n in places]

    def _accumulate(self, tile: Tile, column: Index) -> list[str]:
        """The sums of a register tile: row-major rows x vectors."""
        w, groups, nest = self.w, self.groups, self.nest
        writer = GroupWriter(w, groups, tile.lhs, tile.rhs)
        vectors, parts = len(tile.widths), groups.parts
        rows = len(tile.rows) + self.flips  # the last one: what flipping the sign has added to each column
        full, rest = divmod(nest.sums[-1].extent, groups.size)
        twist = writer.everywhere(-128) if self.flips else []
        starts = self._vectors(tile, column)

        def group(left: Index, right: Index, sums: list[str], used: int) -> list[str]:
            weights = [writer.weights(w.add(start, right)) for start in starts]
            following = []
            for r in range(rows):
                factors = writer.factors(w.add(left, tile.rows[r]), used) if r < len(tile.rows) else twist
                for v in range(vectors):
                    at = (r * vectors + v) * parts
                    following += writer.multiply(sums[at : at + parts], weights[v], factors)
            return following

        def run(indices: list[Index], sums: list[str]) -> list[str]:
            left = w.linear(tile.lhs.base, zip(indices, tile.lhs.sums, strict=False))
            right = w.linear(0, zip(indices, self._outer_steps(), strict=True))

            def step(g: Index, inner: list[str]) -> list[str]:
                return group(w.linear(left, [(g, groups.size)]), w.linear(right, [(g, self.group_step)]), inner, 0)

            if full * len(sums) <= 64:
                for g in range(full):
                    sums = step(g, sums)
            else:
                sums = carry(w, (0, full, 1), step, sums, groups.register)
            if rest:
                sums = group(w.add(left, full * groups.size), w.add(right, full * self.group_step), sums, rest)
            return sums

        nothing = zero(w, groups.lanes, groups.sums)
        extents: list[Index] = [a.extent for a in nest.sums[:-1]]
        sums = sum_loops(w, extents, run, [nothing] * (rows * vectors * parts), groups.register)
        totals = [writer.total(sums[k : k + parts]) for k in range(0, len(sums), parts)]
        return self._untwisted(totals, vectors) if self.flips else totals

    def _untwisted(self, totals: list[str], vectors: int) -> list[str]:
        """The sums, without what flipping the left operand's sign has added: 128 of every weight."""
        kind, added = self.groups.register, totals[-vectors:]
        # As a byte without a sign, which the processor takes it for, -128 is 128; where bytes have signs, the left
        # operand's are 128 too small, and the row of -128 is as much below zero.
        return [self.w.op(f"arith.subi {t}, {added[k % vectors]} : {kind}") for k, t in enumerate(totals[:-vectors])]


def grouped(
    w: ScopedWriter, spec: Contraction, options: CpuOptions, epilogue: Epilogue | None, packed: bool = False
) -> Grouped | None:
    """Writes the code that computes `spec` with `w`; None, with nothing written, where a sum is better made by itself.

    Args:
        packed: the right operand's buffer is a packed one, while the axes tell where its elements would lie in rows.
    """
    target = machine(options)
    groups = groups_for(options)
    if {spec.lhs.dtype, spec.rhs.dtype} != {"i8"} or spec.logical or spec.accumulate != groups.sums:
        return None
    if groups.kind == "widen" and not packed:
        return None
    nest = classify(spec, groups.lanes, epilogue is None)
    if not suits(nest, groups, packed):
        return None
    made = Grouped(w, nest, groups, choose(nest, groups, target, options.worker_count(), packed), epilogue, packed)
    made.run()
    return made
