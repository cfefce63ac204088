"""Windows that slide over a tensor: which elements each result of a pooling, or of its gradient, reads.

Along one dimension results repeat themselves with a period: result `period * q + p` reads the source at `step * q + c`,
which is number `k` of its window, for each tap (c, k) of phase p that lies inside of the source.

    window 3, stride 2, padding 1        step 2, one phase:   (-1, 0) (0, 1) (1, 2)
    its gradient: which windows          step 1, two phases:  (0, 1)  |  (0, 2) (1, 0)
    lie over an element
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.bodies import integers, region_body
from thalweg.backends.cpu.graph import Body, ScalarOp, Value
from thalweg.dialects.mlir import ir

Tap = tuple[int, int]  # where in the source, from `step * q` on; its number in the window


@dataclass(frozen=True)
class Taps:
    """One dimension. Taps of a phase are in the order of the source, equally far apart."""

    extent: int  # of the source
    results: int
    step: int
    phases: tuple[tuple[Tap, ...], ...]

    @staticmethod
    def reading(extent: int, results: int, window: int, stride: int = 1, dilation: int = 1, low: int = 0) -> Taps:
        """Windows over a source with `low` elements of padding before it."""
        return Taps(extent, results, stride, (tuple((k * dilation - low, k) for k in range(window)),))

    @staticmethod
    def spread(extent: int, results: int, window: int, base: int, low: int, backwards: bool = False) -> Taps:
        """Windows of stride 1 over a source whose elements are `base` apart. `backwards`: numbered from the last."""
        phases = []
        for phase in range(base):
            taken = [k for k in range(window) if (phase + k - low) % base == 0]
            phases.append(tuple(((phase + k - low) // base, window - 1 - k if backwards else k) for k in taken))
        return Taps(extent, results, 1, tuple(phases))

    @property
    def period(self) -> int:
        """How many phases there are: results so far apart read alike, one step farther."""
        return len(self.phases)

    @property
    def places(self) -> int:
        """How many `q` there are."""
        return -(-self.results // self.period)

    @property
    def longest(self) -> int:
        """Taps of the longest phase."""
        return max(map(len, self.phases))

    @property
    def reach(self) -> tuple[int, int]:
        """The least and the greatest distance of a tap from `step * q`."""
        found = [c for phase in self.phases for c, _ in phase] or [0]
        return min(found), max(found)

    def inside(self, q: int, phase: int) -> tuple[Tap, ...]:
        """The taps of a result that lie in the source."""
        return tuple((c, k) for c, k in self.phases[phase] if 0 <= self.step * q + c < self.extent)

    def whole(self, phases: Sequence[int] | None = None) -> tuple[int, int]:
        """The first `q`, and the one after the last, all taps of which lie in the source, and all results of which
        there are. (0, 0) where there is none."""
        wanted = range(self.period) if phases is None else phases
        found = [
            q for q in range(self.places)
            if all(self.period * q + p < self.results and self.inside(q, p) == self.phases[p] for p in wanted)
        ]  # fmt: skip
        return (found[0], found[-1] + 1) if found else (0, 0)

    def touching(self) -> tuple[int, int]:
        """The first `q`, and the one after the last, any tap of which lies in the source."""
        found = [q for q in range(self.places) if any(self.inside(q, p) for p in range(self.period))]
        return (found[0], found[-1] + 1) if found else (0, 0)


@dataclass(frozen=True)
class Windows:
    """The windows of a `tw.pool` or of a `stablehlo.select_and_scatter`, one number for each dimension.

    `base`: how far apart elements of the source are. `choose` tells of the chosen element and another whether the first
    stays; `combine` adds two numbers up.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    base: tuple[int, ...]
    low: tuple[int, ...]
    combine: Body
    choose: Body | None = None

    def permuted(self, order: Sequence[int]) -> Windows:
        """Of a tensor whose dimension d is dimension `order[d]` of this one."""
        every = (self.size, self.stride, self.dilation, self.base, self.low)
        size, stride, dilation, base, low = (tuple(numbers[d] for d in order) for numbers in every)
        return Windows(size, stride, dilation, base, low, self.combine, self.choose)

    def free(self, shape: Sequence[int], results: Sequence[int]) -> list[bool]:
        """Dimensions along which each window is one element, in its own place."""
        numbers = zip(self.size, self.stride, self.base, self.low, strict=True)
        kept = zip(shape, results, strict=True)
        return [n == (1, 1, 1, 0) and a == b for n, (a, b) in zip(numbers, kept, strict=True)]


def windows_of(value: Value) -> Windows:
    """The windows of a value: those it was given, or those of its op."""
    if value.windows is not None:
        return value.windows
    assert value.op is not None
    return windows_of_op(value.op, len(value.shape))


def taps_of(windows: Windows, d: int, extent: int, results: int) -> Taps:
    """What the results of a `tw.pool` read along one dimension."""
    size, low = windows.size[d], windows.low[d]
    if windows.base[d] > 1:
        return Taps.spread(extent, results, size, windows.base[d], low)
    return Taps.reading(extent, results, size, windows.stride[d], windows.dilation[d], low)


def windows_of_op(op: ir.Operation, rank: int) -> Windows:
    """The geometry that the attributes of a window reduction tell."""
    ones = [1] * rank
    size, stride, dilation, base = (
        tuple(integers(op, name, ones))
        for name in ("window_dimensions", "window_strides", "window_dilations", "base_dilations")
    )
    low = tuple(integers(op, "padding", [0] * (2 * rank))[::2])
    if "combine" in op.attributes:
        element = str(ir.RankedTensorType(op.results[0].type).element_type).removeprefix("u")
        combine = ScalarOp(ir.StringAttr(op.attributes["combine"]).value, (0, 1), (2,), (element,))
        return Windows(size, stride, dilation, base, low, Body((element, element), (combine,), (2,)))
    bodies = [region_body(op, region) for region in range(len(op.regions))]
    return Windows(size, stride, dilation, base, low, bodies[-1], bodies[0] if len(bodies) > 1 else None)
