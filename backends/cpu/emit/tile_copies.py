"""What products in tiles (tiled.py) multiply: operands copied into the order in which tiles are read."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index, sum_loops, walk
from thalweg.backends.cpu.emit.grouped import Grouped
from thalweg.backends.cpu.emit.nest import Fused
from thalweg.backends.cpu.emit.packing import Panel, Source, load_lanes, tail_mask, transpose, zero
from thalweg.backends.cpu.emit.tile_numbers import split

ROWS, LINE = 16, 64  # of a tile: rows, and bytes of each
SIDE = 2  # tiles of sums in each direction
LANES = 16
FETCHING_PANELS = 4  # from here on there is time to ask for the next rows


class TileCopies(Grouped):
    """Copies columns and rows into tiles.

    A step is a line of every row and column. The sum has `steps` of them, in `blocks` of `block`; the last one may have
    fewer. `depth`: groups of the whole sum. `parts`: numbers that each of f32 is split into (tile_numbers.py); tiles of
    the second part lie behind those of the first.
    """

    parts = 1
    depth: int
    steps: int
    blocks: int
    block: int
    together: int  # blocks whose columns are packed at a time
    cuts: int  # how often that is

    @property
    def _size(self) -> int:
        """Bytes of an element."""
        return 4 // self.groups.size

    @property
    def _each(self) -> int:
        """Summed elements of a line of a tile: of a step."""
        return LINE // self._size

    @property
    def _tile_size(self) -> int:
        """Elements of a tile."""
        return ROWS * self._each

    @property
    def _step_size(self) -> int:
        """Elements of a step of a panel."""
        return self.parts * SIDE * self._tile_size

    @property
    def _rows_size(self) -> int:
        """Elements of the copied rows, or of each part of them."""
        return SIDE * ROWS * self._line

    @property
    def _panel_size(self) -> int:
        """Elements of a block of a panel, and two lines between it and the next: lines that a packed row is spread over
        would otherwise evict each other from the first cache."""
        return self.block * self._step_size + 2 * self._each

    @property
    def _at_once(self) -> bool:
        """Are rows copied as a whole, not block by block? Lines of a window do not end where blocks do."""
        return len(self.nest.sums) > 1

    @property
    def _line(self) -> int:
        """Elements of a copied row, with room for what is stored beyond its end: no power of two."""
        return ((self.steps if self._at_once else self.block) + 1) * self._each

    def _rows_view(self) -> Panel:
        return self._view(self.parts * self._rows_size, self.groups.element)

    def _lies_right(self) -> bool:
        """Can tiles read the rows where they are: whole tiles, at one stride?"""
        nest = self.nest
        whole = nest.row_count % (SIDE * ROWS) == 0 and self.depth % ROWS == 0
        straight = len(nest.rows) == 1 or nest.row_run % (SIDE * ROWS) == 0
        run = nest.sums[-1]
        return whole and straight and len(nest.sums) == 1 and run.lhs == 1 and run.extent % self.groups.size == 0

    # Packing the columns: [block, panel, step, tile, group, column, element of a group].

    def _tile_place(self, step: Index, tile: Index) -> Index:
        """Where the packed tile of a step begins: the tile-th one of 16 columns."""
        block, inner = self.w.delinearize(step, [self.blocks, self.block])
        panel, side = self.w.delinearize(tile, [self.width // LANES, SIDE])
        panels = self.width // (SIDE * LANES)
        steps = [(block, panels * self._panel_size), (panel, self._panel_size), (inner, self._step_size)]
        return self.w.linear(0, [*steps, (side, self._tile_size)])

    def _group_place(self, number: Index) -> Index:
        step, group = self.w.delinearize(number, [self.steps, ROWS])
        return self.w.linear(self._tile_place(step, 0), [(group, self._each)])

    def _vector_place(self, column: int) -> int:
        place = self._tile_place(0, column // LANES)
        assert isinstance(place, int)
        return place

    def _blocks_from(self, start: Index) -> Index:
        """How many blocks are packed together from block `start` on."""
        if self.blocks % self.together == 0:
            return self.together
        return self.w.minimum(self.w.sub(self.blocks, start), self.together)

    def _pack_columns(self, rhs: Source, panel: Source, column: Index, columns: int, start: Index) -> None:
        """Copy `columns` columns from `column` on into tiles, with zeros for what the last tile has beyond the sum:
        those of the blocks from `start` on."""
        w, run, lane = self.w, self.nest.sums[-1], self.nest.lane
        first, steps = w.mul(start, self.block), w.mul(self._blocks_from(start), self.block)
        if self.cuts == 1 or self.steps % (self.block * self.together):
            steps = w.minimum(w.sub(self.steps, first), steps)
        if run.rhs == 1 and lane.rhs != 1 and len(self.nest.sums) == 1:
            self._turn_columns(rhs, panel, column, columns, first, steps)
            return
        if self.cuts == 1:
            self._pack(rhs, panel, column, columns)
        else:
            self._pack_some(rhs, panel, column, columns, w.mul(first, ROWS), w.mul(steps, ROWS))
        beyond = self.steps * ROWS - self.depth
        if not beyond:
            return
        after = w.sub(self.depth, w.mul(first, ROWS))

        def nothing(g: Index) -> None:
            self._pack_side_by_side(rhs, panel, 0, self._group_place(w.add(g, after)), columns, 0, run)

        if self.cuts == 1:
            walk(w, beyond, 1, nothing)
            return
        with w.branch(w.op(f"arith.cmpi eq, {w.ssa(start)}, {w.index((self.cuts - 1) * self.together)} : index")):
            walk(w, beyond, 1, nothing)

    def _pack_some(self, rhs: Source, panel: Source, column: Index, columns: int, first: Index, count: Index) -> None:
        """Copy `count` groups from `first` on, or as many as there are."""
        w, size, (run,) = self.w, self.groups.size, self.nest.sums
        full, rest = divmod(run.extent, size)
        start = w.linear(rhs.base, [(column, self.nest.lane.rhs), (first, size * run.rhs)])

        def group(g: Index, used: int) -> None:
            self._pack_side_by_side(
                rhs, panel, w.linear(start, [(g, size * run.rhs)]), self._group_place(g), columns, used, run
            )

        walk(w, w.minimum(w.sub(full, first), count), 1, lambda g: group(g, size))
        if rest:
            last = w.sub(full, first)
            with w.branch(w.op(f"arith.cmpi sgt, {w.ssa(count)}, {w.ssa(last)} : index")):
                group(last, rest)

    def _pack_side_by_side(
        self, rhs: Source, panel: Source, at: Index, to: Index, columns: int, used: int, run: Fused
    ) -> None:
        """One group whose columns lie side by side (or are gathered): its vectors are interleaved."""
        w, size, lane = self.w, self.groups.size, self.nest.lane
        source, kind = replace(rhs, lane=lane.rhs), f"vector<{self._each}x{panel.dtype}>"
        for first in range(0, self.width, LANES):
            mask = tail_mask(w, LANES, columns - first) if columns > first else None
            rows: list[list[str]] = [[zero(w, LANES, panel.dtype)] * size for _ in range(self.parts)]
            for k in range(used if columns > first else 0):
                place = w.linear(at, [(k, run.rhs), (first, lane.rhs)])
                value = load_lanes(w, source, place, LANES, mask)
                for part, made in zip(rows, split(w, value, rhs.dtype, LANES, self.parts), strict=True):
                    part[k] = made
            for k, part in enumerate(rows):
                place = w.ssa(w.add(to, self._vector_place(first) + k * SIDE * self._tile_size))
                w.emit(f"vector.store {self._interleaved(part)}, {panel.name}[{place}] : {panel.memref}, {kind}")

    def _turn_columns(
        self, rhs: Source, panel: Source, column: Index, columns: int, first: Index, steps: Index
    ) -> None:
        """Copy columns whose summed elements lie side by side: lines of them are transposed in registers."""
        w, each, run = self.w, self._each, self.nest.sums[0]
        kind, words = f"vector<{each}x{panel.dtype}>", f"vector<{LANES}xi32>"
        source = replace(rhs, lane=1)

        def tile(number: Index, step: Index) -> None:
            place = w.mul(w.add(first, step), each)
            start = w.add(rhs.base, place)
            mask = None
            if run.extent % each:
                left = w.sub(run.extent, place)
                mask = w.op(f"vector.create_mask {w.ssa(left)} : vector<{each}xi1>")
            lines: list[list[str]] = [[] for _ in range(self.parts)]
            for n in range(LANES):
                place = w.minimum(w.linear(column, [(number, LANES), (n, 1)]), self.nest.lane.extent - 1)
                value = load_lanes(w, source, w.linear(start, [(place, self.nest.lane.rhs)]), each, mask)
                for part, made in zip(lines, split(w, value, rhs.dtype, each, self.parts), strict=True):
                    part.append(w.op(f"vector.bitcast {made} : {kind} to {words}"))
            for k, part in enumerate(lines):
                to = w.add(self._tile_place(step, number), k * SIDE * self._tile_size)
                for g, line in enumerate(transpose(w, part, words)):
                    value = w.op(f"vector.bitcast {line} : {words} to {kind}")
                    w.emit(f"vector.store {value}, {panel.name}[{w.ssa(w.add(to, g * each))}] : {panel.memref}, {kind}")

        tiles = SIDE * ceil_div(columns, SIDE * LANES)
        walk(w, tiles, 1, lambda number: walk(w, steps, 1, lambda step: tile(number, step)))

    # Copying the rows: 32 of them, those past the last one as it is, padded with zeros.

    def _copy_rows(self, lhs: Source, rows: Panel, row: Index, first: Index, count: Index) -> None:
        """Copy the steps of a block, `count` from `first` on, or everything, if it is copied at once."""
        if self._at_once:
            self._copy_all(lhs, rows, row)
            return
        w, each, run = self.w, self._each, self.nest.sums[0]
        full, rest = divmod(run.extent, each)

        def steps(step: Callable[[Index, Index, int], None]) -> None:
            """`step` for each: its number, the place of its copies, and how many elements it has."""
            after = w.minimum(w.sub(full, first), count)
            walk(w, after, 1, lambda s: step(w.add(first, s), w.mul(s, each), each))
            if rest:
                last = w.sub(full, first)
                if self.blocks == 1:
                    step(full, w.mul(last, each), rest)
                    return
                with w.branch(w.op(f"arith.cmpi sgt, {w.ssa(count)}, {w.ssa(last)} : index")):
                    step(full, w.mul(last, each), rest)

        if run.lhs != 1:
            steps(lambda s, to, used: self._turn_rows(lhs, rows, row, s, to, used))
            return

        def one(r: Index) -> None:
            start, target = self._row_start(lhs, w.add(row, r)), w.mul(r, self._line)
            steps(lambda s, to, used: self._copy_line(lhs, rows, w.linear(start, [(s, each)]), w.add(target, to), used))

        walk(w, SIDE * ROWS, 1, one)

    def _row_start(self, lhs: Source, row: Index) -> Index:
        """Where a row begins, or the last one, if it is past that."""
        w, rows = self.w, self.nest.rows
        places = w.delinearize(w.minimum(row, self.nest.row_count - 1), [a.extent for a in rows])
        return w.linear(lhs.base, [(p, a.lhs) for p, a in zip(places, rows, strict=True)])

    def _copy_line(self, lhs: Source, rows: Panel, start: Index, to: Index, used: int) -> None:
        w, each = self.w, self._each
        value = load_lanes(w, replace(lhs, lane=1), start, each, tail_mask(w, each, used))
        kind = f"vector<{each}x{rows.dtype}>"
        for k, part in enumerate(split(w, value, lhs.dtype, each, self.parts)):
            at = w.ssa(w.add(to, k * self._rows_size))
            w.emit(f"vector.store {part}, {rows.name}[{at}] : {rows.memref}, {kind}")

    def _copy_all(self, lhs: Source, rows: Panel, row: Index) -> None:
        """Copy whole rows, whose lines lie apart."""
        w, nest, each = self.w, self.nest, self._each
        *outer, run = nest.sums
        steps = [math.prod(a.extent for a in outer[d + 1 :]) for d in range(len(outer))]

        def one(r: Index) -> None:
            start, target = self._row_start(lhs, w.add(row, r)), w.mul(r, self._line)

            def line(indices: list[Index], _: list[str]) -> list[str]:
                source = w.linear(start, [(i, a.lhs) for i, a in zip(indices, outer, strict=True)])
                number = w.linear(0, zip(indices, steps, strict=True))
                to = w.linear(target, [(number, self.run_groups * self.groups.size)])
                full = run.extent - run.extent % each
                walk(w, full, each, lambda k: self._copy_line(lhs, rows, w.add(source, k), w.add(to, k), each))
                if full < run.extent:
                    self._copy_line(lhs, rows, w.add(source, full), w.add(to, full), run.extent - full)
                return []

            sum_loops(w, [a.extent for a in outer], line)
            self._zeros(rows, w.add(target, self.depth * self.groups.size), each)

        walk(w, SIDE * ROWS, 1, one)

    def _zeros(self, panel: Panel, offset: Index, count: int) -> None:
        w, each = self.w, self._each
        kind = f"vector<{each}x{panel.dtype}>"
        literal = "0" if panel.dtype == "i8" else "0.0"
        nothing = w.hoisted(f"arith.constant dense<{literal}> : {kind}", "zeros")
        for first in range(0, count, each):
            w.emit(f"vector.store {nothing}, {panel.name}[{w.ssa(w.add(offset, first))}] : {panel.memref}, {kind}")

    def _turn_rows(self, lhs: Source, rows: Panel, row: Index, step: Index, to: Index, used: int) -> None:
        """Copy a step of 32 rows that lie side by side, so that their summed elements do."""
        w, size, (run,), both = self.w, self.groups.size, self.nest.sums, SIDE * ROWS
        each, source = self._each, replace(lhs, lane=1)
        line, words = f"vector<{each}x{rows.dtype}>", f"vector<{ROWS}xi32>"
        ragged = self.nest.row_count % both != 0
        left = w.sub(self.nest.row_count, row)
        mask = w.op(f"vector.create_mask {w.ssa(left)} : vector<{both}xi1>") if ragged else None
        start = w.linear(w.add(lhs.base, row), [(step, each * run.lhs)])
        loaded = [load_lanes(w, source, w.linear(start, [(k, run.lhs)]), both, mask) for k in range(used)]
        parts = list(zip(*(split(w, value, lhs.dtype, both, self.parts) for value in loaded), strict=True))
        kind, nothing = f"vector<{both}x{rows.dtype}>", zero(w, both, rows.dtype)
        for number, part in enumerate(parts):
            vectors = [*part, *[nothing] * (each - used)]
            for first in range(0, both, ROWS):  # each line of memory is read once for both halves of the rows
                places = ", ".join(str(r) for r in range(first, first + ROWS))
                half = [w.op(f"vector.shuffle {v}, {v} [{places}] : {kind}, {kind}") for v in vectors]
                units = [self._as_words(half[g : g + size]) for g in range(0, each, size)]
                for r, value in enumerate(transpose(w, units, words)):
                    value = w.op(f"vector.bitcast {value} : {words} to {line}")
                    at = w.ssa(w.add(to, (first + r) * self._line + number * self._rows_size))
                    w.emit(f"vector.store {value}, {rows.name}[{at}] : {rows.memref}, {line}")

    def _as_words(self, parts: list[str]) -> str:
        """Vectors of the elements of a group, as one vector of 32-bit words."""
        kind = f"vector<{ROWS * self.groups.size}x{self.groups.element}>"
        return self.w.op(f"vector.bitcast {self._interleaved(parts)} : {kind} to vector<{ROWS}xi32>")

    def _interleaved(self, parts: list[str]) -> str:
        """Vectors of the elements of a group, as one vector of groups."""
        w = self.w
        while len(parts) > 1:
            half, count = len(parts) // 2, ROWS * self.groups.size // len(parts)
            kind = f"vector<{count}x{self.groups.element}>"
            order = ", ".join(str(q) for k in range(count) for q in (k, count + k))
            pairs = zip(parts[:half], parts[half:], strict=True)
            parts = [w.op(f"vector.shuffle {a}, {b} [{order}] : {kind}, {kind}") for a, b in pairs]
        return parts[0]

    def _fetch_rows(self, lhs: Source, row: Index, first: Index, panel: Index) -> None:
        """Ask for a panel's share of what the next 32 rows have in a block; places past the end do no harm."""
        w, each, panels = self.w, self._each, self.width // (SIDE * LANES)
        if self._at_once or len(self.nest.rows) != 1 or panels < FETCHING_PANELS:
            return
        run, rows = self.nest.sums[0], self.nest.rows[0]
        start = w.linear(lhs.base, [(w.add(row, SIDE * ROWS), rows.lhs), (first, each * run.lhs)])
        count, step, lines = (SIDE * ROWS, rows.lhs, self.block) if run.lhs == 1 else (self.block * each, run.lhs, 1)
        share = ceil_div(count, panels)
        for k in range(share):
            for line in range(lines):
                at = w.linear(start, [(panel, share * step), (k, step), (line, each)])
                where = f"{lhs.name}[{w.ssa(at)}]"
                w.emit(f"memref.prefetch {where}, read, locality<2>, data : {lhs.memref}")
