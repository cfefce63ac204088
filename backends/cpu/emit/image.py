"""Blocks of images for the kernels of convolutions: some lines of one image, copied with zeros around, so that the
inner loops ask for no border.

    all channels     [line, …, place, channel]                    as in the image
    a few            [channel tile, line, …, place, channel]      side by side: the rows of a weight gradient
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.nest import Buffer, item_bytes
from thalweg.backends.cpu.emit.packing import Source, flat_type, load_lanes, tail_mask, zero
from thalweg.backends.cpu.emit.scalar import lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.sliding import Sliding

UNROLL = 4  # vectors that a copy moves in a step


def whole(w: ScopedWriter, buffer: Buffer, scratch: bool = False) -> Source:
    """A buffer as one dimension, from its first element on."""
    kind, name = flat_type(buffer.size, buffer.dtype), buffer.name
    if len(buffer.shape) > 1:
        dims = ", ".join(str(d) for d in range(len(buffer.shape)))
        name = w.hoisted(f"memref.collapse_shape {name} [[{dims}]] : {buffer.memref} into {kind}", "flat")
    return Source(name, kind, buffer.dtype, 0, (), 1, scratch=scratch)


class Scratch:
    """Pieces of a kernel's scratch buffer, whose type is filled in at the end, in place of SCRATCH."""

    def __init__(self, w: ScopedWriter, dtype: str) -> None:
        self.w, self.dtype, self.bytes = w, dtype, 0

    def view(self, elements: int) -> Source:
        """A new piece."""
        kind, at = flat_type(elements, self.dtype), self.w.index(self.bytes)
        self.bytes += -(-elements * item_bytes(self.dtype) // 64) * 64
        name = self.w.unique(f"memref.view %scratch[{at}][] : memref<SCRATCHxi8> to {kind}", "block")
        return Source(name, kind, self.dtype, 0, (), 1, scratch=True)


@dataclass(frozen=True)
class Layout:
    """Where the elements of a block lie.

    Args:
        spatial: elements between neighbours along each spatial dimension.
        tile: channels side by side; `between`: elements from one tile of channels to the next.
        size: elements of the block.
    """

    spatial: tuple[int, ...]
    tile: int
    between: int
    size: int

    @staticmethod
    def of(form: Sliding, lines: int, tile: int) -> Layout:
        """`lines` padded lines, with `tile` channels side by side."""
        extents = [lines, *(slide.reach for slide in form.slides[1:])]
        steps = tuple(math.prod(extents[d + 1 :]) * tile for d in range(len(extents)))
        between = math.prod(extents) * tile
        return Layout(steps, tile, between, between * -(-form.channels.extent // tile))


@dataclass(frozen=True)
class Packer:
    """Copies blocks of an image.

    Args:
        image: the whole image, as one dimension; `target`: where blocks go, laid out as `layout` says.
    """

    w: ScopedWriter
    form: Sliding
    image: Source
    target: Source
    layout: Layout
    lanes: int

    def clear(self, size: int) -> None:
        """Zeros in the first `size` elements: what lies around the lines is not written again."""
        if any(slide.padded for slide in self.form.slides[1:]):
            self._run(None, 0, size)

    def pack(self, corner: Index, line: Index, lines: Index, tile: Index = 0, tiles: int = 0, at: Index = 0) -> None:
        """Copy lines of one image, also those before its beginning and after its end, which are zero.

        Args:
            corner: where the image begins, or a group of its channels.
            line, lines: the first, among those that are read, and how many.
            tile, tiles: of the channels, the first tile and how many; all for 0.
            at: where in the target.
        """
        w, slide = self.w, self.form.slides[0]
        with w.for_(0, lines, 1) as t:
            place = w.sub(w.mul(w.add(line, t), slide.apart), slide.low)
            source = w.linear(corner, [(place, self.form.apart[1]), (tile, self.layout.tile)])
            target = w.linear(at, [(t, self.layout.spatial[0])])
            if not slide.padded:
                self._level(1, source, target, tiles)
                return
            with w.branch(w.op(f"arith.cmpi ult, {w.ssa(place)}, {w.index(slide.extent)} : index")):
                self._level(1, source, target, tiles)
            with w.scope("else", fence=True):
                self._level(1, None, target, tiles)

    def _level(self, depth: int, source: Index | None, target: Index, tiles: int) -> None:
        """The spatial dimensions from `depth` on; zeros where there is no source."""
        w, slides = self.w, self.form.slides
        if depth == len(slides):
            self._places(1, source, target, tiles)
            return
        slide, step = slides[depth], self.layout.spatial[depth]
        target = w.add(target, slide.low * step)
        if depth == len(slides) - 1:
            self._places(slide.inside, source, target, tiles)
            return
        apart = self.form.apart[depth + 1] * slide.apart
        with w.for_(0, slide.inside, 1) as u:
            following = None if source is None else w.linear(source, [(u, apart)])
            self._level(depth + 1, following, w.linear(target, [(u, step)]), tiles)

    def _places(self, count: int, source: Index | None, target: Index, tiles: int) -> None:
        """Neighbouring places, with their channels."""
        w, layout, channels = self.w, self.layout, self.form.channels.extent
        apart = self.form.steps[-1]
        if layout.tile >= channels and (apart == channels or count == 1):
            self._run(source, target, count * channels)
            return
        full, rest = divmod(channels, layout.tile)
        whole = tiles or full
        with w.for_(0, count, 1) as x:
            start = None if source is None else w.linear(source, [(x, apart)])
            goal = w.linear(target, [(x, layout.tile)])

            def copy(k: Index, width: int) -> None:
                at = None if start is None else w.linear(start, [(k, layout.tile)])
                self._vectors(at, w.linear(goal, [(k, layout.between)]), width)

            walk(w, whole, 1, lambda k: copy(k, layout.tile))
            if rest and not tiles:
                copy(full, rest)

    def _run(self, source: Index | None, target: Index, count: int) -> None:
        """Neighbouring elements."""
        w, step = self.w, UNROLL * self.lanes
        full = count - count % step

        def steps(i: Index) -> None:
            self._vectors(None if source is None else w.add(source, i), w.add(target, i), step)

        if full:
            walk(w, full, step, steps)
        if count > full:
            self._vectors(None if source is None else w.add(source, full), w.add(target, full), count - full)

    def _vectors(self, source: Index | None, target: Index, count: int) -> None:
        """A few neighbouring elements, written out."""
        w, lanes, kind = self.w, self.lanes, lanes_type(self.image.dtype, self.lanes)
        image, goal = self.image, self.target
        for first in range(0, count, lanes):
            mask = tail_mask(w, lanes, min(lanes, count - first))
            value = zero(w, lanes, image.dtype)
            if source is not None:
                value = load_lanes(w, image, w.add(source, first), lanes, mask)
            at = f"{goal.name}[{w.ssa(w.add(target, first))}]"
            if mask is None:
                w.emit(f"vector.store {value}, {at} : {goal.memref}, {kind}")
            else:
                w.emit(f"vector.maskedstore {at}, {mask}, {value} : {goal.memref}, vector<{lanes}xi1>, {kind}")
