"""Weight gradients of depthwise convolutions, channels last: each channel's image with the cotangent of its result.

`tw.depthwise_weights` (`convolution.py` makes it) has operands x: [batch, *spatial, channels] and
g: [batch, *results, channels], and computes w: [slices, *window, channels],

    w[s, k, c] = sum over n, o of  x[n, o * stride + k * dilation - low, c] * g[n, o, c]

    for tile in [lo, hi)            slices of the lines, or pieces of the channels where there is one slice
      for every line of results in the slice, every line of the window that meets the image, every vector of channels
        a sum for each element of the window's line, for a few neighbouring results at a time

Between lines the sums wait in w. Padding is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.fused import Fused
from thalweg.backends.cpu.emit.image import whole
from thalweg.backends.cpu.emit.nest import Buffer, strides
from thalweg.backends.cpu.emit.packing import Source, load_lanes, tail_mask, zero
from thalweg.backends.cpu.emit.scalar import lanes_type, store_lanes
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.kernel import Kernel, function
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions

SIDE_BY_SIDE = 4  # results at a time
SPARE = 4  # registers that are left for what is read
_NANOSECONDS_PER_PRODUCT = 0.03


@dataclass(frozen=True)
class Axis:
    """One spatial dimension."""

    extent: int
    results: int
    window: int
    stride: int
    dilation: int
    low: int

    def inside(self, result: int) -> list[int]:
        """The window's elements that lie in the image."""
        first = result * self.stride - self.low
        return [k for k in range(self.window) if 0 <= first + k * self.dilation < self.extent]


