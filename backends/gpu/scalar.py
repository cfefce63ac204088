"""Scalar bodies to Triton expressions.

A `Num` is the text of an expression: a number, or a tile of numbers that varies along `axes`. Floats of 16 and 8 bits
are computed in f32, as on the CPU; they are rounded where they are stored or converted. Integers are signed; ops on
unsigned ones see their operands as unsigned.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from thalweg.backends.cpu.graph import ScalarOp
from thalweg.backends.gpu import float8
from thalweg.backends.gpu.writer import Writer
from thalweg.dialects.types import dtype_from_mlir

# Types of registers, and of memory where they differ.
REGISTER = {
    "f64": "tl.float64", "f32": "tl.float32", "f16": "tl.float32", "bf16": "tl.float32",
    **dict.fromkeys(float8.SHORT, "tl.float32"),
    "i64": "tl.int64", "i32": "tl.int32", "i16": "tl.int16", "i8": "tl.int8", "i1": "tl.int1", "index": "tl.int32",
}  # fmt: skip
MEMORY = {**REGISTER, "f16": "tl.float16", "bf16": "tl.bfloat16", "i1": "tl.int8", "index": "tl.int64",
          **dict.fromkeys(float8.SHORT, "tl.int8")}  # fmt: skip


@dataclass(frozen=True)
class Num:
    """An expression; `atom` says that it needs no parentheses, `constant` that it is a literal."""

    text: str
    element: str
    axes: frozenset[str] = frozenset()
    atom: bool = True
    constant: bool = False

    @property
    def inner(self) -> str:
        """The text as an operand of an operator."""
        return self.text if self.atom or self.text.isidentifier() else f"({self.text})"

    @property
    def method(self) -> str:
        """The text as what a method is called on."""
        if self.constant:
            return f"tl.full([], {self.text}, {REGISTER[self.element]})"
        return self.inner


def literal(text: str, element: str) -> Num:
    """A constant from MLIR's text of it: '1.0', '-3', 'true', '0x7F800000'."""
    if element == "i1":
        return Num("True" if text in ("true", "1", "-1") else "False", element, constant=True)
    if not element.startswith(("f", "b")):
        return Num(str(int(text, 0)), element, constant=True)
    number = _from_bits(int(text, 16), element) if text.startswith("0x") else float(text)
    return Num(repr(number) if math.isfinite(number) else f'float("{number}")', element, constant=True)


def _from_bits(bits: int, element: str) -> float:
    dtype = dtype_from_mlir(element).numpy
    return float(np.array(bits, f"u{dtype.itemsize}").view(dtype))


_BINARY = {
    "arith.addf": "+", "arith.subf": "-", "arith.mulf": "*", "arith.divf": "/", "arith.remf": "%",
    "arith.addi": "+", "arith.subi": "-", "arith.muli": "*", "arith.divsi": "//", "arith.remsi": "%",
    "arith.andi": "&", "arith.ori": "|", "arith.xori": "^", "arith.shli": "<<", "arith.shrsi": ">>",
}  # fmt: skip
_UNSIGNED = {"arith.divui": "//", "arith.remui": "%", "arith.shrui": ">>"}
_BOOLEAN = {"arith.addi": "^", "arith.subi": "^", "arith.muli": "&", "arith.maxui": "|", "arith.minui": "&",
            "arith.maxsi": "&", "arith.minsi": "|"}  # fmt: skip
