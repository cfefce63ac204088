"""Why a traced function would trace again, or which of its programs it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thalweg.dialects.location import Where
from thalweg.frontend.device import current_scope
from thalweg.frontend.signature import Argument, Data, Key, Leaf, Static, describe

if TYPE_CHECKING:
    from thalweg.frontend.function import Specialisation


@dataclass(frozen=True)
class Explanation:
    """What a call would do; prints as text.

    Attributes:
        traces: True if the call would trace the function again.
        program: number of the cached program that it would run, or that is nearest to it; None if there is none.
        changes: what differs from that program, one line each.
    """

    text: str
    traces: bool
    program: int | None
    changes: tuple[str, ...]

    def __str__(self) -> str:
        return self.text

    __repr__ = __str__


def explain(name: str, where: Where, key: Key, cached: Sequence[Specialisation]) -> Explanation:
    """The explanation of a call with this key, given what is cached."""
    place = str(where).partition(": in ")[0].removesuffix(":")
    head = f"{name}({describe(key)}), defined at {place}"
    if not cached:
        return Explanation(f"{head}\n  would trace: it has not been traced yet.", True, None, ())
    for one in cached:
        if one.key == key and one.holds():
            text = f"{head}\n  runs program {one.number}, traced for the call at {_call(one)}."
            return Explanation(text, False, one.number, ())
    nearest = min(cached, key=lambda one: len(changes(one, key)))
    found = changes(nearest, key)
    lines = "".join(f"\n    {line}" for line in found)
    return Explanation(
        f"{head}\n  would trace again. The nearest of {len(cached)} cached program(s) is {nearest.number}, traced for "
        f"the call at {_call(nearest)}; what differs:{lines}",
        True,
        nearest.number,
        tuple(found),
    )


def _call(one: Specialisation) -> str:
    return str(one.where).removesuffix(":")


def changes(one: Specialisation, key: Key) -> list[str]:
    """What differs between a cached program and a call."""
    found = []
    for before, after in zip(one.key, key, strict=True):
        found += _argument_changes(before, after)
    if one.scope != current_scope():
        found.append(f"tw.device asked for {one.scope or 'nothing'}, asks for {current_scope() or 'nothing'}")
    return found + [g.change() for g in one.guards if not g.holds()]


def _argument_changes(before: Argument, after: Argument) -> list[str]:
    if before.structure != after.structure:
        return [f"argument '{before.name}': the structure was {before.structure}, is {after.structure}"]
    return [
        f"argument '{path}': was {old}, is {new} ({_kind_of_change(old, new)})"
        for path, old, new in zip(after.paths(), before.leaves, after.leaves, strict=True)
        if old != new
    ]


def _kind_of_change(old: Leaf, new: Leaf) -> str:
    if isinstance(old, Static) or isinstance(new, Static):
        return "static values are part of the program"
    assert isinstance(old, Data)
    if old.weak != new.weak:
        return "a Python number against an array"
    if old.type.dtype != new.type.dtype:
        return "another dtype" if old.type.shape == new.type.shape else "another dtype and shape"
    return "another rank" if old.type.rank != new.type.rank else "another shape"