@register("tw.depthwise_weights")
def depthwise_weights(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel."""
    return weights_kernel(group, name, options, Weights, 1)


def weights_kernel(group: Group, name: str, options: CpuOptions, write: type[Weights], inputs: int) -> Kernel:
    """The kernel that a writer writes. `inputs`: numbers of the image that each of the results' lanes is summed with,
    which are a dimension of the result before the last."""
    root, w, target = group.root, ScopedWriter(), machine(options)
    assert root.op is not None
    x, g = root.operands
    fused = Fused(w, group.members)
    spatial = len(x.shape) - 2
    numbers = (integers(root.op, field, [1] * spatial) for field in ("strides", "dilations", "low"))
    extents = (x.shape[1:-1], g.shape[1:-1], root.shape[1 : spatial + 1])
    axes = [Axis(*along) for along in zip(*extents, *numbers, strict=True)]
    axes = axes if spatial == 2 else [Axis(1, 1, 1, 1, 1, 0), *axes]
    buffers = [Buffer(fused.buffer(value), value.shape, value.element) for value in (x, g)]
    out = Buffer("%out0", root.shape, root.element)
    writer = write(w, axes, [whole(w, b) for b in buffers], whole(w, out, scratch=True), target.lanes(root.element))
    writer.together = max(1, min(SIDE_BY_SIDE, (target.registers - SPARE) // axes[1].window))
    writer.batch, writer.channels, writer.slices = x.shape[0], g.shape[-1], root.shape[0]
    writer.inputs, writer.read, writer.registers = inputs, x.shape[-1], target.registers
    threads = options.worker_count()
    writer.pieces = 1 if threads == 1 or writer.slices > 1 else 2 * threads
    tiles = writer.run()
    text = function(name, [(ssa, value) for value, ssa in fused.buffers.items()], [("%out0", root)], w.text())
    cost = g.size * root.size // (root.shape[0] * root.shape[-1]) * _NANOSECONDS_PER_PRODUCT
    return Kernel(name, text, tuple(fused.buffers), (root,), tiles, nanoseconds=cost)


class Weights:
    """Writes one kernel.

    `together`: results at a time; `pieces`: of the channels, at most; `slices`: of the lines; `inputs`: see
    `weights_kernel`; `read`: the image's channels; `registers`: of the machine.
    """

    together: int
    pieces: int
    batch: int
    channels: int
    slices: int
    inputs: int
    read: int
    registers: int

    def __init__(self, w: ScopedWriter, axes: list[Axis], operands: Sequence[Source], out: Source, lanes: int) -> None:
        self.w, (self.lines, self.along), (self.x, self.g), self.out, self.lanes = w, axes, operands, out, lanes
        self.kind = lanes_type(out.dtype, lanes)

    def run(self) -> int:
        """Write everything; the number of tiles."""
        w, full, rest = self.w, self.channels // self.lanes, self.channels % self.lanes
        each = ceil_div(full, self.pieces) if full else 1
        tiles = max(1, ceil_div(full, each))
        lines, size = self.batch * self.lines.results, self._elements * self.channels
        share = ceil_div(lines, self.slices)
        with w.for_("%lo", "%hi", 1) as number:
            part, tile = w.delinearize(number, [self.slices, tiles])
            self.start = w.mul(part, size)
            first = w.mul(tile, each)
            last: Index = full if tiles == 1 else w.minimum(w.add(first, each), full)

            def vectors(body: Callable[[Index, int], None]) -> None:
                """`body` for the tile's vectors of channels: the first channel, and how many."""
                if full:
                    with w.for_(first, last, 1) as vector:
                        body(w.mul(vector, self.lanes), self.lanes)
                if rest:
                    with w.branch(w.op(f"arith.cmpi eq, {w.ssa(tile)}, {w.index(tiles - 1)} : index")):
                        body(full * self.lanes, rest)

            vectors(self._clear)
            begin = w.minimum(w.mul(part, share), lines)
            with w.for_(begin, w.minimum(w.add(begin, share), lines), 1) as line:
                n, y = w.delinearize(line, [self.batch, self.lines.results])
                self._lines(n, y, vectors)
        return self.slices * tiles

    @property
    def _elements(self) -> int:
        """Sums of each channel."""
        return self.lines.window * self.along.window * self.inputs

    def _clear(self, channel: Index, used: int) -> None:
        nothing = zero(self.w, self.lanes, self.out.dtype)
        with self.w.for_(0, self._elements, 1) as k:
            self.store(nothing, self.w.linear(self.start, [(channel, 1), (k, self.channels)]), used)

    def store(self, value: str, place: Index, used: int) -> None:
        mask = tail_mask(self.w, self.lanes, used) or ""
        at = f"{self.out.name}[{self.w.ssa(place)}]"
        store_lanes(self.w, value, self.out.dtype, self.lanes, at, self.out.memref, mask, used)

    def _lines(self, n: Index, y: Index, vectors: Callable[[Callable[[Index, int], None]], None]) -> None:
        """One line of results, with all lines of the window that meet the image there."""
        w, lines, along = self.w, self.lines, self.along
        image = strides((self.batch, lines.extent, along.extent, self.read))
        result = strides((self.batch, lines.results, along.results, self.channels))
        top = w.sub(w.mul(y, lines.stride), lines.low)
        first = self._rounded(w.sub(lines.dilation - 1, top), lines.dilation)
        below = w.add(w.sub(lines.extent, top), lines.dilation - 1)
        last = w.minimum(self._rounded(below, lines.dilation), lines.window)
        g = w.linear(0, [(n, result[0]), (y, result[1])])
        with w.for_(first, last, 1) as k:
            line = w.add(top, w.mul(k, lines.dilation))
            x = w.linear(0, [(n, image[0]), (line, image[1])])
            start = w.linear(self.start, [(k, along.window * self.inputs * self.channels)])
            vectors(lambda channel, used: self.vector(x, g, start, channel, used))

    def vector(self, x: Index, g: Index, start: Index, channel: Index, used: int) -> None:
        """One line of the window, one line of results, one vector of channels."""
        w, along, mask = self.w, self.along, tail_mask(self.w, self.lanes, used)
        places = [w.linear(channel, [(start, 1), (j, self.channels)]) for j in range(along.window)]
        sums = [load_lanes(w, self.out, place, self.lanes, mask) for place in places]
        sums += [zero(w, self.lanes, self.out.dtype)] * ((self.together - 1) * along.window)
        image, other = (replace(a, base=w.add(base, channel)) for a, base in ((self.x, x), (self.g, g)))
        sums = self._line(image, other, mask, sums)
        for j, place in enumerate(places):
            total = sums[j]
            for u in range(1, self.together):
                total = w.op(f"arith.addf {total}, {sums[u * along.window + j]} : {self.kind}")
            self.store(total, place, used)

    def _rounded(self, distance: Index, step: int) -> Index:
        """distance / step, rounded down; 0 for less."""
        w = self.w
        positive = w.op(f"arith.maxsi {w.ssa(distance)}, {w.index(0)} : index")
        return positive if step == 1 else w.op(f"arith.divui {positive}, {w.index(step)} : index")

    def _line(self, x: Source, g: Source, mask: str | None, sums: list[str]) -> list[str]:
        """The sums with the products of one line of results."""
        along = self.along
        whole_window = [r for r in range(along.results) if len(along.inside(r)) == along.window]
        begin, end = (whole_window[0], whole_window[-1] + 1) if whole_window else (0, 0)
        end -= (end - begin) % self.together
        for r in (*range(begin), *range(end, along.results)):
            sums = self._result(x, g, mask, r, 0, along.inside(r), sums)
        if begin == end:
            return sums
        with self.w.reduction(begin, end, self.together, sums, [self.kind] * len(sums)) as loop:
            inner = loop.carried
            for u in range(self.together):
                inner = self._result(x, g, mask, self.w.add(loop.index, u), u, range(along.window), inner)
            loop.next = inner
        return loop.results

    def _result(
        self, x: Source, g: Source, mask: str | None, r: Index, u: int, inside: Sequence[int], sums: list[str]
    ) -> list[str]:
        """The sums with one result's products, in its `u`th set of them."""
        w, along, sums = self.w, self.along, list(sums)
        factor = load_lanes(w, g, w.linear(g.base, [(r, self.channels)]), self.lanes, mask)
        start = w.linear(x.base, [(r, along.stride * self.channels)])
        for j in inside:
            place = w.add(start, (j * along.dilation - along.low) * self.channels)
            number = load_lanes(w, x, place, self.lanes, mask)
            product = w.op(f"arith.mulf {number}, {factor} fastmath<contract> : {self.kind}")
            at = u * along.window + j
            sums[at] = w.op(f"arith.addf {sums[at]}, {product} fastmath<contract> : {self.kind}")
        return sums