_CALLS = {
    "arith.maxnumf": "tl.maximum", "arith.minnumf": "tl.minimum", "arith.maxsi": "tl.maximum",
    "arith.minsi": "tl.minimum", "math.absf": "tl.abs", "math.absi": "tl.abs", "math.exp": "tl.exp",
    "math.exp2": "tl.exp2", "math.log": "tl.log", "math.log2": "tl.log2", "math.sqrt": "tl.sqrt",
    "math.rsqrt": "tl.rsqrt", "math.sin": "tl.sin", "math.cos": "tl.cos", "math.floor": "tl.floor",
    "math.ceil": "tl.ceil", "math.erf": "tl.erf", "math.fma": "tl.fma",
}  # fmt: skip
_HELPERS = {
    "arith.maximumf": "maximum", "arith.minimumf": "minimum", "math.expm1": "expm1", "math.log1p": "log1p",
    "math.tanh": "tanh", "math.trunc": "trunc", "math.roundeven": "roundeven",
}  # fmt: skip
# Helpers that compute in f64.
_EXACT = {"math.tan": "tan", "math.cbrt": "cbrt", "math.atan2": "atan2", "math.powf": "power"}
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "<", "<=", ">", ">=")  # of integers; from the 7th on, unsigned
_FLOAT_COMPARISONS = {1: "==", 2: ">", 3: ">=", 4: "<", 5: "<=", 13: "!="}
_UNORDERED = {9: "<=", 10: "<", 11: ">=", 12: ">"}  # the opposites of comparisons that hold for NaN
_CONVERSIONS = {"arith.extf", "arith.truncf", "arith.extsi", "arith.extui", "arith.trunci", "arith.sitofp",
                "arith.uitofp", "arith.fptosi", "arith.fptoui", "arith.index_cast", "arith.index_castui"}  # fmt: skip


def apply(w: Writer, op: ScalarOp, operands: Sequence[Num]) -> Num | None:
    """One op; None where it has no Triton code yet."""
    if op.regions or len(op.results) != 1:
        return None
    element = op.types[0]
    if op.name == "arith.constant":
        return literal(op.attributes, element)
    if op.name == "arith.select" and operands[0].constant:
        return operands[1 if operands[0].text == "True" else 2]
    if op.name == "arith.truncf" and not w.rounds and REGISTER[operands[0].element] == REGISTER[element]:
        return replace(operands[0], element=element)
    axes = frozenset[str]().union(*(n.axes for n in operands))
    text = _text(w, op, operands, element)
    if text is None:
        return None
    return replace(text, axes=axes) if isinstance(text, Num) else Num(text, element, axes, text.endswith(")"))


def _text(w: Writer, op: ScalarOp, operands: Sequence[Num], element: str) -> str | Num | None:
    name = op.name
    if name in _CONVERSIONS:
        return _convert(w, name, operands[0], element)
    if element == "i1" and name in _BOOLEAN:
        return _infix(_BOOLEAN[name], operands, element)
    if name in _BINARY:
        return _infix(_BINARY[name], operands, element)
    if name in _UNSIGNED:
        signed = _infix(_UNSIGNED[name], [_unsigned(n) for n in operands], element)
        return f"({signed.text}).to({REGISTER[element]}, bitcast=True)"
    if name in ("arith.maxui", "arith.minui"):
        call = "tl.maximum" if name == "arith.maxui" else "tl.minimum"
        numbers = ", ".join(_unsigned(n).text for n in operands)
        return f"{call}({numbers}).to({REGISTER[element]}, bitcast=True)"
    if name in _CALLS:
        return _call(_CALLS[name], operands)
    if name in _HELPERS:
        helper = "tanh_f64" if (name, element) == ("math.tanh", "f64") else _HELPERS[name]
        w.helpers[helper] = None
        return _call(helper, operands)
    if name in _EXACT:
        w.helpers[_EXACT[name]] = None
        found = f"{_EXACT[name]}({', '.join(f'{n.method}.to(tl.float64)' for n in operands)})"
        return found if element == "f64" else f"{found}.to({REGISTER[element]})"
    if name == "math.ctpop":
        w.helpers["popcount"] = None
        return f"popcount({operands[0].method})"
    if name == "arith.bitcast":
        return _bitcast(w, operands[0], element)
    other = _OTHERS.get(name)
    return other(op, operands) if other else None


