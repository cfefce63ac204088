"""Kernels as WebAssembly's engines like them: constant parts of addresses in the loads, products in the order written.

    before:  %5 = add i64 %k, 512                              after:  %5.base = getelementptr float, ptr %p, i64 %k
             %6 = getelementptr float, ptr %p, i64 %5                  %5.kept = call ptr asm "", "=r,0,r"(%5.base, %s)
             %7 = load float, ptr %6                                   %6 = getelementptr nuw i8, ptr %5.kept, i64 2048

A load has an unsigned offset, which LLVM uses only where it sees that the sum does not overflow, and which its loop
passes take apart again. And LLVM moves all rows' numbers to the start of a loop, since it knows of no registers; an
engine has fifteen, keeps to that order, and spills. Both are held in place by an empty piece of assembly: the address
passes through it, and so does the last sum before, so that the load comes after it. Nothing of it stays in the module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_BYTES = {"float": 4, "double": 8, "half": 2, "bfloat": 2, "i8": 1, "i16": 2, "i32": 4, "i64": 8}
_ADDRESS = re.compile(r"  (%\d+) = getelementptr (?:inbounds nuw )?(\w+), ptr (%\d+), i64 (%\d+)$")
_CONSTANT = re.compile(r"  (%\d+) = add i64 (%\d+), (\d+)$")
_SUM = re.compile(r"  (%\d+) = f?add (?:contract )?(<4 x float>|<2 x double>|<4 x i32>) ")
_NUMBER = re.compile(r"  %\d+ = load (?:float|double|i32), ptr (%\d+),")
_MADE = re.compile(  # indices: sums, products, quotients and the like; what a loop counts; the least of two
    r"  (%\d+) = (?:(?:add|mul|udiv|urem) (?:nuw |nsw )*i64 (\S+), (\S+)"
    r"|phi i64 \[ (\S+), %[\w.]+ \], \[ (\S+), %[\w.]+ \]|call i64 @llvm\.[su]m(?:in|ax)\.i64\(i64 (\S+), i64 (\S+)\))$"
)


def for_engines(text: str) -> str:
    """LLVM IR of kernels, before it is optimised, in the form above."""
    return "".join(map(_function, re.split(r"(?m)^(?=define )", text)))


def _function(text: str) -> str:
    lines = text.split("\n")
    constant = _constants(lines)
    shared = {constant[m[4]][0] for line in lines if (m := _ADDRESS.match(line)) and m[4] in constant}
    out, last = [], None
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith("  "):
            last = None  # another block
        elif found := _SUM.match(line):
            last = f"{found[2]} {found[1]}"
        address = _ADDRESS.match(line)
        if address is None:
            out.append(line)
            continue
        name, kind, pointer, index = address.groups()
        base, more = constant.get(index, (index, 0))
        read = _NUMBER.match(following)
        after = last if read and read[1] == name else None
        if base not in shared and after is None:
            out.append(line)
            continue
        unnamed = name[1:]
        out.append(f"  %base{unnamed} = getelementptr {kind}, ptr {pointer}, i64 {base}")
        operands, ties = (f"ptr %base{unnamed}, {after}", "0,r") if after else (f"ptr %base{unnamed}", "0")
        out.append(f'  %kept{unnamed} = call ptr asm "", "=r,{ties}"({operands})')
        out.append(f"  {name} = getelementptr nuw i8, ptr %kept{unnamed}, i64 {more * _BYTES[kind]}")
    return "\n".join(out)


def _constants(lines: Sequence[str]) -> Mapping[str, tuple[str, int]]:
    """Indices that are another one and a positive number: by name, both. The other one is not negative, or else the
    address without the number might be below all memory."""
    positive = _not_negative(lines)
    found: dict[str, tuple[str, int]] = {}
    for line in lines:
        if match := _CONSTANT.match(line):
            base, more = found.get(match[2], (match[2], 0))
            if base in positive:
                found[match[1]] = (base, more + int(match[3]))
    return found


def _not_negative(lines: Sequence[str]) -> set[str]:
    """Indices that are made of others that are not negative, by sums, products and loops that count up; a function's
    parameters are the numbers of tiles."""
    made = {m[1]: [o for o in m.groups()[1:] if o] for line in lines if (m := _MADE.match(line))}
    head = next((line for line in lines if line.startswith("define ")), "")
    given = set(re.findall(r"i64 (%\d+)", head))
    known = given | set(made)
    while True:  # the largest set that follows from itself
        wrong = {
            name
            for name, operands in made.items()
            if name in known and not all(o in known if o[0] == "%" else int(o) >= 0 for o in operands)
        }
        if not wrong:
            return known
        known -= wrong
