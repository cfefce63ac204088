"""What code generators take for granted in a C library, in LLVM IR, so that an exported library needs none.

The functions are internal to each library. "no-builtins" keeps LLVM from turning their loops into calls of themselves.
"""

from __future__ import annotations

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
MEMORY = ("memcpy", "memmove", "memset")


def memory_functions(bits: int) -> str:
    """memcpy, memmove and memset for pointers of `bits` bits, kept though nothing seems to call them: the code
    generator does, later."""
    used = ", ".join(f"ptr @{name}" for name in MEMORY)
    keep = f'@llvm.compiler.used = appending global [{len(MEMORY)} x ptr] [{used}], section "llvm.metadata"\n'
    return _MEMORY.format(bits=bits) + keep
