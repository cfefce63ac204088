"""Sorting by digits: each pass distributes the elements by one digit of their keys, the lowest digit first, and keeps
the order of those that have the same one. So it is stable, and takes a few steps an element whatever the length.

Keys are integers without a sign that have the order of the elements: of floats the bits, turned where they are
negative, with one zero and one NaN, the greatest. How often each digit occurs is counted for all passes while a line
is read; a pass all of whose elements have the same digit moves nothing and is skipped: narrow numbers in wide types
cost what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.emit.ordering import Order
from thalweg.backends.cpu.emit.scalar import evaluate, from_storage, to_storage
from thalweg.backends.cpu.emit.scoped import ScopedWriter

SHORTEST = 64  # elements of a line below which merging is faster
_LONG = 1 << 13  # elements from which on fewer passes of more digits are faster
_BITS = {"f64": 64, "i64": 64, "f32": 32, "i32": 32, "f16": 16, "bf16": 16, "i16": 16, "i8": 8}
_INFINITY = {"f64": 0x7FF << 52, "f32": 0x7F800000, "f16": 0x7C00, "bf16": 0x7F80}

Row = Sequence[str]  # an element of every column
Load = Callable[[Sequence[str], str], list[str]]  # (columns, index) -> row
Store = Callable[[Sequence[str], str, Row], None]


def can_sort(order: Order | None, length: int) -> bool:
    """Are lines of this length sorted by digits?"""
    return order is not None and order.element in _BITS and SHORTEST <= length < 1 << 31


@dataclass(frozen=True)
class Radix:
    """Writes the passes of one sort.

    Args:
        element: the element type of the operand that keys are made of.
    """

    w: ScopedWriter
    order: Order
    element: str
    length: int

    @property
    def _width(self) -> int:
        return _BITS[self.order.element]

    @property
    def _digit(self) -> int:
        """Bits of a digit."""
        return 11 if self.length >= _LONG and self._width > 16 else 8

    @property
    def passes(self) -> int:
        return -(-self._width // self._digit)

    @property
    def counts_type(self) -> str:
        """The table of how often each digit occurs in each pass."""
        return f"memref<{self.passes << self._digit}xi32>"

    @property
    def counts_bytes(self) -> int:
        return 4 * self.passes << self._digit

    def clear(self, counts: str) -> None:
        """Set the table to zero."""
        zeros = self.w.hoisted("arith.constant dense<0> : vector<16xi32>", "zeros")
        with self.w.for_(0, self.passes << self._digit, 16) as i:
            self.w.emit(f"vector.store {zeros}, {counts}[{i}] : {self.counts_type}, vector<16xi32>")

    def count(self, row: Row, counts: str) -> None:
        """Count the digits of an element."""
        w, key = self.w, self._key(row)
        one = self._integer(1, 32)
        for k in range(self.passes):
            place = w.ssa(w.add(self._digit_of(key, self._integer(k * self._digit)), k << self._digit))
            seen = w.ordered(f"memref.load {counts}[{place}] : {self.counts_type}")
            more = w.op(f"arith.addi {seen}, {one} : i32")
            w.emit(f"memref.store {more}, {counts}[{place}] : {self.counts_type}")

    def sort(
        self, counts: str, front: Sequence[str], back: Sequence[str], types: Sequence[str], load: Load, store: Store
    ) -> list[str]:
        """All passes between two sets of columns, whose types are `types`; the columns that hold the sorted line."""
        w, columns = self.w, len(front)
        both = ", ".join([*types, *types])
        with w.reduction(0, self.passes, 1, [*front, *back], [*types, *types]) as loop:
            source, target = loop.carried[:columns], loop.carried[columns:]
            start = w.ssa(w.mul(loop.index, 1 << self._digit))
            kind = f"i{self._width}"
            bits = w.op(f"arith.index_cast {loop.index} : index to {kind}")
            shift = w.op(f"arith.muli {bits}, {self._integer(self._digit)} : {kind}")
            place = self._place(load(source, w.index(0)), shift, start)
            first = w.ordered(f"memref.load {counts}[{place}] : {self.counts_type}")
            alike = w.op(f"arith.cmpi eq, {first}, {self._integer(self.length, 32)} : i32")
            after = w.fresh("columns")
            with w.scope(f"{after}:{2 * columns} = scf.if {alike} -> ({both})", fence=True):
                w.emit(f"scf.yield {', '.join([*source, *target])} : {both}")
            with w.scope("else", fence=True):
                self._starts(counts, start)
                self._distribute(counts, start, shift, lambda i: load(source, i), lambda i, row: store(target, i, row))
                w.emit(f"scf.yield {', '.join([*target, *source])} : {both}")
            w.define(after)
            loop.next = [f"{after}#{k}" for k in range(2 * columns)]
        return loop.results[:columns]

    def _starts(self, counts: str, start: str) -> None:
        """Turn the counts of a pass into the places where the elements with each digit begin."""
        w = self.w
        with w.reduction(0, 1 << self._digit, 1, [self._integer(0, 32)], ["i32"]) as loop:
            place = w.ssa(w.add(start, loop.index))
            seen = w.ordered(f"memref.load {counts}[{place}] : {self.counts_type}")
            w.emit(f"memref.store {loop.carried[0]}, {counts}[{place}] : {self.counts_type}")
            loop.next = [w.op(f"arith.addi {loop.carried[0]}, {seen} : i32")]

    def _distribute(
        self, counts: str, start: str, shift: str, load: Callable[[str], Row], store: Callable[[str, Row], None]
    ) -> None:
        w, one = self.w, self._integer(1, 32)
        with w.for_(0, self.length, 1) as i:
            row = load(i)
            place = self._place(row, shift, start)
            where = w.ordered(f"memref.load {counts}[{place}] : {self.counts_type}")
            following = w.op(f"arith.addi {where}, {one} : i32")
            w.emit(f"memref.store {following}, {counts}[{place}] : {self.counts_type}")
            store(w.op(f"arith.index_castui {where} : i32 to index"), row)

    def _place(self, row: Row, shift: str, start: str) -> str:
        """Where the digit of an element is counted."""
        return self.w.ssa(self.w.add(start, self._digit_of(self._key(row), shift)))

    def _digit_of(self, key: str, shift: str) -> str:
        w, kind = self.w, f"i{self._width}"
        moved = w.op(f"arith.shrui {key}, {shift} : {kind}")
        # 255 in 8 bits is -1 for MLIR's reader
        mask = self._integer(-1 if self._digit >= self._width else (1 << self._digit) - 1)
        digit = w.op(f"arith.andi {moved}, {mask} : {kind}")
        return w.op(f"arith.index_castui {digit} : {kind} to index")

    def _key(self, row: Row) -> str:
        """The key of an element, as an integer without a sign."""
        w, order, width = self.w, self.order, self._width
        raw, body, kind = row[order.key.operand], order.key.body, f"i{width}"
        if body.ops:
            raw = to_storage(w, evaluate(w, body, [from_storage(w, raw, self.element, 1)])[0])
        lowest, ones = self._integer(-(1 << (width - 1))), self._integer(-1)
        key = raw
        if order.kind == "signed":
            key = w.op(f"arith.xori {raw}, {lowest} : {kind}")
        elif order.kind == "float":
            key = self._float_key(w.op(f"arith.bitcast {raw} : {order.element} to {kind}"), lowest, ones)
        return w.op(f"arith.xori {key}, {ones} : {kind}") if order.descending else key

    def _float_key(self, bits: str, lowest: str, ones: str) -> str:
        w, width = self.w, self._width
        kind = f"i{width}"
        is_zero = w.op(f"arith.cmpi eq, {bits}, {lowest} : {kind}")
        plain = w.op(f"arith.select {is_zero}, {self._integer(0)}, {bits} : {kind}")
        sign = w.op(f"arith.shrsi {plain}, {self._integer(width - 1)} : {kind}")
        turned = w.op(f"arith.xori {plain}, {w.op(f'arith.ori {sign}, {lowest} : {kind}')} : {kind}")
        size = w.op(f"arith.andi {bits}, {self._integer((1 << (width - 1)) - 1)} : {kind}")
        is_nan = w.op(f"arith.cmpi ugt, {size}, {self._integer(_INFINITY[self.order.element])} : {kind}")
        return w.op(f"arith.select {is_nan}, {ones}, {turned} : {kind}")

    def _integer(self, value: int, width: int = 0) -> str:
        return self.w.hoisted(f"arith.constant {value} : i{width or self._width}", "n")
