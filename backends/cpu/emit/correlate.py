"""Weight gradients of convolutions: sums over all places of all images, in blocks that stay in the second cache.

    for tile in [lo, hi)            groups, or slices of the batch x pieces of the channels x panels of columns
      for every image, for every block of lines
        pack the block, a few channels side by side, with its padding; pack the panel of the other operand
        for every tile of channels, for every element of the window
          register tile over the block; the sums wait in the result until the last block

Where an image has few channels, a row of the window is one run of neighbouring numbers, and the rows of the register
tile go along that: the block stays as it lies in the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.ending import Ending, Spot
from thalweg.backends.cpu.emit.finishing import Epilogue
from thalweg.backends.cpu.emit.image import Layout, Packer, Scratch, whole
from thalweg.backends.cpu.emit.microkernel import Tile, accumulate
from thalweg.backends.cpu.emit.nest import Contraction, strides
from thalweg.backends.cpu.emit.packing import Panel, Source, pack_lanes, zero
from thalweg.backends.cpu.emit.registers import register_tile
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.sliding import Move, Sliding
from thalweg.backends.cpu.machine import Machine

PANEL_BYTES = 36 << 10  # of a panel of the other operand: it stays in the first cache beside the image
PLACES = 96  # summed in one go, at least
FEW_CHANNELS = 16  # fewer do not fill the rows of a register tile
MANY_THREADS = 64
SHORT_RUN = 6  # rows at one distance, at least
FEW_PLACES = 512  # are summed in one go by a product of matrices, where the window is one element


@dataclass(frozen=True)
class Plan:
    """How a weight gradient is cut.

    Args:
        run: rows that lie side by side in the block; `merged`: they are a row of the window, not channels alone.
        rows, vectors: the register tile.
        lines: in a block.
        pieces, strips: what the tiles of channels and the panels of columns are cut into, for several threads.
    """

    run: int
    merged: bool
    rows: int
    vectors: int
    lines: int
    pieces: int
    strips: int


def plan(
    form: Sliding, spec: Contraction, machine: Machine, threads: int, tile: tuple[int, int] | None = None
) -> Plan | None:
    """The plan, or None where rows are too few, or a product of matrices does better; with a register tile (rows,
    vectors) where one is given."""
    last, channels = form.slides[-1].kept, form.channels
    summed = form.first.extent * math.prod(slide.summed.extent for slide in form.slides)
    if summed <= FEW_PLACES and math.prod(slide.kept.extent for slide in form.slides) == 1:
        return None
    out = strides(spec.out.shape)
    step = {d: out[axis.dim] if axis.dim is not None else 0 for d, axis in enumerate(spec.axes)}
    run, merged = channels.extent, False
    if channels.extent < FEW_CHANNELS and last.loop is not None and len(form.slides) > 1:
        apart = step[channels.loop] * channels.extent if channels.loop is not None else step[last.loop]
        if last.step == form.slides[-1].apart == 1 and step[last.loop] == apart:
            run, merged = last.extent * channels.extent, True
    if run < SHORT_RUN:
        return None
    lanes = machine.lanes(spec.out.dtype)
    wide = ceil_div(form.lane.extent, lanes)
    rows, vectors = tile or register_tile(run, wide, machine, PLACES, spare=1)
    most = PANEL_BYTES // (vectors * machine.vector_bits // 8)
    lines = form.slides[0].summed.extent
    blocks = ceil_div(lines, max(1, most // math.prod(slide.summed.extent for slide in form.slides[1:])))
    lines = ceil_div(lines, blocks)
    tiles = 1 if merged or run % rows else run // rows
    wanted = ceil_div(4 * threads, form.count) if threads > 1 else 1
    pieces, strips = _cut(tiles, ceil_div(wide, vectors), run, form.lane.extent, wanted)
    return Plan(run, merged, rows, vectors, lines, pieces, strips)


def pieces(form: Sliding, spec: Contraction, machine: Machine) -> int | None:
    """How many tiles several threads can share at most, or None where there is no plan."""
    cut = plan(form, spec, machine, MANY_THREADS)
    return None if cut is None else form.count * cut.pieces * cut.strips


def _cut(tiles: int, panels: int, channels: int, columns: int, wanted: int) -> tuple[int, int]:
    """(pieces of the channels' tiles, strips of the panels): a piece packs all columns, a strip all channels."""
    whole = [(a, b) for a in range(1, tiles + 1) if tiles % a == 0 for b in range(1, panels + 1)]
    enough = [(a, b) for a, b in whole if a * b >= min(wanted, tiles * panels)]
    return min(enough, key=lambda cut: (cut[0] * columns + cut[1] * channels, cut[0] * cut[1]))


class Correlation:
    """Writes one kernel's body; `tiles` and `scratch` (bytes) are known afterwards."""

    def __init__(
        self, w: ScopedWriter, form: Sliding, spec: Contraction, machine: Machine, cut: Plan, epilogue: Epilogue | None
    ) -> None:
        self.w, self.form, self.spec, self.cut, self.machine = w, form, spec, cut, machine
        self.dtype, self.lanes = spec.out.dtype, machine.lanes(spec.out.dtype)
        self.width = cut.vectors * self.lanes
        self.panels = ceil_div(form.lane.extent, self.width)
        self.strip = ceil_div(self.panels, cut.strips)  # panels
        self.strips = ceil_div(self.panels, self.strip)
        self.tiles = form.count * self.strips * cut.pieces
        slide = form.slides[0]
        self.group: Sequence[Index] = ()
        self.line: Index = 0  # the first of the block
        self.blocks = ceil_div(slide.summed.extent, cut.lines)
        self.passes = form.first.extent * self.blocks
        self.out_steps = strides(spec.out.shape)
        scratch = Scratch(w, self.dtype)
        lines = slide.summed.step * (cut.lines - 1) + slide.kept.step * (slide.kept.extent - 1) + 1
        self.layout = Layout.of(form, lines, form.channels.extent if cut.merged else cut.rows)
        image = whole(w, spec.lhs)
        self.packer: Packer | None = None
        if cut.merged and not form.padded and form.apart[-1] == form.channels.extent:
            self.block = image
            self.layout = replace(self.layout, spatial=form.steps)
        else:
            self.block = scratch.view(self.layout.size)
            self.packer = Packer(w, form, image, self.block, self.layout, self.lanes)
        self.other = replace(whole(w, spec.rhs), base=spec.rhs.offset)
        self.panel = self._panel(scratch)
        self.ending = self._ending(scratch, epilogue)
        self.partial = self._partial(scratch, epilogue)
        self.scratch = scratch

    # Buffers.

    def _sums(self) -> list[Move]:
        """The loops over a block's places."""
        return [slide.summed for slide in self.form.slides]

    def _panel(self, scratch: Scratch) -> Panel:
        extents = [self.cut.lines, *(move.extent for move in self._sums()[1:])]
        view = scratch.view(math.prod(extents) * self.width)
        steps = tuple(math.prod(extents[d + 1 :]) * self.width for d in range(len(extents)))
        return Panel(view.name, view.memref, self.dtype, 0, steps)

    def _ending(self, scratch: Scratch, epilogue: Epilogue | None) -> Ending:
        lane = (len(self.spec.out.shape) - 1, self.form.lane.extent)
        if epilogue is None:
            return Ending(self.w, whole(self.w, self.spec.out, scratch=True), lane, self.width)
        return Ending(self.w, None, lane, self.width, epilogue, scratch.view(self.cut.rows * self.width))

    def _partial(self, scratch: Scratch, epilogue: Epilogue | None) -> Source | None:
        """Where sums wait between blocks: in the result itself, if they go there as they are."""
        if self.passes == 1:
            return None
        if epilogue is None:
            return self.ending.out
        return scratch.view(self._rows * self.strip * self.width)

    @property
    def _rows(self) -> int:
        """Of a piece, the tiles' rows for every element of the window."""
        return ceil_div(self.cut.run, self.cut.rows) // self.cut.pieces * self.cut.rows * self._window

    @property
    def _outer(self) -> list[Move]:
        """The kept loops over the window that are not part of a row's run."""
        moves = [slide.kept for slide in self.form.slides]
        return moves[:-1] if self.cut.merged else moves

    @property
    def _window(self) -> int:
        return math.prod(move.extent for move in self._outer)

    # Loops.

    def run(self) -> None:
        """Write everything."""
        w, form, cut, slide = self.w, self.form, self.cut, self.form.slides[0]
        if self.packer is not None:
            self.packer.clear(self.layout.size)
        with w.for_("%lo", "%hi", 1) as tile:
            extents = [*(move.extent for move in form.groups), cut.pieces, self.strips]
            *self.group, piece, strip = w.delinearize(tile, extents)
            with w.for_(0, form.first.extent, 1) as n, w.for_(0, slide.summed.extent, cut.lines) as line:
                lines = w.minimum(w.sub(slide.summed.extent, line), cut.lines)
                if slide.summed.extent % cut.lines == 0:
                    lines = cut.lines
                number = w.add(w.mul(n, self.blocks * cut.lines), line)
                self.line = line
                self.start = w.op(f"arith.cmpi eq, {w.ssa(number)}, {w.index(0)} : index", "first")
                ends = (form.first.extent - 1) * self.blocks * cut.lines + (self.blocks - 1) * cut.lines
                self.end = w.op(f"arith.cmpi eq, {w.ssa(number)}, {w.index(ends)} : index", "last")
                self._block(piece, strip, n, line, lines)

    def _block(self, piece: Index, strip: Index, n: Index, line: Index, lines: Index) -> None:
        w, cut, slide = self.w, self.cut, self.form.slides[0]
        tiles = cut.run // cut.rows // cut.pieces
        first = w.mul(piece, tiles)
        steps, groups = self.form.apart, zip(self.group, self.form.groups, strict=True)
        base = w.linear(0, [*((k, move.step) for k, move in groups), (n, steps[0])])
        if self.packer is None:
            base = w.linear(base, [(line, steps[1] * slide.summed.step * slide.apart)])
        else:
            begin = w.mul(line, slide.summed.step)
            reach = w.add(w.mul(w.sub(lines, 1), slide.summed.step), slide.kept.step * (slide.kept.extent - 1) + 1)
            part = 0 if cut.merged or cut.pieces == 1 else tiles
            self.packer.pack(base, begin, reach, first if part else 0, part)
            base = 0
        begin = w.mul(strip, self.strip)
        end: Index = self.strip
        if self.strips > 1:
            end = w.minimum(w.sub(self.panels, begin), self.strip)

        def panel(k: Index) -> None:
            self._panel_of(k, w.add(begin, k), (n, line, lines), (first, tiles), base)

        if end == 1:
            panel(0)
            return
        with w.for_(0, end, 1) as k:
            panel(k)

    def _panel_of(
        self, own: Index, panel: Index, block: tuple[Index, Index, Index], piece: tuple[Index, int], base: Index
    ) -> None:
        """One panel, the strip's `own`th. The last of all may be narrower, and is another piece of code then."""
        w, rest = self.w, self.form.lane.extent - (self.panels - 1) * self.width
        if self.panels == 1 or rest == self.width:
            self._columns(own, w.mul(panel, self.width), min(rest, self.width), block, piece, base)
            return
        with w.branch(w.op(f"arith.cmpi eq, {w.ssa(panel)}, {w.index(self.panels - 1)} : index")):
            self._columns(own, (self.panels - 1) * self.width, rest, block, piece, base)
        with w.scope("else", fence=True):
            self._columns(own, w.mul(panel, self.width), self.width, block, piece, base)

    def _columns(
        self, own: Index, column: Index, columns: int, block: tuple[Index, Index, Index], piece: tuple[Index, int],
        base: Index,
    ) -> None:  # fmt: skip
        """All rows of a piece, for one panel and one block of places."""
        w, cut, (n, line, lines) = self.w, self.cut, block
        moves = (*self.form.groups, self.form.first, *self._sums())
        steps = [self.spec.axes[m.loop].rhs if m.loop is not None else 0 for m in moves]
        groups = len(self.form.groups)
        far, first, along = steps[:groups], steps[groups], steps[groups + 1 :]
        assert self.form.lane.loop is not None
        lane = self.spec.axes[self.form.lane.loop].rhs
        corner = w.linear(self.other.base, zip(self.group, far, strict=True))
        start = w.linear(corner, [(n, first), (line, along[0]), (column, lane)])
        extents: list[Index] = [lines, *(move.extent for move in self._sums()[1:])]
        source = replace(self.other, base=start, sums=tuple(along), lane=lane)
        pack_lanes(w, source, self.panel, extents, self.lanes, columns)

        def rows(tile: Index, count: int) -> None:
            def level(depth: int, at: list[Index]) -> None:
                if depth == len(self._outer):
                    wait = w.mul(own, self._rows * self.width)
                    self._register_tile(w.add(piece[0], tile), tile, count, at, column, columns, extents, base, wait)
                    return
                walk(w, self._outer[depth].extent, 1, lambda k: level(depth + 1, [*at, k]))

            level(0, [])

        full, rest = piece[1], cut.run % cut.rows
        walk(w, full, 1, lambda tile: rows(tile, cut.rows))
        if rest:
            rows(full, rest)

    def _register_tile(
        self, tile: Index, own: Index, rows: int, at: list[Index], column: Index, columns: int, extents: list[Index],
        base: Index, wait: Index,
    ) -> None:  # fmt: skip
        """`tile`: which tile of the run, `own`: counted in the piece; `at`: the place in the window; `wait`: where the
        panel's sums wait."""
        w, cut, layout = self.w, self.cut, self.layout
        moved = [(k, move.step * step) for k, move, step in zip(at, self._outer, layout.spatial, strict=False)]
        between = cut.rows if cut.merged else layout.between
        start = w.linear(base, [*moved, (own, between)])
        sums = tuple(m.step * step for m, step in zip(self._sums(), layout.spatial, strict=True))
        panel = self.panel.source(1)
        inside = [self._inside(d, row, extents[d]) for d, row in enumerate(at or [0]) if len(extents) > 1]
        skipped = [first for first, _ in inside]
        extents = [*(count for _, count in inside), *extents[len(inside) :]]
        lhs = replace(self.block, base=w.linear(start, zip(skipped, sums, strict=False)), sums=sums, lane=0)
        panel = replace(panel, base=w.linear(panel.base, zip(skipped, panel.sums, strict=False)))
        made = Tile(lhs, panel, tuple(range(rows)), columns, self.lanes, self.dtype, unroll=self.machine.unroll)
        nothing = [zero(w, self.lanes, self.dtype)] * (rows * len(made.widths))
        spot = self._spot(tile, at, column)
        if self.partial is None:
            self.ending.deliver(accumulate(w, made, extents, nothing), made, spot)
            return
        corner, step = spot.corner, spot.step
        if self.ending.epilogue is not None:
            number = own
            for k, move in zip(at, self._outer, strict=True):
                number = w.add(w.mul(number, move.extent), k)
            corner, step = w.linear(wait, [(number, cut.rows * self.width)]), self.width
        begin = self.ending.reload(made, self.partial, corner, step, self.start, nothing)
        total = accumulate(w, made, extents, begin)
        if self.ending.epilogue is None:
            self.ending.store(total, made, self.partial, corner, step)
            return
        with w.branch(self.end):
            self.ending.deliver(total, made, spot)
        with w.scope("else", fence=True):
            self.ending.store(total, made, self.partial, corner, step)

    def _inside(self, d: int, row: Index, places: Index) -> tuple[Index, Index]:
        """(the first, how many) of a block's places along a dimension for which that row of the window meets the image:
        elsewhere there are zeros, which add nothing."""
        w, slide = self.w, self.form.slides[d]
        if not slide.padded or slide.apart != 1:
            return 0, places
        # From the place that the block's first line asks for to the image's first, and to its end.
        begin = [(self.line, slide.summed.step)] if d == 0 else []
        place = w.linear(-slide.low, [*begin, (row, slide.kept.step)])
        bounds: list[Index] = []
        for distance in (w.sub(0, place), w.sub(slide.extent, place)):
            steps: Index = w.op(f"arith.maxsi {w.ssa(distance)}, {w.index(0)} : index")
            if slide.summed.step > 1:
                rounded = w.ssa(w.add(steps, slide.summed.step - 1))
                steps = w.op(f"arith.divui {rounded}, {w.index(slide.summed.step)} : index")
            bounds.append(w.minimum(steps, places))
        return bounds[0], w.sub(bounds[1], bounds[0])

    def _spot(self, tile: Index, at: list[Index], column: Index) -> Spot:
        w, form, axes = self.w, self.form, self.spec.axes
        moves = zip((*form.groups, *self._outer), (*self.group, *at), strict=True)
        outer = {axes[m.loop].dim: k for m, k in moves if m.loop is not None}
        place: dict[int, Index] = {d: 0 for d in range(len(self.spec.out.shape))}
        place.update({d: k for d, k in outer.items() if d is not None})
        last, channels = form.slides[-1].kept, form.channels
        dims = [axes[m.loop].dim if m.loop is not None else None for m in (last, channels)]
        row = w.mul(tile, self.cut.rows)
        inner = dims[1] if dims[1] is not None else dims[0]
        assert inner is not None
        step = self.out_steps[inner]
        corner = w.linear(column, [(k, self.out_steps[d]) for d, k in place.items()])

        def rows(r: Index) -> dict[int, Index]:
            at_row = w.add(row, r)
            if not self.cut.merged:
                return {inner: at_row}
            places = w.delinearize(at_row, [last.extent, channels.extent])
            return {d: k for d, k in zip(dims, places, strict=True) if d is not None}

        return Spot(w.add(corner, w.mul(row, step)), step, place, rows, column)
