"""Convolutions of images with channels last, and their data gradients of stride 1: the results of a line are the rows
of the register tile, so that no image is unrolled.

    for tile in [lo, hi)            blocks of lines, group by group
      pack all panels of weights, for the first tile of a group, unless they lie so
      pack the block, with its padding
      for every panel, every line, every register tile
        the whole sum, then the epilogue

Where the weights do not stay in the second cache, they are better read once for all images (emit/contraction.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.ending import Ending, Spot
from thalweg.backends.cpu.emit.finishing import Epilogue
from thalweg.backends.cpu.emit.image import Layout, Packer, Scratch, whole
from thalweg.backends.cpu.emit.microkernel import Tile, accumulate
from thalweg.backends.cpu.emit.nest import Contraction, item_bytes, strides
from thalweg.backends.cpu.emit.packing import Panel, pack_lanes, pack_transposed, transposable, zero
from thalweg.backends.cpu.emit.registers import register_tile
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.sliding import Move, Sliding
from thalweg.backends.cpu.machine import Machine
from thalweg.backends.cpu.panels import Panels

WEIGHTS_BYTES = 1 << 20  # of packed weights that stay in the second cache while blocks of an image pass by
BLOCK_ROWS = 392  # results of a block, about
FEWEST_LANES = 8  # a vector of columns is at least so full, as one part in so many
FEWEST_LANES_OF_GROUPS = 2
DEEP = 8  # summed elements that pay for a loop of their own
SHORT_SUM = 160  # is up to here: what becomes of it is written for each register
LONG_SUM = 1200  # the same where that is a few instructions
MANY_RESULTS = 256  # pay for packing the weights


@dataclass(frozen=True)
class Plan:
    """How a convolution is cut: the register tile, and lines of the result in a block."""

    rows: int
    vectors: int
    lines: int


def plan(form: Sliding, spec: Contraction, machine: Machine, threads: int) -> Plan | None:
    """The plan, or None where a product of matrices does as well: without a window, or of too many weights."""
    slides, dtype = form.slides, spec.out.dtype
    lanes, item = machine.lanes(dtype), item_bytes(dtype)
    window = math.prod(slide.summed.extent for slide in slides)
    depth = window * form.channels.extent
    wide = ceil_div(form.lane.extent, lanes)
    places = math.prod(slide.kept.extent for slide in slides[1:])
    lines = slides[0].kept.extent
    fewest = FEWEST_LANES if form.count == 1 else FEWEST_LANES_OF_GROUPS
    if window == 1 or depth < DEEP or form.lane.extent * fewest < lanes:
        return None
    if form.first.extent * lines * places < MANY_RESULTS:
        return None
    run = slides[-1].kept.extent
    rows, vectors = register_tile(run, wide, machine, depth)
    weights = depth * ceil_div(wide, vectors) * vectors * lanes * item
    if weights > WEIGHTS_BYTES:
        return None
    if len(slides) == 1:
        fits = slides[0].reach * form.channels.extent * item <= WEIGHTS_BYTES
        return Plan(rows, vectors, lines) if fits else None
    return Plan(rows, vectors, block_lines(lines, places, form.first.extent * form.count, threads))


def block_lines(lines: int, places: int, images: int, threads: int) -> int:
    """Lines in a block, of images that have so many lines of so many places: where there are few images, the number for
    which no thread waits long for another."""
    blocks = ceil_div(lines * places, BLOCK_ROWS)
    if threads == 1 or images >= 4 * threads:
        return ceil_div(lines, min(blocks, lines))
    fewest = ceil_div(lines, min(max(blocks, ceil_div(4 * threads, images)), lines))
    most = max(fewest, min(lines, BLOCK_ROWS // places))

    def awaited(count: int) -> tuple[int, int]:
        return ceil_div(images * ceil_div(lines, count), threads) * count, -count

    return min(range(max(1, fewest // 2), most + 1), key=awaited)


def sums_of(form: Sliding) -> list[Move]:
    """The summed loops of a convolution, as panels of weights have them: the window's, the channels'."""
    return [*(slide.summed for slide in form.slides), form.channels]


def panels(form: Sliding, spec: Contraction, machine: Machine, threads: int) -> Panels | None:
    """How the kernel of a convolution reads its weights; None where it is not written here, or has groups."""
    cut = None if form.weights else plan(form, spec, machine, threads)
    if cut is None or form.count > 1:
        return None
    axes, lane = spec.axes, form.lane
    assert lane.loop is not None
    sums = tuple((m.extent, axes[m.loop].rhs if m.loop is not None else 0) for m in sums_of(form))
    width = cut.vectors * machine.lanes(spec.out.dtype)
    return Panels(spec.rhs.shape, spec.rhs.offset, axes[lane.loop].rhs, lane.extent, sums, width)


class Convolution:
    """Writes one kernel's body; `tiles` and `scratch` (bytes) are known afterwards."""

    def __init__(
        self, w: ScopedWriter, form: Sliding, spec: Contraction, machine: Machine, cut: Plan, epilogue: Epilogue | None,
        light: bool = False,
    ) -> None:  # fmt: skip
        self.w, self.form, self.spec, self.cut, self.machine = w, form, spec, cut, machine
        self.dtype, self.lanes = spec.out.dtype, machine.lanes(spec.out.dtype)
        self.width = cut.vectors * self.lanes
        self.panels = ceil_div(form.lane.extent, self.width)
        slide = form.slides[0]
        self.blocks = ceil_div(slide.kept.extent, cut.lines)
        self.tiles = form.count * form.first.extent * self.blocks
        self.scratch = Scratch(w, self.dtype)
        self.groups = [move.extent for move in form.groups]
        self.out_steps = strides(spec.out.shape)
        lines = slide.kept.step * (cut.lines - 1) + slide.summed.step * (slide.summed.extent - 1) + 1
        self.layout = Layout.of(form, lines, form.channels.extent)
        self.packer: Packer | None = None
        self.block = whole(w, spec.lhs)
        if form.padded:
            image, self.block = self.block, self.scratch.view(self.layout.size)
            self.packer = Packer(w, form, image, self.block, self.layout, self.lanes)
        else:
            self.layout = replace(self.layout, spatial=form.steps)
        self.other = replace(whole(w, spec.rhs), base=spec.rhs.offset)
        self.depth = math.prod(move.extent for move in sums_of(form))
        self.packs = not spec.rhs.panel
        self.panel = self._panel()
        lane = (len(spec.out.shape) - 1, form.lane.extent)
        if epilogue is None:
            self.ending = Ending(w, whole(w, spec.out, scratch=True), lane, self.width)
        else:
            waits = self.depth > (LONG_SUM if light else SHORT_SUM)
            buffer = self.scratch.view(cut.rows * self.width) if waits else None
            self.ending = Ending(w, None, lane, self.width, epilogue, buffer)

    def _panel(self) -> Panel:
        """Where panels of weights go, or are. A transposing copy writes some elements past the last one."""
        extents = [move.extent for move in sums_of(self.form)]
        steps = tuple(math.prod(extents[d + 1 :]) * self.width for d in range(len(extents)))
        if not self.packs:
            assert self.spec.rhs.panel == self.width, f"panels of {self.spec.rhs.panel} columns, not {self.width}"
            return Panel(self.other.name, self.other.memref, self.dtype, 0, steps)
        view = self.scratch.view((self.panels * self.depth + self.lanes) * self.width)
        return Panel(view.name, view.memref, self.dtype, 0, steps)

    # Loops.

    def run(self) -> None:
        """Write everything."""
        w = self.w
        if self.packer is not None:
            self.packer.clear(self.layout.size)
        if self.packs and self.form.count == 1:
            self._each_panel(lambda panel, columns: self._pack_weights([], panel, columns))
        with w.for_("%lo", "%hi", 1) as tile:
            self._block(tile)

    def _place(self, panel: Index) -> Index:
        """Where a panel of weights lies among all of them."""
        return self.w.mul(panel, self.depth * self.width)

    def _each_panel(self, body: Callable[[Index, int], None]) -> None:
        """`body` for every panel and its columns."""
        full, rest = divmod(self.form.lane.extent, self.width)
        walk(self.w, full, 1, lambda panel: body(panel, self.width))
        if rest:
            body(full, rest)

    def _block(self, tile: str) -> None:
        w, slide, cut = self.w, self.form.slides[0], self.cut
        *group, n, block = w.delinearize(tile, [*self.groups, self.form.first.extent, self.blocks])
        if self.packs and self.form.count > 1:
            start = w.op(f"arith.cmpi eq, {tile}, %lo : index")
            begin = w.op(f"arith.cmpi eq, {w.ssa(w.add(w.mul(n, self.blocks), block))}, {w.index(0)} : index")
            with w.branch(w.op(f"arith.ori {start}, {begin} : i1")):
                self._each_panel(lambda panel, columns: self._pack_weights(group, panel, columns))
        line, lines = w.mul(block, cut.lines), cut.lines
        count: Index = lines
        if slide.kept.extent % lines:
            count = w.minimum(w.sub(slide.kept.extent, line), lines)
        steps, moved = self.form.apart, slide.kept.step * slide.apart
        groups = zip(group, self.form.groups, strict=True)
        corner = w.linear(0, [(n, steps[0]), *((k, move.step) for k, move in groups)])
        base: Index = w.linear(corner, [(line, steps[1] * moved)])
        if self.packer is not None:
            base = 0
            reach = w.add(w.mul(w.sub(count, 1), slide.kept.step), slide.summed.step * (slide.summed.extent - 1) + 1)
            self.packer.pack(corner, w.mul(line, slide.kept.step), reach)
        self._each_panel(lambda panel, columns: self._rows([*group, n], line, count, base, (panel, columns)))

    def _pack_weights(self, group: Sequence[Index], panel: Index, columns: int) -> None:
        w, axes, lane = self.w, self.spec.axes, self.form.lane
        assert lane.loop is not None
        steps = tuple(axes[m.loop].rhs if m.loop is not None else 0 for m in sums_of(self.form))
        loops = [move.loop for move in self.form.groups if move.loop is not None]
        first = w.linear(self.other.base, [(k, axes[loop].rhs) for k, loop in zip(group, loops, strict=True)])
        source = replace(self.other, base=first, sums=steps, lane=axes[lane.loop].rhs)
        extents: list[Index] = [move.extent for move in sums_of(self.form)]
        target, column = replace(self.panel, base=self._place(panel)), w.mul(panel, self.width)
        if transposable(source, self.lanes):
            # A later panel overwrites what is written past the end of this one.
            pack_transposed(w, source, target, extents, self.lanes, column, self.width, lane.extent)
            return
        source = replace(source, base=w.linear(source.base, [(column, source.lane)]))
        pack_lanes(w, source, target, extents, self.lanes, columns)

    def _rows(self, image: Sequence[Index], line: Index, lines: Index, base: Index, panel: tuple[Index, int]) -> None:
        """All results of a block for one panel: (which, its columns). `image`: the groups, which of the batch."""
        w, moves = self.w, [slide.kept for slide in self.form.slides]
        extents = [lines, *(move.extent for move in moves[1:])]

        def level(depth: int, at: list[Index]) -> None:
            if depth < len(extents) - 1:
                walk(w, extents[depth], 1, lambda k: level(depth + 1, [*at, k]))
                return
            run, rows = moves[-1].extent, self.cut.rows
            full, rest = run - run % rows, run % rows
            walk(w, full, rows, lambda x: self._register_tile(image, line, [*at, x], rows, base, panel))
            if rest:
                self._register_tile(image, line, [*at, full], rest, base, panel)

        level(0, [])

    def _register_tile(
        self, image: Sequence[Index], line: Index, at: list[Index], rows: int, base: Index, panel: tuple[Index, int]
    ) -> None:
        """`at`: the place of the first row in the block."""
        w, layout, slides = self.w, self.layout, self.form.slides
        steps = [slide.kept.step * step for slide, step in zip(slides, layout.spatial, strict=True)]
        start = w.linear(base, zip(at, steps, strict=True))
        sums, extents, panel_steps = self._merged()
        # Dimensions before the last one whose loops are still their own.
        own = takewhile(lambda d: extents[d] == slides[d].summed.extent > 1, range(min(len(slides), len(extents)) - 1))
        inside = [self._inside(d, w.add(line, at[0]) if d == 0 else at[d]) for d in own]
        skipped = [first for first, _ in inside]
        extents = [*(count for _, count in inside), *extents[len(inside) :]]
        lhs = replace(self.block, base=w.linear(start, zip(skipped, sums, strict=False)), sums=sums, lane=0)
        weights = w.linear(self._place(panel[0]), zip(skipped, panel_steps, strict=False))
        rhs = replace(self.panel.source(1), base=weights, sums=panel_steps, scratch=self.packs)
        made = Tile(
            lhs,
            rhs,
            tuple(r * steps[-1] for r in range(rows)),
            panel[1],
            self.lanes,
            self.dtype,
            unroll=self.machine.unroll,
        )
        nothing = [zero(w, self.lanes, self.dtype)] * (rows * len(made.widths))
        self.ending.deliver(accumulate(w, made, extents, nothing), made, self._spot(image, line, at, panel[0]))

    def _inside(self, d: int, place: Index) -> tuple[Index, Index]:
        """(the first, how many) of the window's places along a dimension that meet the image at a place of the result:
        beyond it there are zeros, which add nothing."""
        w, slide = self.w, self.form.slides[d]
        if not slide.padded or slide.apart != 1:
            return 0, slide.summed.extent
        step = slide.summed.step
        # From the window's first place to the image's, and to its end; nothing negative is divided.
        before = w.sub(slide.low, w.mul(place, slide.kept.step))
        first = w.op(f"arith.maxsi {w.ssa(before)}, {w.index(0)} : index")
        end = w.op(f"arith.maxsi {w.ssa(w.add(before, slide.extent))}, {w.index(0)} : index")
        if step > 1:
            first, end = (
                w.op(f"arith.divui {w.ssa(w.add(n, step - 1))}, {w.index(step)} : index") for n in (first, end)
            )
        return first, w.sub(w.minimum(end, slide.summed.extent), first)

    def _merged(self) -> tuple[tuple[int, ...], list[Index], tuple[int, ...]]:
        """Strides in the block, extents and strides in the panel of the summed loops: one loop for a row of the window
        where its numbers lie side by side."""
        moves = sums_of(self.form)
        sums = [m.step * s for m, s in zip(moves, (*self.layout.spatial, 1), strict=True)]
        kept = [k for k, move in enumerate(moves) if move.extent > 1]
        merged = [(sums[k], moves[k].extent, self.panel.sums[k]) for k in kept]
        while len(merged) > 1 and merged[-2][0] == merged[-1][0] * merged[-1][1]:
            (_, outer, _), (step, inner, apart) = merged[-2:]
            merged[-2:] = [(step, outer * inner, apart)]
        return tuple(m[0] for m in merged), [m[1] for m in merged], tuple(m[2] for m in merged)

    def _spot(self, image: Sequence[Index], line: Index, at: list[Index], panel: Index) -> Spot:
        w, axes, form = self.w, self.spec.axes, self.form
        whole_at = [w.add(line, at[0]), *at[1:]]
        moves = (*form.groups, form.first, *(slide.kept for slide in form.slides))
        place: dict[int, Index] = {d: 0 for d in range(len(self.spec.out.shape))}
        for move, k in zip(moves, (*image, *whole_at), strict=True):
            dim = axes[move.loop].dim if move.loop is not None else None
            if dim is not None:
                place[dim] = k
        last = moves[-1].loop
        row_dim = axes[last].dim if last is not None else None
        step = self.out_steps[row_dim] if row_dim is not None else 0
        column = w.mul(panel, self.width)
        corner = w.linear(column, [(k, self.out_steps[d]) for d, k in place.items()])

        def rows(r: Index) -> dict[int, Index]:
            return {} if row_dim is None else {row_dim: w.add(at[-1], r)}

        return Spot(corner, step, place, rows, column)
