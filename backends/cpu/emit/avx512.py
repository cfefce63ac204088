"""Instructions of AVX-512 on registers of floats that LLVM does not make of anything else.

A register may be several of the processor's: an op is made for every 512 bits of it. Use them where `available`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thalweg.backends.cpu.emit.formula import Register

_BITS = 512
_SUFFIXES = {"f32": ("ps", "i16"), "f64": ("pd", "i8")}  # of intrinsics, and their masks
FROM_THREE_QUARTERS = 0b1011  # of mantissas: in [3/4, 3/2), and NaN of negative numbers
EVEN = 0b1001  # the same in [1/2, 2), such that the exponent is even
_ROUNDING = 4  # as the processor's state says


def available(x: Register) -> bool:
    """Whether `x` is whole registers of floats of a processor that has AVX-512."""
    return x.w.has_avx512 and x.element in _SUFFIXES and x.lanes * int(x.element[1:]) % _BITS == 0


def scaled(x: Register, exponents: Register, where: Register) -> Register:
    """`x` times two to the power of `exponents` rounded down, rounded once; 0 in lanes that are not `where`."""

    def call(x: Register, exponents: Register, where: Register) -> str:
        operands = [x, exponents, x.constant(0.0)]
        return _call("mask.scalef", x, operands, _mask(where), _integer(x, _ROUNDING))

    return _in_parts(call, x, exponents, where)


def exponent(x: Register) -> Register:
    """The largest whole number of which 2 to its power is at most |x|; -infinity of 0, infinity of infinity."""
    return _in_parts(lambda x: _call("mask.getexp", x, [x, x], _all(x), _integer(x, _ROUNDING)), x)


def mantissa(x: Register, which: int = FROM_THREE_QUARTERS) -> Register:
    """`x` times a power of two, in [3/4, 3/2); 1 of 0 and of infinity, NaN of negative numbers."""

    def call(x: Register) -> str:
        return _call("mask.getmant", x, [x], _integer(x, which), x, _all(x), _integer(x, _ROUNDING))

    return _in_parts(call, x)


def reciprocal(x: Register) -> Register:
    """1 / x to 14 bits."""
    return _in_parts(lambda x: _call("rcp14", x, [x, x], _all(x)), x)


def reciprocal_root(x: Register) -> Register:
    """1 / sqrt(x) to 14 bits."""
    return _in_parts(lambda x: _call("rsqrt14", x, [x, x], _all(x)), x)


def lookup(table: Sequence[float], index: Register, element: str) -> Register:
    """The entries of a table of sixteen floats that the last four bits of integers say."""
    lanes = _BITS // int(element[1:])
    halves = [table[k : k + lanes] for k in range(0, len(table), lanes)]
    kind = f"vector<{lanes}x{element}>"

    def call(index: Register) -> str:
        names = [_constants(index, half, kind) for half in halves]
        suffix = {"f32": "sf", "f64": "df"}[element]
        if len(names) == 1:
            name, operands = f"permvar.{suffix}", [names[0], index.name]
        else:
            name, operands = f"vpermi2var.{_SUFFIXES[element][0]}", [names[0], index.name, names[1]]
        kinds = ", ".join(index.type if operand == index.name else kind for operand in operands)
        text = f'llvm.call_intrinsic "llvm.x86.avx512.{name}.512"({", ".join(operands)}) : ({kinds}) -> {kind}'
        return index.w.op(text)

    return _in_parts(call, index, element=element)


def _constants(like: Register, numbers: Sequence[float], kind: str) -> str:
    text = ", ".join(f"{number:.17e}" for number in numbers)
    return like.w.hoisted(f"arith.constant dense<[{text}]> : {kind}", "table")


def _call(name: str, like: Register, operands: Sequence[Register], *others: Register) -> str:
    """The SSA name of a call of an intrinsic that gives a register like `like`."""
    every = (*operands, *others)
    names, kinds = ", ".join(r.name for r in every), ", ".join(r.type for r in every)
    intrinsic = f"llvm.x86.avx512.{name}.{_SUFFIXES[like.element][0]}.512"
    return like.w.op(f'llvm.call_intrinsic "{intrinsic}"({names}) : ({kinds}) -> {like.type}')


def _integer(like: Register, value: int, element: str = "i32") -> Register:
    return Register(like.w, like.w.hoisted(f"arith.constant {value} : {element}", "k"), element)


def _all(like: Register) -> Register:
    return _integer(like, -1, _SUFFIXES[like.element][1])


def _mask(where: Register) -> Register:
    """Truth values as the bits of an integer."""
    kind = f"i{where.lanes}"
    bits = where.w.op(f"vector.bitcast {where.name} : {where.type} to vector<1x{kind}>")
    return Register(where.w, where.w.op(f"vector.extract {bits}[0] : {kind} from vector<1x{kind}>"), kind)


def _in_parts(call: Callable[..., str], *operands: Register, element: str = "") -> Register:
    """What `call` gives for every 512 bits of registers of equally many lanes, the first of which are floats or, where
    the results' type is given, integers as wide."""
    first = operands[0]
    w, result = first.w, element or first.element
    lanes = _BITS // int(result[1:])
    if first.lanes == lanes:
        return Register(w, call(*operands), result, lanes)
    whole = Register(w, "", result, first.lanes)
    name = w.hoisted(f"arith.constant dense<0.0> : {whole.type}", "k")
    for offset in range(0, first.lanes, lanes):
        part = call(*(_part(operand, offset, lanes) for operand in operands))
        places = f"{{offsets = [{offset}], strides = [1]}}"
        kind = f"vector<{lanes}x{result}>"
        name = w.op(f"vector.insert_strided_slice {part}, {name} {places} : {kind} into {whole.type}")
    return Register(w, name, result, first.lanes)


def _part(x: Register, offset: int, lanes: int) -> Register:
    places = f"{{offsets = [{offset}], sizes = [{lanes}], strides = [1]}}"
    kind = f"vector<{lanes}x{x.element}>"
    name = x.w.op(f"vector.extract_strided_slice {x.name} {places} : {x.type} to {kind}")
    return Register(x.w, name, x.element, lanes)
