"""Running reductions: one pass along the axis with the running value in a register.

Where the axis is the last one, vectors of neighbours are combined in a few steps, each with those 1, 2, 4… places
before, and then with the running value, whose chain is one combination for a vector.

`tw.cumulative` stands for a `stablehlo.reduce_window` whose windows reach from one end of an axis to each element
(`legalize.py` finds them); taken literally, those would cost the square of the extent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.combiners import Combiner, combines
from thalweg.backends.cpu.emit.scalar import Num, apply, from_storage, lanes_type, register_type, to_storage, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Body, ScalarOp
from thalweg.backends.cpu.kernel import Kernel, function, memref_type, storage_type
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.mlir import ir

_VECTORS = 4  # run along the axis side by side, so that whole cache lines are read
_BLOCKS = 4  # vectors from which on a line is worth combining neighbours


@register("tw.cumulative")
def cumulative(group: Group, name: str, options: CpuOptions) -> Kernel:
    """A tile is one line along the axis, or as many neighbouring ones as fit into a few vectors."""
    root = group.root
    assert root.op is not None
    x, initial = root.operands
    axis = ir.IntegerAttr(root.op.attributes["axis"]).value
    reverse = ir.BoolAttr(root.op.attributes["reverse"]).value
    combine = ScalarOp(ir.StringAttr(root.op.attributes["combine"]).value, (0, 1), (2,), (root.element,))
    outer, extent, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    full = 1 if root.element == "i1" else machine(options).lanes(register_type(root.element))
    lanes = full if inner >= full else 1
    vectors = min(_VECTORS, inner // lanes) if lanes > 1 else 1
    blocks = -(-inner // (lanes * vectors))

    w = ScopedWriter()
    flat = f"memref<{x.size}x{storage_type(root.element)}>"
    source, target = (_flatten(w, buffer, memref_type(x), len(x.shape), flat) for buffer in ("%x", "%out"))
    start = from_storage(w, w.op(f"memref.load %start[] : {memref_type(initial)}"), root.element, 1)
    line = _Line(w, combine, root.element, source, target, flat, extent, inner, reverse)
    with w.for_("%lo", "%hi", 1) as tile:
        outside, block = w.delinearize(tile, [outer, blocks])
        # The last block begins early enough to be full: what it shares with the one before is written twice.
        first = w.minimum(w.mul(block, lanes * vectors), inner - lanes * vectors)
        base = w.add(w.mul(outside, extent * inner), first)
        if inner == 1 and full > 1 and extent >= _BLOCKS * full and combines(combine.name):
            line.scan(base, start, full)
        else:
            line.run(base, [widen(w, start, lanes)] * vectors, 0, extent)
    text = function(name, [("%x", x), ("%start", initial)], [("%out", root)], w.text())
    return Kernel(name, text, (x, initial), (root,), outer * blocks)


@dataclass(frozen=True)
class _Line:
    """Writes one line (or several neighbours) along the axis. Steps count in the order of the running value."""

    w: ScopedWriter
    op: ScalarOp
    element: str
    source: str
    target: str
    memref: str
    extent: int
    inner: int
    reverse: bool

    def run(self, base: str | int, start: Sequence[Num], first: int, last: int) -> None:
        """Steps first … last - 1, a running value for each of some vectors side by side."""
        w, lanes = self.w, start[0].lanes
        with w.reduction(first, last, 1, [n.name for n in start], [n.type for n in start]) as loop:
            step = w.sub(self.extent - 1, loop.index) if self.reverse else loop.index
            for k, carried in enumerate(loop.carried):
                place = w.add(w.add(base, w.mul(step, self.inner)), k * lanes)
                running = apply(w, self.op, [Num(carried, self.element, lanes), self._load(place, lanes)])[0]
                self._store(running, place)
                loop.next.append(running.name)

    def scan(self, base: str | int, start: Num, lanes: int) -> None:
        """The whole line, `lanes` steps at a time; the rest one by one."""
        w, main = self.w, self.extent - self.extent % lanes
        combiner = Combiner(self.op, self.element, Body((), (), ()))
        wide = widen(w, start, lanes)
        end = 0 if self.reverse else lanes - 1
        with w.reduction(0, main, lanes, [wide.name], [wide.type]) as loop:
            step = w.sub(self.extent - lanes, loop.index) if self.reverse else loop.index
            place = w.add(base, step)
            inside = self._prefixes(combiner, self._load(place, lanes))
            carried = Num(loop.carried[0], self.element, lanes)
            self._store(combiner.combine(w, carried, inside), place)
            loop.next = [combiner.combine(w, carried, self._shuffled(inside, inside, [end] * lanes)).name]
        if main < self.extent:
            register = register_type(self.element)
            last = w.op(f"vector.extract {loop.results[0]}[0] : {register} from {wide.type}")
            self.run(base, [Num(last, self.element)], main, self.extent)

    def _prefixes(self, combiner: Combiner, vector: Num) -> Num:
        """Each lane combined with all lanes of the vector before it."""
        lanes, shift = vector.lanes, 1
        neutral = combiner.neutral(self.w, lanes)
        while shift < lanes:
            if self.reverse:
                sources = [k + shift if k + shift < lanes else lanes for k in range(lanes)]
            else:
                sources = [k - shift if k >= shift else lanes for k in range(lanes)]
            vector = combiner.combine(self.w, self._shuffled(vector, neutral, sources), vector)
            shift *= 2
        return vector

    def _shuffled(self, one: Num, other: Num, sources: Sequence[int]) -> Num:
        places = ", ".join(map(str, sources))
        name = self.w.op(f"vector.shuffle {one.name}, {other.name} [{places}] : {one.type}, {one.type}")
        return Num(name, self.element, one.lanes)

    def _load(self, place: str | int, lanes: int) -> Num:
        verb, kind = self._access(lanes)
        raw = self.w.ordered(f"{verb}.load {self.source}[{self.w.ssa(place)}] : {self.memref}{kind}")
        return from_storage(self.w, raw, self.element, lanes)

    def _store(self, number: Num, place: str | int) -> None:
        verb, kind = self._access(number.lanes)
        raw = to_storage(self.w, number)
        self.w.emit(f"{verb}.store {raw}, {self.target}[{self.w.ssa(place)}] : {self.memref}{kind}")

    def _access(self, lanes: int) -> tuple[str, str]:
        """The dialect of loads and stores, and what follows the buffer's type."""
        if lanes == 1:
            return "memref", ""
        return "vector", f", {lanes_type(storage_type(self.element), lanes)}"


def _flatten(w: ScopedWriter, buffer: str, kind: str, rank: int, flat: str) -> str:
    if rank == 1:
        return buffer
    dims = ", ".join(map(str, range(rank)))
    return w.op(f"memref.collapse_shape {buffer} [[{dims}]] : {kind} into {flat}")
