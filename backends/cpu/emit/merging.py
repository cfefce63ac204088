"""Short rows: dimensions that every tensor of a kernel walks together, or not at all, are one.

before:  x[1000, 2, 31, 10] / s[2, 31, 10]     rows of 10, in vectors of 16
after:   x[1000, 620] / s[620]
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from thalweg.backends.cpu.graph import Affine, Value

LONG = 8  # vectors in a row that need no merging


def merged_from(members: Collection[Value], shape: Sequence[int], lanes: int) -> int:
    """The first of the last dimensions of the results of a kernel that may be walked as one; `len(shape)` where none
    should be.
    """
    long = [d for d, extent in enumerate(shape) if extent != 1]
    if len(long) < 2 or lanes == 1 or shape[long[-1]] >= LONG * lanes:
        return len(shape)
    results = [value for value in members if value.shape == tuple(shape)]
    first = len(long) - 1
    while first and all(_together(value, long[first - 1], long[first], members) for value in results):
        first -= 1
    # What is walked whole needs no dimensions at all, and was asked for before.
    return long[first] if 0 < first < len(long) - 1 else len(shape)


def _together(value: Value, outer: int, inner: int, members: Collection[Value]) -> bool:
    """Does what a kernel's value is computed from lie in the order of these two dimensions, or at one place?"""
    if value.size == 1 or value.splat is not None or value not in members:
        return True
    generic = value.generic
    if value.kind != "map" or generic is None or generic.captures or len(value.peers) > 1:
        return False
    where = generic.result_maps[value.result_index]
    loops = [where[outer].dim, where[inner].dim]
    if None in loops or any(op.dim is not None or op.regions for op in generic.body.ops):
        return False
    wanted = [Affine(((loop, 1),)) for loop in loops if loop is not None]
    for operand, map_ in zip(value.operands, generic.input_maps, strict=False):
        touched = [d for d, e in enumerate(map_) if any(loop in loops for loop, _ in e.terms)]
        if not touched:
            continue
        apart = math.prod(operand.shape[touched[0] + 1 : touched[-1]]) != 1
        if [map_[d] for d in touched] != wanted or apart or not _together(operand, touched[0], touched[1], members):
            return False
    return True
