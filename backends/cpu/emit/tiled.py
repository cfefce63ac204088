"""Products of bfloat16 and of bytes in the processor's tiles (AMX): sixteen rows of 64 bytes each.

    for tile in [lo, hi)              batch x groups of panels of 32 columns
      pack the group's columns as groups.py wants them
      for each 32 rows
        copy them, unless they lie right as they are
        for each panel: two by two tiles of sums over the whole sum, then the epilogue

The kernel has to let a process use tiles: `machine.tiles_allowed`.
"""

from __future__ import annotations

import math
from dataclasses import replace

from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index, sum_loops, walk
from thalweg.backends.cpu.emit.finishing import Epilogue, Finish
from thalweg.backends.cpu.emit.grouped import Grouped, Shape
from thalweg.backends.cpu.emit.groups import Groups
from thalweg.backends.cpu.emit.microkernel import Tile
from thalweg.backends.cpu.emit.nest import Contraction, Nest, classify
from thalweg.backends.cpu.emit.packing import Panel, Source, load_lanes, tail_mask, transpose
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.machine import features_of, tiles_allowed
from thalweg.backends.cpu.options import CpuOptions

ROWS, LINE = 16, 64  # of a tile: rows, and bytes of each
SIDE = 2  # tiles of sums in each direction
PANELS = 16  # packed at a time: with a long sum, as many columns as stay in the second cache
LEAST_ROWS, LEAST_COLUMNS, LEAST_SUM = 16, 16, 64  # smaller products are not worth setting tiles up
MOST_PACKED = 1 << 20  # bytes of columns that are packed at a time
_LANES = 16


