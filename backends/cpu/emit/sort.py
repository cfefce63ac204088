"""Sorting: stable, of each line along the sorted dimension, for any number of operands and any comparator.

A line is copied into scratch, one column for each operand. Most comparators are total orders of numbers
(ordering.py): lines that are not short are then sorted by digits (radix.py). Others are merged: runs of `_RUN`
elements are sorted by insertion, then merged in passes that read one half of the scratch and write the other: O(n log
n) comparisons, and in a merge no branch that depends on the data. One tile is one line.

Comparators that say `key(x) < key(y)` for some function of one operand (JAX's for floats makes all zeros equal, and
all NaNs, then compares bit patterns) are found by their structure; merges have a column for the keys, computed once
for each element instead of at each comparison.

Where only the first few elements of a line are used (top-k), they are selected and the rest stays unwritten.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.backends.cpu.bodies import region_body
from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.ordering import Key, find_key, find_order
from thalweg.backends.cpu.emit.radix import Radix, can_sort
from thalweg.backends.cpu.emit.scalar import Num, apply, evaluate, from_storage, lanes_type, to_storage, widen
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import BYTES, Body, Value
from thalweg.backends.cpu.kernel import Kernel, function, memref_type, storage_type
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.mlir import ir

_RUN = 16  # insertion sort is faster than merging below this
_SELECT = 256  # at most so many first elements are selected without sorting the rest
_ALIGN = 64
_VECTOR_BYTES = 64  # that are compared at a time with the last one kept
_NANOSECONDS = 6.0  # for an element of a column, about


@register("stablehlo.sort")
def sort(group: Group, name: str, options: CpuOptions) -> Kernel:
    """All results of a `stablehlo.sort`."""
    root = group.root
    assert root.op is not None
    dim = ir.IntegerAttr(root.op.attributes["dimension"]).value % max(1, len(root.shape))
    operands = root.operands[: len(root.peers)]
    kept = wanted(root.op, dim)
    if kept > _SELECT or kept * 4 > root.shape[dim]:
        kept = root.shape[dim]
    return _Sort(root, dim, kept, region_body(root.op), operands).kernel(name, list(group.stores))


def wanted(operation: ir.Operation, dim: int) -> int:
    """How many elements of a sort's lines are used: less than all where only slices of their beginnings are (top-k)."""
    most = 0
    for result in operation.results:
        for use in result.uses:
            taken = _beginning(use.owner.operation, dim)
            if taken is None:
                return int(ir.RankedTensorType(result.type).shape[dim])
            most = max(most, taken)
    return most


def _beginning(user: ir.Operation, dim: int) -> int | None:
    """The extent along `dim` of a slice that begins at 0; None for other users."""
    if user.name != "tensor.extract_slice":
        return None
    offsets, sizes, strides = (
        list(ir.DenseI64ArrayAttr(user.attributes[f"static_{name}"])) for name in ("offsets", "sizes", "strides")
    )
    plain = offsets[dim] == 0 and strides[dim] == 1 and sizes[dim] > 0
    return sizes[dim] if plain else None


