"""Scalar bodies to arith and math ops, on scalars or on vectors of them.

A `Num` is an SSA value that holds one number or a vector of `lanes` numbers. Floats of 16 and 8 bits are held in f32
registers: arithmetic rounds to the narrow type only where a value is stored or converted, so that a fused chain is
at least as accurate as the unfused one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from thalweg.backends.cpu import vector_math
from thalweg.backends.cpu.emit import float8
from thalweg.backends.cpu.emit.remainder import remainder
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.emit.writer import Writer
from thalweg.backends.cpu.graph import Body, ScalarOp
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.types import dtype_from_mlir

HELD_IN_F32 = ("bf16", "f16", *float8.FORMATS)
# Float ops that may be contracted into fused multiply-adds.
_CONTRACTED = {"arith.addf", "arith.subf", "arith.mulf"}


def register_type(element: str) -> str:
    """The type in which numbers of an element type are computed: f32 for narrower floats."""
    return "f32" if element in HELD_IN_F32 else element


@dataclass(frozen=True)
class Num:
    """An SSA value: one number (lanes = 1, not a vector) or a vector; `stored`: its form in memory, if there is one."""

    name: str
    element: str
    lanes: int = 1
    stored: str = ""

    @property
    def type(self) -> str:
        """The MLIR type of the register."""
        return lanes_type(register_type(self.element), self.lanes)


def lanes_type(register: str, lanes: int) -> str:
    return register if lanes == 1 else f"vector<{lanes}x{register}>"


def constant(w: Writer, text: str, element: str, lanes: int = 1) -> Num:
    """A constant from MLIR's text of the number ('1.0', '-3', 'true', '0x7F800000')."""
    register = register_type(element)
    if register != element:
        text = _float32_text(text, element)
    if element == "i1":
        text = {"1": "true", "-1": "true", "0": "false"}.get(text, text)
    elif register.startswith("f") and text.lstrip("-").isdigit():
        text += ".0"
    if lanes > 1:
        text = f"dense<{text}> : {lanes_type(register, lanes)}"
    elif element != "i1":
        text = f"{text} : {register}"
    return Num(w.hoisted(f"arith.constant {text}", "k"), element, lanes)


def _float32_text(text: str, element: str) -> str:
    """The f32 of a narrower constant, from its bits (infinities, NaN) or its digits, of which MLIR prints too few."""
    dtype = dtype_from_mlir(element).numpy
    if text.startswith("0x"):
        number = np.array(int(text, 16), f"u{dtype.itemsize}").view(dtype)
    else:
        number = np.array(float(text), dtype)
        if float(number) == float(text):
            return text
    return f"0x{int(number.astype(np.float32).view(np.uint32)):08X}"


def widen(w: Writer, number: Num, lanes: int) -> Num:
    """The same number in all lanes, where it is not a vector already."""
    if number.lanes == lanes or lanes == 1:
        return number
    wide = Num("", number.element, lanes)
    return Num(w.op(f"vector.broadcast {number.name} : {number.type} to {wide.type}"), number.element, lanes)


def evaluate(w: Writer, body: Body, arguments: Sequence[Num]) -> list[Num]:
    """The numbers that a body yields for its arguments (bodies without `linalg.index` and `tensor.extract`)."""
    env = dict(enumerate(arguments))
    for op in body.ops:
        for index, number in zip(op.results, apply(w, op, [env[i] for i in op.operands]), strict=True):
            env[index] = number
    return [env[i] for i in body.yields]


def apply(w: Writer, op: ScalarOp, operands: Sequence[Num]) -> list[Num]:
    """One op. Operands that differ in lanes are broadcast to the widest.

    Raises:
        LoweringError: an op that has no scalar code here (regions, several results).
    """
    if op.regions or len(op.results) != 1:
        raise LoweringError(f"{op.name} inside a scalar body is not supported by the CPU backend.")
    element = op.types[0]
    if op.name == "arith.constant":
        return [constant(w, op.attributes, element)]
    lanes = max((number.lanes for number in operands), default=1)
    numbers = [widen(w, number, lanes) for number in operands]
    if op.name in _CONVERSIONS:
        return [_convert(w, op.name, numbers[0], element)]
    result = Num("", element, lanes)
    if op.name.startswith("math."):
        register = register_type(element)
        name = vector_math.call(w, op.name, [n.name for n in numbers], register, lanes)
        if name is not None:
            return [Num(name, element, lanes)]
    if op.name == "arith.remf" and lanes > 1 and isinstance(w, ScopedWriter) and w.has_fma:
        x, y = numbers
        return [Num(remainder(w, x.name, y.name, register_type(element), lanes), element, lanes)]
    attributes = op.attributes
    if op.name in _CONTRACTED and "fastmath" not in attributes:
        attributes = "fastmath = #arith.fastmath<contract>"
    return [Num(w.op(generic_form(op.name, numbers, result.type, attributes)), element, lanes)]


