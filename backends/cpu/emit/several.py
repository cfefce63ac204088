"""Reductions with several results, or with a body that is no single op, in vectors: the place of the largest element.

    for %i = 0 to 64 step 16: %best, %where = body(%x[%i…], %i…, %best, %where)     16 results side by side
    then halves of them are put through the body against each other, until one is left

The body combines two elements of the same kind (StableHLO asks for a monoid), so that any order is right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.elementwise import VECTOR_BYTES, at_tail, finish
from thalweg.backends.cpu.emit.fused import Fused, Place
from thalweg.backends.cpu.emit.indexing import Index
from thalweg.backends.cpu.emit.rows import innermost_dim
from thalweg.backends.cpu.emit.scalar import Num, evaluate, lanes_type, register_type, select, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Generic, Value
from thalweg.backends.cpu.kernel import Kernel

_BYTES = {"f64": 8, "i64": 8, "index": 8, "f32": 4, "i32": 4, "i16": 2, "i8": 1, "i1": 1}


def several_kernel(group: Group, name: str) -> Kernel | None:
    """The kernel, or None where the reduction does not go in vectors."""
    root = group.root
    generic, inner = root.generic, innermost_dim(root)
    if generic is None or inner is None or not _is_monoid(root, generic):
        return None
    lanes = VECTOR_BYTES // max(4, *(_BYTES.get(register_type(peer.element), 8) for peer in root.peers))
    if 0 in generic.extents:
        return None
    if inner in generic.reductions:
        one_line = all(generic.extents[d] == 1 for d in generic.reductions if d != inner)
        return _Rows(group, name, lanes, inner).kernel() if one_line and generic.extents[inner] >= lanes else None
    last = generic.result_maps[0][-1].dim if root.shape else None
    return _Columns(group, name, lanes).kernel() if last == inner and root.shape[-1] >= lanes else None


def _is_monoid(root: Value, generic: Generic) -> bool:
    """Does the body take two elements of the same types, and nothing else?"""
    count, body = len(root.peers), generic.body
    same = body.arguments[:count] == body.arguments[count:]
    plain = not any(op.regions or op.tensor is not None or op.dim is not None for op in body.ops)
    return generic.inputs == count and same and plain and not generic.captures and not generic.scalars


class _Several:
    def __init__(self, group: Group, name: str, lanes: int) -> None:
        self.group, self.name, self.root, self.lanes = group, name, group.root, lanes
        assert self.root.generic is not None
        self.generic: Generic = self.root.generic
        self.w = ScopedWriter()
        self.fused = Fused(self.w, group.members, lanes)
        self.results = [f"%out{k}" for k in range(len(group.stores))]

    def _finish(self, tiles: int) -> Kernel:
        return finish(self.name, self.w, self.fused, self.group.stores, self.results, tiles)

    def _store(self, place: Place, numbers: Sequence[Num]) -> None:
        for value, result in zip(self.group.stores, self.results, strict=True):
            self.fused.store(value, result, place, numbers[value.result_index])

    def _initial_values(self) -> tuple[Value, ...]:
        first = self.generic.inputs
        return self.root.operands[first : first + len(self.root.peers)]

    def _elements(self, dims: Sequence[Index]) -> list[Num]:
        """What is reduced, at loop indices."""
        numbers = []
        for operand, map_ in zip(self.root.operands, self.generic.input_maps, strict=False):
            place = tuple(self.fused.at.affine(expression, dims) for expression in map_)
            numbers.append(widen(self.w, self.fused.get(operand, place), self.lanes))
        return numbers

    def _loop(
        self, extent: tuple[int, int, int], carried: list[Num], body: Callable[[str, list[Num]], list[Num]]
    ) -> list[Num]:
        """A loop over (first, last, step) that carries numbers."""
        with self.w.reduction(*extent, [n.name for n in carried], [n.type for n in carried]) as loop:
            inside = [Num(name, n.element, n.lanes) for name, n in zip(loop.carried, carried, strict=True)]
            loop.next = [number.name for number in body(loop.index, inside)]
        return [Num(name, n.element, n.lanes) for name, n in zip(loop.results, carried, strict=True)]

    def _nest(
        self, remaining: Sequence[int], dims: list[Index], carried: list[Num],
        innermost: Callable[[list[Index], list[Num]], list[Num]],
    ) -> list[Num]:  # fmt: skip
        """Loops over some of the reduced dimensions."""
        if not remaining:
            return innermost(dims, carried)
        dim, *rest = remaining

        def body(index: str, inside: list[Num]) -> list[Num]:
            return self._nest(rest, [*dims[:dim], Index(index), *dims[dim + 1 :]], inside, innermost)

        return self._loop((0, self.generic.extents[dim], 1), carried, body)


class _Columns(_Several):
    """Lanes run along the last dimension of the results."""

    def kernel(self) -> Kernel:
        *outer, columns = self.root.shape
        strips = -(-columns // self.lanes)
        rest = columns % self.lanes
        with self.w.for_("%lo", "%hi", 1) as tile:
            row, strip = self.fused.at.divide(Index(tile), strips)
            rows = self.fused.at.delinear(row, outer)
            start = self.w.mul(strip.base, self.lanes)
            if not rest:
                self._strip((*rows, Index(start, 1)))
            else:
                last = self.w.op(f"arith.cmpi eq, {self.w.ssa(strip.base)}, {self.w.index(strips - 1)} : index")
                with self.w.scope(f"scf.if {last}", fence=True):
                    at_tail(self.fused, rest, lambda: self._strip((*rows, Index(columns - rest, 1))))
                with self.w.scope("else", fence=True):
                    self._strip((*rows, Index(start, 1)))
        return self._finish(strips * math.prod(outer))

    def _strip(self, place: Place) -> None:
        def step(dims: list[Index], carried: list[Num]) -> list[Num]:
            return evaluate(self.w, self.generic.body, [*self._elements(dims), *carried])

        dims = self.fused.loops(self.root, place)
        initial = [widen(self.w, self.fused.get(operand, place), self.lanes) for operand in self._initial_values()]
        self._store(place, self._nest(sorted(self.generic.reductions), dims, initial, step))


class _Rows(_Several):
    """Lanes run along the reduced dimension, and are combined at the end.

    They start from the first elements, not from the initial values, which so count once, neutral or not.
    """

    def __init__(self, group: Group, name: str, lanes: int, inner: int) -> None:
        super().__init__(group, name, lanes)
        self.inner = inner

    def kernel(self) -> Kernel:
        with self.w.for_("%lo", "%hi", 1) as tile:
            place = tuple(self.fused.at.delinear(Index(tile), self.root.shape))
            numbers = self._folded(self._line(self.fused.loops(self.root, place)))
            initial = [self.fused.get(operand, place) for operand in self._initial_values()]
            self._store(place, evaluate(self.w, self.generic.body, [*numbers, *initial]))
        return self._finish(math.prod(self.root.shape))

    def _line(self, dims: list[Index]) -> list[Num]:
        extent, lanes = self.generic.extents[self.inner], self.lanes
        main = extent - extent % lanes

        def elements(start: str | int) -> list[Num]:
            return self._elements([*dims[: self.inner], Index(start, 1), *dims[self.inner + 1 :]])

        def step(start: str | int, inside: list[Num]) -> list[Num]:
            return evaluate(self.w, self.generic.body, [*elements(start), *inside])

        carried = self._loop((lanes, main, lanes), elements(0), step)
        if main == extent:
            return carried
        tail: list[Num] = []
        at_tail(self.fused, extent - main, lambda: tail.extend(self._where_read(step(main, carried), carried)))
        return tail

    def _where_read(self, numbers: Sequence[Num], others: Sequence[Num]) -> list[Num]:
        """`numbers` in the lanes that loads are limited to, `others` elsewhere."""
        w, mask, lanes = self.w, self.fused.mask, self.lanes
        pairs = zip(numbers, others, strict=True)
        return [Num(select(w, mask, a.name, b.name, a.type, lanes), a.element, lanes) for a, b in pairs]

    def _folded(self, numbers: list[Num]) -> list[Num]:
        """Half of the lanes against the other half, until one lane is left."""
        w = self.w
        while numbers[0].lanes > 1:
            half = numbers[0].lanes // 2
            parts: list[list[Num]] = [[], []]
            for number in numbers:
                for side, part in enumerate(parts):
                    part.append(Num(self._half(number, side * half, half), number.element, half))
            numbers = evaluate(w, self.generic.body, [*parts[1], *parts[0]])
        return numbers

    def _half(self, number: Num, first: int, half: int) -> str:
        register = register_type(number.element)
        kind = lanes_type(register, number.lanes)
        if half == 1:
            return self.w.op(f"vector.extract {number.name}[{first}] : {register} from {kind}")
        lanes = ", ".join(str(first + k) for k in range(half))
        return self.w.op(f"vector.shuffle {number.name}, {number.name} [{lanes}] : {kind}, {kind}")
