"""Convolutions of images with channels last, by the roles of their loops: what the kernels of `convolve.py` (results,
data gradients) and `correlate.py` (weight gradients) are written from.

    y[n, o, f] = sum over k, c of  x[n, stride o + dilation k - low, c] * w[k, c, f]     first: kept,   channels: summed
    w[k, c, f] = sum over n, o of  x[n, stride o + dilation k - low, c] * y[n, o, f]     first: summed, channels: kept

Along each spatial dimension one loop runs through the result (`kept`) and one is summed. Places outside of the image
count as zero (`padding.py` makes such convolutions). Both operands and the result may have dimensions more, through
which one loop runs: the groups of the channels, before those, and slices of the batch (`slices.py`), which come first:
x[s, n, place, g, c].
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.nest import strides
from thalweg.backends.cpu.graph import Affine, Value

FLOATS = ("f32", "f64")


@dataclass(frozen=True)
class Move:
    """A loop, and how far one step of it moves in an operand. Loops of one step are not there: `loop` is None."""

    loop: int | None = None
    extent: int = 1
    step: int = 0


@dataclass(frozen=True)
class Slide:
    """One spatial dimension: the image is read at `apart * (kept.step * i + summed.step * j) - low`.

    `apart` is the stride of a window of one element, which leaves out the places between.
    """

    extent: int  # of the image
    kept: Move
    summed: Move
    low: int
    apart: int = 1

    @property
    def reach(self) -> int:
        """Places that are read, `apart` from each other."""
        return sum(move.step * (move.extent - 1) for move in (self.kept, self.summed)) + 1

    @property
    def padded(self) -> bool:
        """Are places outside of the image read?"""
        return self.low > 0 or (self.reach - 1) * self.apart - self.low >= self.extent

    @property
    def inside(self) -> int:
        """Places that are read in the image, if any part of it is."""
        return min(-(-self.extent // self.apart), self.reach - self.low)


def _slide(extent: int, kept: Move, summed: Move, low: int) -> Slide:
    steps = {move.step for move in (kept, summed) if move.loop is not None}
    apart = steps.pop() if len(steps) == 1 and low == 0 else 1
    through, inside = (replace(move, step=move.step // apart) for move in (kept, summed))
    return Slide(extent, through, inside, low, apart)


@dataclass(frozen=True)
class Sliding:
    """A convolution. `lane`: the loop along the result's last dimension, which the image does not have; `groups`: those
    that the image, the other operand and the result have, with what a step moves in the image."""

    first: Move
    slides: tuple[Slide, ...]
    groups: tuple[Move, ...]
    channels: Move
    lane: Move
    weights: bool  # is it a weight gradient: `first` is summed, `channels` is kept
    image: tuple[int, ...]
    sliced: bool = False  # is the first of `groups` slices of the batch?

    @property
    def apart(self) -> tuple[int, ...]:
        """Elements between neighbours in the image: along its batch, and along each spatial dimension."""
        first = int(self.sliced)
        return strides(self.image)[first : first + 1 + len(self.slides)]

    @property
    def count(self) -> int:
        """How many convolutions side by side."""
        return math.prod(move.extent for move in self.groups)

    @property
    def padded(self) -> bool:
        return any(slide.padded for slide in self.slides)

    @property
    def steps(self) -> tuple[int, ...]:
        """Elements of the image between neighbouring places that are read, along each spatial dimension."""
        return tuple(slide.apart * step for slide, step in zip(self.slides, self.apart[1:], strict=True))


def sliding(value: Value) -> Sliding | None:
    """The form of a convolution, or None where it is another: of integers, of channels first."""
    generic = value.generic
    if value.kind != "convolution" or generic is None or generic.inputs != 2:
        return None
    image, other = value.operands[:2]
    same = {image.element, other.element, value.element}
    if len(same) != 1 or value.element not in FLOATS or 0 in (image.size, other.size, value.size):
        return None
    (read, weight), result = generic.input_maps, generic.result_maps[0]
    kept = {e.dim: extent for e, extent in zip(result, value.shape, strict=True)}
    in_weight = {loop for e in weight for loop, _ in e.terms}
    if None in kept or len(image.shape) < 3:
        return None

    def moves(expression: Affine) -> list[Move]:
        return [Move(d, generic.extents[d], factor) for d, factor in expression.terms if generic.extents[d] > 1]

    common = {d for d in in_weight & set(kept) if generic.extents[d or 0] > 1}
    sliced, grouped = read[0].dim in common, read[-2].dim in common
    if len(read) < 3 + sliced + grouped:
        return None
    read, image_shape = read[sliced:], image.shape[sliced:]
    ends = [moves(read[0]), moves(read[-1])]
    lanes = [Move(d, generic.extents[d], 1) for d in kept if d in in_weight and d == result[-1].dim]
    if any(len(e) > 1 or any(m.step != 1 for m in e) for e in ends) or len(lanes) != 1:
        return None
    if lanes[0].extent == 1:
        return None
    if any(e.constant for e in (read[0], read[-1])):
        return None
    first, channels = ((e or [Move()])[0] for e in ends)
    slides, spatial = [], slice(1, -2 if grouped else -1)
    for expression, extent in zip(read[spatial], image_shape[spatial], strict=True):
        inside = [m for m in moves(expression) if m.loop in kept]
        summed = [m for m in moves(expression) if m.loop not in kept]
        if len(inside) > 1 or len(summed) > 1 or expression.constant > 0:
            return None
        if any(move.step < 0 for move in (*inside, *summed)):
            return None
        slides.append(_slide(extent, (inside or [Move()])[0], (summed or [Move()])[0], -expression.constant))
    every, steps = generic.input_maps[0], strides(image.shape)
    places = [0] * sliced + [len(every) - 2] * grouped
    groups = tuple(replace(moves(every[d])[0], step=steps[d]) for d in places)
    form = Sliding(first, tuple(slides), groups, channels, lanes[0], channels.loop in kept, image.shape, sliced)
    return form if _complete(form, kept, in_weight, len(generic.extents), generic.extents) else None


def _complete(
    form: Sliding, kept: dict[int | None, int], in_weight: set[int], loops: int, extents: tuple[int, ...]
) -> bool:
    """Has every loop its role, and does the other operand have those that it must?"""
    slides = form.slides
    summed = [slide.summed.loop for slide in slides] + [(form.first if form.weights else form.channels).loop]
    through = [slide.kept.loop for slide in slides] + [(form.channels if form.weights else form.first).loop]
    groups = [move.loop for move in form.groups]
    found = [loop for loop in (*summed, *through, *groups, form.lane.loop) if loop is not None]
    needed = {d for d in range(loops) if extents[d] > 1} | {form.lane.loop}
    if len(set(found)) != len(found) or set(found) | {form.lane.loop} != needed:
        return False
    kept_right = all(loop is None or loop in kept for loop in through)
    summed_right = all(loop is None or (loop not in kept and loop in in_weight) for loop in summed)
    return kept_right and summed_right and not any(loop in in_weight for loop in through if loop is not None)
