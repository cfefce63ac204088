from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thalweg.dialects.attributes import array_value, attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.extents import any_open
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef, Unsupported
from thalweg.dialects.ops import shape
from thalweg.passes.base import Pass
from thalweg.passes.peephole import Replacement, Visitor, rewrite
from thalweg.passes.rewriting import definition

MOST_ELEMENTS = 1024

# These are small as they stand, and larger as constants.
KEPT = frozenset({"constant", "broadcast", "iota", "barrier", "random_bits"})


@dataclass(frozen=True)
class ConstantFold(Pass):
    """Compute ops on constants, by the NumPy reference of their rows, where the result is small.

    Before:
        %c = "tw.constant"() <{value = dense<2.0>}>  %d = "tw.sqrt"(%c)
    After:
        %d = "tw.constant"() <{value = dense<1.41421354>}>

    Elementwise ops on broadcast scalars become a broadcast scalar, whatever their size.
    """

    name: ClassVar[str] = "constant-fold"
    most_elements: int = MOST_ELEMENTS

    def run(self, module: ir.Module) -> bool:
        return rewrite(module, lambda: [Fold(self.most_elements)])


class Fold(Visitor):
    """Replaces ops on constants by constants."""

    def __init__(self, most_elements: int = MOST_ELEMENTS) -> None:
        self._most = most_elements

    def visit(self, operation: ir.Operation) -> Replacement:
        operands = list(operation.operands)
        if not operands:
            return None
        sources = [_constant(o) for o in operands]
        if any(s is None for s in sources):
            return None
        row = row_of(operation)
        if row is None or row.name in KEPT or row.regions or row.effects != "pure":
            return None
        if isinstance(row.reference, Unsupported):
            return None
        with ir.InsertionPoint(operation), operation.location:
            if row.family in ("elementwise", "special") and any(_is_broadcast(o) for o in operands):
                return _fold_scalars(row, operation, sources)
            if any(_is_broadcast(o) for o in operands):
                return None
            types = [tensor_type_of(r) for r in operation.results]
            if any(any_open(t.shape) for t in types) or sum(t.size for t in types) > self._most:
                return None  # how many rows there are (of a partition, say) is for the run to tell
            values = _apply(row, operation, [array_value(s.attributes["value"]) for s in sources if s is not None])
            return [shape.constant(value=v) for v in values]


def _constant(value: ir.Value) -> ir.Operation | None:
    """The constant that a value is, or the scalar constant that it is a broadcast of."""
    made_by = definition(value)
    if made_by is not None and made_by.name == "tw.broadcast":
        made_by = definition(made_by.operands[0])
        if made_by is not None and made_by.results[0].type.rank != 0:
            return None
    return made_by if made_by is not None and made_by.name == "tw.constant" else None


def _is_broadcast(value: ir.Value) -> bool:
    made_by = definition(value)
    return made_by is not None and made_by.name == "tw.broadcast"


def _fold_scalars(row: OpDef, operation: ir.Operation, sources: Sequence[ir.Operation | None]) -> Replacement:
    """The op on the scalars that its operands are filled with, broadcast; None where one is filled with several."""
    scalars = []
    for source in sources:
        assert source is not None
        dense = ir.DenseElementsAttr(source.attributes["value"])
        if not dense.is_splat and source.results[0].type.rank != 0:
            return None
        scalars.append(array_value(source.attributes["value"]).reshape(-1)[:1].reshape(()))
    if any(s.size == 0 for s in scalars):
        return None
    (value,) = _apply(row, operation, scalars)
    extents = tensor_type_of(operation.results[0]).shape
    scalar = shape.constant(value=value)
    return [shape.broadcast(scalar, shape=extents, dims=()) if extents else scalar]


def _apply(row: OpDef, operation: ir.Operation, arrays: Sequence[np.ndarray]) -> list[np.ndarray[Any, Any]]:
    assert not isinstance(row.reference, Unsupported)
    with np.errstate(all="ignore"):
        made = row.reference(*arrays, **attributes_of(row, operation))
    values = list(made) if isinstance(made, tuple) else [made]
    types = [tensor_type_of(r) for r in operation.results]
    return [np.asarray(v, t.dtype.numpy) for v, t in zip(values, types, strict=True)]
