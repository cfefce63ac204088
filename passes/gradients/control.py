"""Derivatives of branches, scans, checkpoints and custom gradients.

One idea serves all of them. The backward region is built as if it could see into the forward region; whatever it turns
out to use from there (its residuals) becomes a further result of the forward op. So exactly what is needed is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import is_float
from thalweg.dialects.ops import control, elementwise
from thalweg.dialects.types import TensorType
from thalweg.passes.gradients.residuals import hand_over, recompute_cheap, residuals
from thalweg.passes.gradients.reverse import activate, backward, reached
from thalweg.passes.gradients.rules import structured
from thalweg.passes.gradients.sums import Sums, Walk, inner_operations
from thalweg.passes.rewriting import (
    Regions,
    bodies,
    body_of,
    captures,
    copy,
    copy_operation,
    definition,
    end,
    full,
    full_like,
    inside,
    operations,
    yields,
)

Cotangents = Sequence[ir.Value | None]


class Once:
    """Ops that run each region at most once and yield its values: activity is that of the regions."""

    def activate(self, operation: ir.Operation, active: set[ir.Value]) -> None:
        for block in bodies(operation):
            activate(inner_operations(block), active)
            for result, value in zip(operation.results, yields(block), strict=True):
                if value in active:
                    active.add(result)


class Cond(Once):
    """The backward of a branch is a branch on the same predicate; both sides give all captured values cotangents."""

    def backward(self, operation: ir.Operation, cotangents: Cotangents, sums: Sums, walk: Walk) -> None:
        forward = bodies(operation)
        wanted = list(dict.fromkeys(v for b in forward for v in _captured(b, yields(b), cotangents, walk)))
        if not wanted:
            return
        regions = Regions([], [])
        for block, target in zip(forward, regions.blocks, strict=True):
            with ir.InsertionPoint(target):
                inner = Sums()
                for value, cotangent in zip(yields(block), cotangents, strict=True):
                    if value in walk.active:
                        inner.add(value, cotangent)
                backward(inner_operations(block), inner, walk)
                end(*(inner.take_full(v) for v in wanted))
            recompute_cheap(target, block)
        kept = [residuals(target, block) for target, block in zip(regions.blocks, forward, strict=True)]
        slots = _share_slots(*kept)
        extra = [[_or_zeros(slot, side, forward[side]) for slot in slots] for side in (0, 1)]
        results = walk.expansion.extend(operation, extra)
        for side in (0, 1):
            hand_over(regions.blocks[side], {s[side]: r for s, r in zip(slots, results, strict=True) if s[side]})
        made = regions.finish(control.cond, [operation.operands[0]], {})
        for value, result in zip(wanted, made.results, strict=True):
            sums.add(value, result)


def _captured(block: ir.Block, ends: Sequence[ir.Value], cotangents: Cotangents, walk: Walk) -> list[ir.Value]:
    """The outer values that cotangents of what the block yields can arrive at."""
    seeds = {value for value, cotangent in zip(ends, cotangents, strict=True) if cotangent is not None}
    hit = reached(inner_operations(block), seeds, walk.active)
    return [v for v in captures(block) if v in hit]


Slot = list[ir.Value | None]  # a residual of each branch, of one type, that share a result


def _share_slots(on_true: list[ir.Value], on_false: list[ir.Value]) -> list[Slot]:
    """Pair residuals of equal types, so that both branches use the same result for theirs."""
    slots: list[Slot] = [[value, None] for value in on_true]
    for value in on_false:
        free = next((s for s in slots if s[1] is None and s[0] is not None and s[0].type == value.type), None)
        if free is None:
            slots.append([None, value])
        else:
            free[1] = value
    return slots


def _or_zeros(slot: Slot, side: int, block: ir.Block) -> ir.Value:
    value, other = slot[side], slot[1 - side]
    if value is not None:
        return value
    assert other is not None
    with ir.InsertionPoint(operations(block)[-1]):
        return full_like(other, 0)


class Scan:
    """The backward of a scan is a scan the other way: over cotangents of stacked rows and over stacked residuals.

    It carries the cotangent of the carry, and adds up those of captured values.
    """

    def activate(self, operation: ir.Operation, active: set[ir.Value]) -> None:
        body = body_of(operation)
        carried = attributes_of(control.scan, operation)["carried"]
        for argument, operand in zip(body.arguments, operation.operands, strict=True):
            if operand in active:
                active.add(argument)
        ends = activate_loop(body, carried, active)
        sources = [*list(body.arguments)[:carried], *ends[carried:]]
        active.update(r for r, source in zip(operation.results, sources, strict=True) if source in active)

    def backward(self, operation: ir.Operation, cotangents: Cotangents, sums: Sums, walk: Walk) -> None:
        attrs, body, operands = attributes_of(control.scan, operation), body_of(operation), list(operation.operands)
        carried, arguments, ends = attrs["carried"], list(body.arguments), yields(body)
        stacks = [(e, g) for e, g in zip(ends[carried:], cotangents[carried:], strict=True) if g is not None]
        live, hit = live_carry(body, cotangents[:carried], {e for e, _ in stacks}, walk)
        outer = [v for v in captures(body) if v in hit]
        rows = [j for j in range(carried, len(arguments)) if arguments[j] in hit]
        if not live and not outer and not rows:
            return
        loop = [*(arguments[i] for i in live), *outer, *(e for e, _ in stacks)]
        regions = Regions([type_of(v) for v in loop])
        (target,) = regions.blocks
        with ir.InsertionPoint(target):
            given = list(target.arguments)
            totals = given[len(live) : len(live) + len(outer)]
            inner = Sums()
            for value, cotangent in zip([*(ends[i] for i in live), *(e for e, _ in stacks)],
                                        given[: len(live)] + given[len(live) + len(outer) :], strict=True):
                if value in walk.active:
                    inner.add(value, cotangent)
            backward(inner_operations(body), inner, walk)
            end(*(inner.take_full(arguments[i]) for i in live),
                *(_added(total, inner.take(v)) for total, v in zip(totals, outer, strict=True)),
                *(inner.take_full(arguments[j]) for j in rows))
        sources = _stacked_residuals(operation, target, body, carried, walk)
        made = regions.finish(
            control.scan,
            [*(_or_zero(cotangents[i], operands[i]) for i in live), *(full_like(v, 0) for v in outer),
             *(g for _, g in stacks), *sources],
            {**attrs, "carried": len(live) + len(outer), "reverse": not attrs["reverse"]},
        )
        for value, result in zip([*(operands[i] for i in live), *outer, *(operands[j] for j in rows)], made.results,
                                 strict=True):
            if value in walk.active:
                sums.add(value, result)


def _added(total: ir.Value, cotangent: ir.Value | None) -> ir.Value:
    return total if cotangent is None else elementwise.add(total, cotangent)


def _or_zero(cotangent: ir.Value | None, like: ir.Value) -> ir.Value:
    return full_like(like, 0) if cotangent is None else cotangent


def activate_loop(body: ir.Block, carried: int, active: set[ir.Value]) -> list[ir.Value]:
    """Activity of a loop's body: a carried value is active if it is so in any iteration. Returns the body's yields."""
    arguments, ends = list(body.arguments), yields(body)
    while True:
        activate(inner_operations(body), active)
        grown = {a for a, e in zip(arguments[:carried], ends[:carried], strict=True) if e in active and a not in active}
        if not grown:
            return ends
        active |= grown


def live_carry(
    body: ir.Block, cotangents: Cotangents, seeds: set[ir.Value], walk: Walk
) -> tuple[list[int], set[ir.Value]]:
    """Which carried values get a cotangent in any iteration, and all that cotangents arrive at in the body."""
    arguments, ends = list(body.arguments), yields(body)
    live = {i for i, g in enumerate(cotangents) if g is not None and arguments[i] in walk.active}
    while True:
        hit = reached(inner_operations(body), seeds | {ends[i] for i in live}, walk.active)
        grown = {i for i in range(len(cotangents)) if arguments[i] in hit} - live
        if not grown:
            return sorted(live), hit
        live |= grown


def _stacked_residuals(
    operation: ir.Operation, target: ir.Block, body: ir.Block, carried: int, walk: Walk
) -> list[ir.Value]:
    """Hand the residuals to the backward region as rows; returns what is to be scanned for them.

    A row of a scanned operand is there already, and a carried value that never changes is its initial value.
    """
    arguments, ends, operands = list(body.arguments), yields(body), list(operation.operands)
    fixed = {a: operands[i] for i, a in enumerate(arguments[:carried]) if ends[i] == a}
    hand_over(target, fixed)
    recompute_cheap(target, body)
    kept = residuals(target, body)
    rows = dict(zip(arguments[carried:], operands[carried:], strict=True))
    stacked = dict(zip(ends[carried:], list(operation.results)[carried:], strict=True))
    extra = [v for v in kept if v not in rows and v not in stacked]
    results = walk.expansion.extend(operation, [extra])
    if extra:  # the op was made anew, and its results with it
        stacked = dict(zip(yields(body)[carried:], list(results[0].owner.operation.results)[carried:], strict=True))
    hand_over(target, {v: target.add_argument(v.type, v.location) for v in kept})
    return [rows[v] if v in rows else stacked[v] for v in kept]


def expect_repeatable(operation: ir.Operation, what: str) -> None:
    """The derivative of `operation` runs its inside again, which must not do anything but compute.

    Raises:
        PassError: an op on the host is in it; names the user's line.
    """
    for inner in inside(operation):
        row = row_of(inner)
        if row is not None and row.runs == "host":
            where = where_of(inner.location)
            raise PassError(
                f"{f'{where} ' if where else ''}{row.name}: is in {what}, and the derivative of that runs it again. "
                "Use tw.scan, or a loop that counts from one number to another, which keep what the derivative needs."
            )


class Checkpoint(Once):
    """The backward of a checkpoint computes its inside again, behind a barrier, so that nothing merges it back."""

    def backward(self, operation: ir.Operation, cotangents: Cotangents, sums: Sums, walk: Walk) -> None:
        body = body_of(operation)
        wanted = _captured(body, yields(body), cotangents, walk)
        if not wanted:
            return
        expect_repeatable(operation, "a checkpoint")
        held = [v for v in captures(body) if not _is_constant(v)]
        present = [g for g in cotangents if g is not None]
        behind = elementwise.barrier(*held, *present)
        behind = list(behind) if isinstance(behind, tuple | list) else [behind]
        mapping = dict(zip(held, behind, strict=False))
        again = iter(behind[len(held) :])
        cotangents = [None if g is None else next(again) for g in cotangents]
        copied = recompute(body, mapping, wanted, walk)
        inner = Sums()
        for value, cotangent in zip(yields(body), cotangents, strict=True):
            if value in walk.active:
                inner.add(mapping.get(value, value), cotangent)
        backward(copied, inner, walk)
        for value in wanted:
            sums.add(value, inner.take(mapping.get(value, value)))


def recompute(
    block: ir.Block, mapping: dict[ir.Value, ir.Value], wanted: Iterable[ir.Value], walk: Walk
) -> list[ir.Operation]:
    """Copy a block's ops to the insertion point; activity of the copies begins at the images of `wanted`."""
    walk.active.update(mapping[v] for v in wanted if v in mapping)
    copied = [copy_operation(operation, mapping) for operation in inner_operations(block)]
    activate(copied, walk.active)
    return copied