def where(condition: Num, yes: Num, no: Num) -> Num:
    """One number or the other; both of one element type."""
    first = f"tl.full([], {yes.text}, {REGISTER[yes.element]})" if yes.constant else yes.text
    text = f"tl.where({condition.text}, {first}, {no.text})"
    return Num(text, yes.element, condition.axes | yes.axes | no.axes)


def known(name: str) -> bool:
    """Does an op have Triton code (for the element types that it is used with)?"""
    tables = (_CONVERSIONS, _BINARY, _UNSIGNED, _CALLS, _HELPERS, _EXACT, _OTHERS)
    others = ("arith.constant", "arith.maxui", "arith.minui", "arith.bitcast", "math.ctpop")
    return name in others or any(name in t for t in tables)


def as_read(w: Writer, text: str, element: str) -> str:
    """The text of what was loaded, in the type that it is computed with."""
    if element in float8.SHORT:
        w.helpers[float8.decoder(element)] = None
        return f"{float8.decoder(element)}({text})"
    if element == "i1":
        return f"{text} != 0"
    return text if MEMORY[element] == REGISTER[element] else f"{text}.to({REGISTER[element]})"


def as_stored(w: Writer, number: Num, element: str) -> str:
    """The text of a number of an element type as it lies in memory."""
    if element in float8.SHORT:
        return _bytes_of(w, number, element)
    kind, back = MEMORY[element], f".to({REGISTER[element]})"
    if number.constant:
        return f"tl.full([], {number.text}, {kind})"
    if kind == REGISTER[element]:
        return number.text
    if number.atom and number.text.endswith(f".to({kind}){back}"):  # it has been rounded already
        return number.text.removesuffix(back)
    return f"{number.method}.to({kind})"


def _bytes_of(w: Writer, number: Num, element: str) -> str:
    encode, decode = float8.encoder(element), float8.decoder(element)
    if number.text.startswith(f"{decode}({encode}(") and number.text.endswith("))") and number.atom:  # rounded already
        return number.text.removeprefix(f"{decode}(").removesuffix(")")
    w.helpers[encode] = None
    return f"{encode}({number.method if number.constant else number.text})"


def convert_index(number: Num, signed: bool, wide: bool) -> str:
    """A number read from a tensor of indices, as what places are computed with."""
    if signed and number.element in ("i32", "i64"):
        return number.text
    kind = "tl.int64" if wide or not signed else "tl.int32"
    return f"{number.method if signed else _unsigned(number).text}.to({kind})"


def filled(shape: str, number: Num) -> str:
    """A tile of one number: shape is text like [BLOCK]."""
    kind = REGISTER[number.element]
    if number.constant:
        return f"tl.full({shape}, {number.text}, {kind})"
    if number.element == "i1":
        return f"tl.full({shape}, True, tl.int1) & {number.inner}"
    return f"tl.zeros({shape}, {kind}) + {number.inner}"


def _infix(operator: str, operands: Sequence[Num], element: str) -> Num:
    left, right = operands
    if left.constant and right.constant:
        left = Num(left.method, left.element)
    if operator == "+" and right.constant and right.text.startswith("-"):
        return Num(f"{left.inner} - {right.text[1:]}", element, atom=False)
    return Num(f"{left.inner} {operator} {right.inner}", element, atom=False)


def _call(function: str, operands: Sequence[Num]) -> str:
    """Functions take tensors: where all operands are literals, they are made ones."""
    literals = all(n.constant for n in operands)
    return f"{function}({', '.join(n.method if literals else n.text for n in operands)})"


def _unsigned(number: Num) -> Num:
    if number.element == "i1":
        return replace(number, text=f"{number.method}.to(tl.int32)", atom=True, constant=False)
    kind = REGISTER[number.element].replace("int", "uint")
    return replace(number, text=f"{number.method}.to({kind}, bitcast=True)", atom=True, constant=False)


