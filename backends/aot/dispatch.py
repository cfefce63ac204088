"""One library for all x86-64 processors: the code several times, and the best that the processor runs.

What the processor can do is asked once per arena, whose last bytes remember the answer: a library has no memory of its
own, and under a virtual machine the question takes microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

CACHE_BYTES = 64  # at the end of an arena
LEVELS = ("x86-64-v4", "x86-64-v3", "x86-64-v2")  # the x86-64 psABI's, best first
# Where products are made in bytes: the first level's "+" names a feature beyond the psABI's. Processors with AVX-512
# that lack it run the second: three versions are enough.
LEVELS_IN_BYTES = ("x86-64-v4+avx512vnni", "x86-64-v3", "x86-64-v2")
_MAGIC = 0x7448_616C_7765_6700  # in the upper bytes of what is remembered

# Of each level: (leaf of cpuid, register, bits) that must all be set, and the bits of XCR0: which registers the
# operating system keeps.
_V3 = ((1, 2, 1 << 12 | 1 << 22 | 1 << 27 | 1 << 29), (7, 1, 1 << 3 | 1 << 5 | 1 << 8), (0x80000001, 2, 1 << 5))
_V4 = (*_V3[:1], (7, 1, 1 << 3 | 1 << 5 | 1 << 8 | 1 << 16 | 1 << 17 | 1 << 28 | 1 << 30 | 1 << 31), _V3[2])
_VNNI = (*_V4, (7, 2, 1 << 11))
_NEEDS = {"x86-64-v4+avx512vnni": (_VNNI, 0xE6), "x86-64-v4": (_V4, 0xE6), "x86-64-v3": (_V3, 0x6)}
_CPUID = (
    'call {{ i32, i32, i32, i32 }} asm sideeffect "cpuid", '
    '"={{ax}},={{bx}},={{cx}},={{dx}},{{ax}},{{cx}},~{{dirflag}},~{{fpsr}},~{{flags}}"(i32 {leaf}, i32 0)'
)


def level_function(levels: Sequence[str]) -> str:
    """LLVM IR of `i32 @level()`: 0 for the best of `levels`, and so on; and of `i32 @cached_level(ptr)`."""
    lines = ["define internal i32 @level() noinline nounwind {", "entry:"]
    for leaf in (0, 1, 7, 0x80000001):
        lines.append(f"  %l{leaf} = {_CPUID.format(leaf=leaf)}")
    lines += ["  %most = extractvalue { i32, i32, i32, i32 } %l0, 0", "  %has7 = icmp uge i32 %most, 7"]
    lines += ["  %c1 = extractvalue { i32, i32, i32, i32 } %l1, 2", "  %saves = and i32 %c1, 134217728"]
    lines += ["  %os = icmp ne i32 %saves, 0", "  %ask = and i1 %has7, %os"]
    lines += ["  br i1 %ask, label %more, label %least", "least:", f"  ret i32 {len(levels) - 1}", "more:"]
    xgetbv = '"xgetbv", "={ax},={dx},{cx},~{dirflag},~{fpsr},~{flags}"(i32 0)'
    lines += [f"  %x = call {{ i32, i32 }} asm sideeffect {xgetbv}", "  %kept = extractvalue { i32, i32 } %x, 0"]
    for number, name in enumerate(levels[:-1]):
        needs, registers = _NEEDS[name]
        checks = []
        for k, (leaf, register, bits) in enumerate(needs):
            value = f"%r{number}_{k}"
            lines.append(f"  {value} = extractvalue {{ i32, i32, i32, i32 }} %l{leaf}, {register}")
            checks.append((value, bits))
        for k, (value, bits) in enumerate([*checks, ("%kept", registers)]):
            signed = bits - (1 << 32) if bits >> 31 else bits
            lines += [f"  %m{number}_{k} = and i32 {value}, {signed}",
                      f"  %e{number}_{k} = icmp eq i32 %m{number}_{k}, {signed}"]  # fmt: skip
        lines.append(f"  %all{number}_0 = and i1 %e{number}_0, %e{number}_1")
        for k in range(2, len(checks) + 1):
            lines.append(f"  %all{number}_{k - 1} = and i1 %all{number}_{k - 2}, %e{number}_{k}")
        lines += [f"  br i1 %all{number}_{len(checks) - 1}, label %is{number}, label %not{number}",
                  f"is{number}:", f"  ret i32 {number}", f"not{number}:"]  # fmt: skip
    lines += [f"  ret i32 {len(levels) - 1}", "}", ""]
    return "\n".join(lines) + _CACHED.format(magic=_MAGIC, mask=-256)


_CACHED = """
define internal i32 @cached_level(ptr %cache) nounwind {{
  %seen = load i64, ptr %cache, align 8
  %tag = and i64 %seen, {mask}
  %known = icmp eq i64 %tag, {magic}
  br i1 %known, label %old, label %new
old:
  %low = trunc i64 %seen to i32
  %level = and i32 %low, 255
  ret i32 %level
new:
  %asked = call i32 @level()
  %wide = zext i32 %asked to i64
  %kept = or i64 %wide, {magic}
  store i64 %kept, ptr %cache, align 8
  ret i32 %asked
}}
"""


def chooser(name: str, pointers: int, arena_bytes: int, versions: int) -> str:
    """LLVM IR of `@step.NAME`, which calls `@step.NAME.v0`, `.v1`… by the processor's level. Its last argument is the
    arena."""
    parameters = ", ".join(f"ptr %p{k}" for k in range(pointers))
    cases = " ".join(f"i32 {k}, label %v{k}" for k in range(versions - 1))
    last = versions - 1
    text = (
        f"define internal void @step.{name}({parameters}) nounwind {{\n"
        f"  %cache = getelementptr i8, ptr %p{pointers - 1}, i64 {arena_bytes - CACHE_BYTES}\n"
        f"  %level = call i32 @cached_level(ptr %cache)\n  switch i32 %level, label %v{last} [ {cases} ]\n"
    )
    for k in range(versions):
        text += f"v{k}:\n  call void @step.{name}.v{k}({parameters})\n  ret void\n"
    return text + "}\n"


def declarations(names: Sequence[tuple[str, int]], versions: int) -> str:
    """Of the versions of steps: (name, number of pointers)."""
    return "".join(
        f"declare void @step.{name}.v{k}({', '.join(['ptr'] * count)})\n"
        for name, count in names
        for k in range(versions)
    )