def _is_constant(value: ir.Value) -> bool:
    made_by = definition(value)
    return made_by is not None and made_by.name == "tw.constant"


class CustomGradient:
    """The user's own backward region stands for the derivative of the ops between inputs and results."""

    def activate(self, operation: ir.Operation, active: set[ir.Value]) -> None:
        inputs = attributes_of(control.custom_gradient, operation)["inputs"]
        if any(operand in active for operand in list(operation.operands)[:inputs]):
            active.update(r for r in operation.results if is_float(type_of(r)))

    def backward(self, operation: ir.Operation, cotangents: Cotangents, sums: Sums, walk: Walk) -> None:
        inputs = attributes_of(control.custom_gradient, operation)["inputs"]
        given = [_zeros(r) if g is None else g for g, r in zip(cotangents, operation.results, strict=True)]
        for operand, cotangent in zip(list(operation.operands)[:inputs], copy(body_of(operation), given), strict=True):
            if operand in walk.active:
                sums.add(operand, cotangent)


def _zeros(value: ir.Value) -> ir.Value:
    type_ = tensor_type_of(value)
    assert isinstance(type_, TensorType)
    return full(type_, 0)


structured(control.cond, Cond())
structured(control.scan, Scan())
structured(control.checkpoint, Checkpoint())
structured(control.custom_gradient, CustomGradient())