def generic_form(name: str, operands: Sequence[Num], result: str, attributes: str = "") -> str:
    """The generic form of an op, which is the same text for every op and every type."""
    names = ", ".join(number.name for number in operands)
    types = ", ".join(number.type for number in operands)
    properties = f" <{{{attributes}}}>" if attributes else ""
    return f'"{name}"({names}){properties} : ({types}) -> {result}'


# Conversions.

_CONVERSIONS = {
    "arith.extf",
    "arith.truncf",
    "arith.sitofp",
    "arith.uitofp",
    "arith.fptosi",
    "arith.fptoui",
    "arith.bitcast",
}


def _convert(w: Writer, name: str, number: Num, element: str) -> Num:
    target = Num("", element, number.lanes)
    if name == "arith.extf":
        if number.type == target.type:
            return Num(number.name, element, number.lanes)
        return Num(w.op(f"arith.extf {number.name} : {number.type} to {target.type}"), element, number.lanes)
    if name == "arith.truncf":
        return _narrow(w, number, element)
    if name == "arith.uitofp" and number.element == "i1" and number.lanes > 1:  # converting takes many instructions
        kind = register_type(element)
        one, zero = (constant(w, text, kind, number.lanes) for text in ("1.000000e+00", "0.000000e+00"))
        text = f"arith.select {number.name}, {one.name}, {zero.name} : {number.type}, {one.type}"
        return _narrow(w, Num(w.op(text), kind, number.lanes), element)
    if name in ("arith.sitofp", "arith.uitofp"):
        wide = Num(w.op(f"{name} {number.name} : {number.type} to {target.type}"), register_type(element), number.lanes)
        return _narrow(w, wide, element)
    if name in ("arith.fptosi", "arith.fptoui"):
        if number.lanes > 1 and w.has_avx512:
            return _saturated(w, name, number, element)
        # Saturating, as XLA converts; called by name, since this MLIR cannot translate its own ops for these
        # intrinsics.
        lanes = f"v{number.lanes}" if number.lanes > 1 else ""
        saturating = f"llvm.{name[6:]}.sat.{lanes}{element}.{lanes}{register_type(number.element)}"
        call = f'llvm.call_intrinsic "{saturating}"({number.name}) : ({number.type}) -> {target.type}'
        return Num(w.op(call), element, number.lanes)
    if number.element in HELD_IN_F32:
        bits = to_storage(w, number)
        integer = "i8" if number.element in float8.FORMATS else "i16"
        integers = lanes_type(integer, number.lanes)
        source = lanes_type(number.element, number.lanes)
        number = Num(w.op(f"arith.bitcast {bits} : {source} to {integers}"), integer, number.lanes)
        if element not in HELD_IN_F32:
            return Num(number.name, element, number.lanes)
    if element in HELD_IN_F32:
        kind = lanes_type(element, number.lanes)
        return from_storage(w, w.op(f"arith.bitcast {number.name} : {number.type} to {kind}"), element, number.lanes)
    return Num(w.op(f"arith.bitcast {number.name} : {number.type} to {target.type}"), element, number.lanes)


def _saturated(w: Writer, name: str, number: Num, element: str) -> Num:
    """Floats to integers: those that are too large or too small to the nearest, NaN to 0. LLVM's own saturating
    conversion takes x86's vectors apart."""
    bits, lanes = int(element[1:]), number.lanes
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if name == "arith.fptosi" else (0, (1 << bits) - 1)
    wide = element if bits >= 32 else "i32"  # which holds all of the narrow ones
    kind, source = lanes_type(wide, lanes), number.type

    def integer(value: int) -> str:
        text = value - (1 << int(wide[1:])) if value >= 1 << (int(wide[1:]) - 1) else value
        return constant(w, str(text), wide, lanes).name

    def compared(predicate: str, limit: int) -> str:
        bound = constant(w, f"{float(limit):.1f}", register_type(number.element), lanes).name
        return w.op(f"arith.cmpf {predicate}, {number.name}, {bound} : {source}")

    held = w.op(f"arith.{'fptosi' if wide != element else name[6:]} {number.name} : {source} to {kind}")
    held = select(w, compared("oge", high + 1), integer(high), held, kind, lanes)
    held = select(w, compared("olt", low), integer(low), held, kind, lanes)
    undefined = w.op(f"arith.cmpf uno, {number.name}, {number.name} : {source}")
    held = select(w, undefined, integer(0), held, kind, lanes)
    if wide != element:
        held = w.op(f"arith.trunci {held} : {kind} to {lanes_type(element, lanes)}")
    return Num(held, element, lanes)


def _narrow(w: Writer, number: Num, element: str) -> Num:
    """Round to a narrower float type; the result is held in the register type of `element`."""
    if element == "f32" and number.element == "f64":
        kind = lanes_type("f32", number.lanes)
        return Num(w.op(f"arith.truncf {number.name} : {number.type} to {kind}"), element, number.lanes)
    if element not in HELD_IN_F32:
        return Num(number.name, element, number.lanes)
    if number.element == "f64":
        number = number if element == "f16" else _narrow(w, number, "f32")
    rounded = _round(w, number, element)
    return from_storage(w, rounded, element, number.lanes)


