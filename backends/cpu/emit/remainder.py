"""The remainder of a division of floats, with the sign of the dividend, in vectors."""

from __future__ import annotations

from thalweg.backends.cpu.emit.formula import Register
from thalweg.backends.cpu.emit.scoped import ScopedWriter

_WHOLE = {"f32": 2.0**23, "f64": 2.0**52}  # quotients below are exact in their whole part, or one too large


def remainder(w: ScopedWriter, x: str, y: str, element: str, lanes: int) -> str:
    """The SSA name of `x - trunc(x / y) * y`, exact. A whole part that division has rounded up gives a small negative
    number, which y corrects. Where a quotient is large, infinite or no number, LLVM takes the vector apart.
    """
    left, right = Register(w, x, element, lanes), Register(w, y, element, lanes)
    dividend, divisor = abs(left), abs(right)
    quotient = dividend / divisor
    easy = quotient < _WHOLE[element]
    kind = left.type
    result = w.fresh("rest")
    all_easy = w.op(f"vector.reduction <and>, {easy.name} : {easy.type} into i1")
    with w.scope(f"{result} = scf.if {all_easy} -> ({kind})", fence=True):
        whole = quotient.math("trunc")
        rest = (-whole).math("fma", divisor, dividend)
        rest = (rest < 0.0).select(rest + divisor, rest)
        rest = (dividend < divisor).select(dividend, rest)  # also where the divisor is infinite
        w.emit(f"scf.yield {rest.math('copysign', left).name} : {kind}")
    with w.scope("else", fence=True):
        w.emit(f"scf.yield {w.op(f'arith.remf {x}, {y} : {kind}')} : {kind}")
    w.define(result)
    return result
