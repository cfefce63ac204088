"""Sums that a scan adds up row by row, taken out of it and computed at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, elementwise
from thalweg.dialects.ops.contraction import dot_general
from thalweg.dialects.ops.reduce import reduce_sum
from thalweg.passes.base import Pass
from thalweg.passes.dce import drop_unused
from thalweg.passes.rewriting import (
    block_of,
    bodies,
    body_of,
    definition,
    functions,
    has_one_use,
    operations,
    recreate,
    set_yields,
    yields,
)


@dataclass(frozen=True)
class HoistSums(Pass):
    """Compute what a scan only adds up, a product or a sum of each row, once for all rows after it.

    It is how the gradient of a recurrent network's weights becomes one large contraction. Done where keeping the
    factors of each row takes less memory than writing the sum each time.

    Before:
        %s, %ys = "tw.scan"(%zero, %xs) ({ ^bb0(%a, %x): … %d = "tw.dot_general"(%x, %y)  %b = "tw.add"(%a, %d)
                                           "tw.yield"(%b, %z) })
    After:
        %zs, %ys = "tw.scan"(%xs) ({ ^bb0(%x): … "tw.yield"(%z, %y) })
        %p = "tw.dot_general"(%xs, %ys)  %s = "tw.add"(%zero, %p)
    """

    name: ClassVar[str] = "hoist-sums"

    def run(self, module: ir.Module) -> bool:
        return any([_hoist_block(block) for block in functions(module)])


@dataclass
class _Plan:
    """Which carried values of a scan go, and what is stacked for them."""

    scan: ir.Operation
    body: ir.Block
    carried: int
    terms: dict[int, list[ir.Operation]] = field(default_factory=dict)  # by the index of the carried value
    stacked: list[ir.Value] = field(default_factory=list)

    def is_row(self, value: ir.Value) -> bool:
        return value in list(self.body.arguments)[self.carried :]

    def is_stacked(self, value: ir.Value) -> bool:
        return self.is_row(value) or value in self.stacked or value in yields(self.body)[self.carried :]


def _hoist_block(block: ir.Block) -> bool:
    changed = False
    for operation in operations(block):
        for inner in bodies(operation):
            changed |= _hoist_block(inner)
        if operation.name == control.scan.mlir_name:
            plan = _plan(operation)
            if plan.terms:
                _rebuild(plan)
                changed = True
    return changed


def _plan(scan: ir.Operation) -> _Plan:
    plan = _Plan(scan, body_of(scan), attributes_of(control.scan, scan)["carried"])
    ends, arguments = yields(plan.body), list(plan.body.arguments)
    found = {i: terms for i in range(plan.carried) if (terms := _terms(ends[i], arguments[i], plan.body)) is not None}
    # contractions first: what they stack, sums over the same values can use
    for index in sorted(found, key=lambda i: any(t.name != dot_general.mlir_name for t in found[i])):
        factors = list(dict.fromkeys(v for term in found[index] for v in term.operands))
        more = [v for v in factors if not plan.is_stacked(v)]
        if sum(tensor_type_of(v).size for v in more) < tensor_type_of(arguments[index]).size or not more:
            plan.terms[index] = found[index]
            plan.stacked += more
    return plan


def _terms(value: ir.Value, carry: ir.Value, body: ir.Block) -> list[ir.Operation] | None:
    """The products and sums that are added to a carried value, if nothing else happens to it."""
    total = definition(value)
    if total is None or total.name != elementwise.add.mlir_name or not has_one_use(value) or not has_one_use(carry):
        return None
    left, right = total.operands
    if carry not in (left, right) or left == right:
        return None
    return _summands(right if left == carry else left, body)


def _summands(value: ir.Value, body: ir.Block) -> list[ir.Operation] | None:
    made_by = definition(value)
    if made_by is None or block_of(value) != body or not has_one_use(value):
        return None
    if made_by.name == elementwise.add.mlir_name:
        left, right = (_summands(v, body) for v in made_by.operands)
        return None if left is None or right is None else left + right
    if made_by.name not in (dot_general.mlir_name, reduce_sum.mlir_name):
        return None
    return [made_by] if all(block_of(v) == body for v in made_by.operands) else None


def _rebuild(plan: _Plan) -> None:
    scan, body, carried = plan.scan, plan.body, plan.carried
    operands, ends = list(scan.operands), yields(body)
    rows = dict(zip(list(body.arguments)[carried:], operands[carried:], strict=True))
    already = len(ends) - carried
    added = {index: [(t, list(t.operands)) for t in terms] for index, terms in plan.terms.items()}
    kept = [i for i in range(carried) if i not in plan.terms]
    before = {v: position for position, v in reversed(list(enumerate(ends[carried:])))}
    set_yields(body, [*(ends[i] for i in kept), *ends[carried:], *plan.stacked])
    made = _without(scan, body, kept, operands)
    results = list(made.results)[len(kept) :]
    whole = {v: results[position] for v, position in before.items()}
    whole.update(zip(plan.stacked, results[already:], strict=True))
    whole.update(rows)
    with ir.InsertionPoint.after(made), made.location:
        for index, terms in added.items():
            total = operands[index]
            for term, factors in terms:
                with term.location:
                    total = elementwise.add(total, _of_all_rows(term, [whole[v] for v in factors]))
            scan.results[index].replace_all_uses_with(total)
    for old, new in zip([*kept, *range(carried, carried + already)], made.results, strict=False):
        scan.results[old].replace_all_uses_with(new)
    scan.erase()
    drop_unused(body_of(made))


def _without(scan: ir.Operation, body: ir.Block, kept: Sequence[int], operands: Sequence[ir.Value]) -> ir.Operation:
    """The scan with only some carried values; arguments of the others are no longer used but by dead ops."""
    carried = attributes_of(control.scan, scan)["carried"]
    for index in reversed([i for i in range(carried) if i not in kept]):
        total = next(iter(body.arguments[index].uses)).owner.operation
        total.erase()
        body.erase_argument(index)
    return recreate(scan, [*(operands[i] for i in kept), *operands[carried:]], carried=len(kept))


def _of_all_rows(term: ir.Operation, factors: Sequence[ir.Value]) -> ir.Value:
    """The sum over all rows of a product or sum of each: the rows' dimension is summed over, too."""
    if term.name == reduce_sum.mlir_name:
        axes = attributes_of(reduce_sum, term)["axes"]
        return reduce_sum(factors[0], axes=[0, *(a + 1 for a in axes)])
    attrs = attributes_of(dot_general, term)
    moved = {name: [d + 1 for d in attrs[name]] for name in ("lhs_batch", "rhs_batch", "lhs_contract", "rhs_contract")}
    for side in ("lhs_contract", "rhs_contract"):
        moved[side] = [0, *moved[side]]
    return dot_general(*factors, **moved, dtype=attrs["dtype"])
