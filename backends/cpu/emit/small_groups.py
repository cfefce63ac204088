"""Convolutions of many small groups, channels last: vectors of results run through several groups.

`tw.small_groups` (`convolution.py` makes it) has operands x: [batch, *spatial, groups * inputs] and
weight: [*window, inputs, groups * outputs], and computes what a depthwise convolution (`depthwise.py`) does,

    y[n, place, (g, f)] = sum over k, c of  x[n, place * stride + k * dilation - low, (g, c)] * weight[k, c, (g, f)]

Each lane needs its own group's number `c`: of the neighbouring numbers that a vector's groups have at a place, lanes
take theirs by one shuffle, which serves all results whose windows lie over that place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.depthwise import Depthwise, Place1, depthwise_kernel
from thalweg.backends.cpu.emit.fused import Fused
from thalweg.backends.cpu.emit.image import whole
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.nest import Buffer, strides
from thalweg.backends.cpu.emit.packing import Source, load_lanes, tail_mask
from thalweg.backends.cpu.emit.scalar import lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions

_NANOSECONDS_PER_PRODUCT = 0.02


@register("tw.small_groups", epilogue=True)
def small_groups(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel, with the elementwise values that follow it."""
    kernel = depthwise_kernel(group, name, options, _SmallGroups)
    root = group.root
    weight = root.operands[1]
    products = root.size * weight.size // root.shape[-1]
    return replace(kernel, nanoseconds=products * _NANOSECONDS_PER_PRODUCT)


class _SmallGroups(Depthwise):
    """Writes one kernel."""

    def __init__(self, fused: Fused, group: Group, results: Sequence[str], most: int) -> None:
        super().__init__(fused, group, results, most)
        self.inputs = self.weight.shape[-2]
        self.outputs = self.root.shape[-1] * self.inputs // self.x.shape[-1]
        self.read_around = (self.x, self.weight)
        self.image, self.weights = (
            whole(self.w, Buffer(fused.buffer(value), value.shape, value.element)) for value in (self.x, self.weight)
        )

    def products(
        self, batch: Place1, line: Sequence[Index], at: Sequence[Place1], channel: Index, along: Sequence[Place1],
        inside: Sequence[Sequence[int]], sums: list[str],
    ) -> list[str]:  # fmt: skip
        """The sums with the products of one line of the window."""
        w, axis, lanes, sums = self.w, self.axes[-1], self.fused.lanes, list(sums)
        used = self.fused.used or lanes
        image, weights = strides(self.x.shape), strides(self.weight.shape)
        spatial = [index.base for index in line]
        group = w.op(f"arith.divui {w.ssa(channel.base)}, {w.index(self.outputs)} : index")
        start = w.linear(0, [(batch, image[0]), *zip(spatial, image[1:], strict=False), (group, self.inputs)])
        first = w.linear(channel.base, zip(at, weights, strict=False))
        reads = self._reads(along, inside)
        mask = tail_mask(w, lanes, used)
        for c in range(self.inputs):
            # Nothing is loaded before the step that needs it: registers are for sums.
            w.emit('llvm.inline_asm has_side_effects "", "~{memory}" : () -> ()')
            factors = {}
            for k in sorted({k for taps in reads.values() for _, k in taps}):
                place = w.add(first, k * weights[-3] + c * weights[-2])
                factors[k] = load_lanes(w, replace(self.weights, scratch=True), place, lanes, mask)
            for (place, offset), taps in reads.items():
                read = w.linear(start, [(w.add(w.mul(place, axis.stride), offset - axis.low), image[-2])])
                number = spread_groups(w, self._image, read, c, (self.inputs, self.outputs), lanes, used)
                for n, k in taps:
                    product = w.op(f"arith.mulf {number}, {factors[k]} fastmath<contract> : {self.kind}")
                    sums[n] = w.op(f"arith.addf {sums[n]}, {product} fastmath<contract> : {self.kind}")
        return sums

    def _reads(
        self, along: Sequence[Place1], inside: Sequence[Sequence[int]]
    ) -> dict[tuple[Place1, int], list[tuple[int, int]]]:
        """Each place that is read, as (a result, elements from where its window begins), with (which result, which
        element of its window) that it is multiplied for. Results are neighbours of the first."""
        axis = self.axes[-1]
        reads: dict[int, list[tuple[int, int]]] = {}
        for n, taps in enumerate(inside):
            for k in taps:
                reads.setdefault(n * axis.stride + k * axis.dilation, []).append((n, k))
        return {(along[0], offset): taps for offset, taps in sorted(reads.items())}

    @property
    def _image(self) -> Source:
        return replace(self.image, scratch=True)


def spread_groups(
    w: ScopedWriter, image: Source, read: str | int, c: int, group: tuple[int, int], lanes: int, used: int
) -> str:
    """A vector that has, in each lane, number `c` of its own group.

    Args:
        read: where the numbers of the first lane's group begin; `group`: its inputs and outputs.
        used: lanes that count.
    """
    inputs, outputs = group
    kind = lanes_type(image.dtype, lanes)
    sources = [min(lane, used - 1) // outputs * inputs + c for lane in range(lanes)]
    first, last = sources[0] // lanes, sources[-1] // lanes
    count = -(-used // outputs) * inputs  # numbers of these groups
    vectors = []
    for vector in sorted({first, last}):
        mask = tail_mask(w, lanes, count - vector * lanes)
        vectors.append(load_lanes(w, image, w.add(read, vector * lanes), lanes, mask))
    chosen = ", ".join(str(s % lanes + (lanes if s // lanes > first else 0)) for s in sources)
    return w.op(f"vector.shuffle {vectors[0]}, {vectors[-1]} [{chosen}] : {kind}, {kind}")
