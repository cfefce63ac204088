"""Products of bfloat16 and of bytes in the processor's tiles (AMX): sixteen rows of 64 bytes each.

    for tile in [lo, hi)              batch x groups of panels of 32 columns x pieces of the rows
      for each cut of the sum         as long as its columns fit into half the second cache
        pack the group's columns as groups.py wants them, each tile in one piece
        for each 32 rows
          for each block of the cut   its rows stay in the first cache
            copy the rows, unless few panels read them and they lie right as they are
            for each panel: two by two tiles of sums, then, after the last block, the epilogue

Two by two tiles read four for every four products, which the second cache cannot deliver as fast as they are
multiplied: of the rows it need not. Sums wait in a buffer between the blocks, those of all rows between the cuts. Tiles
whose lines lie 2 KiB apart evict each other from the first cache.

The kernel has to let a process use tiles: `machine.tiles_allowed`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.finishing import Epilogue, Finish
from thalweg.backends.cpu.emit.grouped import Shape
from thalweg.backends.cpu.emit.groups import Groups
from thalweg.backends.cpu.emit.microkernel import Tile
from thalweg.backends.cpu.emit.nest import Contraction, Nest, classify
from thalweg.backends.cpu.emit.packing import Panel, Source
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.tile_copies import LANES, LINE, ROWS, SIDE, TileCopies
from thalweg.backends.cpu.emit.tile_numbers import parts_of
from thalweg.backends.cpu.machine import features_of, tiles_allowed
from thalweg.backends.cpu.options import CpuOptions

STEPS = 16  # of a block of the sum, at most
CUT_PANELS = 16  # where the sum is cut instead
PANELS = 32  # packed at a time: with a long sum, as many columns as stay in the second cache
FEW_PANELS = 2  # for which rows are not copied
SPLIT_ROWS = 256  # fewer rows are not worth packing columns for
LEAST_ROWS, LEAST_COLUMNS = 16, 16  # smaller products are not worth setting tiles up
LEAST_SUM = {"bf16": 4, "i8": 64}  # bytes have other instructions
LEAST_CONVERTED = 32  # of numbers that are split or widened
LEAST_RUN = 16  # of lines that are copied one by one
WAITING = 4 * ROWS * LANES  # sums of two by two tiles
MOST_PACKED = 1 << 20  # bytes of columns that are packed at a time


def fitting(spec: Contraction, options: CpuOptions) -> tuple[Nest, Groups, int] | None:
    """The loops of a product that tiles are for, their instruction, and how many numbers each of f32 is split into;
    None where they are not."""
    parts = parts_of(spec.lhs.dtype, spec.rhs.dtype, options.matmul_precision)
    element = "bf16" if parts else spec.rhs.dtype if spec.lhs.dtype == spec.rhs.dtype else ""
    needs, features = {"bf16": "amx-bf16", "i8": "amx-int8"}.get(element, ""), features_of(options)
    if options.cpu or needs not in features or spec.logical or spec.lhs.panel or spec.rhs.panel or not tiles_allowed():
        return None
    groups = Groups("bf16", LANES, 2) if element == "bf16" else Groups("vnni", LANES)
    nest = classify(spec, LANES, plain=False)
    return (nest, groups, max(1, parts)) if spec.accumulate == groups.sums and _suits(nest) else None


def tiled(
    w: ScopedWriter, spec: Contraction, options: CpuOptions, epilogue: Epilogue, stored: str = ""
) -> Tiled | None:
    """Writes the code that computes `spec` with `w`; None, with nothing written, where tiles are not for it.

    Args:
        stored: the element type in which the epilogue stores the sums, where it does nothing else.
    """
    found = fitting(spec, options)
    if found is None:
        return None
    nest, groups, parts = found
    bytes_ = ceil_div(nest.sum_count, groups.size) * 4 * SIDE * LANES * parts
    wide, threads = ceil_div(nest.lane.extent, SIDE * LANES), options.worker_count()
    share = max(1, wide * nest.batch_count // (2 * threads)) if threads > 1 else wide
    panels = ceil_div(wide, ceil_div(wide, max(1, min(PANELS, share, MOST_PACKED // bytes_))))
    splits = 1
    if threads > 1 and (units := ceil_div(wide, panels) * nest.batch_count) < 2 * threads:
        splits = max(1, min(ceil_div(2 * threads, units), nest.row_count // SPLIT_ROWS))
    if len(nest.sums) == 1 and panels < (least := min(CUT_PANELS, share)):
        # Few panels: rows would be read again and again, and columns in short pieces.
        panels = ceil_div(wide, ceil_div(wide, least))
    if threads > 1 and wide < 8 * threads and nest.row_count >= 2 * threads * SPLIT_ROWS and nest.batch_count == 1:
        panels, splits = min(wide, PANELS), 2 * threads  # a group of few panels would read the rows once more
    made = Tiled(w, nest, groups, Shape(SIDE * ROWS, SIDE * panels, splits), epilogue, packed=False)
    made.parts = parts
    if stored in (groups.sums, "bf16") and nest.lane.out == 1:
        made.lines = made._flat(replace(spec.out, dtype=stored))
    made.run()
    return made


def _suits(nest: Nest) -> bool:
    if not nest.sums or nest.lane.lhs or not nest.out.shape or 0 in (nest.row_count, nest.lane.extent, nest.sum_count):
        return False
    least = LEAST_SUM.get(nest.lhs.dtype, LEAST_CONVERTED)
    if nest.row_count < LEAST_ROWS or nest.lane.extent < LEAST_COLUMNS or nest.sum_count < least:
        return False
    run = nest.sums[-1]
    if nest.lhs.dtype not in LEAST_SUM and len(nest.sums) > 1:
        return False
    in_rows = run.lhs == 1 and (len(nest.sums) == 1 or run.extent >= LEAST_RUN)
    in_columns = len(nest.rows) == 1 and nest.rows[-1].lhs == 1 and len(nest.sums) == 1
    return in_rows or in_columns


class Tiled(TileCopies):
    """Writes one kernel's body, as `Grouped` does."""

    flips = False
    lines: Source | None = None  # the result, where whole lines of it are stored as they are

    def run(self) -> None:
        """Write everything."""
        w, nest = self.w, self.nest
        self.depth = math.prod(a.extent for a in nest.sums[:-1]) * self.run_groups  # groups of the whole sum
        self.steps = ceil_div(self.depth, ROWS)
        self.blocks = ceil_div(self.steps, STEPS // self.parts)
        self.block = ceil_div(self.steps, self.blocks)  # steps of each but the last, which may have fewer
        self.flips = False
        panels = self.width // (SIDE * LANES)
        size = panels * self._panel_size
        self.together = self.blocks
        if len(nest.sums) == 1:
            self.together = min(
                self.blocks, max(1, MOST_PACKED // (panels * self.block * self._step_size * self._size))
            )
        self.cuts = ceil_div(self.blocks, self.together)
        panel = self._view(self.together * size, self.groups.element)
        packed = replace(panel.source(0), signed=nest.rhs.signed)
        as_they_are = nest.lhs.dtype == self.groups.element and self._lies_right()
        rows = None if as_they_are and panels <= FEW_PANELS else self._rows_view()
        waiting = 1 if self.cuts == 1 else ceil_div(min(self.chunk, nest.row_count), SIDE * ROWS)
        self.waiting = self._view(waiting * panels * WAITING, self.groups.sums) if self.blocks > 1 else None
        lhs = replace(self.lhs, sums=tuple(a.lhs for a in nest.sums))
        self._configure()
        with w.for_("%lo", "%hi", 1) as tile:
            *batch, unit, split = w.delinearize(tile, [*(a.extent for a in nest.batch), self.panels, self.splits])
            at = [(p, a) for p, a in zip(batch, nest.batch, strict=True)]
            left = replace(lhs, base=w.linear(lhs.base, [(p, a.lhs) for p, a in at]))
            right = replace(self.rhs, base=w.linear(self.rhs.base, [(p, a.rhs) for p, a in at]))
            corner = w.linear(0, [(p, a.out) for p, a in at])

            def one(column: Index, columns: int) -> None:
                def cut(number: Index) -> None:
                    first = w.mul(number, self.together)
                    self._pack_columns(right, packed, column, columns, first)
                    self._each_rows(
                        split,
                        lambda row: self._row_tile(
                            left, rows, packed, (tuple(batch), corner), row, column, columns, first, split
                        ),
                    )

                walk(w, self.cuts, 1, cut)

            self._each_width(unit, one)
        self._call("tilerelease")

    def _each_rows(self, split: Index, body: Callable[[Index], None]) -> None:
        """`body` for each 32 rows of a piece."""
        w, count = self.w, self.nest.row_count
        if self.splits == 1:
            walk(w, count, SIDE * ROWS, body)
            return
        first = w.mul(split, self.chunk)
        with w.for_(first, w.minimum(w.add(first, self.chunk), count), SIDE * ROWS) as row:
            body(row)

    # Instructions.

    def _call(self, name: str, *operands: str) -> None:
        """An instruction on tiles: operands are their numbers, addresses and steps."""
        kinds = {"t": "i8", "p": "!llvm.ptr", "n": "i64"}
        types = ", ".join(kinds[operand[1]] for operand in operands)
        self.w.emit(f'llvm.call_intrinsic "llvm.x86.{name}"({", ".join(operands)}) : ({types}) -> ()')

    def _tile(self, number: int) -> str:
        return self.w.hoisted(f"arith.constant {number} : i8", "t")

    def _address(self, name: str, memref: str, offset: Index, size: int = 0) -> str:
        """The address of an element, which has `size` bytes, if it is no operand's."""
        w = self.w
        base = w.op(f"memref.extract_aligned_pointer_as_index {name} : {memref} -> index")
        return self._pointer(w.add(base, w.mul(offset, size or self._size)))

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
            # Columns stream by: with a hint that they do, they leave the rows in the first cache.
            load = ("tileloadd64", "tileloaddt164")[k // 2]
            self._call(load, self._tile(4 + k), places[k], steps[k // 2])
            for product in ready:
                self._call(name, self._tile(product), self._tile(4 + product // 2), self._tile(6 + product % 2))

    # The tiles.

    def _row_tile(
        self, lhs: Source, rows: Panel | None, packed: Source, spot: tuple[tuple[Index, ...], Index], row: Index,
        column: Index, columns: int, start: Index, split: Index,
    ) -> None:  # fmt: skip
        """32 rows by all panels that are packed: those of the blocks from `start` on."""
        w, wide = self.w, SIDE * LANES
        if rows is not None and self._at_once:
            self._copy_rows(lhs, rows, row, 0, self.steps)

        waiting: Index = 0
        if self.cuts > 1:
            below = w.delinearize(w.sub(row, w.mul(split, self.chunk)), [0, SIDE * ROWS])[0]
            waiting = w.mul(below, self.width // wide * WAITING)

        def block(after: Index) -> None:
            number = w.add(start, after)
            first = w.mul(number, self.block)
            count = self.block if self.steps % self.block == 0 else w.minimum(w.sub(self.steps, first), self.block)
            if rows is None:
                place = w.linear(self._row_start(lhs, row), [(first, self._each)])
                source, stride = replace(lhs, base=place), self.nest.rows[-1].lhs
            else:
                if not self._at_once:
                    self._copy_rows(lhs, rows, row, first, count)
                place = w.mul(first, self._each) if self._at_once else 0
                source, stride = replace(rows.source(0), base=place), self._line
            full = columns - columns % wide

            def square(panel: Index, used: int) -> None:
                self._fetch_rows(lhs, row, first, panel)
                right = replace(packed, base=self._tile_place(w.mul(after, self.block), w.mul(panel, SIDE)))
                place = w.linear(waiting, [(panel, WAITING)])
                self._square(source, stride, right, spot, row, column, number, count, panel, used, place)

            walk(w, full // wide, 1, lambda panel: square(panel, wide))
            if full < columns:
                square(full // wide, columns - full)

        walk(w, self._blocks_from(start), 1, block)

    def _square(
        self, lhs: Source, stride: int, packed: Source, spot: tuple[tuple[Index, ...], Index], row: Index,
        column: Index, block: Index, count: Index, panel: Index, columns: int, place: Index,
    ) -> None:  # fmt: skip
        """Two by two tiles of sums over one block of the sum; what becomes of them, after the last one."""
        w = self.w
        assert self.finished is not None
        if self.waiting is None:
            self._clear()
        else:
            waiting = replace(self.waiting, base=place)
            with w.branch(w.op(f"arith.cmpi eq, {w.ssa(block)}, {w.index(0)} : index")):
                self._clear()
            with w.scope("else", fence=True):
                self._move("tileloadd64", waiting)
        with w.for_(0, count, 1) as step:
            left = w.linear(lhs.base, [(step, self._each)])
            right = w.linear(packed.base, [(step, self._step_size)])
            lines = [p * self._rows_size + k * ROWS * stride for p in range(self.parts) for k in range(2)]
            places = [self._address(lhs.name, lhs.memref, w.add(left, line)) for line in lines]
            tiles = [
                self._address(packed.name, packed.memref, w.add(right, k * self._tile_size))
                for k in range(2 * self.parts)
            ]
            steps = [self._number(stride * self._size), self._number(LINE)]
            for a, b in ((0, 0), (0, 1), (1, 0))[: 2 * self.parts - 1]:
                self._multiply([*places[2 * a : 2 * a + 2], *tiles[2 * b : 2 * b + 2]], steps)
        if self.waiting is None:
            self._hand_over(packed, spot, row, column, panel, columns)
            return
        with w.branch(w.op(f"arith.cmpi eq, {w.ssa(block)}, {w.index(self.blocks - 1)} : index")):
            self._hand_over(packed, spot, row, column, panel, columns)
        with w.scope("else", fence=True):
            self._move("tilestored64", waiting)

    def _clear(self) -> None:
        for k in range(4):
            self._call("tilezero", self._tile(k))

    def _move(self, name: str, place: Panel) -> None:
        """Load or store the sums: 32 rows of 32."""
        line = SIDE * LANES
        for k in range(4):
            at = self._address(
                place.name, place.memref, self.w.add(place.base, k // 2 * ROWS * line + k % 2 * LANES), 4
            )
            self._call(name, self._tile(k), at, self._number(line * 4))

    def _hand_over(
        self, packed: Source, spot: tuple[tuple[Index, ...], Index], row: Index, column: Index, panel: Index,
        columns: int,
    ) -> None:  # fmt: skip
        """Give the sums to the epilogue."""
        w, nest = self.w, self.nest
        batch, corner = spot
        assert self.finished is not None and self.epilogue is not None
        self._move("tilestored64", self.finished)
        tile = Tile(packed, packed, (0,), columns, LANES, self.groups.sums)
        place = w.linear(column, [(panel, SIDE * LANES)])
        finish = Finish(w, nest, tile, batch, corner, row, place, straight=False)
        left_rows = w.minimum(w.sub(nest.row_count, row), SIDE * ROWS)
        if self.lines is not None and columns % (SIDE * LANES) == 0:
            finish.store_lines(left_rows, self.finished.source(1), SIDE * LANES, self.lines)
            return
        finish.hand_over(left_rows, self.finished.source(1), SIDE * LANES, self.epilogue, by_columns=True)
