"""Numbers below the smallest normal one taken for zero, as they are read and as they are written: LLVM IR around code
that runs so, with the state of the processor put back behind it.

    before   the state is kept, and set: FTZ and DAZ of x86's MXCSR, FZ of ARM's FPCR (half
             precision, whose smallest normal number is 6e-5, stays as it is on both)
    after    the state that was found is set again

The state belongs to a thread: a program sets it where it is entered, and in each piece of work of the pool's threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.backends.cpu.machine import features_of
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.diagnostics import LoweringError

_X86_FLAGS = 1 << 15 | 1 << 6  # results that are subnormal are zero; so are operands
_ARM_FLAGS = 1 << 24


@dataclass(frozen=True)
class Mode:
    """Lines of LLVM IR before and behind the code, and what they declare."""

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    declarations: str = ""


EXACT = Mode()


def mode(options: CpuOptions) -> Mode:
    """What `options.flush_subnormals` asks for: nothing where it is off.

    Raises:
        LoweringError: a processor that has no such state.
    """
    if not options.flush_subnormals:
        return EXACT
    features = features_of(options)
    if "sse2" in features:
        return _X86
    if "neon" in features:
        return _ARM
    raise LoweringError(
        f"the CPU backend does not know how '{options.cpu or 'this machine'}' takes subnormal numbers for zero. Leave "
        "flush_subnormals off."
    )


_X86 = Mode(
    (
        "  %found = alloca i32, align 4",
        "  %flushing = alloca i32, align 4",
        "  call void @llvm.x86.sse.stmxcsr(ptr %found)",
        "  %state = load i32, ptr %found, align 4",
        f"  %set = or i32 %state, {_X86_FLAGS}",
        "  store i32 %set, ptr %flushing, align 4",
        "  call void @llvm.x86.sse.ldmxcsr(ptr %flushing)",
    ),
    ("  call void @llvm.x86.sse.ldmxcsr(ptr %found)",),
    "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)\n",
)
_ARM = Mode(
    (
        "  %found = call i64 @llvm.aarch64.get.fpcr()",
        f"  %set = or i64 %found, {_ARM_FLAGS}",
        "  call void @llvm.aarch64.set.fpcr(i64 %set)",
    ),
    ("  call void @llvm.aarch64.set.fpcr(i64 %found)",),
    "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)\n",
)