def tiled(w: ScopedWriter, spec: Contraction, options: CpuOptions, epilogue: Epilogue) -> Tiled | None:
    """Writes the code that computes `spec` with `w`; None, with nothing written, where tiles are not for it."""
    element, features = spec.rhs.dtype, features_of(options)
    needs = {"bf16": "amx-bf16", "i8": "amx-int8"}.get(element, "")
    if options.cpu or needs not in features or spec.lhs.dtype != element or spec.logical or not tiles_allowed():
        return None
    groups = Groups("bf16", _LANES, 2) if element == "bf16" else Groups("vnni", _LANES)
    nest = classify(spec, _LANES, plain=False)
    if spec.accumulate != groups.sums or not _suits(nest):
        return None
    bytes_ = ceil_div(nest.sum_count, groups.size) * 4 * SIDE * _LANES
    wide = ceil_div(nest.lane.extent, SIDE * _LANES)
    share = max(1, wide * nest.batch_count // (2 * options.worker_count())) if options.worker_count() > 1 else wide
    panels = max(1, min(PANELS, wide, share, MOST_PACKED // bytes_))
    made = Tiled(w, nest, groups, Shape(SIDE * ROWS, SIDE * panels, 1), epilogue, packed=False)
    made.run()
    return made


def _suits(nest: Nest) -> bool:
    if not nest.sums or nest.lane.lhs or not nest.out.shape or 0 in (nest.row_count, nest.lane.extent, nest.sum_count):
        return False
    if nest.row_count < LEAST_ROWS or nest.lane.extent < LEAST_COLUMNS or nest.sum_count < LEAST_SUM:
        return False
    run = nest.sums[-1]
    in_rows = run.lhs == 1 and run.extent >= 16
    in_columns = len(nest.rows) == 1 and nest.rows[-1].lhs == 1 and len(nest.sums) == 1
    return in_rows or in_columns


class Tiled(Grouped):
    """Writes one kernel's body, as `Grouped` does."""

    flips = False

    def run(self) -> None:
        """Write everything."""
        w, nest = self.w, self.nest
        self.depth = math.prod(a.extent for a in nest.sums[:-1]) * self.run_groups  # groups of the whole sum
        self.steps = ceil_div(self.depth, ROWS)
        self.flips = False
        panel = self._view((self.steps * ROWS + 1) * self.group_step, self.groups.element)
        packed = replace(panel.source(0), signed=nest.rhs.signed)
        rows = None if self._lies_right() else self._view(SIDE * ROWS * self._line, self.groups.element)
        lhs = replace(self.lhs, sums=tuple(a.lhs for a in nest.sums))
        self._configure()
        with w.for_("%lo", "%hi", 1) as tile:
            *batch, unit = w.delinearize(tile, [*(a.extent for a in nest.batch), self.panels])
            at = [(p, a) for p, a in zip(batch, nest.batch, strict=True)]
            left = replace(lhs, base=w.linear(lhs.base, [(p, a.lhs) for p, a in at]))
            right = replace(self.rhs, base=w.linear(self.rhs.base, [(p, a.rhs) for p, a in at]))
            corner = w.linear(0, [(p, a.out) for p, a in at])

            def one(column: Index, columns: int) -> None:
                self._pack(right, packed, column, columns)
                self._zero_rest(panel)
                walk(
                    w, nest.row_count, SIDE * ROWS,
                    lambda row: self._row_tile(left, rows, packed, (tuple(batch), corner), row, column, columns),
                )  # fmt: skip

            self._each_width(unit, one)
        self._call("tilerelease")

    @property
    def _size(self) -> int:
        """Bytes of an element."""
        return 4 // self.groups.size

    @property
    def _line(self) -> int:
        """Elements of a copied row, with room for what is stored beyond its end."""
        return (self.steps * ROWS + ROWS) * self.groups.size

    def _lies_right(self) -> bool:
        """Can tiles read the rows where they are: whole tiles, at one stride?"""
        nest = self.nest
        whole = nest.row_count % (SIDE * ROWS) == 0 and self.depth % ROWS == 0
        straight = len(nest.rows) == 1 or nest.row_run % (SIDE * ROWS) == 0
        run = nest.sums[-1]
        return whole and straight and len(nest.sums) == 1 and run.lhs == 1 and run.extent % self.groups.size == 0

    # Instructions.

    def _call(self, name: str, *operands: str) -> None:
        """An instruction on tiles: operands are their numbers, addresses and steps."""
        kinds = {"t": "i8", "p": "!llvm.ptr", "n": "i64"}
        types = ", ".join(kinds[operand[1]] for operand in operands)
        self.w.emit(f'llvm.call_intrinsic "llvm.x86.{name}"({", ".join(operands)}) : ({types}) -> ()')

    def _tile(self, number: int) -> str:
        return self.w.hoisted(f"arith.constant {number} : i8", "t")

    def _address(self, name: str, memref: str, offset: Index) -> str:
        """The address of an element, as a number."""
        w = self.w
        base = w.op(f"memref.extract_aligned_pointer_as_index {name} : {memref} -> index")
        return self._pointer(w.add(base, w.mul(offset, self._size)))

    def _pointer(self, address: Index) -> str:
        number = self.w.op(f"arith.index_cast {self.w.ssa(address)} : index to i64")
        return self.w.op(f"llvm.inttoptr {number} : i64 to !llvm.ptr", "p")

    def _number(self, value: int) -> str:
        return self.w.hoisted(f"arith.constant {value} : i64", "n")

    def _configure(self) -> None:
        """Eight tiles of sixteen rows of 64 bytes."""
        table = [0] * 64
        table[0] = 1
        table[16:32] = [LINE, 0] * 8
        table[48:56] = [ROWS] * 8
        kind = "vector<64xi8>"
        where = self._view(64, "i8")
        values = self.w.hoisted(f"arith.constant dense<[{', '.join(map(str, table))}]> : {kind}", "tiles")
        self.w.emit(f"vector.store {values}, {where.name}[{self.w.index(0)}] : {where.memref}, {kind}")
        base = self.w.op(f"memref.extract_aligned_pointer_as_index {where.name} : {where.memref} -> index")
        self._call("ldtilecfg", self._pointer(base))

    def _multiply(self, places: list[str], steps: list[str]) -> None:
        """A step: tiles 0 to 3 are sums, 4 and 5 rows, 6 and 7 columns."""
        if self.groups.element == "bf16":
            name = "tdpbf16ps"
        else:
            signs = (self.nest.lhs.signed, self.nest.rhs.signed)
            name = "tdpb" + "".join("s" if signed else "u" for signed in signs) + "d"
        # Each tile is read shortly before its first use: loads and products then overlap.
        for k, ready in ((0, ()), (2, (0,)), (3, (1,)), (1, (2, 3))):
            self._call("tileloadd64", self._tile(4 + k), places[k], steps[k // 2])
            for product in ready:
                self._call(name, self._tile(product), self._tile(4 + product // 2), self._tile(6 + product % 2))

    # Packing.

    def _zero_rest(self, panel: Panel) -> None:
        """Columns of zeros for the groups that a tile has beyond the last one."""
        count = (self.steps * ROWS - self.depth) * self.group_step
        self._zeros(panel, self.depth * self.group_step, count)

    def _zeros(self, panel: Panel, offset: Index, count: int) -> None:
        w, each = self.w, LINE // self._size
        kind = f"vector<{each}x{panel.dtype}>"
        literal = "0" if panel.dtype == "i8" else "0.0"
        nothing = w.hoisted(f"arith.constant dense<{literal}> : {kind}", "zeros")
        for first in range(0, count, each):
            w.emit(f"vector.store {nothing}, {panel.name}[{w.ssa(w.add(offset, first))}] : {panel.memref}, {kind}")

    def _copy_rows(self, lhs: Source, rows: Panel, row: Index) -> None:
        """Copy 32 rows, those past the last one as it is, each padded with zeros."""
        w, nest = self.w, self.nest
        if nest.sums[-1].lhs != 1:
            self._turn_rows(lhs, rows, row)
            return
        *outer, run = nest.sums
        each = LINE // self._size
        kind = f"vector<{each}x{rows.dtype}>"
        extents = [a.extent for a in nest.rows]

        def one(r: Index) -> None:
            places = w.delinearize(w.minimum(w.add(row, r), nest.row_count - 1), extents)
            start = w.linear(lhs.base, [(p, a.lhs) for p, a in zip(places, nest.rows, strict=True)])
            target = w.mul(r, self._line)

            def line(indices: list[Index], _: list[str]) -> list[str]:
                source = w.linear(start, [(i, a.lhs) for i, a in zip(indices, outer, strict=True)])
                steps = [math.prod(a.extent for a in outer[d + 1 :]) for d in range(len(outer))]
                to = w.linear(
                    target, [(i, s * self.run_groups * self.groups.size) for i, s in zip(indices, steps, strict=True)]
                )
                full = run.extent - run.extent % each

                def part(k: Index, used: int) -> None:
                    mask = tail_mask(w, each, used)
                    value = load_lanes(w, replace(lhs, lane=1), w.add(source, k), each, mask)
                    w.emit(f"vector.store {value}, {rows.name}[{w.ssa(w.add(to, k))}] : {rows.memref}, {kind}")

                walk(w, full, each, lambda k: part(k, each))
                if full < run.extent:
                    part(full, run.extent - full)
                return []

            sum_loops(w, [a.extent for a in outer], line)
            self._zeros(rows, w.add(target, self.depth * self.groups.size), each)

        walk(w, SIDE * ROWS, 1, one)

    def _turn_rows(self, lhs: Source, rows: Panel, row: Index) -> None:
        """Copy 32 rows that lie side by side, so that their summed elements do."""
        w, size, (run,) = self.w, self.groups.size, self.nest.sums
        per = ROWS * size  # summed elements of a line
        line = f"vector<{per}x{rows.dtype}>"
        source = replace(lhs, lane=1)

        def block(k: Index, used: int, first: int) -> None:
            left = w.sub(self.nest.row_count, w.add(row, first))
            ragged = self.nest.row_count % (SIDE * ROWS) != 0
            mask = w.op(f"vector.create_mask {w.ssa(left)} : vector<{ROWS}xi1>") if ragged else None
            start = w.linear(w.add(lhs.base, w.add(row, first)), [(k, run.lhs)])
            nothing = w.hoisted(
                f"arith.constant dense<{'0' if size == 4 else '0.0'}> : vector<{ROWS}x{rows.dtype}>", "zero"
            )
            units = []
            for g in range(ROWS):
                parts = [
                    load_lanes(w, source, w.linear(start, [(g * size + q, run.lhs)]), ROWS, mask)
                    if g * size + q < used else nothing
                    for q in range(size)
                ]  # fmt: skip
                units.append(self._as_words(parts))
            for r, words in enumerate(transpose(w, units, f"vector<{ROWS}xi32>")):
                value = w.op(f"vector.bitcast {words} : vector<{ROWS}xi32> to {line}")
                at = w.ssa(w.add(k, (first + r) * self._line))
                w.emit(f"vector.store {value}, {rows.name}[{at}] : {rows.memref}, {line}")

        full = run.extent - run.extent % per
        for first in range(0, SIDE * ROWS, ROWS):
            walk(w, full, per, lambda k, first=first: block(k, per, first))  # type: ignore[misc]
            if full < run.extent:
                block(full, run.extent - full, first)

    def _as_words(self, parts: list[str]) -> str:
        """Vectors of the elements of a group, as one vector of 32-bit words."""
        w = self.w
        while len(parts) > 1:
            half, count = len(parts) // 2, ROWS * self.groups.size // len(parts)
            kind = f"vector<{count}x{self.groups.element}>"
            order = ", ".join(str(q) for k in range(count) for q in (k, count + k))
            pairs = zip(parts[:half], parts[half:], strict=True)
            parts = [w.op(f"vector.shuffle {a}, {b} [{order}] : {kind}, {kind}") for a, b in pairs]
        kind = f"vector<{ROWS * self.groups.size}x{self.groups.element}>"
        return w.op(f"vector.bitcast {parts[0]} : {kind} to vector<{ROWS}xi32>")

    # The tiles.

    def _row_tile(
        self, lhs: Source, rows: Panel | None, packed: Source, spot: tuple[tuple[Index, ...], Index], row: Index,
        column: Index, columns: int,
    ) -> None:  # fmt: skip
        """32 rows by all panels that are packed."""
        w, nest = self.w, self.nest
        if rows is not None:
            self._copy_rows(lhs, rows, row)
            source, stride = rows.source(0), self._line
        else:
            places = w.delinearize(row, [a.extent for a in nest.rows])
            start = w.linear(lhs.base, [(p, a.lhs) for p, a in zip(places, nest.rows, strict=True)])
            source, stride = replace(lhs, base=start), nest.rows[-1].lhs
        wide = SIDE * _LANES
        full = columns - columns % wide
        walk(w, full, wide, lambda c: self._square(source, stride, packed, spot, row, column, c, wide))
        if full < columns:
            self._square(source, stride, packed, spot, row, column, full, columns - full)

    def _square(
        self, lhs: Source, stride: int, packed: Source, spot: tuple[tuple[Index, ...], Index], row: Index,
        column: Index, first: Index, columns: int,
    ) -> None:  # fmt: skip
        """Two by two tiles of sums; `first`: their first column among the packed ones."""
        w, nest, size = self.w, self.nest, self.groups.size
        batch, corner = spot
        for k in range(4):
            self._call("tilezero", self._tile(k))
        with w.for_(0, self.steps, 1) as step:
            left = w.linear(lhs.base, [(step, ROWS * size)])
            right = w.linear(0, [(step, ROWS * self.group_step), (first, size)])
            places = [self._address(lhs.name, lhs.memref, w.add(left, k * ROWS * stride)) for k in range(2)]
            places += [self._address(packed.name, packed.memref, w.add(right, k * _LANES * size)) for k in range(2)]
            steps = [self._number(stride * self._size), self._number(self.group_step * self._size)]
            self._multiply(places, steps)
        assert self.finished is not None
        name, memref = self.finished.name, self.finished.memref
        base = w.op(f"memref.extract_aligned_pointer_as_index {name} : {memref} -> index")
        line = SIDE * _LANES * 4
        for k in range(4):
            offset = (k // 2) * ROWS * line + (k % 2) * LINE
            self._call("tilestored64", self._tile(k), self._pointer(w.add(base, offset)), self._number(line))
        tile = Tile(lhs, packed, (0,), columns, _LANES, self.groups.sums)
        finish = Finish(w, nest, tile, batch, corner, row, w.add(column, first), straight=False)
        left_rows = w.minimum(w.sub(nest.row_count, row), SIDE * ROWS)
        assert self.epilogue is not None
        finish.hand_over(left_rows, self.finished.source(1), SIDE * _LANES, self.epilogue, by_columns=True)