def _convert(w: Writer, name: str, number: Num, element: str) -> Num | str:
    if number.constant and number.element != "i1" and name in ("arith.extsi", "arith.index_cast", "arith.extf"):
        return replace(number, element=element)
    source, target = REGISTER[number.element], REGISTER[element]
    if name == "arith.truncf" and MEMORY[element] != target:
        wide = ".to(tl.float32)" if source == "tl.float64" else ""
        if element in float8.SHORT:
            number = replace(number, text=f"{number.method}{wide}", constant=False)
            return as_read(w, _bytes_of(w, number, element), element)
        return f"{number.method}{wide}.to({MEMORY[element]}).to({target})"
    if name in ("arith.extui", "arith.uitofp", "arith.index_castui") and number.element != "i1":
        return f"{_unsigned(number).text}.to({target})"
    if name == "arith.extsi" and number.element == "i1":
        return Num(f"-{number.method}.to({target})", element, atom=False)
    if name == "arith.trunci" and element == "i1":
        return Num(f"({number.inner} & 1) != 0", element, atom=False)
    if name == "arith.fptoui":
        return f"tl.maximum({number.method}, 0.0).to({target.replace('int', 'uint')}).to({target}, bitcast=True)"
    return replace(number, element=element) if source == target else f"{number.method}.to({target})"


def _compare_integers(op: ScalarOp, operands: Sequence[Num]) -> Num:
    predicate = _predicate(op)
    if predicate >= 6 or operands[0].element == "i1":
        operands = [_unsigned(n) for n in operands]
    return _infix(_COMPARISONS[predicate], operands, "i1")


def _compare_floats(op: ScalarOp, operands: Sequence[Num]) -> Num | None:
    predicate = _predicate(op)
    left, right = (n.inner for n in operands)
    if predicate in (7, 14):  # ordered, unordered
        operator, joined = ("==", "&") if predicate == 7 else ("!=", "|")
        return Num(f"({left} {operator} {left}) {joined} ({right} {operator} {right})", "i1", atom=False)
    if predicate == 6 and operands[1].text == 'float("inf")' and operands[0].text.startswith("tl.abs("):
        return Num(f"{left} < {right}", "i1", atom=False)  # a number is finite: nothing is larger than infinity
    if predicate in (6, 8):  # ordered and not equal, or the opposite
        differ = f"({left} < {right}) | ({left} > {right})"
        return Num(differ if predicate == 6 else f"({differ}) == 0", "i1", atom=False)
    if predicate in _UNORDERED:
        return Num(f"({left} {_UNORDERED[predicate]} {right}) == 0", "i1", atom=False)
    known = _FLOAT_COMPARISONS.get(predicate)
    return _infix(known, operands, "i1") if known else None


def _predicate(op: ScalarOp) -> int:
    return int(op.attributes.split("predicate = ")[1].split()[0])


def _select(op: ScalarOp, operands: Sequence[Num]) -> str:
    condition, yes, no = operands
    kind = REGISTER[op.types[0]]
    first = f"tl.full([], {yes.text}, {kind})" if yes.constant else yes.text
    return f"tl.where({condition.method if condition.constant else condition.text}, {first}, {no.text})"


def _bitcast(w: Writer, number: Num, element: str) -> str:
    stored = MEMORY[number.element] != REGISTER[number.element]
    text = as_stored(w, number, number.element) if stored else number.method
    return as_read(w, f"{text}.to({MEMORY[element]}, bitcast=True)", element)


def _copysign(op: ScalarOp, operands: Sequence[Num]) -> str:
    """By the sign's bit: -0.0 has it, too."""
    size, sign = operands
    bits = f"{sign.method}.to({REGISTER[sign.element].replace('float', 'int')}, bitcast=True)"
    return f"tl.where({bits} < 0, -tl.abs({size.method}), tl.abs({size.method}))"


_OTHERS: dict[str, Callable[[ScalarOp, Sequence[Num]], Num | str | None]] = {
    "arith.cmpi": _compare_integers,
    "arith.cmpf": _compare_floats,
    "arith.select": _select,
    "math.copysign": _copysign,
    "arith.negf": lambda op, n: Num(f"-{n[0].method}", op.types[0], atom=False),
}