def _round(w: Writer, number: Num, element: str) -> str:
    """The storage form of a number in f32 (or f64, for f16)."""
    kind = lanes_type(element, number.lanes)
    if element in float8.FORMATS:
        return float8.encode(w, number.name, element, number.lanes)
    if element == "f16" or (w.rounds_bfloat16 and number.lanes > 1):
        return w.op(f"arith.truncf {number.name} : {number.type} to {kind}")
    # LLVM calls a library function for f32 -> bf16 where the processor has no such instruction: round to even in
    # integers.
    integers = lanes_type("i32", number.lanes)

    def integer(value: int) -> str:
        return constant(w, str(value), "i32", number.lanes).name

    bits = w.op(f"arith.bitcast {number.name} : {number.type} to {integers}")
    high = w.op(f"arith.shrui {bits}, {integer(16)} : {integers}")
    odd = w.op(f"arith.andi {high}, {integer(1)} : {integers}")
    half = w.op(f"arith.addi {odd}, {integer(0x7FFF)} : {integers}")
    sum_ = w.op(f"arith.addi {bits}, {half} : {integers}")
    rounded = w.op(f"arith.shrui {sum_}, {integer(16)} : {integers}")
    quiet = w.op(f"arith.ori {high}, {integer(0x40)} : {integers}")
    is_nan = w.op(f"arith.cmpf uno, {number.name}, {number.name} : {number.type}")
    chosen = select(w, is_nan, quiet, rounded, integers, number.lanes)
    short = w.op(f"arith.trunci {chosen} : {integers} to {lanes_type('i16', number.lanes)}")
    return w.op(f"arith.bitcast {short} : {lanes_type('i16', number.lanes)} to {kind}")


def select(w: Writer, condition: str, yes: str, no: str, kind: str, lanes: int) -> str:
    """`condition ? yes : no` on registers of type `kind`."""
    prefix = f"vector<{lanes}xi1>, " if lanes > 1 else ""
    return w.op(f"arith.select {condition}, {yes}, {no} : {prefix}{kind}")


def store_lanes(
    w: Writer, vector: str, element: str, lanes: int, where: str, memref: str, mask: str, used: int
) -> None:
    """Store the first `used` lanes (0: as `mask` says) of a vector in its memory form.

    One lane is stored as a scalar: LLVM turns a masked store of one lane of narrowed integers into a store of the
    wide one.

    Args:
        where: buffer and indices, '%out[%i]'.
    """
    kind = lanes_type(element, lanes)
    if used == 1 < lanes:
        w.emit(f"memref.store {w.op(f'vector.extract {vector}[0] : {element} from {kind}')}, {where} : {memref}")
    elif mask:
        w.emit(f"vector.maskedstore {where}, {mask}, {vector} : {memref}, vector<{lanes}xi1>, {kind}")
    else:
        w.emit(f"vector.store {vector}, {where} : {memref}, {kind}")


def from_storage(w: Writer, name: str, element: str, lanes: int) -> Num:
    """The number in a register, from the form it has in memory (i1 as i8, narrow floats as themselves)."""
    if element == "i1":
        kind = lanes_type("i8", lanes)
        return Num(w.op(f"arith.trunci {name} : {kind} to {lanes_type('i1', lanes)}"), element, lanes)
    if element in float8.FORMATS:
        return Num(float8.decode(w, name, element, lanes), element, lanes, name)
    if element == "bf16":
        # Sixteen bits moved up: no processor support needed.
        short, wide = lanes_type("i16", lanes), lanes_type("i32", lanes)
        bits = w.op(f"arith.bitcast {name} : {lanes_type(element, lanes)} to {short}")
        bits = w.op(f"arith.extui {bits} : {short} to {wide}")
        bits = w.op(f"arith.shli {bits}, {constant(w, '16', 'i32', lanes).name} : {wide}")
        return Num(w.op(f"arith.bitcast {bits} : {wide} to {lanes_type('f32', lanes)}"), element, lanes, name)
    if element == "f16":
        kind = lanes_type(element, lanes)
        return Num(w.op(f"arith.extf {name} : {kind} to {lanes_type('f32', lanes)}"), element, lanes, name)
    return Num(name, element, lanes)


def to_storage(w: Writer, number: Num) -> str:
    """The form that a number has in memory; the inverse of `from_storage`."""
    if number.stored:
        return number.stored
    if number.element == "i1":
        return w.op(f"arith.extui {number.name} : {number.type} to {lanes_type('i8', number.lanes)}")
    if number.element in HELD_IN_F32:
        return _round(w, Num(number.name, "f32", number.lanes), number.element)
    return number.name
