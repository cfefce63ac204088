"""The reverse walk: through a list of ops from the last to the first, applying the rule of each."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.build import row_of
from thalweg.dialects.context import type_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import is_float
from thalweg.dialects.ops import indexing, tables
from thalweg.passes.gradients.rules import NotDifferentiable, Rule, rule_of
from thalweg.passes.gradients.sums import Sums, Walk
from thalweg.passes.rewriting import bodies, captures

_LOOKUPS = (indexing.take_rows, tables.lookup_rows)  # whose cotangents may be sparse


def activate(operations: Sequence[ir.Operation], active: set[ir.Value]) -> None:
    """Add to `active` the results of ops that depend on it in a differentiable way."""
    for operation in operations:
        row = row_of(operation)
        rule = rule_of(row) if row is not None else None
        if isinstance(rule, Rule) or (isinstance(rule, NotDifferentiable) and rule.error):
            if any(operand in active for operand in operation.operands):
                active.update(result for result in operation.results if is_float(type_of(result)))
        elif rule is not None and not isinstance(rule, NotDifferentiable):
            rule.activate(operation, active)


def reached(operations: Sequence[ir.Operation], seeds: set[ir.Value], active: set[ir.Value]) -> set[ir.Value]:
    """The active values that cotangents of the `seeds` can arrive at (never too few)."""
    found = {seed for seed in seeds if seed in active}
    for operation in reversed(operations):
        if any(result in found for result in operation.results):
            found.update(v for v in (*operation.operands, *captures(*bodies(operation))) if v in active)
    return found


def backward(operations: Sequence[ir.Operation], sums: Sums, walk: Walk) -> None:
    """Carry the cotangents in `sums` back through the ops, building at the insertion point.

    Every op that is made carries the location of the forward op that it is the derivative of.

    Raises:
        PassError: a derivative is asked for that does not exist; names the user's line.
    """
    for operation in reversed(operations):
        if not len(operation.results) or operation.name == "tw.yield":
            continue
        cotangents = [sums.take(result) for result in operation.results]
        if all(c is None for c in cotangents):
            continue
        row = row_of(operation)
        assert row is not None
        rule = rule_of(row)
        with operation.location:
            if isinstance(rule, Rule):
                if row in _LOOKUPS and operation.operands[0] in sums.lookups:
                    table, indices = operation.operands
                    sums.lookups[table].append((indices, _only(cotangents)))
                    continue
                for operand, entry in zip(operation.operands, rule(operation, cotangents), strict=True):
                    if operand in walk.active and entry is not None:
                        sums.add(operand, entry() if callable(entry) else entry)
            elif isinstance(rule, NotDifferentiable):
                if rule.error:
                    where = where_of(operation.location)
                    raise PassError(f"{f'{where} ' if where else ''}{row.name}: has no derivative: {rule.why}.")
            else:
                rule.backward(operation, cotangents, sums, walk)


def _only(cotangents: Sequence[ir.Value | None]) -> ir.Value:
    (cotangent,) = cotangents
    assert cotangent is not None
    return cotangent
