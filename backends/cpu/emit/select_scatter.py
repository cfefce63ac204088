"""Select and scatter, the gradient of pooling: each source element goes to the element that its window chose.

Windows are taken in order; lanes run along the last dimension where windows do not (the channels of NHWC). A window is
walked twice: to find the position of the chosen element, then to add the source there. Where windows do not meet, the
second walk writes every element of its window and nothing is read back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

from thalweg.backends.cpu.bodies import integers, region_body
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.scalar import (
    Num,
    constant,
    evaluate,
    from_storage,
    lanes_type,
    register_type,
    select,
    to_storage,
    widen,
)
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel, function, memref_type, storage_type
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions

UNROLL = 16  # windows of so few elements are written out


@register("stablehlo.select_and_scatter")
def select_and_scatter(group: Group, name: str, options: CpuOptions) -> Kernel:
    """A tile is one place of the dimensions that windows do not extend over (the images of a batch)."""
    root = group.root
    operand, source, initial = root.operands
    writer = _SelectScatter(root, machine(options).lanes(register_type(root.element)))
    writer.write()
    named = [("%x", operand), ("%s", source), ("%start", initial)]
    text = function(name, named, [("%out", root)], writer.w.text())
    return Kernel(name, text, root.operands, (root,), writer.tiles)


class _SelectScatter:
    """Writes one kernel."""

    def __init__(self, root: Value, lanes: int) -> None:
        self.w = ScopedWriter()
        self.root, self.source, self.element = root, root.operands[1], root.element
        assert root.op is not None
        rank = len(root.shape)
        self.size = integers(root.op, "window_dimensions", [1] * rank)
        self.stride = integers(root.op, "window_strides", [1] * rank)
        padding = integers(root.op, "padding", [0] * (2 * rank))
        self.low, self.high = padding[::2], padding[1::2]
        self.choose, self.combine = region_body(root.op, 0), region_body(root.op, 1)
        free = [d for d in range(rank) if (self.size[d], self.stride[d], self.low[d], self.high[d]) == (1, 1, 0, 0)]
        self.lane = rank - 1 if rank and free[-1:] == [rank - 1] and root.shape[-1] > 1 and lanes > 1 else None
        self.lanes = 1 if self.lane is None else lanes
        self.free = [d for d in free if d != self.lane]
        self.windowed = [d for d in range(rank) if d not in free]
        self.tiles = math.prod(root.shape[d] for d in self.free)
        self.place: list[Index] = [0] * rank  # of the free dimensions and the lanes
        self.mask = ""
        self.start = Num("", self.element)

    def write(self) -> None:
        w, shape = self.w, self.root.shape
        kind = memref_type(self.root.operands[2])
        loaded = w.op(f"memref.load %start[] : {kind}")
        self.start = widen(w, from_storage(w, loaded, self.element, 1), self.lanes)
        with w.for_("%lo", "%hi", 1) as tile:
            for d, at in zip(self.free, w.delinearize(tile, [shape[d] for d in self.free]), strict=True):
                self.place[d] = at
            if not self._covered():
                self._each([shape[d] for d in self.windowed], self._fill)
            self._each([self.source.shape[d] for d in self.windowed], self._window)

    @property
    def _disjoint(self) -> bool:
        return all(self.size[d] <= self.stride[d] for d in self.windowed)

    def _covered(self) -> bool:
        """Is every element of the result in exactly one window?"""
        return all(
            self.size[d] == self.stride[d]
            and self.low[d] == 0
            and self.size[d] * self.source.shape[d] == self.root.shape[d]
            for d in self.windowed
        )

    def _each(self, extents: Sequence[int], body: Callable[[list[Index]], None]) -> None:
        """`body` at every place of the windowed dimensions, for all lanes."""

        def nest(found: list[Index]) -> None:
            if len(found) < len(extents):
                with self.w.for_(0, extents[len(found)], 1) as i:
                    nest([*found, i])
            else:
                self._across(lambda: body(found))

        nest([])

    def _across(self, body: Callable[[], None]) -> None:
        """`body` for each vector of lanes."""
        if self.lane is None:
            body()
            return
        extent = self.root.shape[self.lane]
        main = extent - extent % self.lanes
        if main:
            with self.w.for_(0, main, self.lanes) as j:
                self.place[self.lane] = j
                body()
        if main < extent:
            self.place[self.lane] = main
            self.mask = self.w.hoisted(f"vector.constant_mask [{extent - main}] : vector<{self.lanes}xi1>", "mask")
            body()
            self.mask = ""

    # Memory.

    def _at(self, buffer: str, value: Value, windowed: Sequence[Index]) -> tuple[str, str]:
        place = list(self.place)
        for d, index in zip(self.windowed, windowed, strict=True):
            place[d] = index
        return f"{buffer}[{', '.join(self.w.ssa(index) for index in place)}]", memref_type(value)

    def _load(self, buffer: str, value: Value, windowed: Sequence[Index], again: bool = False) -> Num:
        """A number; `again`: this kernel may have written it."""
        where, memref = self._at(buffer, value, windowed)
        kind = lanes_type(storage_type(self.element), self.lanes)
        if self.lanes == 1:
            text = f"memref.load {where} : {memref}"
        elif self.mask:
            zero = self.w.hoisted(f"arith.constant dense<{'0.0' if 'f' in kind else '0'}> : {kind}", "zero")
            types = f"{memref}, vector<{self.lanes}xi1>, {kind} into {kind}"
            text = f"vector.maskedload {where}, {self.mask}, {zero} : {types}"
        else:
            text = f"vector.load {where} : {memref}, {kind}"
        return from_storage(self.w, self.w.ordered(text) if again else self.w.op(text), self.element, self.lanes)

    def _store(self, windowed: Sequence[Index], number: Num) -> None:
        where, memref = self._at("%out", self.root, windowed)
        name, kind = to_storage(self.w, number), lanes_type(storage_type(self.element), self.lanes)
        if self.lanes == 1:
            self.w.emit(f"memref.store {name}, {where} : {memref}")
        elif self.mask:
            self.w.emit(f"vector.maskedstore {where}, {self.mask}, {name} : {memref}, vector<{self.lanes}xi1>, {kind}")
        else:
            self.w.emit(f"vector.store {name}, {where} : {memref}, {kind}")

    def _fill(self, place: list[Index]) -> None:
        self._store(place, self.start)

    # Windows.

    def _window(self, place: list[Index]) -> None:
        """One source place, or a vector of them."""
        w = self.w
        bounds = [self._bounds(d, p) for d, p in zip(self.windowed, place, strict=True)]
        first = [w.add(w.mul(p, self.stride[d]), -self.low[d]) for d, p in zip(self.windowed, place, strict=True)]
        none = constant(w, "-1", "i32", self.lanes)

        def look(offset: list[Index], carried: list[Num]) -> list[Num]:
            best, chosen = carried
            found = self._load("%x", self.root, self._inside(first, offset))
            (keep,) = evaluate(w, self.choose, [best, found])
            keep = widen(w, keep, self.lanes)
            kind = lanes_type("i1", self.lanes)
            seen = w.op(f"arith.cmpi ne, {chosen.name}, {none.name} : {none.type}")
            stay = w.op(f"arith.andi {keep.name}, {seen} : {kind}")
            value = select(w, stay, best.name, found.name, found.type, self.lanes)
            number = self._number(offset)
            index = select(w, stay, chosen.name, number.name, number.type, self.lanes)
            return [Num(value, self.element, self.lanes), Num(index, "i32", self.lanes)]

        nothing = constant(w, "0", self.element, self.lanes)
        _, chosen = self._walk(bounds, [nothing, none], look)
        given = self._load("%s", self.source, place)

        def give(offset: list[Index], carried: list[Num]) -> list[Num]:
            at = self._inside(first, offset)
            here = w.op(f"arith.cmpi eq, {chosen.name}, {self._number(offset).name} : {none.type}")
            old = self.start if self._disjoint else self._load("%out", self.root, at, again=True)
            (new,) = evaluate(w, self.combine, [old, given])
            value = select(w, here, widen(w, new, self.lanes).name, old.name, old.type, self.lanes)
            self._store(at, Num(value, self.element, self.lanes))
            return carried

        self._walk(bounds, [], give)

    def _bounds(self, d: int, place: Index) -> tuple[Index, Index]:
        """First and last-but-one offset of a window along `d` that lie inside the operand."""
        w = self.w
        if self.low[d] <= 0 and self.high[d] <= 0:
            return 0, self.size[d]
        start = w.sub(self.low[d], w.mul(place, self.stride[d]))  # offset of the operand's first element
        lower = w.op(f"arith.maxsi {w.ssa(start)}, {w.index(0)} : index")
        return lower, w.minimum(w.add(start, self.root.shape[d]), self.size[d])

    def _inside(self, first: Sequence[Index], offset: Sequence[Index]) -> list[Index]:
        return [self.w.add(f, o) for f, o in zip(first, offset, strict=True)]

    def _number(self, offset: Sequence[Index]) -> Num:
        """The position of an element in its window, counted in row-major order."""
        flat: Index = 0
        for d, o in zip(self.windowed, offset, strict=True):
            flat = self.w.add(self.w.mul(flat, self.size[d]), o)
        if isinstance(flat, int):
            return constant(self.w, str(flat), "i32", self.lanes)
        return widen(self.w, Num(self.w.op(f"arith.index_cast {flat} : index to i32"), "i32"), self.lanes)

    def _walk(
        self,
        bounds: Sequence[tuple[Index, Index]],
        carried: list[Num],
        body: Callable[[list[Index], list[Num]], list[Num]],
    ) -> list[Num]:
        """`body(offset, carried)` at every place of a window, in row-major order."""
        constant_bounds = [range(a, b) for a, b in bounds if isinstance(a, int) and isinstance(b, int)]
        if len(constant_bounds) == len(bounds) and math.prod(map(len, constant_bounds)) <= UNROLL:
            for offset in product(*constant_bounds):
                carried = body(list(offset), carried)
            return carried

        def nest(offset: list[Index], inner: list[Num]) -> list[Num]:
            if len(offset) == len(bounds):
                return body(offset, inner)
            lower, upper = bounds[len(offset)]
            if not inner:
                with self.w.for_(lower, upper, 1) as i:
                    nest([*offset, i], [])
                return []
            names, types = [n.name for n in inner], [n.type for n in inner]
            with self.w.reduction(lower, upper, 1, names, types) as loop:
                following = [Num(c, n.element, n.lanes) for c, n in zip(loop.carried, inner, strict=True)]
                loop.next = [n.name for n in nest([*offset, loop.index], following)]
            return [Num(r, n.element, n.lanes) for r, n in zip(loop.results, inner, strict=True)]

        return nest([], carried)
