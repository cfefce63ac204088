"""What a row kernel keeps from one pass over a row to the next.

Softmax needs e^(x - max) twice: for the sum, and for the result. Elementary functions cost more than memory that is in
the cache, so such a value waits where the result will be: in the buffer of a store of the same shape.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from thalweg.backends.cpu.costs import own_cost
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.rows import RowSpace
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import storage_type

EXPENSIVE = 20  # rough instructions: an elementary function
LONGEST = 1 << 17  # elements of a row that stays in the second cache


def kept_values(
    group: Group, space: RowSpace, passes: Sequence[tuple[Sequence[Value], tuple[int, ...]]]
) -> list[list[tuple[Value, Value]]]:
    """For each pass, the pairs (value, store): the value is computed in the pass, and waits in the store's buffer.

    Args:
        passes: the reductions of each pass, and the extents that they walk.
    """
    found: list[list[tuple[Value, Value]]] = [[] for _ in passes]
    taken: set[Value] = set()
    for store in group.stores:
        wanted = _computed_for([store], group)
        for number, (reductions, extents) in enumerate(passes):
            if inner_extents(space, store.shape) != extents or math.prod(extents) > LONGEST:
                continue
            shared = [v for v in wanted & _computed_for(reductions, group) if _worthwhile(v, store) and v not in taken]
            if shared:
                value = max(shared, key=lambda v: v.id)
                found[number].append((value, store))
                taken.add(value)
                break
    return found


def inner_extents(space: RowSpace, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The extents inside a row of a tensor whose leading dimensions are the rows; empty where they are not."""
    positions = space.positions(shape)
    return () if positions is None else tuple(n for d, n in enumerate(shape) if d not in positions)


def _computed_for(values: Iterable[Value], group: Group) -> set[Value]:
    """The members that are computed, element by element, to get `values`; not those behind other reductions."""
    found: set[Value] = set()
    pending = [operand for value in values for operand in (value, *value.operands)]
    while pending:
        value = pending.pop()
        if value in group.members and value.kind != "reduce" and value not in found:
            found.add(value)
            pending += value.operands
    return found


def _worthwhile(value: Value, store: Value) -> bool:
    same = value.shape == store.shape and storage_type(value.element) == storage_type(store.element)
    return same and value is not store and value.kind == "map" and own_cost(value) >= EXPENSIVE
