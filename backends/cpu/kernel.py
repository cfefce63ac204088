"""What a code generator hands to the step: one function over buffers, and what the planner must know about it.

A kernel is the text of one MLIR function with this signature:

    func.func private @name(%operand buffers…, %result buffers…, [%scratch: memref<Nxi8>,] %lo: index, %hi: index)

Buffers are static row-major memrefs; `memref_type(value)` is their type. Two element types are stored differently
from how they are computed: `i1` as `i8` (one byte, 0 or 1, as NumPy does), everything else as itself. A 0-d tensor is
`memref<T>`. The work is cut into `tiles` independent units and the function does the units [lo, hi); several
threads may call it at the same time with disjoint ranges, each with its own scratch. A kernel that cannot be split
has one tile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.graph import Value


@dataclass(frozen=True)
class Kernel:
    """One generated function.

    `updates` names the results that are modified rather than written: the result's buffer holds the named value's
    contents when the kernel starts (the planner shares the buffer where that value dies, and copies where it does not);
    such a value is not among the operands unless the kernel also reads it elsewhere.
    `inplace` lists the pairs (result, operand) that may be one buffer: every element of the operand is read before the
    result's element at the same place is written, by the same tile.
    `nanoseconds` estimates the time of all tiles on one thread, where the bytes read and written say too little;
    `setup` says that every call repeats some work (packing), so that the tiles are better not cut into many calls.
    """

    name: str
    source: str
    operands: tuple[Value, ...]
    results: tuple[Value, ...]
    tiles: int = 1
    scratch: int = 0  # bytes for each thread
    updates: tuple[tuple[int, Value], ...] = ()  # (index of the result, the value it starts from)
    inplace: tuple[tuple[int, int], ...] = ()  # (index of the result, index of the operand)
    types: tuple[str, ...] = ()  # memref types of operands and results, where they are not `memref_type` of the values
    nanoseconds: float = 0.0
    setup: bool = False

    @property
    def buffer_types(self) -> tuple[str, ...]:
        """The memref types of the operands' and results' parameters."""
        return self.types or tuple(memref_type(value) for value in (*self.operands, *self.results))


def storage_type(element: str) -> str:
    """The element type in memory of values of element type `element`: 'i8' for 'i1', else the same."""
    return "i8" if element == "i1" else element


def memref_type(value: Value) -> str:
    """The type of a kernel's parameter for a value: f32[2,3] is `memref<2x3xf32>`, bool[] is `memref<i8>`."""
    return "memref<" + "".join(f"{n}x" for n in value.shape) + storage_type(value.element) + ">"


def function(
    name: str,
    operands: Sequence[tuple[str, Value | str]],
    results: Sequence[tuple[str, Value | str]],
    body: str,
    scratch: tuple[str, int] | None = None,
) -> str:
    """The text of a kernel's function from (SSA name, value or memref type) pairs; `body` may use `%lo` and `%hi`.

    Args:
        scratch: the SSA name of the scratch buffer and its bytes, where there is one.
    """
    parameters = [
        f"{ssa}: {value if isinstance(value, str) else memref_type(value)}" for ssa, value in (*operands, *results)
    ]
    if scratch is not None:
        parameters.append(f"{scratch[0]}: memref<{scratch[1]}xi8>")
    parameters += ["%lo: index", "%hi: index"]
    return f"func.func private @{name}({', '.join(parameters)}) {{\n{body}\nreturn\n}}\n"
