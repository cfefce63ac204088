"""Structural difference of two modules: which ops came, went or changed, whatever the values are called.

Ops are lined up by what they are (name, attributes, result types, nesting), then operands are compared through the
pairing of values, so a renumbering is no difference and an op that takes another operand is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from thalweg.dialects.mlir import ir
from thalweg.dialects.printing import Line, lines

Change = Literal["same", "removed", "added", "operands"]


@dataclass(frozen=True)
class Entry:
    """A line of the difference. `left` is None for what was added, `right` for what was removed."""

    change: Change
    left: Line | None
    right: Line | None

    def __str__(self) -> str:
        match self.change:
            case "same":
                return f"  {self.right.text if self.right else ''}"
            case "removed":
                return f"- {self.left.text if self.left else ''}"
            case "added":
                return f"+ {self.right.text if self.right else ''}"
            case "operands":
                left, right = self.left, self.right
                return f"- {left.text if left else ''}\n+ {right.text if right else ''}"


def diff(left: ir.Module | ir.Operation, right: ir.Module | ir.Operation) -> list[Entry]:
    """Every line of both modules, lined up; all `same` where the modules are equal but for names.

    Example:
        >>> [str(e) for e in diff(a, b) if e.change != "same"]
        ['-   %1 = exp %0 : f32[3]', '+   %1 = log %0 : f32[3]']
    """
    old, new = list(lines(left)), list(lines(right))
    matcher = SequenceMatcher(None, [_signature(x) for x in old], [_signature(x) for x in new], autojunk=False)
    pairs: dict[ir.Value, ir.Value] = {}
    entries: list[Entry] = []
    for tag, old_from, old_to, new_from, new_to in matcher.get_opcodes():
        if tag == "equal":
            for a, b in zip(old[old_from:old_to], new[new_from:new_to], strict=True):
                entries.append(Entry(_paired(a, b, pairs), a, b))
        else:
            _pair_replaced(old[old_from:old_to], new[new_from:new_to], pairs)
            entries += [Entry("removed", x, None) for x in old[old_from:old_to]]
            entries += [Entry("added", None, x) for x in new[new_from:new_to]]
    return entries


def _signature(line: Line) -> tuple[object, ...]:
    """What a line is, without the names of values. Heads of regions have their arguments' types in the text."""
    return line.depth, *(t.text for t in line.tokens if t.kind != "value")


def _paired(left: Line, right: Line, pairs: dict[ir.Value, ir.Value]) -> Change:
    """Pair what two lined-up ops define, and say whether they take paired operands."""
    a, b = left.operation, right.operation
    if a is None or b is None:
        return "same"
    for ours, theirs in zip(_defined(a), _defined(b), strict=True):
        pairs[ours] = theirs
    same = all(x in pairs and pairs[x] == y for x, y in zip(a.operands, b.operands, strict=True))
    return "same" if same else "operands"


def _pair_replaced(old: Sequence[Line], new: Sequence[Line], pairs: dict[ir.Value, ir.Value]) -> None:
    """Where ops were replaced one for one, pair their results: users of them are not changed by it."""
    if len(old) != len(new):
        return
    for left, right in zip(old, new, strict=True):
        if left.operation is None or right.operation is None:
            continue
        ours, theirs = _defined(left.operation), _defined(right.operation)
        if [v.type for v in ours] == [v.type for v in theirs]:
            pairs.update(zip(ours, theirs, strict=True))


def _defined(operation: ir.Operation) -> Sequence[ir.Value]:
    """Results, and arguments of the first block of every region."""
    arguments = [a for r in operation.regions for a in (r.blocks[0].arguments if len(r.blocks) else [])]
    return [*operation.results, *arguments]
