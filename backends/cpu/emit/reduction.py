"""Row and column kernels: reductions with the elementwise work before, between and after them.

A row kernel walks rows; within a row, each pass over memory runs all reductions that are ready (softmax: maximum,
then sum of exponentials), and a last pass stores. A column kernel carries vectors of columns down the rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.columns import column_kernel
from thalweg.backends.cpu.emit.combiners import Combiner, combiner_of
from thalweg.backends.cpu.emit.elementwise import at_tail, finish, is_flat, lanes_for
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.keeping import kept_values
from thalweg.backends.cpu.emit.loops import loop_nest
from thalweg.backends.cpu.emit.rows import RowSpace, innermost_dim, row_space
from thalweg.backends.cpu.emit.scalar import Num, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.several import several_kernel
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.machine import Machine, machine
from thalweg.backends.cpu.options import CpuOptions

ACCUMULATORS = 4  # vectors in flight, to cover the latency of an addition


@register("reduce")
def reduction(group: Group, name: str, options: CpuOptions) -> Kernel:
    """A row kernel, a column kernel, one of a reduction with several results, or a nest of scalar loops."""
    space = row_space(group.root)
    if space is None:
        return several_kernel(group, name) or loop_nest(group, name, options)
    if space.style == "column":
        return column_kernel(group, name, space, options)
    return _RowKernel(group, name, space, machine(options)).kernel()


@dataclass(frozen=True)
class Pass:
    """Reductions that run in one pass over a row."""

    reductions: list[Value]

    @property
    def extents(self) -> tuple[int, ...]:
        return reduced_extents(self.reductions[0])


def reduced_dims(value: Value) -> list[int]:
    """The reduced loops of a reduction, the one that walks memory last."""
    assert value.generic is not None
    inner = innermost_dim(value)
    return [d for d in sorted(value.generic.reductions) if d != inner] + ([inner] if inner is not None else [])


def reduced_extents(value: Value) -> tuple[int, ...]:
    assert value.generic is not None
    return tuple(value.generic.extents[d] for d in reduced_dims(value))


def passes_of(group: Group) -> list[Pass]:
    """The reductions of a group in passes: each as early as what it depends on allows."""
    depth: dict[Value, int] = {}

    def depth_of(value: Value) -> int:
        pending = [value]
        while pending:
            current = pending[-1]
            operands = [o for o in current.operands if o in group.members and o not in depth]
            if operands:
                pending += operands
                continue
            pending.pop()
            inside = max((depth[o] for o in current.operands if o in group.members), default=0)
            depth[current] = inside + (current.kind == "reduce")
        return depth[value]

    found: dict[tuple[int, tuple[int, ...]], list[Value]] = {}
    for value in sorted(group.members, key=lambda v: v.id):
        if value.kind == "reduce":
            found.setdefault((depth_of(value), reduced_extents(value)), []).append(value)
    return [Pass(found[key]) for key in sorted(found)]


class _RowKernel:
    def __init__(self, group: Group, name: str, space: RowSpace, target: Machine) -> None:
        self.group, self.name, self.space = group, name, space
        self.w = ScopedWriter()
        self.w.has_avx512, self.w.has_fma = target.has_avx512, target.has_fma
        lanes = max(lanes_for(group.members, [group.root]), _lanes_of_row(group))
        total = math.prod(reduced_extents(group.root))
        flat = total if not space.rows and _flat_inputs(group, total) else 0
        self.fused = Fused(self.w, group.members, lanes, flat)
        self.row: list[Index] = []
        self.keeping: list[tuple[Value, Value]] = []  # in this pass: a value, and the store in whose buffer it waits
        self.results = {value: f"%out{k}" for k, value in enumerate(group.stores)}
        self.places: dict[Value, dict[int, Place]] = {value: {} for value in group.stores}  # by phase

    def kernel(self) -> Kernel:
        rows = math.prod(self.space.rows)
        if self.space.rows:
            with self.w.for_("%lo", "%hi", 1) as row:
                self.row = self.fused.at.delinear(Index(row), self.space.rows)
                self._one_row()
        else:
            self._one_row()
        results = list(self.results.values())
        inplace = self._inplace()
        return finish(self.name, self.w, self.fused, self.group.stores, results, rows, inplace=inplace)

    def place(self, shape: Sequence[int], inner: Sequence[Index] = ()) -> Place:
        """The place in a tensor of this row, and of indices for the dimensions that are not rows (0 where not
        given).
        """
        positions = self.space.positions(tuple(shape))
        assert positions is not None
        row, rest = iter(self.row), iter(inner)
        return tuple(next(row) if d in positions else next(rest, Index(0)) for d in range(len(shape)))

    def _one_row(self) -> None:
        passes = passes_of(self.group)
        keeping = [[] for _ in passes] if self.fused.flat else self._keeping(passes)
        for each, self.keeping in zip(passes, keeping, strict=True):
            for value, number in zip(each.reductions, self._pass(each), strict=True):
                self.fused.define(value, self.place(value.shape), number)
            self.fused.kept.update((value, self.results[store]) for value, store in self.keeping)
        self._store()

    def _keeping(self, passes: Sequence[Pass]) -> list[list[tuple[Value, Value]]]:
        return kept_values(self.group, self.space, [(each.reductions, each.extents) for each in passes])

    # Reducing.

    def _pass(self, each: Pass) -> list[Num]:
        """All reductions of a pass; their numbers for this row."""
        w, lanes = self.w, self.fused.lanes
        combiners = [_combiner(value) for value in each.reductions]
        *outer, extent = (self.fused.flat,) if self.fused.flat else each.extents
        count = min(ACCUMULATORS, max(1, extent // lanes))
        neutrals = [c.neutral(w, lanes) for c in combiners]
        carried = [number for number in neutrals for _ in range(count)]
        sums = self._nest(each, combiners, outer, extent, carried, [], count)
        numbers = []
        for k, (value, combiner) in enumerate(zip(each.reductions, combiners, strict=True)):
            total = sums[k * count]
            for other in sums[k * count + 1 : (k + 1) * count]:
                total = combiner.combine(w, total, other)
            number = combiner.horizontal(w, total)
            initial = self._initial(value)
            numbers.append(combiner.combine(w, initial, number))
        self.fused.phase += 1
        return numbers

    def _initial(self, value: Value) -> Num:
        assert value.generic is not None
        return self.fused.get(value.operands[value.generic.inputs], self.place(value.shape))

    def _nest(
        self,
        each: Pass,
        combiners: Sequence[Combiner],
        outer: Sequence[int],
        extent: int,
        carried: list[Num],
        indices: list[Index],
        count: int,
    ) -> list[Num]:
        """Loops over the outer reduced dimensions around `_line`."""
        if not outer:
            return self._line(each, combiners, extent, carried, indices, count)
        with self.w.reduction(0, outer[0], 1, [n.name for n in carried], [n.type for n in carried]) as loop:
            inside = [Num(name, n.element, n.lanes) for name, n in zip(loop.carried, carried, strict=True)]
            following = self._nest(each, combiners, outer[1:], extent, inside, [*indices, Index(loop.index)], count)
            loop.next = [number.name for number in following]
        return [Num(name, n.element, n.lanes) for name, n in zip(loop.results, carried, strict=True)]

    def _line(
        self,
        each: Pass,
        combiners: Sequence[Combiner],
        extent: int,
        carried: list[Num],
        indices: list[Index],
        count: int,
    ) -> list[Num]:
        """The innermost dimension: `count` vectors at a time, then single vectors, then a masked one."""
        w, lanes = self.w, self.fused.lanes
        step = lanes * count
        main = extent - extent % step
        if main > step or (main and count == 1 and main > lanes):
            with w.reduction(0, main, step, [n.name for n in carried], [n.type for n in carried]) as loop:
                inside = [Num(name, n.element, n.lanes) for name, n in zip(loop.carried, carried, strict=True)]
                starts = [w.add(loop.index, u * lanes) for u in range(count)]
                following = self._vectors(each, combiners, inside, indices, starts, count)
                loop.next = [number.name for number in following]
            carried = [Num(name, n.element, n.lanes) for name, n in zip(loop.results, carried, strict=True)]
        else:
            main = 0
        while main + lanes <= extent:
            starts = [main + u * lanes for u in range(count) if main + (u + 1) * lanes <= extent]
            carried = self._vectors(each, combiners, carried, indices, starts, count)
            main += lanes * len(starts)
        if main < extent:
            results = [carried]
            at_tail(
                self.fused,
                extent - main,
                lambda: results.append(self._vectors(each, combiners, carried, indices, [main], count)),
            )
            carried = results[-1]
        return carried

    def _vectors(
        self,
        each: Pass,
        combiners: Sequence[Combiner],
        carried: list[Num],
        indices: list[Index],
        starts: Sequence[str | int],
        count: int,
    ) -> list[Num]:
        """Add the vectors that start at `starts`, each to its own accumulator."""
        following = list(carried)
        for u, start in enumerate(starts):
            lane = Index(start, 1 if self.fused.lanes > 1 else 0, multiple=self.fused.lanes)
            for k, (value, combiner) in enumerate(zip(each.reductions, combiners, strict=True)):
                number = self._contribution(value, combiner, [*indices, lane])
                number = combiner.masked(self.w, widen(self.w, number, self.fused.lanes), self.fused.mask)
                following[k * count + u] = combiner.combine(self.w, following[k * count + u], number)
            for value, store in self.keeping:
                place = self.place(value.shape, [*indices, lane])
                self.fused.store(store, self.results[store], place, self.fused.get(value, place))
                self.places[store][self.fused.phase] = place
        return following

    def _contribution(self, value: Value, combiner: Combiner, indices: Sequence[Index]) -> Num:
        """What one vector of elements adds to a reduction."""
        assert value.generic is not None
        if self.fused.flat:
            return self.fused.body(value, [], (indices[-1],), body=combiner.contribution)[0]
        dims = self.fused.loops(value, self.place(value.shape))
        for dim, index in zip(reduced_dims(value), indices, strict=True):
            dims[dim] = index
        return self.fused.body(value, dims, body=combiner.contribution)[0]

    # Storing.

    def _store(self) -> None:
        """Per-row results, then one loop for each shape of longer ones."""
        longer: dict[tuple[int, ...], list[Value]] = {}
        for value in self.group.stores:
            if self.space.is_row(value.shape):
                self._store_at([value], self.place(value.shape))
            else:
                longer.setdefault(value.shape, []).append(value)
        for shape, values in longer.items():
            self._store_inner(values, shape)
            for value, buffer in list(self.fused.kept.items()):
                if buffer in [self.results[store] for store in values]:
                    del self.fused.kept[value]  # overwritten by what is stored there

    def _store_at(self, values: Sequence[Value], place: Place) -> None:
        numbers = [self.fused.get(value, place) for value in values]
        for value, number in zip(values, numbers, strict=True):
            self.fused.store(value, self.results[value], place, number)
            self.places[value][self.fused.phase] = place
        self.fused.phase += 1

    def _store_inner(self, values: Sequence[Value], shape: tuple[int, ...]) -> None:
        w, lanes = self.w, self.fused.lanes
        positions = self.space.positions(shape)
        assert positions is not None
        if self.fused.flat and math.prod(shape) == self.fused.flat:
            inner, extents = [0], [self.fused.flat]
        else:
            inner = [d for d in range(len(shape)) if d not in positions]
            extents = [shape[d] for d in inner]
        along = max(k for k, extent in enumerate(extents) if extent != 1)

        def level(k: int, indices: list[Index]) -> None:
            if k == along:
                self._store_line(values, shape, indices, extents[along], len(extents) - along - 1)
            else:
                with w.for_(0, extents[k], 1) as i:
                    level(k + 1, [*indices, Index(i)])

        assert lanes >= 1
        level(0, [])

    def _store_line(
        self, values: Sequence[Value], shape: tuple[int, ...], indices: list[Index], extent: int, units: int
    ) -> None:
        w, lanes = self.w, self.fused.lanes
        main = extent - extent % lanes

        def at(index: Index) -> None:
            inner = [*indices, index, *[Index(0)] * units]
            flat = self.fused.flat and math.prod(shape) == self.fused.flat
            self._store_at(values, tuple(inner) if flat else self.place(shape, inner))

        if main:
            with w.for_(0, main, lanes) as j:
                at(Index(j, 1 if lanes > 1 else 0, multiple=lanes))
        if main < extent:
            with w.branch(w.hoisted("arith.constant true")):
                at_tail(self.fused, extent - main, lambda: at(Index(main, 1)))

    def _inplace(self) -> tuple[tuple[int, int], ...]:
        """Results that may take an operand's buffer: read in earlier passes in the same row, or where it is written
        next.
        """
        pairs = []
        for number, store in enumerate(self.group.stores):
            places = self.places[store]
            for position, operand in enumerate(self.fused.buffers):
                if self.fused.memory(operand) == self.fused.memory(store) and self._safe(operand, places):
                    pairs.append((number, position))
        return tuple(pairs)

    def _safe(self, operand: Value, places: dict[int, Place]) -> bool:
        positions = self.space.positions(operand.shape)
        if positions is None:
            return False
        for value, place, phase in self.fused.loads:
            if value is not operand:
                continue
            first = min(places)
            if phase > first or (phase == first and place != places[first]):
                return False
            if phase < first and [place[d] for d in positions] != self.row:
                return False
        return True


def _combiner(value: Value) -> Combiner:
    combiner = combiner_of(value)
    assert combiner is not None
    return combiner


def _lanes_of_row(group: Group) -> int:
    """Lanes by element size, also where every result is a single element."""
    inside = [operand for operand in group.root.operands if operand.size > 1]
    return lanes_for(group.members, inside) if inside else 1


def _flat_inputs(group: Group, total: int) -> bool:
    """Can a reduction of everything walk its inputs in row-major order?"""
    reductions = [value for value in group.members if value.kind == "reduce"]
    others = group.members - set(reductions)
    for value in reductions:
        generic = value.generic
        assert generic is not None
        identity = tuple(range(len(generic.extents)))
        if any(tuple(e.dim for e in map_) != identity for map_ in generic.input_maps):
            return False
        if math.prod(generic.extents) != total:
            return False
    large = [value for value in (*others, *group.stores) if value.size != 1]
    if any(value.size != total for value in large):
        return False
    probe = Group(group.root, others, large[:1] or [reductions[0].operands[0]])
    return is_flat(probe)
