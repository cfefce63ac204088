"""Arithmetic that processors leave to a library, in LLVM IR: remainders of floats for all; for ARM's 32-bit processors
rounding, and floats of 64-bit integers (of float32, rounded twice).

Templates: T is float or double, S the ending of its functions' names, M the power of two from which on all are whole.
"""

from __future__ import annotations

import re

# r is less than twice t, so that the difference is exact.
_REMAINDER = """
define internal T @fmodS(T %x, T %y) noinline nounwind "no-builtins" {
entry:
  %a = call T @llvm.fabs.FT(T %x)
  %d = call T @llvm.fabs.FT(T %y)
  %finite = fcmp olt T %a, 0x7FF0000000000000
  %positive = fcmp ogt T %d, 0.0
  %defined = and i1 %finite, %positive
  br i1 %defined, label %outer, label %undefined
undefined:
  ret T 0x7FF8000000000000
outer:
  %r = phi T [ %a, %entry ], [ %less, %subtract ]
  %more = fcmp oge T %r, %d
  br i1 %more, label %double, label %done
double:
  %t = phi T [ %d, %outer ], [ %twice, %double ]
  %twice = fadd T %t, %t
  %fits = fcmp ole T %twice, %r
  br i1 %fits, label %double, label %subtract
subtract:
  %less = fsub T %r, %t
  br label %outer
done:
  %signed = call T @llvm.copysign.FT(T %r, T %x)
  ret T %signed
}
declare T @llvm.fabs.FT(T)
declare T @llvm.copysign.FT(T, T)
"""

_ROUNDING = """
define internal T @roundevenS(T %x) noinline nounwind "no-builtins" {
  %a = call T @llvm.fabs.FT(T %x)
  %small = fcmp olt T %a, M
  %up = fadd T %a, M
  %whole = fsub T %up, M
  %r = select i1 %small, T %whole, T %a
  %signed = call T @llvm.copysign.FT(T %r, T %x)
  ret T %signed
}
define internal T @floorS(T %x) noinline nounwind "no-builtins" {
  %r = call T @roundevenS(T %x)
  %over = fcmp ogt T %r, %x
  %less = fsub T %r, 1.0
  %found = select i1 %over, T %less, T %r
  ret T %found
}
define internal T @ceilS(T %x) noinline nounwind "no-builtins" {
  %r = call T @roundevenS(T %x)
  %under = fcmp olt T %r, %x
  %more = fadd T %r, 1.0
  %found = select i1 %under, T %more, T %r
  %signed = call T @llvm.copysign.FT(T %found, T %x)
  ret T %signed
}
define internal T @truncS(T %x) noinline nounwind "no-builtins" {
  %a = call T @llvm.fabs.FT(T %x)
  %f = call T @floorS(T %a)
  %signed = call T @llvm.copysign.FT(T %f, T %x)
  ret T %signed
}
define internal T @roundS(T %x) noinline nounwind "no-builtins" {
  %a = call T @llvm.fabs.FT(T %x)
  %f = call T @floorS(T %a)
  %rest = fsub T %a, %f
  %half = fcmp oge T %rest, 0.5
  %more = fadd T %f, 1.0
  %r = select i1 %half, T %more, T %f
  %signed = call T @llvm.copysign.FT(T %r, T %x)
  ret T %signed
}
"""
_ROUNDING_NAMES = ("roundeven", "floor", "ceil", "trunc", "round")

# Run-time ABI for the Arm Architecture, 4.1.2: whatever the system passes floats in, these take them in core registers.
_ARM_CONVERSIONS = """
define internal arm_aapcscc i64 @__aeabi_d2ulz(double %x) noinline nounwind "no-builtins" {
  %high = fmul double %x, 0x3DF0000000000000
  %h = fptoui double %high to i32
  %whole = uitofp i32 %h to double
  %taken = fmul double %whole, 0x41F0000000000000
  %rest = fsub double %x, %taken
  %l = fptoui double %rest to i32
  %h64 = zext i32 %h to i64
  %l64 = zext i32 %l to i64
  %up = shl i64 %h64, 32
  %found = or i64 %up, %l64
  ret i64 %found
}
define internal arm_aapcscc i64 @__aeabi_d2lz(double %x) noinline nounwind "no-builtins" {
  %a = call double @llvm.fabs.f64(double %x)
  %u = call arm_aapcscc i64 @__aeabi_d2ulz(double %a)
  %minus = fcmp olt double %x, 0.0
  %n = sub i64 0, %u
  %found = select i1 %minus, i64 %n, i64 %u
  ret i64 %found
}
"""

# Of signed integers Q is nothing and I is s; of unsigned ones both are u.
_ARM_OF_EITHER_SIGN = """
define internal arm_aapcscc i64 @__aeabi_f2Qlz(float %x) noinline nounwind "no-builtins" {
  %d = fpext float %x to double
  %found = call arm_aapcscc i64 @__aeabi_d2Qlz(double %d)
  ret i64 %found
}
define internal arm_aapcscc double @__aeabi_Ql2d(i64 %x) noinline nounwind "no-builtins" {
  %up = lshr i64 %x, 32
  %h = trunc i64 %up to i32
  %l = trunc i64 %x to i32
  %high = Iitofp i32 %h to double
  %low = uitofp i32 %l to double
  %scaled = fmul double %high, 0x41F0000000000000
  %found = fadd double %scaled, %low
  ret double %found
}
define internal arm_aapcscc float @__aeabi_Ql2f(i64 %x) noinline nounwind "no-builtins" {
  %d = call arm_aapcscc double @__aeabi_Ql2d(i64 %x)
  %found = fptrunc double %d to float
  ret float %found
}
"""
_ARM_NAMES = ("d2ulz", "d2lz", "f2ulz", "f2lz", "ul2d", "l2d", "ul2f", "l2f")


def arithmetic_support(triple: str) -> tuple[list[str], str]:
    """The names of the functions for a processor, and their LLVM IR."""
    arm = triple.startswith("armv7")
    names, text = [], ""
    for kind, ending, short, most in (("float", "f", "f32", "8388608.0"), ("double", "", "f64", "4503599627370496.0")):
        names += [f"{name}{ending}" for name in ("fmod", *(_ROUNDING_NAMES if arm else ()))]
        part = (_REMAINDER + (_ROUNDING if arm else "")).replace("FT", short)
        for hole, value in ((r"\bT\b", kind), (r"\bM\b", most), (r"(@[a-z]+)S\(", rf"\1{ending}(")):
            part = re.sub(hole, value, part)
        text += part
    if arm:
        names += [f"__aeabi_{name}" for name in _ARM_NAMES]
        text += _ARM_CONVERSIONS
        text += "".join(_ARM_OF_EITHER_SIGN.replace("Q", q).replace("I", i) for q, i in (("", "s"), ("u", "u")))
    return names, text
