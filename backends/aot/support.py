"""What code generators take for granted in a C library, in LLVM IR, so that an exported library needs none.

The functions are internal to each library. "no-builtins" keeps LLVM from turning their loops into calls of themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.backends.aot.arithmetic_support import arithmetic_support

# Bytes; copies and fills in kernels are short, or vectorised before they get here.
_MEMORY = """
define internal ptr @memcpy(ptr %to, ptr %from, i{bits} %n) noinline nounwind "no-builtins" {{
entry:
  %none = icmp eq i{bits} %n, 0
  br i1 %none, label %out, label %step
step:
  %i = phi i{bits} [ 0, %entry ], [ %next, %step ]
  %a = getelementptr i8, ptr %from, i{bits} %i
  %b = getelementptr i8, ptr %to, i{bits} %i
  %x = load i8, ptr %a, align 1
  store i8 %x, ptr %b, align 1
  %next = add nuw i{bits} %i, 1
  %more = icmp ult i{bits} %next, %n
  br i1 %more, label %step, label %out
out:
  ret ptr %to
}}

define internal ptr @memmove(ptr %to, ptr %from, i{bits} %n) noinline nounwind "no-builtins" {{
entry:
  %forward = icmp ule ptr %to, %from
  br i1 %forward, label %up, label %check
up:
  %r = call ptr @memcpy(ptr %to, ptr %from, i{bits} %n)
  ret ptr %to
check:
  %none = icmp eq i{bits} %n, 0
  br i1 %none, label %out, label %step
step:
  %i = phi i{bits} [ %n, %check ], [ %next, %step ]
  %next = sub nuw i{bits} %i, 1
  %a = getelementptr i8, ptr %from, i{bits} %next
  %b = getelementptr i8, ptr %to, i{bits} %next
  %x = load i8, ptr %a, align 1
  store i8 %x, ptr %b, align 1
  %more = icmp ne i{bits} %next, 0
  br i1 %more, label %step, label %out
out:
  ret ptr %to
}}

define internal ptr @memset(ptr %to, i32 %value, i{bits} %n) noinline nounwind "no-builtins" {{
entry:
  %byte = trunc i32 %value to i8
  %none = icmp eq i{bits} %n, 0
  br i1 %none, label %out, label %step
step:
  %i = phi i{bits} [ 0, %entry ], [ %next, %step ]
  %a = getelementptr i8, ptr %to, i{bits} %i
  store i8 %byte, ptr %a, align 1
  %next = add nuw i{bits} %i, 1
  %more = icmp ult i{bits} %next, %n
  br i1 %more, label %step, label %out
out:
  ret ptr %to
}}
"""

# 64-bit division for ARM's 32-bit processors, one bit at a time (Run-time ABI for the Arm Architecture, 4.2). Quotient
# and remainder come back in r0 to r3, which is where LLVM returns a pair.
_ARM_DIVISION = """
define internal { i64, i64 } @__aeabi_uldivmod(i64 %a, i64 %b) noinline nounwind "no-builtins" {
entry:
  br label %step
step:
  %bit = phi i64 [ 63, %entry ], [ %next, %step ]
  %quotient = phi i64 [ 0, %entry ], [ %q, %step ]
  %rest = phi i64 [ 0, %entry ], [ %r, %step ]
  %shifted = lshr i64 %a, %bit
  %low = and i64 %shifted, 1
  %twice = shl i64 %rest, 1
  %trial = or i64 %twice, %low
  %fits = icmp uge i64 %trial, %b
  %less = sub i64 %trial, %b
  %r = select i1 %fits, i64 %less, i64 %trial
  %one = zext i1 %fits to i64
  %q2 = shl i64 %quotient, 1
  %q = or i64 %q2, %one
  %next = sub i64 %bit, 1
  %more = icmp sge i64 %next, 0
  br i1 %more, label %step, label %out
out:
  %p0 = insertvalue { i64, i64 } poison, i64 %q, 0
  %p1 = insertvalue { i64, i64 } %p0, i64 %r, 1
  ret { i64, i64 } %p1
}

define internal { i64, i64 } @__aeabi_ldivmod(i64 %a, i64 %b) noinline nounwind "no-builtins" {
  %sa = ashr i64 %a, 63
  %xa = xor i64 %a, %sa
  %ua = sub i64 %xa, %sa
  %sb = ashr i64 %b, 63
  %xb = xor i64 %b, %sb
  %ub = sub i64 %xb, %sb
  %pair = call { i64, i64 } @__aeabi_uldivmod(i64 %ua, i64 %ub)
  %q = extractvalue { i64, i64 } %pair, 0
  %r = extractvalue { i64, i64 } %pair, 1
  %sq = xor i64 %sa, %sb
  %q1 = xor i64 %q, %sq
  %q2 = sub i64 %q1, %sq
  %r1 = xor i64 %r, %sa
  %r2 = sub i64 %r1, %sa
  %p0 = insertvalue { i64, i64 } poison, i64 %q2, 0
  %p1 = insertvalue { i64, i64 } %p0, i64 %r2, 1
  ret { i64, i64 } %p1
}
"""


# The same ABI's names for what moves memory; note the order of memset's arguments (4.3.4).
_ARM_MEMORY = """
define internal void @__aeabi_memset{width}(ptr %to, i32 %n, i32 %value) noinline nounwind "no-builtins" {{
  %r = call ptr @memset(ptr %to, i32 %value, i32 %n)
  ret void
}}
define internal void @__aeabi_memclr{width}(ptr %to, i32 %n) noinline nounwind "no-builtins" {{
  %r = call ptr @memset(ptr %to, i32 0, i32 %n)
  ret void
}}
define internal void @__aeabi_memcpy{width}(ptr %to, ptr %from, i32 %n) noinline nounwind "no-builtins" {{
  %r = call ptr @memcpy(ptr %to, ptr %from, i32 %n)
  ret void
}}
define internal void @__aeabi_memmove{width}(ptr %to, ptr %from, i32 %n) noinline nounwind "no-builtins" {{
  %r = call ptr @memmove(ptr %to, ptr %from, i32 %n)
  ret void
}}
"""


# What LLVM calls on Apple's systems where memory becomes zero.
_APPLE_MEMORY = """
define internal void @bzero(ptr %to, i64 %n) noinline nounwind "no-builtins" {
  %r = call ptr @memset(ptr %to, i32 0, i64 %n)
  ret void
}
"""


@dataclass(frozen=True)
class Support:
    """LLVM IR, and the functions that it defines: kept though nothing seems to call them, since the code generator
    does, later."""

    names: tuple[str, ...]
    llvm: str


def support(triple: str, bits: int) -> Support:
    """What the code generator may call on a processor whose pointers have `bits` bits."""
    names, text = ["memcpy", "memmove", "memset"], _MEMORY.format(bits=bits)
    if triple.startswith("armv7"):
        names += ["__aeabi_uldivmod", "__aeabi_ldivmod"]
        text += _ARM_DIVISION
        for width in ("", "4", "8"):  # of the alignment that the caller promises
            names += [f"__aeabi_{what}{width}" for what in ("memset", "memclr", "memcpy", "memmove")]
            text += _ARM_MEMORY.format(width=width)
    if "-apple-" in triple:
        names.append("bzero")
        text += _APPLE_MEMORY
    more, arithmetic = arithmetic_support(triple)
    names, text = names + more, text + arithmetic
    used = ", ".join(f"ptr @{name}" for name in names)
    keep = f'@llvm.compiler.used = appending global [{len(names)} x ptr] [{used}], section "llvm.metadata"\n'
    return Support(tuple(names), text + keep)
