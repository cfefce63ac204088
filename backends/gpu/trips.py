"""Loops that run a known number of times: `i < 1000` where i begins at 0 and grows by 1, as loops over rows do, or
`i >= 0` where it shrinks, as their gradients do.

Their condition need not be computed, nor read back by the host.
"""

from __future__ import annotations

import re

from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.program import Loop, storage

# Predicates of arith.cmpi: which way the counter goes, and how far beyond the limit it comes.
_PREDICATES = {"2": (1, 0), "3": (1, 1), "4": (-1, 0), "5": (-1, 1)}


def trip_count(loop: Loop) -> int | None:
    """How often the body runs; None where only a run tells.

    Example:
        >>> trip_count(loop)      # i = 3; while i < 10: i += 2
        4
    """
    condition, body = loop.condition.graph, loop.body.graph
    compared = _pair(condition.outputs[0], "arith.cmpi")
    if compared is None:
        return None
    counter, limit, said = compared
    predicate = re.search(r"predicate = (\d+)", said)
    if predicate is None or predicate[1] not in _PREDICATES or counter not in condition.args:
        return None
    way, beyond = _PREDICATES[predicate[1]]
    number = condition.args.index(counter)
    grown = _pair(body.outputs[number], "arith.addi")
    if grown is None or grown[0] is not body.args[number] or grown[1] * way <= 0:
        return None
    start = _constant(loop.initial[number])
    if start is None:
        return None
    return max(0, -((way * (start - limit) - beyond) // abs(grown[1])))


def _pair(value: Value, name: str) -> tuple[Value, int, str] | None:
    """The tensor and the number that a scalar is made of by one op, in this order, and the op's attributes."""
    value = storage(value)
    generic = value.generic
    if value.kind != "map" or value.shape or generic is None or not generic.body.ops:
        return None
    *others, last = generic.body.ops
    if last.name != name or generic.body.yields != last.results or len(last.operands) != 2:
        return None
    constants = {op.results[0]: op.attributes for op in others if op.name == "arith.constant"}
    if len(constants) < len(others):
        return None

    def number(index: int) -> int | None:
        if index in constants:
            return _number(constants[index])
        return _constant(value.operands[index]) if index < generic.inputs else None

    first, second = last.operands
    if number(first) is not None and name == "arith.addi":
        first, second = second, first
    found = number(second)
    if found is None or first >= generic.inputs or number(first) is not None:
        return None
    return storage(value.operands[first]), found, last.attributes


def _constant(value: Value) -> int | None:
    value = storage(value)
    return None if value.splat is None else _number(value.splat)


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d+", text) else None
