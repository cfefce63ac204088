"""Floats of 8 bits to f32 and back, in integers: no processor that we know has instructions for it in vectors of f32.

    e4m3fn    sign, 4 bits of exponent (bias 7), 3 of mantissa; no infinity: s.1111.111 is NaN, 448 the largest
    e5m2      sign, 5 bits of exponent (bias 15), 2 of mantissa; infinities and NaN as f16 has them

Rounding is to nearest even. What rounds beyond the largest number becomes NaN (e4m3fn) or infinity (e5m2), as in
StableHLO, JAX and PyTorch: saturating is for the program to say, with a clip.
"""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.backends.cpu.emit.writer import Writer


@dataclass(frozen=True)
class Format:
    """What the two formats differ in."""

    mantissa: int  # stored bits
    bias: int
    special: int  # the least code, without its sign, that is no number
    nan: int

    @property
    def shift(self) -> int:
        """From the mantissa's place to where f32 has it."""
        return 23 - self.mantissa


FORMATS = {"f8E4M3FN": Format(3, 7, 0x7F, 0x7F), "f8E5M2": Format(2, 15, 0x7C, 0x7E)}


class _Lanes:
    """Ops on i32 or f32 registers of some lanes; Python integers become constants."""

    def __init__(self, w: Writer, lanes: int) -> None:
        self.w, self.lanes = w, lanes
        self.i8, self.i32, self.f32, self.i1 = (self._wide(kind) for kind in ("i8", "i32", "f32", "i1"))

    def _wide(self, kind: str) -> str:
        return kind if self.lanes == 1 else f"vector<{self.lanes}x{kind}>"

    def integer(self, value: int) -> str:
        text = f"{value} : i32" if self.lanes == 1 else f"dense<{value}> : {self.i32}"
        return self.w.hoisted(f"arith.constant {text}", "k")

    def number(self, bits: int) -> str:
        text = f"0x{bits:08X} : f32" if self.lanes == 1 else f"dense<0x{bits:08X}> : {self.f32}"
        return self.w.hoisted(f"arith.constant {text}", "k")

    def op(self, name: str, x: str, y: str | int) -> str:
        return self.w.op(f"arith.{name} {x}, {self.integer(y) if isinstance(y, int) else y} : {self.i32}")

    def cast(self, name: str, x: str, source: str, target: str) -> str:
        return self.w.op(f"arith.{name} {x} : {source} to {target}")

    def select(self, condition: str, yes: str, no: str) -> str:
        prefix = f"{self.i1}, " if self.lanes > 1 else ""
        return self.w.op(f"arith.select {condition}, {yes}, {no} : {prefix}{self.i32}")


def decode(w: Writer, name: str, element: str, lanes: int) -> str:
    """The f32 of a stored number."""
    n, f = _Lanes(w, lanes), FORMATS[element]
    code = n.cast("bitcast", name, element if lanes == 1 else f"vector<{lanes}x{element}>", n.i8)
    code = n.cast("extui", code, n.i8, n.i32)
    size = n.op("shli", n.op("andi", code, 0x7F), f.shift)
    normal = n.op("addi", size, (127 - f.bias) << 23)
    # Subnormal: as a mantissa behind a leading one, less that one, so that f32 sees no subnormal numbers.
    one = (128 - f.bias) << 23
    behind_one = n.cast("bitcast", n.op("addi", size, one), n.i32, n.f32)
    difference = w.op(f"arith.subf {behind_one}, {n.number(one)} : {n.f32}")
    small = n.cast("bitcast", difference, n.f32, n.i32)
    value = n.select(n.op("cmpi ult,", size, 1 << 23), small, normal)
    value = n.select(n.op("cmpi uge,", size, f.special << f.shift), n.op("ori", size, _infinite(f)), value)
    sign = n.op("shli", n.op("andi", code, 0x80), 24)
    return n.cast("bitcast", n.op("ori", value, sign), n.i32, n.f32)


def _infinite(f: Format) -> int:
    """What makes infinity and NaN of f32 from a special code's bits: the exponent; a quiet NaN where all are NaN."""
    return 0x7FC00000 if f.special == f.nan else 0x7F800000


def encode(w: Writer, number: str, element: str, lanes: int) -> str:
    """The stored form of an f32, rounded to nearest even."""
    n, f = _Lanes(w, lanes), FORMATS[element]
    bits = n.cast("bitcast", number, n.f32, n.i32)
    size = n.op("andi", bits, 0x7FFFFFFF)
    odd = n.op("andi", n.op("shrui", size, f.shift), 1)
    rounded = n.op("addi", n.op("addi", size, (1 << (f.shift - 1)) - 1), odd)
    normal = n.op("subi", n.op("shrui", rounded, f.shift), (127 - f.bias) << f.mantissa)
    normal = n.op("minui", normal, f.special)
    if f.nan != f.special:
        normal = n.select(n.op("cmpi ugt,", size, 0x7F800000), n.integer(f.nan), normal)
    # Subnormal: added to a number whose last place is that of the subnormal ones, the processor rounds.
    magic = (127 + 24 - f.bias - f.mantissa) << 23
    moved = w.op(f"arith.addf {n.cast('bitcast', size, n.i32, n.f32)}, {n.number(magic)} : {n.f32}")
    small = n.op("subi", n.cast("bitcast", moved, n.f32, n.i32), magic)
    code = n.select(n.op("cmpi ult,", size, (128 - f.bias) << 23), small, normal)
    sign = n.op("andi", n.op("shrui", bits, 24), 0x80)
    byte = n.cast("trunci", n.op("ori", code, sign), n.i32, n.i8)
    return n.cast("bitcast", byte, n.i8, element if lanes == 1 else f"vector<{lanes}x{element}>")

