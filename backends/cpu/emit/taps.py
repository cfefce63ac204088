"""Loops over results that read windows: the inside of the image as straight code, its border with what lies in it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.scalar import Num
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.windows import Tap, Taps

UNROLL = 32  # windows of so few elements are written out
BORDER = 128  # elements that are written out for the ends of a line, at most

Carried = list[Num]
Spot = tuple[Index, int]  # a place along a dimension: what is known when code is written counts from the other
At = Callable[[list[Spot], "Window"], None]  # (place of the result, its window)
Visit = Callable[[list[Spot], Index, Carried], Carried]  # (place in the source, number in the window, carried)


@dataclass
class Window:
    """The window of one result: taps that are known, or bounds of the loops over them, for each dimension."""

    nest: Nest
    q: list[Index]
    phases: list[int]
    known: list[Sequence[Tap] | None]

    def each(self, carried: Carried, visit: Visit, begun: bool = False) -> Carried:
        """`visit` at every element of the window that lies in the source, in row-major order. `begun`: what is carried
        is that of the first, which may be visited again or not."""
        fixed = [taps for taps in self.known if taps is not None]
        if len(fixed) == len(self.known) and math.prod(map(len, fixed)) <= UNROLL:
            for taps in list(product(*fixed))[begun:]:
                carried = visit(*self._place(taps), carried)
            return carried
        return self._loops([], [], carried, visit)

    def first(self) -> tuple[list[Spot], Index]:
        """The first element that lies in the source, and its number."""
        place: list[Spot] = []
        number: Index = 0
        for d in range(len(self.known)):
            at, k = self._tap(d, self._bounds(d)[0])
            place.append(at)
            number = self.nest.numbered(number, d, k)
        return place, number

    @property
    def empty(self) -> bool:
        """Is it known to hold nothing?"""
        return any(taps is not None and not taps for taps in self.known)

    def _place(self, taps: Sequence[Tap]) -> tuple[list[Spot], Index]:
        place = [self.nest.at(d, q, c) for d, (q, (c, _)) in enumerate(zip(self.q, taps, strict=True))]
        number: Index = 0
        for d, (_, k) in enumerate(taps):
            number = self.nest.numbered(number, d, k)
        return place, number

    def _tap(self, d: int, t: Index) -> tuple[Spot, Index]:
        """Place and number of tap `t` of a phase."""
        w, taps = self.nest.w, self.nest.axes[d].phases[self.phases[d]]
        c, k = taps[0]
        apart = (taps[1][0] - c, taps[1][1] - k) if len(taps) > 1 else (1, 1)
        start, c = self.nest.at(d, self.q[d], c)
        return (w.add(start, w.mul(t, apart[0])), c), w.add(w.mul(t, apart[1]), k)

    def _bounds(self, d: int) -> tuple[Index, Index]:
        """The first tap of a phase that lies in the source, and the one after the last."""
        w, axis = self.nest.w, self.nest.axes[d]
        taps = axis.phases[self.phases[d]]
        known = self.known[d]
        if known is not None:
            first = taps.index(known[0]) if known else 0
            return first, first + len(known)
        apart = taps[1][0] - taps[0][0] if len(taps) > 1 else 1
        start = w.add(*self.nest.at(d, self.q[d], taps[0][0]))
        before = self._steps(w.sub(0, start), apart, axis)
        lower = w.op(f"arith.maxsi {w.ssa(before)}, {w.index(0)} : index")
        return lower, w.minimum(self._steps(w.sub(axis.extent, start), apart, axis), len(taps))

    def _steps(self, distance: Index, apart: int, axis: Taps) -> Index:
        """Steps that a distance takes, rounded up; a division of what is not negative."""
        if apart == 1:
            return distance
        w, shift = self.nest.w, axis.step * axis.places + abs(axis.reach[0]) + abs(axis.reach[1])
        shifted = w.add(distance, apart * shift + apart - 1)
        if isinstance(shifted, int):
            return shifted // apart - shift
        return w.add(w.op(f"arith.divui {shifted}, {w.index(apart)} : index"), -shift)

    def _loops(self, place: list[Spot], number: list[Index], carried: Carried, visit: Visit) -> Carried:
        d = len(place)
        if d == len(self.known):
            flat: Index = 0
            for axis, k in enumerate(number):
                flat = self.nest.numbered(flat, axis, k)
            return visit(place, flat, carried)
        lower, upper = self._bounds(d)
        if isinstance(lower, int) and isinstance(upper, int) and upper - lower <= 8:
            for t in range(lower, upper):
                at, k = self._tap(d, t)
                carried = self._loops([*place, at], [*number, k], carried, visit)
            return carried
        if not carried:
            with self.nest.w.for_(lower, upper, 1) as tap:
                at, k = self._tap(d, tap)
                self._loops([*place, at], [*number, k], [], visit)
            return []
        names, types = [n.name for n in carried], [n.type for n in carried]
        with self.nest.w.reduction(lower, upper, 1, names, types) as loop:
            following = [Num(c, n.element, n.lanes) for c, n in zip(loop.carried, carried, strict=True)]
            at, k = self._tap(d, loop.index)
            loop.next = [n.name for n in self._loops([*place, at], [*number, k], following, visit)]
        return [Num(r, n.element, n.lanes) for r, n in zip(loop.results, carried, strict=True)]


class Nest:
    """Writes the loops. The last dimension is the line: what reaches over its ends is known when code is written;
    along the others windows at the border are loops over what lies in the source.

    Args:
        across: writes the loop over what is independent at each place: it is given what to do there.
        skip: leave out results whose windows do not meet the source. (Those of the first dimension are the caller's.)
    """

    def __init__(
        self, w: ScopedWriter, axes: Sequence[Taps], across: Callable[[Callable[[], None]], None], skip: bool = False
    ) -> None:
        self.w, self.axes, self.across = w, list(axes), across
        self.ranges = [axis.touching() if skip else (0, axis.places) for axis in axes]
        self.window = [1 + max((k for phase in axis.phases for _, k in phase), default=0) for axis in axes]

    def numbered(self, flat: Index, d: int, k: Index) -> Index:
        """The row-major number of an element of the window, of which `flat` is that of the dimensions before d."""
        return self.w.add(self.w.mul(flat, self.window[d]), k)

    def at(self, d: int, q: Index, c: int) -> Spot:
        """The element of the source that lies `c` behind `q` steps along a dimension."""
        return self.w.mul(q, self.axes[d].step), c

    def run(self, first: Index, last: Index, visit: At) -> None:
        """`visit(place of the result, its window)` for all results whose first `q` is in [first, last)."""
        self._level([], [], (first, last), visit)

    def _level(self, q: list[Index], phases: list[int], bounds: tuple[Index, Index], visit: At) -> None:
        d = len(q)
        if d == len(self.axes) - 1:
            self._line(q, phases, visit)
            return
        axis = self.axes[d]

        def each(i: Index) -> None:
            for phase in range(axis.period):
                self._there(axis, i, phase, lambda: self._level([*q, i], [*phases, phase], bounds, visit))  # noqa: B023

        if d == 0:
            with self.w.for_(*bounds, 1) as i:
                each(i)
        else:
            start, stop = self.ranges[d]
            walk(self.w, stop - start, 1, lambda i: each(self.w.add(i, start)))

    def _there(self, axis: Taps, i: Index, phase: int, body: Callable[[], None]) -> None:
        """`body`, where there is such a result: at the end of a dimension the last phases may be missing."""
        uneven = axis.results % axis.period
        if not uneven or phase < uneven:
            body()
        elif isinstance(i, int):
            if i < axis.places - 1:
                body()
        else:
            with self.w.branch(self.w.op(f"arith.cmpi slt, {i}, {self.w.index(axis.places - 1)} : index")):
                body()

    def _line(self, q: list[Index], phases: list[int], visit: At) -> None:
        """A line, with a branch where windows may reach over the border along another dimension."""
        w = self.w
        outer = [axis.phases[phase] for axis, phase in zip(self.axes, phases, strict=False)]
        small = math.prod(map(len, outer)) * self.axes[-1].longest <= UNROLL
        conditions: list[str] = []
        never = False
        for axis, phase, at in zip(self.axes, phases, q, strict=False):
            first, last = axis.whole([phase])
            never |= first == last
            if first > 0:
                conditions.append(w.op(f"arith.cmpi sge, {w.ssa(at)}, {w.index(first)} : index"))
            if last < axis.places - (phase >= (axis.results % axis.period or axis.period)):
                conditions.append(w.op(f"arith.cmpi slt, {w.ssa(at)}, {w.index(last)} : index"))
        open_: list[Sequence[Tap] | None] = [None if taps else () for taps in outer]
        if never or not small:
            self._along(q, phases, open_, visit)
            return
        if not conditions:
            self._along(q, phases, list(outer), visit)
            return
        inside = conditions[0]
        for condition in conditions[1:]:
            inside = w.op(f"arith.andi {inside}, {condition} : i1")
        with w.branch(inside):
            self._along(q, phases, list(outer), visit)
        with w.branch(w.op(f"arith.xori {inside}, {w.hoisted('arith.constant true')} : i1")):
            self._along(q, phases, open_, visit)

    def _along(self, q: list[Index], phases: list[int], outer: list[Sequence[Tap] | None], visit: At) -> None:
        axis, w = self.axes[-1], self.w
        start, stop = self.ranges[-1]
        first, last = axis.whole()
        ends = [i for i in range(start, stop) if not first <= i < last]
        taps = math.prod(len(taps) if taps is not None else 1 for taps in outer) * axis.longest * axis.period

        def place(i: Index, known: Callable[[int], Sequence[Tap] | None]) -> None:
            for phase in range(axis.period):
                self._there(axis, i, phase, lambda: at_phase(i, phase, known(phase)))  # noqa: B023

        def inside(i: Index) -> None:
            for phase in range(axis.period):
                at_phase(i, phase, axis.phases[phase])

        def at_phase(i: Index, phase: int, known: Sequence[Tap] | None) -> None:
            places = zip([*q, i], self.axes, [*phases, phase], strict=True)
            result = [(w.mul(at, other.period), p) for at, other, p in places]
            visit(result, Window(self, [*q, i], [*phases, phase], [*outer, known]))

        def border(numbers: Sequence[int]) -> None:
            for i in numbers:
                self.across(lambda: place(i, lambda phase: axis.inside(i, phase)))  # noqa: B023

        if len(ends) * taps > BORDER:
            with w.for_(start, stop, 1) as at:
                self.across(lambda: place(at, lambda phase: None if axis.phases[phase] else ()))
            return
        border([i for i in ends if i < first])
        if last > first:
            with w.for_(first, last, 1) as at:
                self.across(lambda: inside(at))
        border([i for i in ends if i >= last])
