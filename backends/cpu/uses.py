"""How values use each other: what kernel forming asks of a value and one that reads it, or of two that write."""

from __future__ import annotations

from collections.abc import Collection

from thalweg.backends.cpu.graph import Value


def apart(first: Value, second: Value) -> bool:
    """Do two inserts write different elements of tensors of one shape, as far as can be told?"""
    sizes = zip(first.sizes, second.sizes, strict=True)
    places = zip(first.offsets, second.offsets, first.strides, second.strides, sizes, strict=True)
    for low, other, step, stride, (size, extent) in places:
        if isinstance(low, int) and isinstance(other, int):
            before = low + (size - 1) * step < other or other + (extent - 1) * stride < low
            if before or (step == stride and (low - other) % step):
                return True
    return False


def is_elementwise_use(value: Value, user: Value) -> bool:
    """Does `user` read each element of `value` once, at its own place?"""
    if user.kind != "map" or user.shape != value.shape:
        return user.kind == "reshape"
    generic = user.generic
    assert generic is not None
    return all(
        tuple(e.dim for e in generic.maps[k]) == tuple(e.dim for e in generic.result_maps[0])
        for k, operand in enumerate(user.operands)
        if operand is value and k < generic.inputs
    ) and all(operand is not value for operand in user.operands[generic.inputs :])


def expands(value: Value, user: Value) -> bool:
    """Does `user` read elements of `value` several times?"""
    if user.kind in ("map", "reduce"):
        generic = user.generic
        assert generic is not None
        total = 1
        for extent in generic.extents:
            total *= extent
        return total > value.size or any(operand is value for operand in user.operands[generic.inputs :])
    return False


def is_at_root(value: Value, root: Value, members: Collection[Value]) -> bool:
    """Is `value` elementwise over the root's result: same shape, members read at the same place?"""
    if value.kind != "map" or value.shape != root.shape:
        return False
    generic = value.generic
    assert generic is not None
    if any(op.regions for op in generic.body.ops):
        return False
    inside = [k for k, operand in enumerate(value.operands) if operand in members]
    place = tuple(e.dim for e in generic.result_maps[0])
    return all(k < generic.inputs and tuple(e.dim for e in generic.maps[k]) == place for k in inside)
