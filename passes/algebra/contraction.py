"""Laws of contractions: transposes go into dimension numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import shape
from thalweg.dialects.ops.contraction import dot_general, free_dimensions
from thalweg.passes.algebra.laws import attribute, law, made_by
from thalweg.passes.rewriting import has_one_use

V: TypeAlias = ir.Value
Ints = Sequence[int]


@law("dot(transpose(x), y) = dot(x, y) by other dimensions", dot_general)
def _(lhs: V, rhs: V, *, op: ir.Operation) -> V | None:
    attrs = attributes_of(dot_general, op)
    for side, value in (("lhs", lhs), ("rhs", rhs)):
        inner = made_by(value, shape.transpose)
        if inner is None:
            continue
        order = attribute(inner, shape.transpose, "permutation")
        batch, contract = attrs[f"{side}_batch"], attrs[f"{side}_contract"]
        free = [order[d] for d in free_dimensions(len(order), batch, contract)]
        if free != sorted(free):  # what is left over would come out in another order
            continue
        attrs[f"{side}_batch"] = [order[d] for d in batch]
        attrs[f"{side}_contract"] = [order[d] for d in contract]
        lhs, rhs = (inner.operands[0], rhs) if side == "lhs" else (lhs, inner.operands[0])
        return dot_general(lhs, rhs, **attrs)
    return None


@law("transpose(dot(x, y)) = dot(y, x)", shape.transpose)
def _(x: V, *, permutation: Ints) -> V | None:
    inner = made_by(x, dot_general)
    if inner is None or not has_one_use(x):
        return None
    attrs = attributes_of(dot_general, inner)
    lhs, rhs = inner.operands
    batch = len(attrs["lhs_batch"])
    left = tensor_type_of(lhs).rank - batch - len(attrs["lhs_contract"])
    rank = tensor_type_of(x).rank
    exchanged = [*range(batch), *range(batch + left, rank), *range(batch, batch + left)]
    if list(permutation) != exchanged:
        return None
    return dot_general(
        rhs, lhs, lhs_batch=attrs["rhs_batch"], rhs_batch=attrs["lhs_batch"], lhs_contract=attrs["rhs_contract"],
        rhs_contract=attrs["lhs_contract"], dtype=attrs["dtype"],
    )
