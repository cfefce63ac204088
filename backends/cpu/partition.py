"""A program's code in parts, each of which is compiled by itself: at the same time as others, and as hard as it needs.

The parts do not depend on who compiles them, nor on how many processors there are: the same program gives the same
object code. The objects of all parts are kept in one string of bytes (`join`, `split`), and linked together when they
are loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

LINES_EACH = 1600  # of MLIR: about a tenth of a second
_MAGIC = b"TWPARTS\0"
_DECLARED = re.compile(r"^declare [^@\n]*@(\w+)\(.*\n", re.MULTILINE)
_DEFINED = re.compile(r"^define [^@\n]*@(\w+)\(", re.MULTILINE)


@dataclass(frozen=True)
class Part:
    """Functions that are compiled together.

    Args:
        source: an MLIR module.
        definitions: LLVM IR of functions that the module declares, or that use its functions.
        explicit: are its loops explicit vector code? If not, LLVM's own pipelines have work to do.
    """

    source: str
    definitions: str = ""
    explicit: bool = True


def parts_of(kernels: Mapping[str, str], step: str, definitions: str) -> list[Part]:
    """The parts of a program; the step is in the first.

    Args:
        kernels: their texts (kernel.py), by name.
        step: MLIR text of the step, and of all that is declared or defined beside the kernels.
        definitions: LLVM IR that goes with the step.
    """
    scalar = {name: text for name, text in kernels.items() if _is_scalar(text)}
    first, *others = _dealt({name: text for name, text in kernels.items() if name not in scalar}) or [{}]
    groups = [(first, True), *((group, True) for group in others), *((group, False) for group in _dealt(scalar))]
    with_step = "".join(first.values()) + "".join(_declaration(kernels[k]) for k in kernels if k not in first) + step
    parts = [Part(_module(with_step), definitions)]
    return parts + [Part(_module("".join(group.values())), "", explicit) for group, explicit in groups[1:]]


def _is_scalar(text: str) -> bool:
    """Does a kernel go through its elements one by one?"""
    return "vector<" not in text and ("scf.for " in text or "scf.while " in text)


def _dealt(kernels: Mapping[str, str]) -> list[dict[str, str]]:
    """Kernels in groups of about as many lines."""
    groups: list[dict[str, str]] = []
    room = 0
    for name, text in kernels.items():
        lines = text.count("\n")
        if lines > room:
            groups.append({})
            room = LINES_EACH
        groups[-1][name] = text
        room -= lines
    return groups


def _declaration(kernel: str) -> str:
    """The declaration of a kernel's function.

    Example:
        >>> _declaration("func.func private @k0(%a: memref<4xf32>, %lo: index) {\\nreturn\\n}\\n")
        'func.func private @k0(memref<4xf32>, index)\\n'
    """
    head = kernel[: kernel.index(") {") + 1]
    return re.sub(r"%\w+: ", "", head) + "\n"


def _module(functions: str) -> str:
    return f"module {{\n{functions}}}\n"


def with_definitions(text: str, definitions: str) -> str:
    """LLVM IR with the definitions of functions that it declares.

    Example:
        >>> with_definitions("declare void @f()\\ndeclare void @g()\\n", "define void @f() {\\n  ret void\\n}\\n")
        'declare void @g()\\ndefine void @f() {\\n  ret void\\n}\\n'
    """
    names = set(_DEFINED.findall(definitions))
    return _DECLARED.sub(lambda m: "" if m[1] in names else m[0], text) + definitions


def lines_of(parts: Iterable[Part]) -> int:
    """How much there is to do."""
    return sum(part.source.count("\n") for part in parts)


def join(objects: Sequence[bytes]) -> bytes:
    """Several objects as one string of bytes; one object stays as it is."""
    if len(objects) == 1:
        return objects[0]
    lengths = b"".join(len(part).to_bytes(8, "little") for part in objects)
    return _MAGIC + len(objects).to_bytes(8, "little") + lengths + b"".join(objects)


def split(data: bytes) -> list[bytes]:
    """The objects that `join` put together.

    Example:
        >>> split(join([b"one", b"two"]))
        [b'one', b'two']
    """
    if not data.startswith(_MAGIC):
        return [data]
    numbers = memoryview(data)[len(_MAGIC) :]
    count = int.from_bytes(numbers[:8], "little")
    lengths = [int.from_bytes(numbers[8 * k : 8 * k + 8], "little") for k in range(1, count + 1)]
    objects, start = [], len(_MAGIC) + 8 * (count + 1)
    for length in lengths:
        objects.append(data[start : start + length])
        start += length
    return objects
