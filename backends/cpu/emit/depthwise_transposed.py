"""Data gradients of strided depthwise convolutions, and transposed ones: zeros between elements are not visited.

`tw.depthwise_transposed` (`convolution.py` makes it) has operands g: [batch, *places, channels] and
weight: [*window, channels], and computes y: [batch, *spatial, channels],

    y[n, r, c] = sum over k, p with  p * step = r - low + k  of  g[n, p, c] * weight[k, c]

A tile is one line of results, as in `depthwise.py`. Which elements of the window meet the line's places is known for
each result of a register tile, whose results begin at a multiple of the step; the lines of the window that meet one are
counted from the first, a step apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.depthwise import Depthwise, Place1, depthwise_kernel
from thalweg.backends.cpu.emit.fused import Fused
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.scalar import constant
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions

Taps = list[tuple[int, int]]  # elements of the window and the places that they meet


@register("tw.depthwise_transposed", epilogue=True)
def depthwise_transposed(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel, with the elementwise values that follow it."""
    return depthwise_kernel(group, name, options, _Transposed)


@dataclass(frozen=True)
class _Spaced:
    """One spatial dimension."""

    places: int
    results: int
    window: int
    step: int
    low: int

    def taps(self, result: int, everywhere: bool = False) -> Taps:
        """What a result is the sum over; with places outside of the image, if they are wanted."""
        met = (divmod(result - self.low + k, self.step) for k in range(self.window))
        found = [(k, place) for k, (place, between) in enumerate(met) if between == 0]
        return [(k, place) for k, place in found if everywhere or 0 <= place < self.places]

    def whole(self) -> tuple[int, int]:
        """The first result, and the one after the last, that meet no place outside of the image."""
        found = [r for r in range(self.results) if self.taps(r) == self.taps(r, everywhere=True)]
        while found and found[-1] - found[0] >= len(found):  # windows shorter than the step meet nothing in between
            found.pop()
        return (found[0], found[-1] + 1) if found else (0, 0)


class _Transposed(Depthwise):
    """Writes one kernel."""

    def __init__(self, fused: Fused, group: Group, results: Sequence[str], most: int) -> None:
        super().__init__(fused, group, results, most)
        assert self.root.op is not None
        steps = integers(self.root.op, "steps", [1] * len(self.axes))
        self.spaced = [_Spaced(a.extent, a.results, a.window, s, a.low) for a, s in zip(self.axes, steps, strict=True)]

    def _line(self, corner: Sequence[Place1], channel: Index) -> None:
        axis = self.spaced[-1]
        first, last = axis.whole()
        wide = axis.step * max(1, self.most // axis.step)
        loops = (last - first) // wide
        if loops < 2 or wide > self.most:
            self._some(corner, channel, 0, axis.results)
            return
        self._some(corner, channel, 0, first)
        taps = [axis.taps(first + k) for k in range(wide)]
        with self.w.for_(0, loops * wide, wide) as start:
            begin = self.w.op(f"arith.divui {start}, {self.w.index(axis.step)} : index")
            along = [self.w.add(start, first + k) for k in range(wide)]
            self._sums(corner, channel, along, taps, begin)
        self._some(corner, channel, first + loops * wide, axis.results)

    def _some(self, corner: Sequence[Place1], channel: Index, start: int, stop: int) -> None:
        """Results whose place on the line is known."""
        for first in range(start, stop, self.most):
            along = list(range(first, min(stop, first + self.most)))
            self._sums(corner, channel, along, [self.spaced[-1].taps(r) for r in along], 0)

    def _sums(
        self, corner: Sequence[Place1], channel: Index, along: Sequence[Place1], taps: Sequence[Taps], begin: Place1
    ) -> None:
        """Neighbouring results. `taps`: of each, whose places are counted from `begin`."""
        nothing = constant(self.w, "0.0", self.root.element, self.fused.lanes).name
        batch, *outer = corner
        sums = self._lines(batch, outer, channel, taps, begin, ([], []), [nothing] * len(along))
        self._deliver(corner, channel, along, sums)

    def _lines(
        self, batch: Place1, outer: Sequence[Place1], channel: Index, taps: Sequence[Taps], begin: Place1,
        at: tuple[list[Place1], list[Place1]], sums: list[str],
    ) -> list[str]:  # fmt: skip
        """The sums over the window's elements from `at` (their numbers, the places that they meet) on."""
        w, depth = self.w, len(at[0])
        if depth == len(outer):
            return self._products(batch, channel, taps, begin, at, sums)
        axis, result = self.spaced[depth], outer[depth]
        # The first element of the window that meets a place, if there were places on either side, and that place.
        above = axis.step * (axis.results // axis.step + 1)
        first = self._divided("remui", w.sub(axis.low % axis.step + above, result), axis.step)
        before = axis.low // axis.step + 1  # places that count as negative
        shifted = w.add(w.add(result, first), before * axis.step - axis.low)
        place = w.sub(self._divided("divui", shifted, axis.step), before)
        lower = w.op(f"arith.maxsi {w.ssa(w.sub(0, place))}, {w.index(0)} : index")
        most = self._divided("divui", w.sub(axis.window + axis.step - 1, first), axis.step)
        upper = w.op(f"arith.minsi {w.ssa(most)}, {w.ssa(w.sub(axis.places, place))} : index")
        with w.reduction(lower, upper, 1, sums, [self.kind] * len(sums)) as loop:
            following = (
                [*at[0], w.add(first, w.mul(loop.index, axis.step))],
                [*at[1], w.add(place, loop.index)],
            )
            loop.next = self._lines(batch, outer, channel, taps, begin, following, loop.carried)
        return loop.results

    def _divided(self, operation: str, number: Place1, step: int) -> Place1:
        """A quotient or a remainder of what is not negative."""
        if step == 1:
            return number if operation == "divui" else 0
        return self.w.op(f"arith.{operation} {self.w.ssa(number)}, {self.w.index(step)} : index")

    def _products(
        self, batch: Place1, channel: Index, taps: Sequence[Taps], begin: Place1,
        at: tuple[list[Place1], list[Place1]], sums: list[str],
    ) -> list[str]:  # fmt: skip
        """The sums with the products of one line of the window, by the places that they read."""
        w, sums, line = self.w, list(sums), [*map(Index, at[1])]
        for n, k, place in sorted(((n, k, p) for n, met in enumerate(taps) for k, p in met), key=lambda tap: tap[2]):
            number = self._load(self.x, (Index(batch), *line, Index(w.add(begin, place)), channel))
            factor = self._load(self.weight, (*map(Index, at[0]), Index(k), channel))
            product = w.op(f"arith.mulf {number}, {factor} fastmath<contract> : {self.kind}")
            sums[n] = w.op(f"arith.addf {sums[n]}, {product} fastmath<contract> : {self.kind}")
        return sums
