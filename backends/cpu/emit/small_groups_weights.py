"""Weight gradients of convolutions of many small groups, channels last: vectors run through several groups.

`tw.small_groups_weights` (`convolution.py` makes it) has operands x: [batch, *spatial, groups * inputs] and
g: [batch, *results, groups * outputs], and computes w: [slices, *window, inputs, groups * outputs],

    w[s, k, c, f] = sum over n, o of  x[n, o * stride + k * dilation - low, group of f * inputs + c] * g[n, o, f]

The loops are those of depthwise ones (`depthwise_weights.py`). Of each place, lanes take number c of their own group by
one shuffle, which serves all results whose windows lie over that place. Where there are more elements in the window's
line, times inputs, than registers, some inputs are summed at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.blocking import ceil_div
from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.depthwise_weights import Weights, weights_kernel
from thalweg.backends.cpu.emit.packing import Source, load_lanes, tail_mask, zero
from thalweg.backends.cpu.emit.small_groups import spread_groups
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions

SIDE_BY_SIDE = 8  # results at a time
MOST_SUMS = 24  # in registers, of 32; of fewer registers, as large a part
LATENCY = 8  # sums that are enough to keep the processor busy


@register("tw.small_groups_weights")
def small_groups_weights(group: Group, name: str, options: CpuOptions) -> Kernel:
    """The kernel."""
    return weights_kernel(group, name, options, _SmallGroupsWeights, group.root.shape[-2])


class _SmallGroupsWeights(Weights):
    """Writes one kernel."""

    def vector(self, x: Index, g: Index, start: Index, channel: Index, used: int) -> None:
        """One line of the window, one line of results, one vector of channels."""
        w, window = self.w, self.along.window
        outputs = self.channels * self.inputs // self.read
        group = w.op(f"arith.divui {w.ssa(channel)}, {w.index(outputs)} : index")
        image = replace(self.x, base=w.linear(x, [(group, self.inputs)]))
        other = replace(self.g, base=w.add(g, channel))
        passes = ceil_div(self.inputs * window, MOST_SUMS * self.registers // 32)
        share = ceil_div(self.inputs, min(passes, self.inputs))
        for first in range(0, self.inputs, share):
            self._inputs(image, other, w.add(start, channel), range(first, min(first + share, self.inputs)), used)

    def _inputs(self, image: Source, g: Source, start: Index, inputs: range, used: int) -> None:
        """The sums of some of the inputs."""
        w, mask = self.w, tail_mask(self.w, self.lanes, used)
        elements = [(j, c) for j in range(self.along.window) for c in inputs]
        places = [w.linear(start, [(j * self.inputs + c, self.channels)]) for j, c in elements]
        sets = max(1, LATENCY // len(elements))
        sums = [load_lanes(w, self.out, place, self.lanes, mask) for place in places]
        sums += [zero(w, self.lanes, self.out.dtype)] * ((sets - 1) * len(elements))
        sums = self._line_of(image, g, inputs, used, sums)
        for at, place in enumerate(places):
            total = sums[at]
            for u in range(1, sets):
                total = w.op(f"arith.addf {total}, {sums[u * len(elements) + at]} : {self.kind}")
            self.store(total, place, used)

    def _line_of(self, image: Source, g: Source, inputs: range, used: int, sums: list[str]) -> list[str]:
        """The sums with the products of one line of results."""
        w, along = self.w, self.along
        whole = [r for r in range(along.results) if len(along.inside(r)) == along.window]
        begin, end = (whole[0], whole[-1] + 1) if whole else (0, 0)
        end -= (end - begin) % SIDE_BY_SIDE
        rest = [*range(begin), *range(end, along.results)]
        for r in rest:
            sums = self._results(image, g, inputs, used, r, [along.inside(r)], sums)
        if begin == end:
            return sums
        with w.reduction(begin, end, SIDE_BY_SIDE, sums, [self.kind] * len(sums)) as loop:
            inside = [range(along.window)] * SIDE_BY_SIDE
            loop.next = self._results(image, g, inputs, used, loop.index, inside, loop.carried)
        return loop.results

    def _results(
        self, image: Source, g: Source, inputs: range, used: int, first: Index, inside: Sequence[Sequence[int]],
        sums: list[str],
    ) -> list[str]:  # fmt: skip
        """The sums with the products of neighbouring results, by the places that they read."""
        w, along, sums, outputs = self.w, self.along, list(sums), self.channels * self.inputs // self.read
        mask, elements = tail_mask(w, self.lanes, used), along.window * len(inputs)
        sets = len(sums) // elements
        reads: dict[int, list[tuple[int, int]]] = {}
        for u, met in enumerate(inside):
            for j in met:
                reads.setdefault(u * along.stride + j * along.dilation, []).append((u, j))
        start = w.linear(image.base, [(first, along.stride * self.read)])
        for offset, taps in sorted(reads.items()):
            # Nothing is loaded before the step that needs it: registers are for sums.
            w.emit('llvm.inline_asm has_side_effects "", "~{memory}" : () -> ()')
            read = w.add(start, (offset - along.low) * self.read)
            for c in inputs:
                number = spread_groups(w, image, read, c, (self.inputs, outputs), self.lanes, used)
                for u, j in taps:
                    place = w.linear(g.base, [(w.add(first, u), self.channels)])
                    factor = load_lanes(w, g, place, self.lanes, mask)
                    product = w.op(f"arith.mulf {number}, {factor} fastmath<contract> : {self.kind}")
                    at = u % sets * elements + j * len(inputs) + c - inputs.start
                    sums[at] = w.op(f"arith.addf {sums[at]}, {product} fastmath<contract> : {self.kind}")
        return sums
