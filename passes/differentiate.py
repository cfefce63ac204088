"""Reverse-mode differentiation: `vjp` and `pullback` become plain ops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.extents import any_open, is_open
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import is_float
from thalweg.dialects.ops import control, elementwise, ragged, shape
from thalweg.dialects.types import TensorType, int32
from thalweg.passes.base import Pass
from thalweg.passes.gradients import activate, backward
from thalweg.passes.gradients.counted import count_known_loops
from thalweg.passes.gradients.sums import Expansion, Sums, Walk, inner_operations
from thalweg.passes.inline import Inline
from thalweg.passes.rewriting import (
    array,
    bodies,
    body_of,
    definition,
    full,
    functions,
    operations,
    replace,
    splice,
    yields,
)


@dataclass(frozen=True)
class Differentiate(Pass):
    """Expand `vjp` and `pullback` into the ops that they stand for, inner pairs first.

    Before:
        %y, %tape = "tw.vjp"(%x) ({ ^bb0(%a): %b = "tw.tanh"(%a)  "tw.yield"(%b) })
        %dx = "tw.pullback"(%tape, %dy) <{wrt = [0]}>
    After:
        %y = "tw.tanh"(%x)
        %s = "tw.mul"(%y, %y)  %t = "tw.sub"(%one, %s)  %dx = "tw.mul"(%dy, %t)

    The region of a `vjp` stays closed while its pullbacks are expanded, which see into it; then it is opened. Needs
    `hoist-state` before it where regions read or write variables. Marks that only matter to derivatives
    (`stop_gradient`, `custom_gradient`) go at the end.
    """

    name: ClassVar[str] = "differentiate"

    def run(self, module: ir.Module) -> bool:
        changed = Inline().run(module)
        for block in functions(module):
            changed |= _expand_block(block)
        for block in functions(module):
            changed |= _drop_marks(block)
        return changed


def _expand_block(block: ir.Block) -> bool:
    found = list(_innermost_first(block))
    for vjp in found:
        _expand(vjp)
    return bool(found)


def _innermost_first(block: ir.Block) -> Iterator[ir.Operation]:
    """The `vjp` ops of a block, those in regions before the op around them."""
    for operation in operations(block):
        for inner in bodies(operation):
            yield from _innermost_first(inner)
        if operation.name == "tw.vjp":
            yield operation
        elif operation.name == "tw.pullback":
            made_by = definition(operation.operands[0])
            if made_by is None or made_by.name != "tw.vjp":
                raise _misplaced(operation, "the handle must come directly from a tw.vjp, not through another op.")


def _expand(vjp: ir.Operation) -> None:
    """Expand all pullbacks of a `vjp`, then open its region."""
    expansion = Expansion()
    pullbacks = reversed(list(vjp.results[-1].uses))
    count_known_loops(vjp)
    for use in pullbacks:
        pullback = use.owner.operation
        if pullback.name != "tw.pullback":
            raise _misplaced(pullback, f"{pullback.name} cannot take the handle of a vjp: only tw.pullback can.")
        with ir.InsertionPoint(pullback), pullback.location:
            replace(pullback, _pull(vjp, pullback, expansion))
    expansion.finish()
    values = splice(body_of(vjp), vjp, list(vjp.operands))
    for result, value in zip(list(vjp.results)[:-1], values, strict=True):
        result.replace_all_uses_with(value)
    vjp.erase()


def _pull(vjp: ir.Operation, pullback: ir.Operation, expansion: Expansion) -> list[ir.Value]:
    """Build the cotangents that a pullback asks for."""
    body, attrs = body_of(vjp), attributes_of(control.pullback, pullback)
    ops = inner_operations(body)
    wrt, rows = attrs["wrt"], attrs["rows"] or (-1,) * len(attrs["wrt"])
    wanted = [body.arguments[i] for i in wrt]
    walk = Walk(set(wanted), expansion)
    activate(ops, walk.active)
    sums = Sums(tables=[value for value, count in zip(wanted, rows, strict=True) if count >= 0])
    aux = attributes_of(control.vjp, vjp)["aux"]
    ends = yields(body)
    outputs = [v for v in ends[: len(ends) - aux] if is_float(type_of(v))]
    for value, cotangent in zip(outputs, list(pullback.operands)[1:], strict=True):
        if value in walk.active and not _is_zero(cotangent):
            sums.add(value, cotangent)
    backward(ops, sums, walk)
    results: list[ir.Value] = []
    dense: dict[ir.Value, ir.Value] = {}
    for value, count in zip(wanted, rows, strict=True):
        if count >= 0:
            results += _sparse(pullback, value, count, sums)
        else:
            if value not in dense:
                dense[value] = sums.take_full(value)
            results.append(dense[value])
    return results


def _sparse(pullback: ir.Operation, table: ir.Value, count: int, sums: Sums) -> list[ir.Value]:
    """Row indices and rows of all lookups in a table, one after the other."""
    if sums.take(table) is not None:
        raise _misplaced(
            pullback,
            "a sparse cotangent is asked for a table that the function uses otherwise than by looking up rows outside "
            "of loops and branches. Ask for a dense one.",
        )
    type_ = tensor_type_of(table)
    indices, rows = [], []
    for index, cotangent in sums.lookups[table]:
        if any_open(tensor_type_of(index).shape):  # by lookup_rows, which has no rows outside
            indices.append(index)
            rows.append(cotangent)
            continue
        size = tensor_type_of(index).size
        flat = elementwise.convert(shape.reshape(index, shape=(size,)), dtype=int32)
        bounds = array(0, int32), array(type_.shape[0] - 1, int32)
        indices.append(elementwise.clamp(bounds[0], flat, bounds[1]))  # a lookup outside took the nearest row
        rows.append(shape.reshape(cotangent, shape=(size, *type_.shape[1:])))
    if not indices:
        return [full(TensorType((count,), int32), 0), full(type_.with_shape((count, *type_.shape[1:])), 0)]
    if is_open(count):
        if len(indices) == 1:
            return [indices[0], rows[0]]
        return [ragged.join_rows(*indices, extents=(count,)), ragged.join_rows(*rows, extents=(count,))]
    found = sum(tensor_type_of(i).size for i in indices)
    if found != count:
        raise _misplaced(pullback, f"{count} rows are asked for, but the function looks up {found}.")
    if len(indices) == 1:
        return [indices[0], rows[0]]
    return [shape.concatenate(*indices, axis=0), shape.concatenate(*rows, axis=0)]


def _is_zero(value: ir.Value) -> bool:
    """True for a zero known as such: a constant, perhaps broadcast."""
    made_by = definition(value)
    while made_by is not None and made_by.name == "tw.broadcast":
        made_by = definition(made_by.operands[0])
    if made_by is None or made_by.name != "tw.constant":
        return False
    return not attributes_of(shape.constant, made_by)["value"].any()


def _drop_marks(block: ir.Block) -> bool:
    changed = False
    for operation in operations(block):
        for inner in bodies(operation):
            changed |= _drop_marks(inner)
        if operation.name == "tw.stop_gradient":
            replace(operation, list(operation.operands))
            changed = True
        elif operation.name == "tw.custom_gradient":
            inputs = attributes_of(control.custom_gradient, operation)["inputs"]
            replace(operation, list(operation.operands)[inputs:])
            changed = True
    return changed


def _misplaced(operation: ir.Operation, message: str) -> PassError:
    where = where_of(operation.location)
    return PassError(f"{where} {message}" if where else message)
