"""Values that are cheaper to compute again than to store and load.

    before: k1 stores z, tanh(z), 1 + tanh(z), 0.5 * z, … for k2 (the gradient of gelu)
    after:  k1 stores z; k2 computes the rest from it

For each kernel, either all of the elementwise results that others could compute themselves are dropped, or none: they
mostly come from the same few values, which are then stored instead (the sums of a contraction, the reductions of a row
kernel).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.costs import FLOATING, own_cost, reads_buffer
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.program import storage

STORE_COST = 25  # instructions per element that one store and one load are worth
FAR_STORE_COST = 100  # where the elements come back from memory
FAR = 1 << 18  # elements that are more than the caches near a processor hold
ROW_PASSES = 4  # a row kernel walks its rows several times, and computes each time
_RECOMPUTED = {"map", "slice", "reshape"}


@dataclass(frozen=True)
class Stores:
    """One kernel while it is formed: what it computes, and which of that it stores. Both are changed in place."""

    root: Value
    members: set[Value]
    stored: dict[Value, None]


def rematerialise(kernels: Sequence[Stores], kept: frozenset[Value], read: Callable[[Value], None]) -> None:
    """Drop stores whose readers can do without.

    Args:
        kernels: in an order in which they can run.
        kept: values that must stay in buffers (outputs, what control flow reads).
        read: called with a value that is read from a buffer from now on: has its kernel store it.
    """
    readers: dict[Value, list[tuple[Stores, Value]]] = {}
    for kernel in kernels:
        _add_reads(kernel, kernel.members, readers)
    for kernel in reversed(kernels):
        _drop(kernel, kept, readers, read)


def _add_reads(kernel: Stores, members: set[Value], readers: dict[Value, list[tuple[Stores, Value]]]) -> None:
    """Note what some of a kernel's members read from buffers."""
    for member in members:
        for operand in member.operands:
            if operand not in kernel.members or reads_buffer(member, operand):
                readers.setdefault(storage(operand), []).append((kernel, member))


def _drop(
    kernel: Stores,
    kept: frozenset[Value],
    readers: dict[Value, list[tuple[Stores, Value]]],
    read: Callable[[Value], None],
) -> None:
    dropped = [v for v in kernel.stored if v not in kept and v is not kernel.root and _droppable(v, kernel, readers)]
    if not dropped:
        return
    needed: dict[int, tuple[Stores, set[Value]]] = {}  # what each reading kernel must compute
    leaves: set[Value] = set()
    stays = set(kernel.stored) - set(dropped)
    for value in dropped:
        chain, ends = _chain(value, kernel, stays)
        if not all(end in stays or _at_hand(end, kernel) for end in ends):
            return
        leaves |= ends
        for reader, _ in readers[value]:
            needed.setdefault(id(reader), (reader, set()))[1].update(chain)
    extra = [v for v in leaves if v in kernel.members and v not in kernel.stored]
    saved = sum(v.size for v in dropped) - sum(v.size for v in extra)
    work = sum(
        own_cost(v) * v.size * (ROW_PASSES if reader.root.kind == "reduce" else 1)
        for reader, chain in needed.values()
        for v in chain
    )
    cost = FAR_STORE_COST if sum(v.size for v in dropped) >= FAR else STORE_COST
    if saved <= 0 or work > cost * saved:
        return
    for value in dropped:
        del kernel.stored[value]
    for reader, chain in needed.values():
        added = chain - reader.members
        reader.members.update(added)
        _add_reads(reader, added, readers)
    for leaf in leaves:
        read(leaf)


def _droppable(value: Value, kernel: Stores, readers: dict[Value, list[tuple[Stores, Value]]]) -> bool:
    """Is a stored value elementwise, and read element by element only?"""
    if value.kind not in _RECOMPUTED:
        return False
    if value.generic is not None and any(op.regions for op in value.generic.body.ops):
        return False
    if any(user.kind == "reshape" for user in value.users):
        return False
    found = readers.get(value, ())
    return bool(found) and all(
        reader is not kernel and not reads_buffer(member, value) and reader.root.kind not in ("opaque", "insert")
        for reader, member in found
    )


def _chain(value: Value, kernel: Stores, stays: set[Value]) -> tuple[set[Value], set[Value]]:
    """The elementwise members of `kernel` that `value` is computed from, itself included, and what those start from.

    Members that stay in buffers are read, not computed.
    """
    chain: set[Value] = set()
    ends: set[Value] = set()
    pending = [value]
    while pending:
        found = pending.pop()
        inside = found in kernel.members and (found.kind in _RECOMPUTED or found.kind == "scalar")
        if inside and found not in stays:
            chain.add(found)
            pending += found.operands
        elif found.kind not in ("constant", "empty") or found.splat is None:
            ends.add(found)
    return chain, ends


def _at_hand(value: Value, kernel: Stores) -> bool:
    """Can `value` be read from a buffer (perhaps after it is stored there)?"""
    return value not in kernel.members or value.kind not in FLOATING
