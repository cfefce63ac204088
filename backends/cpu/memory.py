"""The memory plan for people: which values of a compiled program live where, from when to when, by whose line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thalweg.backends.cpu.backend import Lowered
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.plan import nbytes
from thalweg.dialects.location import Where, where_of


@dataclass(frozen=True)
class Buffer:
    """A stored value. Several may share bytes of the arena, one after the other."""

    made_by: str  # a kernel's name, or 'argument'
    type: str  # f32[2,3], signless
    bytes: int
    kind: str  # where it lives: 'argument', 'result', 'arena' or 'constant'
    number: int  # of the argument or result
    offset: int  # in the arena
    life: tuple[int, int]  # the first and the last kernel, by number, that need these bytes, for this value or others
    where: Where | None


def buffers(lowered: Lowered) -> list[Buffer]:
    """The values that kernels store, in the order of the kernels, arguments first.

    Example:
        >>> [(b.made_by, b.kind, b.bytes) for b in buffers(lower(module, options))]
        [('argument', 'argument', 24), ('k0_contract', 'result', 16)]
    """
    return list(_buffers(lowered))


def _buffers(lowered: Lowered) -> Iterator[Buffer]:
    for argument in lowered.program.graph.args:
        yield _buffer(lowered, argument, "argument")
    for number, kernel in enumerate(lowered.program.kernels()):
        for result in kernel.results:
            yield _buffer(lowered, result, kernel.name)
        if kernel.scratch:
            location = lowered.plan.scratch(kernel)
            yield Buffer(
                kernel.name, "scratch", kernel.scratch, location.kind, 0, location.offset, (number, number), None
            )


def _buffer(lowered: Lowered, value: Value, made_by: str) -> Buffer:
    location, slot = lowered.plan.location(value), lowered.plan.slot(value)
    spans = slot.spans if slot is not None else [(0, 0)]
    return Buffer(
        made_by=made_by,
        type=f"{value.element}[{','.join(map(str, value.shape))}]",
        bytes=nbytes(value),
        kind=location.kind,
        number=location.number,
        offset=location.offset,
        life=(min(first for first, _ in spans) // 2, max(last for _, last in spans) // 2),
        where=where_of(value.op.location) if value.op is not None else None,
    )
