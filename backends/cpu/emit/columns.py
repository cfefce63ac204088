"""Column kernels: reductions along leading dimensions, with vectors of columns as accumulators."""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.combiners import Combiner, combiner_of
from thalweg.backends.cpu.emit.elementwise import finish, inplace_pairs, lanes_for
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.rows import RowSpace
from thalweg.backends.cpu.emit.scalar import Num, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions

VECTORS = 4  # of columns side by side in a tile, at least
UNROLL = 4  # accumulators for each column where there are few vectors


def column_kernel(group: Group, name: str, space: RowSpace, options: CpuOptions) -> Kernel:
    """A tile is a strip of columns, all rows deep: wide strips read memory in long pieces, but every thread needs
    one.
    """
    threads, target = options.worker_count(), machine(options)
    widest = 16 if target.registers >= 32 else VECTORS
    made = _ColumnKernel(group, name, space, widest, threads)
    made.w.has_avx512, made.w.has_fma = target.has_avx512, target.has_fma
    return made.kernel()


class _ColumnKernel:
    def __init__(self, group: Group, name: str, space: RowSpace, widest: int, threads: int) -> None:
        self.group, self.name, self.space = group, name, space
        self.widest, self.threads = widest, threads
        self.w = ScopedWriter()
        operands = [operand for operand in group.root.operands if operand.size > 1]
        self.fused = Fused(self.w, group.members, lanes_for(group.members, [*operands, *group.stores]))
        self.reductions = sorted((v for v in group.members if v.kind == "reduce"), key=lambda v: v.id)
        self.results = [f"%out{k}" for k in range(len(group.stores))]
        self.places: dict[int, Place] = {}  # where the results are stored, by phase
        self.vectors = 1  # that all columns fill

    def kernel(self) -> Kernel:
        w, lanes = self.w, self.fused.lanes
        *outer, columns = self.space.rows
        vectors = self.vectors = -(-columns // lanes)
        share = -(-vectors * math.prod(outer) // (2 * self.threads)) if self.threads > 1 else vectors
        strips = -(-vectors // min(vectors, self.widest, max(VECTORS, share)))
        if strips * math.prod(outer) > self.threads:  # equally many for each thread, and of equal width
            together = math.lcm(self.threads, math.prod(outer)) // math.prod(outer)
            strips = min(max(1, vectors // VECTORS), -(-strips // together) * together)
        width = lanes * -(-vectors // strips)
        strips = -(-columns // width)
        full = columns // width
        tiles = strips * math.prod(outer)
        with w.for_("%lo", "%hi", 1) as tile:
            rest, strip = self.fused.at.divide(Index(tile), strips)
            row = self.fused.at.delinear(rest, outer)
            start = w.mul(strip.base, width)
            if full == strips:
                self._strip(row, start, width)
            elif not full:
                self._strip(row, 0, columns)
            else:
                inside = w.op(f"arith.cmpi ult, {w.ssa(strip.base)}, {w.index(full)} : index")
                with w.scope(f"scf.if {inside}", fence=True):
                    self._strip(row, start, width)
                with w.scope("else", fence=True):
                    self._strip(row, full * width, columns - full * width)
        inplace = inplace_pairs(self.fused, self.group.stores, self.places)
        return finish(self.name, w, self.fused, self.group.stores, self.results, tiles, inplace=inplace)

    def _strip(self, row: Sequence[Index], start: str | int, width: int) -> None:
        """All reductions for `width` columns from `start`, then what is stored of them."""
        w, lanes = self.w, self.fused.lanes
        vectors = []
        for first in range(0, width, lanes):
            used = min(lanes, width - first)
            vectors.append(([*row, Index(w.add(start, first), 1 if lanes > 1 else 0)], used))
        self.fused.phase += 1
        for value in self.reductions:
            numbers = self._reduce(value, vectors)
            for (place, _), number in zip(vectors, numbers, strict=True):
                self.fused.define(value, self._place(value.shape, place), number)
        for place, used in vectors:
            self.fused.limit(used)
            self.fused.phase += 1
            at = [self._place(value.shape, place) for value in self.group.stores]
            numbers = [self.fused.get(value, there) for value, there in zip(self.group.stores, at, strict=True)]
            for value, result, there, number in zip(self.group.stores, self.results, at, numbers, strict=True):
                self.fused.store(value, result, there, number)
            if len(set(at)) == 1:
                self.places[self.fused.phase] = at[0]
        self.fused.limit(0)

    def _place(self, shape: Sequence[int], rows: Sequence[Index]) -> Place:
        """The place of a row (a column of the strip) in a result's shape."""
        row = iter(rows)
        return tuple(Index(0) if extent == 1 else next(row) for extent in shape)

    def _reduce(self, value: Value, vectors: Sequence[tuple[list[Index], int]]) -> list[Num]:
        """One number (a vector of columns) for each vector of the strip."""
        generic, combiner, w = value.generic, combiner_of(value), self.w
        assert generic is not None and combiner is not None
        *outer, last = sorted(generic.reductions)
        # As many for every strip, whatever its width: that depends on the threads, what is added to what must not.
        unroll = max(1, min(UNROLL // self.vectors, generic.extents[last]))
        neutral = combiner.neutral(w, self.fused.lanes)
        carried = [neutral] * (len(vectors) * unroll)
        dims = [self.fused.loops(value, self._place(value.shape, place)) for place, _ in vectors]
        sums = self._nest(value, combiner, outer, last, dims, [used for _, used in vectors], carried, unroll)
        numbers = []
        for k, (place, used) in enumerate(vectors):
            total = sums[k]
            for u in range(1, unroll):
                total = combiner.combine(w, total, sums[u * len(vectors) + k])
            self.fused.limit(used)
            initial = self.fused.get(value.operands[generic.inputs], self._place(value.shape, place))
            numbers.append(combiner.combine(w, initial, total))
        self.fused.limit(0)
        return numbers

    def _nest(
        self,
        value: Value,
        combiner: Combiner,
        outer: Sequence[int],
        last: int,
        dims: list[list[Index]],
        widths: Sequence[int],
        carried: list[Num],
        unroll: int,
    ) -> list[Num]:
        generic, w = value.generic, self.w
        assert generic is not None
        loop_dim = outer[0] if outer else last
        extent = generic.extents[loop_dim]
        main = extent if outer else extent - extent % unroll
        with w.reduction(0, main, 1 if outer else unroll, [n.name for n in carried], [n.type for n in carried]) as loop:
            inside = [Num(name, n.element, n.lanes) for name, n in zip(loop.carried, carried, strict=True)]
            if outer:
                deeper = _at(dims, loop_dim, Index(loop.index))
                following = self._nest(value, combiner, outer[1:], last, deeper, widths, inside, unroll)
            else:
                following = inside
                for u in range(unroll):
                    row = _at(dims, last, Index(w.add(loop.index, u)))
                    following = self._row(value, combiner, row, widths, following, u)
            loop.next = [number.name for number in following]
        carried = [Num(name, n.element, n.lanes) for name, n in zip(loop.results, carried, strict=True)]
        for u in range(main, extent):
            carried = self._row(value, combiner, _at(dims, last, Index(u)), widths, carried, u - main)
        return carried

    def _row(
        self,
        value: Value,
        combiner: Combiner,
        dims: list[list[Index]],
        widths: Sequence[int],
        carried: list[Num],
        u: int,
    ) -> list[Num]:
        """Add one row to accumulator `u` of every vector."""
        following = list(carried)
        for k, used in enumerate(widths):
            self.fused.limit(used)
            number = self.fused.body(value, dims[k], body=combiner.contribution)[0]
            number = widen(self.w, number, self.fused.lanes)
            position = u * len(widths) + k
            following[position] = combiner.combine(self.w, following[position], number)
        self.fused.limit(0)
        return following


def _at(dims: list[list[Index]], dim: int, index: Index) -> list[list[Index]]:
    return [[index if d == dim else other for d, other in enumerate(each)] for each in dims]
