"""Cholesky factors and triangular systems: one matrix of the batch is one tile.

Both work in scratch on rows that are padded to whole vectors, so that the inner loops have no remainder: dot products
of two rows for the factor, multiples of a row added to another for the system.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.backends.cpu.emit import Group, register
from thalweg.backends.cpu.emit.scalar import Num, from_storage, lanes_type, register_type, to_storage
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel, function, memref_type
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.mlir import ir


class _Matrices:
    """What both kernels share: batch coordinates, elements in registers, padded scratch matrices."""

    def __init__(self, value: Value, options: CpuOptions) -> None:
        self.w = ScopedWriter()
        self.element = value.element
        self.register = register_type(value.element)
        self.lanes = machine(options).lanes(self.register)
        self.vector = lanes_type(self.register, self.lanes)
        self.batch = value.shape[:-2]
        self.lead: list[str] = []
        self.layout: dict[str, tuple[int, int, int]] = {}  # rows, padded columns, byte offset
        self.bytes = 0

    def reserve(self, name: str, rows: int, columns: int) -> None:
        """A scratch matrix; its rows are padded to whole vectors."""
        padded = -(-max(columns, 1) // self.lanes) * self.lanes
        self.layout[name] = (rows, padded, self.bytes)
        self.bytes += rows * padded * (8 if self.register == "f64" else 4)

    def view_all(self) -> None:
        """Name the scratch matrices, once their places are known."""
        for name, (_, _, offset) in self.layout.items():
            kind = f"memref<{self.bytes}xi8> to {self.scratch_type(name)}"
            self.w.emit(f"{name} = memref.view %scratch[{self.w.index(offset)}][] : {kind}")

    def scratch_type(self, name: str) -> str:
        rows, columns, _ = self.layout[name]
        return f"memref<{rows}x{columns}x{self.register}>"

    def read(self, buffer: str, value: Value, row: str, column: str) -> str:
        """An element of the current matrix of an operand, in a register."""
        at = ", ".join([*self.lead, row, column])
        raw = self.w.ordered(f"memref.load {buffer}[{at}] : {memref_type(value)}")
        return from_storage(self.w, raw, value.element, 1).name

    def write(self, buffer: str, value: Value, row: str, column: str, number: str) -> None:
        at = ", ".join([*self.lead, row, column])
        raw = to_storage(self.w, Num(number, self.element))
        self.w.emit(f"memref.store {raw}, {buffer}[{at}] : {memref_type(value)}")

    def load(self, name: str, row: str, column: str, vector: bool = False) -> str:
        """An element, or the vector that begins there, of a scratch matrix."""
        op, tail = ("vector.load", f", {self.vector}") if vector else ("memref.load", "")
        return self.w.ordered(f"{op} {name}[{row}, {column}] : {self.scratch_type(name)}{tail}")

    def store(self, name: str, row: str, column: str, number: str, vector: bool = False) -> None:
        op, tail = ("vector.store", f", {self.vector}") if vector else ("memref.store", "")
        self.w.emit(f"{op} {number}, {name}[{row}, {column}] : {self.scratch_type(name)}{tail}")

    def zeros(self) -> str:
        return self.w.hoisted(f"arith.constant dense<0.0> : {self.vector}", "zeros")

    def clear(self, name: str) -> None:
        rows, columns, _ = self.layout[name]
        with self.w.for_(0, rows, 1) as i, self.w.for_(0, columns, self.lanes) as j:
            self.store(name, i, j, self.zeros(), vector=True)

    def arith(self, op: str, *operands: str, kind: str = "") -> str:
        return self.w.op(f"arith.{op} {', '.join(operands)} : {kind or self.register}")

    def kernel(self, name: str, operands: Sequence[tuple[str, Value]], result: Value) -> Kernel:
        scratch = ("%scratch", self.bytes) if self.bytes else None
        source = function(name, operands, [("%out", result)], self.w.text(), scratch)
        tiles = math.prod(self.batch) if result.size else 0
        return Kernel(name, source, tuple(v for _, v in operands), (result,), tiles, self.bytes)


@register("stablehlo.cholesky")
def cholesky(group: Group, name: str, options: CpuOptions) -> Kernel:
    """a = L L' (lower) or U' U; the other triangle of the result is zero, and NaN follows where a is not positive."""
    root = group.root
    assert root.op is not None
    a, n = root.operands[0], root.shape[-1]
    lower = ir.BoolAttr(root.op.attributes["lower"]).value
    m = _Matrices(a, options)
    w = m.w
    m.reserve("%factor", n, n)
    m.view_all()

    def element(i: str, j: str) -> str:
        return m.read("%a", a, i, j) if lower else m.read("%a", a, j, i)

    def reduced(i: str, j: str) -> str:
        """a[i, j] minus the product of the rows i and j of the factor, whose columns from j on are still zero."""
        with w.reduction(0, j, m.lanes, [m.zeros()], [m.vector]) as loop:
            x, y = m.load("%factor", i, loop.index, vector=True), m.load("%factor", j, loop.index, vector=True)
            loop.next = [w.op(f"vector.fma {x}, {y}, {loop.carried[0]} : {m.vector}")]
        total = w.op(f"vector.reduction <add>, {loop.results[0]} : {m.vector} into {m.register}")
        return m.arith("subf", element(i, j), total)

    with w.for_("%lo", "%hi", 1) as tile:
        m.lead = [w.ssa(i) for i in w.delinearize(tile, m.batch)]
        m.clear("%factor")
        with w.for_(0, n, 1) as j:
            diagonal = w.op(f"math.sqrt {reduced(j, j)} : {m.register}")
            m.store("%factor", j, j, diagonal)
            with w.for_(w.add(j, 1), n, 1) as i:
                m.store("%factor", i, j, m.arith("divf", reduced(i, j), diagonal))
        with w.for_(0, n, 1) as i, w.for_(0, n, 1) as j:
            number = m.load("%factor", i, j) if lower else m.load("%factor", j, i)
            m.write("%out", root, i, j, number)
    return m.kernel(name, [("%a", a)], root)


@register("stablehlo.triangular_solve")
def triangular_solve(group: Group, name: str, options: CpuOptions) -> Kernel:
    """op(a) x = b, or x op(a) = b: brought to T x = b by transposing, then solved row by row."""
    root = group.root
    assert root.op is not None
    a, b = root.operands
    left, lower, unit = (ir.BoolAttr(root.op.attributes[n]).value for n in ("left_side", "lower", "unit_diagonal"))
    transposed = "NO_TRANSPOSE" not in str(root.op.attributes["transpose_a"])
    n = a.shape[-1]
    columns = b.shape[-1] if left else b.shape[-2]
    flip = transposed == left  # whether T is the transpose of a
    forward = lower != flip
    m = _Matrices(b, options)
    w = m.w
    m.reserve("%x", n, columns)
    m.view_all()

    def triangle(i: str, k: str) -> str:
        return m.read("%a", a, k, i) if flip else m.read("%a", a, i, k)

    with w.for_("%lo", "%hi", 1) as tile:
        m.lead = [w.ssa(i) for i in w.delinearize(tile, m.batch)]
        with w.for_(0, n, 1) as i, w.for_(0, columns, 1) as j:
            m.store("%x", i, j, m.read("%b", b, i, j) if left else m.read("%b", b, j, i))
        with w.for_(0, n, 1) as step:
            row = step if forward else w.ssa(w.sub(n - 1, step))
            first, last = (w.index(0), row) if forward else (w.ssa(w.add(row, 1)), w.index(n))
            with w.for_(first, last, 1) as k:
                factor = w.op(f"vector.broadcast {triangle(row, k)} : {m.register} to {m.vector}")
                with w.for_(0, m.layout["%x"][1], m.lanes) as j:
                    product = m.arith("mulf", factor, m.load("%x", k, j, vector=True), kind=m.vector)
                    rest = m.arith("subf", m.load("%x", row, j, vector=True), product, kind=m.vector)
                    m.store("%x", row, j, rest, vector=True)
            if not unit:
                pivot = triangle(row, row)
                with w.for_(0, columns, 1) as j:
                    m.store("%x", row, j, m.arith("divf", m.load("%x", row, j), pivot))
        with w.for_(0, n, 1) as i, w.for_(0, columns, 1) as j:
            m.write("%out", root, *((i, j) if left else (j, i)), m.load("%x", i, j))
    return m.kernel(name, [("%a", a), ("%b", b)], root)
