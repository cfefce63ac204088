"""Groups of values that are alike become kernels once: the layers of a deep network repeat themselves.

Two groups are alike if their values, taken in the order of the program, are the same in all but name, and read each
other alike. What is read from outside counts with all that can be seen of it, but for what makes it.

    layer 1:  %7 = contract %3, %w1 ; %8 = max %7, 0     ->  k1(%3, %w1) -> %8
    layer 2:  %9 = contract %8, %w2 ; %10 = max %9, 0    ->  k1(%8, %w2) -> %10
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from dataclasses import fields, replace
from typing import Any

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel

Emit = Callable[[Group, str], Kernel]

_NAMES = {"id", "users", "location", "peers", "operands", "op"}  # fields that tell values of the same kind apart
_TOLD = {"map", "reduce", "contract", "convolution", "reshape", "slice", "insert"}  # kinds that are all in the fields
_OWN = [field.name for field in fields(Value) if field.name not in _NAMES]
_SEEN = {"kind", "shape", "element", "attribute", "splat", "sizes", "strides", "panels"}  # of values from outside
_VIEWS = ("reshape", "slice")  # of what is read from outside: their operands may be read instead


class Alike:
    """Emits groups; of those that are alike, the first."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._known: dict[Hashable, tuple[list[Value], Kernel]] = {}

    def __call__(self, group: Group, name: str) -> Kernel:
        """The kernel of a group; by another's name, if there is one that is alike."""
        values = _in_order(group)
        key = _shape_of(group, values)
        if key is None:
            return self._emit(group, name)
        if key in self._known:
            others, kernel = self._known[key]
            return _renamed(kernel, dict(zip(others, values, strict=True)))
        kernel = self._emit(group, name)
        if set(_values_of(kernel)) <= set(values):
            self._known[key] = values, kernel
        return kernel


def _in_order(group: Group) -> list[Value]:
    """The members of a group, and what they read, in the order of the program."""
    found = dict.fromkeys(group.members)
    pending = [*group.members, *group.stores, group.root]
    while pending:
        value = pending.pop()
        found[value] = None
        if value in group.members or value.kind in _VIEWS:
            related = (*value.operands, *(o for o in value.offsets if isinstance(o, Value)))
            pending += [other for other in related if other not in found]
    return sorted(found, key=lambda value: value.id)


def _shape_of(group: Group, values: list[Value]) -> Hashable:
    """All about a group but the names of its values; None where that cannot be told."""
    numbers = {value: number for number, value in enumerate(values)}
    described = []
    for value in values:
        inside = value in group.members
        if inside and value.kind not in _TOLD:
            return None
        followed = inside or value.kind in _VIEWS
        described.append((
            inside,
            value.op_name if inside else "",
            tuple(numbers[operand] for operand in value.operands) if followed else (),
            tuple(numbers.get(peer, -1) for peer in value.peers) if inside else (),
            *(_plain(getattr(value, name), numbers) for name in _OWN if inside or name in _SEEN),
        ))  # fmt: skip
    return numbers[group.root], tuple(numbers[store] for store in group.stores), tuple(described)


def _plain(item: Any, numbers: dict[Value, int]) -> Hashable:
    """A field of a value, with values by their numbers."""
    if isinstance(item, Value):
        return ("value", numbers[item])
    if isinstance(item, tuple):
        return tuple(_plain(part, numbers) for part in item)
    known: Hashable = item
    return known


def _values_of(kernel: Kernel) -> Iterable[Value]:
    yield from kernel.operands
    yield from kernel.results
    yield from (value for _, value in kernel.updates)


def _renamed(kernel: Kernel, names: dict[Value, Value]) -> Kernel:
    """A kernel over other values."""
    return replace(
        kernel,
        operands=tuple(names[value] for value in kernel.operands),
        results=tuple(names[value] for value in kernel.results),
        updates=tuple((number, names[value]) for number, value in kernel.updates),
    )
