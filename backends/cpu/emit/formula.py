"""Arithmetic on registers with Python's operators, for code that is written as formulas.

y = x * 2.0 + 1.0        two ops that may become one fused multiply-add
y = (x > 0.0).select(x, -x)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.emit.writer import Writer


@dataclass(frozen=True)
class Register:
    """A scalar or vector register of floats, integers or truth values (element 'f32', 'f64', 'i32', 'i64', 'i1')."""

    w: Writer
    name: str
    element: str
    lanes: int = 1

    @property
    def type(self) -> str:
        return self._kind(self.element)

    def _kind(self, element: str) -> str:
        return element if self.lanes == 1 else f"vector<{self.lanes}x{element}>"

    def _of(self, name: str, element: str = "") -> Register:
        return Register(self.w, name, element or self.element, self.lanes)

    def constant(self, value: float | int, element: str = "") -> Register:
        """A constant in all lanes, of this register's element type by default."""
        element = element or self.element
        if element[0] == "f":
            bits = {"f32": 8, "f64": 16}[element]
            text = f"{value:.17e}" if abs(value) < float("inf") else _special(value, bits)
        elif element == "i1":
            text = "true" if value else "false"
        else:
            text = str(int(value))
        kind = self._kind(element)
        if self.lanes > 1:
            text = f"dense<{text}>"
        elif element == "i1":
            return self._of(self.w.hoisted(f"arith.constant {text}", "k"), element)
        return self._of(self.w.hoisted(f"arith.constant {text} : {kind}", "k"), element)

    def _other(self, value: Register | float | int) -> Register:
        return value if isinstance(value, Register) else self.constant(value)

    def _binary(self, name: str, other: Register | float | int, swap: bool = False) -> Register:
        left, right = self, self._other(other)
        if swap:
            left, right = right, left
        flags = " fastmath<contract>" if self.element[0] == "f" and name != "div" else ""
        suffix = "f" if self.element[0] == "f" else "i"
        return self._of(self.w.op(f"arith.{name}{suffix} {left.name}, {right.name}{flags} : {self.type}"))

    def __add__(self, other: Register | float) -> Register:
        return self._binary("add", other)

    __radd__ = __add__

    def __sub__(self, other: Register | float) -> Register:
        return self._binary("sub", other)

    def __rsub__(self, other: Register | float) -> Register:
        return self._binary("sub", other, swap=True)

    def __mul__(self, other: Register | float) -> Register:
        return self._binary("mul", other)

    __rmul__ = __mul__

    def __truediv__(self, other: Register | float) -> Register:
        return self._binary("div", other)

    def __rtruediv__(self, other: Register | float) -> Register:
        return self._binary("div", other, swap=True)

    def __neg__(self) -> Register:
        return self._of(self.w.op(f"arith.negf {self.name} : {self.type}"))

    def __and__(self, other: Register | int) -> Register:
        return self._binary("and", other)

    def __or__(self, other: Register | int) -> Register:
        return self._binary("or", other)

    def __xor__(self, other: Register | int) -> Register:
        return self._binary("xor", other)

    def shift_left(self, bits: int) -> Register:
        return self._of(self.w.op(f"arith.shli {self.name}, {self.constant(bits).name} : {self.type}"))

    def shift_right(self, bits: int) -> Register:
        """Arithmetic shift."""
        return self._of(self.w.op(f"arith.shrsi {self.name}, {self.constant(bits).name} : {self.type}"))

    # Comparisons are ordered: false where an operand is NaN.

    def compare(self, predicate: str, other: Register | float | int) -> Register:
        kind = "cmpf" if self.element[0] == "f" else "cmpi"
        text = f"arith.{kind} {predicate}, {self.name}, {self._other(other).name} : {self.type}"
        return self._of(self.w.op(text), "i1")

    def __lt__(self, other: Register | float) -> Register:
        return self.compare("olt" if self.element[0] == "f" else "slt", other)

    def __gt__(self, other: Register | float) -> Register:
        return self.compare("ogt" if self.element[0] == "f" else "sgt", other)

    def __ge__(self, other: Register | float) -> Register:
        return self.compare("oge" if self.element[0] == "f" else "sge", other)

    def equals(self, other: Register | float | int) -> Register:
        return self.compare("oeq" if self.element[0] == "f" else "eq", other)

    def is_nan(self) -> Register:
        return self.compare("uno", self)

    def select(self, yes: Register, no: Register) -> Register:
        """`yes` where this truth value holds, else `no`."""
        prefix = f"{self.type}, " if self.lanes > 1 else ""
        return no._of(self.w.op(f"arith.select {self.name}, {yes.name}, {no.name} : {prefix}{no.type}"))

    # Conversions and functions that processors have.

    def bitcast(self, element: str) -> Register:
        return self._of(self.w.op(f"arith.bitcast {self.name} : {self.type} to {self._kind(element)}"), element)

    def bits(self) -> Register:
        """The bits of a float as integers."""
        return self.bitcast("i" + self.element[1:])

    def to_float(self, element: str) -> Register:
        """Signed integers to floats, or between float types."""
        if self.element == element:
            return self
        if self.element[0] == "i":
            name = "sitofp"
        else:
            name = "extf" if int(element[1:]) > int(self.element[1:]) else "truncf"
        return self._of(self.w.op(f"arith.{name} {self.name} : {self.type} to {self._kind(element)}"), element)

    def to_integer(self, element: str) -> Register:
        """The last bits of integers."""
        if self.element == element:
            return self
        return self._of(self.w.op(f"arith.trunci {self.name} : {self.type} to {self._kind(element)}"), element)

    @property
    def fuses(self) -> bool:
        """Whether `times_plus` is an instruction."""
        return self.w.has_fma

    def times_plus(self, factor: Register | float, addend: Register | float) -> Register:
        """self * factor + addend, rounded once; where that is no instruction it may be a function of a library."""
        return self.math("fma", self._other(factor), self._other(addend))

    def math(self, name: str, *others: Register) -> Register:
        """`math.<name>` where it is an instruction: absf, floor, trunc, roundeven, copysign, sqrt, fma."""
        operands = ", ".join(register.name for register in (self, *others))
        return self._of(self.w.op(f"math.{name} {operands} : {self.type}"))

    def __abs__(self) -> Register:
        return self.math("absf")

    def clamp(self, low: float, high: float) -> Register:
        """Between two numbers; NaN stays NaN."""
        bounded = (self > high).select(self.constant(high), self)
        return (bounded < low).select(self.constant(low), bounded)

    def polynomial(self, coefficients: Sequence[float]) -> Register:
        """c0 + c1 x + c2 x^2 + …, by Horner's rule; coefficients are given from c0."""
        total = self.constant(coefficients[-1])
        for coefficient in reversed(coefficients[:-1]):
            total = total * self + coefficient
        return total


def _special(value: float, digits: int) -> str:
    bits = {8: 0x7F800000, 16: 0x7FF0000000000000}[digits]
    if value != value:
        bits |= 1 << (22 if digits == 8 else 51)
    if value < 0:
        bits |= 1 << (4 * digits - 1)
    return f"0x{bits:0{digits}X}"