class _Sort:
    """Writes one sort. Columns are scratch buffers: one for each operand, then the keys, where there are any."""

    def __init__(self, root: Value, dim: int, kept: int, comparator: Body, operands: Sequence[Value]) -> None:
        self.shape, self.dim, self.kept = root.shape, dim, kept
        self.length = root.shape[dim]
        self.operands = tuple(operands)
        self.comparator = comparator
        self.key = find_key(comparator)
        self.elements = [operand.element for operand in operands]
        self.w = ScopedWriter()
        self.order = order = find_order(comparator)
        self.radix: Radix | None = None
        if order is not None and self.kept == self.length and can_sort(order, self.length):
            self.radix = Radix(self.w, order, self.elements[order.key.operand], self.length)
        elif self.key is not None and self.key.body.ops:
            self.elements.append(_key_element(self.key))

    def kernel(self, name: str, stores: list[Value]) -> Kernel:
        w = self.w
        results = [f"%out{stores.index(p)}" if p in stores else "" for p in stores[0].peers]
        size = self._allocate()
        others = [n for d, n in enumerate(self.shape) if d != self.dim]
        with w.for_("%lo", "%hi", 1) as line:
            place = [w.ssa(i) for i in w.delinearize(line, others)]
            columns = self.front
            if self.kept < self.length:
                self._select(place)
            elif self.radix is not None:
                columns = self._by_digits(self.radix, place)
            else:
                self._read(place)
                self._insertion_runs()
                columns = self._merge_passes()
            self._write(place, results, columns)
        named = [(f"%in{k}", operand) for k, operand in enumerate(self.operands)]
        source = function(
            name, named, [(f"%out{k}", v) for k, v in enumerate(stores)], w.text(), ("%scratch", size) if size else None
        )
        lines = math.prod(others)
        nanoseconds = _NANOSECONDS * lines * self.length * len(self.elements)
        return Kernel(name, source, self.operands, tuple(stores), lines, size, nanoseconds=nanoseconds)

    # Columns.

    def _column_type(self, element: str) -> str:
        # One element more than needed: merges may look one past the end.
        return f"memref<{self.kept + 1}x{storage_type(element)}>"

    def _allocate(self) -> int:
        """Name front and back buffers of all columns; the bytes of scratch they take."""
        offset = 0
        self.front: list[str] = []
        self.back: list[str] = []
        views: list[tuple[list[str], str, int]] = []
        for buffers in (self.front, self.back) if self.kept == self.length else (self.front,):
            for element in self.elements:
                views.append((buffers, element, offset))
                offset += -(-(self.kept + 1) * _bytes(element) // _ALIGN) * _ALIGN
        self.counts = ""
        if self.radix is not None:
            place, offset = self.w.index(offset), offset + self.radix.counts_bytes
            kind = self.radix.counts_type
            self.counts = self.w.op(f"memref.view %scratch[{place}][] : memref<{offset}xi8> to {kind}")
        for buffers, element, start in views:
            expression = f"memref.view %scratch[{self.w.index(start)}][] : memref<{offset}xi8> to "
            buffers.append(self.w.op(expression + self._column_type(element)))
        return offset

    def _load(self, column: int, buffer: str, index: str) -> str:
        """An element in the form it has in memory."""
        return self.w.ordered(f"memref.load {buffer}[{index}] : {self._column_type(self.elements[column])}")

    def _store(self, column: int, buffer: str, index: str, raw: str) -> None:
        self.w.emit(f"memref.store {raw}, {buffer}[{index}] : {self._column_type(self.elements[column])}")

    def _load_all(self, buffers: Sequence[str], index: str) -> list[str]:
        return [self._load(k, buffer, index) for k, buffer in enumerate(buffers)]

    def _store_all(self, buffers: Sequence[str], index: str, raw: Sequence[str]) -> None:
        for k, (buffer, value) in enumerate(zip(buffers, raw, strict=True)):
            self._store(k, buffer, index, value)

    def _less(self, x: Sequence[str], y: Sequence[str]) -> str:
        """Whether row x of the columns comes before row y."""
        w = self.w
        if self.key is not None:
            column = len(self.operands) if self.key.body.ops else self.key.operand
            pair = [from_storage(w, row[column], self.elements[column], 1) for row in (x, y)]
            return apply(w, self.key.compare, pair)[0].name
        arguments: list[Num] = []
        for k, operand in enumerate(self.operands):
            arguments += [from_storage(w, row[k], operand.element, 1) for row in (x, y)]
        return evaluate(w, self.comparator, arguments)[0].name

    # Steps.

    def _element(self, place: Sequence[str], index: str) -> str:
        return ", ".join([*place[: self.dim], index, *place[self.dim :]])

    def _row(self, place: Sequence[str], index: str) -> list[str]:
        """An element of the line of every operand, and its key where keys have a column."""
        w = self.w
        at = self._element(place, index)
        row = [w.ordered(f"memref.load %in{k}[{at}] : {memref_type(v)}") for k, v in enumerate(self.operands)]
        if self.key is not None and len(self.elements) > len(self.operands):
            number = from_storage(w, row[self.key.operand], self.operands[self.key.operand].element, 1)
            row.append(to_storage(w, evaluate(w, self.key.body, [number])[0]))
        return row

    def _read(self, place: Sequence[str]) -> None:
        with self.w.for_(0, self.length, 1) as i:
            self._store_all(self.front, i, self._row(place, i))

    def _write(self, place: Sequence[str], results: Sequence[str], columns: Sequence[str]) -> None:
        with self.w.for_(0, self.kept, 1) as i:
            for k, result in enumerate(results):
                if result:
                    raw = self._load(k, columns[k], i)
                    kind = memref_type(self.operands[k])
                    self.w.emit(f"memref.store {raw}, {result}[{self._element(place, i)}] : {kind}")

    def _by_digits(self, radix: Radix, place: Sequence[str]) -> list[str]:
        """Read and sort the line; the columns it is in."""
        radix.clear(self.counts)
        with self.w.for_(0, self.length, 1) as i:
            row = self._row(place, i)
            self._store_all(self.front, i, row)
            radix.count(row, self.counts)
        types = [self._column_type(element) for element in self.elements]
        return radix.sort(self.counts, self.front, self.back, types, self._load_all, self._store_all)

    def _insertion_runs(self) -> None:
        """Sort runs of `_RUN` elements in place."""
        w = self.w
        with w.for_(0, self.length, _RUN) as start:
            end = w.ssa(w.minimum(w.add(start, _RUN), self.length))
            with w.for_(w.add(start, 1), end, 1) as i:
                self._insert(self._load_all(self.front, i), i, start)

    def _insert(self, row: Sequence[str], place: str, first: str) -> None:
        """Put a row where it belongs among the sorted rows first … place - 1: the greater ones move up by one."""
        w = self.w
        hole, before, at = w.fresh("hole"), w.fresh("j"), w.fresh("j")
        head = f"{hole} = scf.while ({before} = {place}) : (index) -> index"
        with w.scope(head, [before], tail=f"}} do {{\n^bb0({at}: index):"):
            inside = w.op(f"arith.cmpi sgt, {before}, {first} : index")
            previous = w.op(f"arith.subi {before}, {w.index(1)} : index")
            safe = w.op(f"arith.select {inside}, {previous}, {before} : index")
            less = self._less(row, self._load_all(self.front, safe))
            more = w.op(f"arith.andi {inside}, {less} : i1")
            w.emit(f"scf.condition({more}) {before} : index")
        below = w.ordered(f"arith.subi {at}, {w.index(1)} : index")
        self._store_all(self.front, at, self._load_all(self.front, below))
        w.emit(f"scf.yield {below} : index\n}}")
        self._store_all(self.front, hole, row)

    def _select(self, place: Sequence[str]) -> None:
        """The first rows only: each element that comes before the last one kept is inserted among them."""
        w, main = self.w, 0
        if self.order is not None and self.dim == len(self.shape) - 1 and "i1" not in self.elements:
            lanes = _VECTOR_BYTES // _bytes(self.operands[self.order.key.operand].element)
            main = self.length - self.length % lanes
            with w.for_(0, main, lanes) as i:
                filling = w.op(f"arith.cmpi ult, {i}, {w.index(self.kept)} : index")
                any_less = self._any_less(place, i, lanes)
                with w.branch(w.op(f"arith.ori {filling}, {any_less} : i1")):
                    self._select_among(place, i, w.add(i, lanes))
        self._select_among(place, main, self.length)

    def _select_among(self, place: Sequence[str], first: str | int, end: str | int) -> None:
        w, last = self.w, self.kept - 1
        with w.for_(first, end, 1) as i:
            row = self._row(place, i)
            less = self._less(row, self._load_all(self.front, w.index(last)))
            filling = w.op(f"arith.cmpi ult, {i}, {w.index(self.kept)} : index")
            with w.branch(w.op(f"arith.ori {filling}, {less} : i1")):
                self._insert(row, w.ssa(w.minimum(i, last)), w.index(0))

    def _any_less(self, place: Sequence[str], start: str, lanes: int) -> str:
        """Does one of the next elements come before the last one kept?"""
        w, arguments = self.w, []
        assert self.order is not None
        column = self.order.key.operand
        for k, operand in enumerate(self.operands):
            if k != column:
                arguments += [Num("", operand.element, lanes)] * 2  # which the comparator does not use
                continue
            kind = lanes_type(storage_type(operand.element), lanes)
            source = f"%in{k}[{self._element(place, start)}] : {memref_type(operand)}, {kind}"
            arguments.append(from_storage(w, w.ordered(f"vector.load {source}"), operand.element, lanes))
            last = self._load(k, self.front[k], w.index(self.kept - 1))
            arguments.append(widen(w, from_storage(w, last, operand.element, 1), lanes))
        less = evaluate(w, self.comparator, arguments)[0]
        return w.op(f"vector.reduction <or>, {less.name} : {less.type} into i1")

    def _merge_passes(self) -> list[str]:
        """Merge runs pairwise until one is left; the buffers it is in."""
        passes = max(0, (max(self.length, 1) - 1) // _RUN).bit_length()
        if passes == 0:
            return self.front
        w = self.w
        types = [self._column_type(e) for e in self.elements] * 2 + ["index"]
        initial = [*self.front, *self.back, w.index(_RUN)]
        count = len(self.elements)
        with w.reduction(0, passes, 1, initial, types) as loop:
            source, target, width = loop.carried[:count], loop.carried[count:-1], loop.carried[-1]
            double = w.ordered(f"arith.addi {width}, {width} : index")
            start = w.fresh("start")
            head = f"scf.for {start} = {w.index(0)} to {w.index(self.length)} step {double}"
            with w.scope(head, [start]):
                self._merge(source, target, start, width)
            loop.next = [*target, *source, double]
        return loop.results[:count]

    def _merge(self, source: Sequence[str], target: Sequence[str], start: str, width: str) -> None:
        """The runs [start, start + width) and [start + width, start + 2 width) of `source`, merged into `target`."""
        w = self.w
        middle = w.ssa(w.minimum(w.add(start, width), self.length))
        end = w.ssa(w.minimum(w.add(middle, width), self.length))
        with w.reduction(start, end, 1, [start, middle], ["index", "index"]) as loop:
            left, right = loop.carried
            x, y = self._load_all(source, left), self._load_all(source, right)
            exhausted = w.op(f"arith.cmpi sge, {left}, {middle} : index")
            present = w.op(f"arith.cmpi slt, {right}, {end} : index")
            less = w.op(f"arith.ori {self._less(y, x)}, {exhausted} : i1")
            take_right = w.op(f"arith.andi {present}, {less} : i1")
            for k, (a, b) in enumerate(zip(x, y, strict=True)):
                kind = storage_type(self.elements[k])
                chosen = w.op(f"arith.select {take_right}, {b}, {a} : {kind}")
                self._store(k, target[k], loop.index, chosen)
            step = w.op(f"arith.index_castui {take_right} : i1 to index")
            next_right = w.op(f"arith.addi {right}, {step} : index")
            other = w.op(f"arith.subi {w.index(1)}, {step} : index")
            loop.next = [w.op(f"arith.addi {left}, {other} : index"), next_right]


def _bytes(element: str) -> int:
    return BYTES[element]


def _key_element(key: Key) -> str:
    last = {index: op.types[0] for op in key.body.ops for index in op.results}
    return last[key.body.yields[0]]
