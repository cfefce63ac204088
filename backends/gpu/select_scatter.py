"""Select and scatter, the gradient of pooling: each source element is added to the element that its window chose.

A program takes a run of the result's elements. For each of the windows that reach over an element it looks which
element the window chose, the first of equal ones; where it is this one, the window's source is added. So every sum has
its own program and an order of its own: no atomics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.backends.cpu.bodies import integers, region_body
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Body
from thalweg.backends.gpu.fused import Fused, Place, not_yet
from thalweg.backends.gpu.index import Index, Symbol, coordinates, linear, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import REGISTER, Num, filled
from thalweg.backends.gpu.tiles import axis, counter_in, flat_block, is_wide
from thalweg.backends.gpu.writer import Writer


def select_and_scatter(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a `stablehlo.select_and_scatter`."""
    return _SelectScatter(group, name).kernel()


class _SelectScatter:
    def __init__(self, group: Group, name: str) -> None:
        self.group, self.name, self.root = group, name, group.root
        root = self.root
        assert root.op is not None
        self.operand, self.source, self.initial = root.operands
        ones = [1] * len(root.shape)
        self.size = integers(root.op, "window_dimensions", ones)
        self.stride = integers(root.op, "window_strides", ones)
        self.low = integers(root.op, "padding", [0] * (2 * len(ones)))[::2]
        self.select, self.scatter = region_body(root.op, 0), region_body(root.op, 1)
        self.w, self.masks = Writer(), dict[str, str]()
        self.fused = Fused(self.w, group, self.masks)

    def kernel(self) -> TritonKernel:
        w, root = self.w, self.root
        block = min(256, flat_block(root.size))
        i = axis(w, self.masks, "i", "tl.program_id(0) * BLOCK", root.size, block, "BLOCK", is_wide(self.group))
        place = coordinates(i, root.shape)
        self.fused.comment(root)
        start = self.fused.get(self.initial, ())
        total = Num(w.assign(filled("[BLOCK]", start), "total"), root.element, i.axes)
        own = w.assign(w.index(i), "own")
        # How many windows reach over an element along each dimension; the last of them begins at its own place.
        reach = [-(-size // stride) for size, stride in zip(self.size, self.stride, strict=True)]
        with w.scope(f"for window in range(0, {math.prod(reach)}):"):
            back = coordinates(counter_in("window", math.prod(reach)), reach)
            at = self._window(place, back)
            inside = self.fused.inside(at, [0] * len(at), self.source.shape)
            with self.fused.guarded(inside):
                chosen = self._chosen(at, i)
                added = self.fused.get(self.source, at)
            (after,) = self._body(self.scatter, [total, added])
            picked = f"({chosen} == {own})" + (f" & {inside.text}" if inside else "")
            w.emit(f"{total.text} = tl.where({picked}, {after.text}, {total.text})")
        self.fused.store("out0", root, i, total)
        return finish(self.fused, self.group, self.name, -(-root.size // block), [("BLOCK", block)], 4)

    def _window(self, place: Place, back: Sequence[Index]) -> Place:
        """The window so many before the last one that reaches over a place."""
        found = []
        for index, before, stride, low in zip(place, back, self.stride, self.low, strict=True):
            padded = index + Index((), low)
            if stride > 1:
                text = self.w.index(padded)
                text = f"{text if text.isidentifier() else f'({text})'} // {stride}"
                extent = padded.maximum // stride + 1
                padded = of(Symbol(self.w.assign(text, "last"), extent, padded.axes))
            found.append(padded + before * -1)
        return tuple(found)

    def _chosen(self, at: Place, i: Index) -> str:
        """The position of the element that the window at a place chose."""
        w = self.w
        steps = math.prod(self.size)
        kind = REGISTER[self.operand.element]
        best = Num(w.assign(f"tl.zeros([BLOCK], {kind})", "best"), self.operand.element, i.axes)
        wide = "tl.int64" if is_wide(self.group) else "tl.int32"
        chosen = w.assign(f"tl.full([BLOCK], -1, {wide})", "chosen")
        with w.scope(f"for tap in range(0, {steps}):"):
            taps = coordinates(counter_in("tap", steps), self.size)
            place = tuple(
                index * stride + tap + Index((), -low)
                for index, stride, tap, low in zip(at, self.stride, taps, self.low, strict=True)
            )
            inside = self.fused.inside(place, [0] * len(place), self.operand.shape)
            with self.fused.guarded(inside):
                number = self.fused.get(self.operand, place)
            (keeps,) = self._body(self.select, [best, number])
            better = w.assign(f"({chosen} < 0) | ({keeps.inner} == 0)", "better")
            if inside is not None:
                w.emit(f"{better} = {better} & {inside.text}")
            w.emit(f"{best.text} = tl.where({better}, {number.text}, {best.text})")
            w.emit(f"{chosen} = tl.where({better}, {w.index(linear(place, self.operand.shape))}, {chosen})")
        return chosen

    def _body(self, body: Body, numbers: Sequence[Num]) -> list[Num]:
        found = self.fused.evaluate(body, numbers)
        if found is None:
            raise not_yet(self.root, "its region")
        return found
