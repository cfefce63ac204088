"""Conds, loops and scans without what nobody needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control
from thalweg.passes.base import Pass
from thalweg.passes.dce import drop_unused
from thalweg.passes.rewriting import (
    bodies,
    body_of,
    captures,
    functions,
    inside,
    operations,
    recreate,
    set_yields,
    yields,
)


@dataclass(frozen=True)
class SlimRegions(Pass):
    """Drop what conds, loops and scans compute for nobody, and what they carry round unchanged.

    Before:
        %r:2 = "tw.while"(%x, %w) ({ … }, { ^bb0(%a, %u): … uses %u …  "tw.yield"(%b, %u) })
    After:
        %r = "tw.while"(%x) ({ … }, { ^bb0(%a): … uses %w …  "tw.yield"(%b) })
    """

    name: ClassVar[str] = "slim-regions"

    def run(self, module: ir.Module) -> bool:
        return any([_slim_block(block) for block in functions(module)])


def _slim_block(block: ir.Block) -> bool:
    changed = False
    for operation in reversed(operations(block)):
        if operation.name in _SLIM and _is_pure(operation):
            slimmed = _SLIM[operation.name](operation)
            changed |= slimmed is not operation
            operation = slimmed
        for inner in bodies(operation):
            changed |= _slim_block(inner)
    return changed


def _is_pure(operation: ir.Operation) -> bool:
    return all(row is not None and row.effects == "pure" for row in map(row_of, inside(operation)))


def _used(operation: ir.Operation) -> set[int]:
    return {i for i, result in enumerate(operation.results) if next(result.uses, None) is not None}


def _needed(block: ir.Block, seeds: Iterable[ir.Value]) -> set[ir.Value]:
    """The values that values of a block are computed from, themselves included; of any block."""
    found = set(seeds)
    for operation in reversed(operations(block)[:-1]):
        if any(result in found for result in operation.results):
            found.update(operation.operands)
            found.update(captures(*bodies(operation)))
    return found


def _pick(values: Iterable[ir.Value], kept: Iterable[int]) -> list[ir.Value]:
    everything = list(values)
    return [everything[i] for i in kept]


def _finish(
    operation: ir.Operation, operands: list[ir.Value], kept: list[int], **attrs: int
) -> ir.Operation:
    """The op with other operands and only the results `kept`, in place of it."""
    made = recreate(operation, operands, **attrs)
    for old, new in zip(_pick(operation.results, kept), made.results, strict=True):
        old.replace_all_uses_with(new)
    operation.erase()
    return made


def _slim_cond(operation: ir.Operation) -> ir.Operation:
    kept = sorted(_used(operation))
    if len(kept) == len(operation.results) or not kept:
        return operation
    for block in bodies(operation):
        set_yields(block, _pick(yields(block), kept))
    return _finish(operation, list(operation.operands), kept)


def _erase_arguments(block: ir.Block, dropped: Iterable[int]) -> None:
    for index in sorted(dropped, reverse=True):
        block.erase_argument(index)


def _slim_while(operation: ir.Operation) -> ir.Operation:
    condition, body = bodies(operation)
    init, count = list(operation.operands), len(operation.operands)
    _fix_unchanged(operation, [condition, body], count)
    arguments, ends = list(body.arguments), yields(body)
    wanted = _needed(condition, yields(condition))
    seeds = _used(operation) | {i for i, a in enumerate(condition.arguments) if a in wanted}
    kept = _closure(body, arguments, ends, seeds)
    dropped = [i for i in range(count) if i not in kept]
    if not dropped or not kept:
        return operation
    set_yields(body, _pick(ends, kept))
    for block in (condition, body):
        drop_unused(block)
        _erase_arguments(block, dropped)
    return _finish(operation, _pick(init, kept), kept)


def _slim_scan(operation: ir.Operation) -> ir.Operation:
    body, init = body_of(operation), list(operation.operands)
    carried = attributes_of(control.scan, operation)["carried"]
    _fix_unchanged(operation, [body], carried)
    arguments, ends = list(body.arguments), yields(body)
    used = _used(operation)
    stacked = [i for i in range(carried, len(ends)) if i in used]
    wanted = _needed(body, (ends[i] for i in stacked))
    seeds = {i for i in range(carried) if i in used or arguments[i] in wanted}
    carry = _closure(body, arguments[:carried], ends[:carried], seeds)
    wanted = _needed(body, [*(ends[i] for i in stacked), *(ends[i] for i in carry)])
    rows = [i for i in range(carried, len(arguments)) if arguments[i] in wanted]
    if len(carry) + len(rows) == len(arguments) and len(carry) + len(stacked) == len(ends):
        return operation
    if not carry and not stacked:
        return operation
    set_yields(body, _pick(ends, [*carry, *stacked]))
    drop_unused(body)
    kept = {*carry, *rows}
    _erase_arguments(body, (i for i in range(len(arguments)) if i not in kept))
    return _finish(operation, _pick(init, [*carry, *rows]), [*carry, *stacked], carried=len(carry))


def _closure(body: ir.Block, arguments: list[ir.Value], ends: list[ir.Value], seeds: set[int]) -> list[int]:
    """The carried values that the `seeds` among them depend on from one iteration to the next."""
    kept = set(seeds)
    while True:
        wanted = _needed(body, (ends[i] for i in kept))
        grown = {i for i, a in enumerate(arguments) if a in wanted} | kept
        if grown == kept:
            return sorted(kept)
        kept = grown


def _fix_unchanged(operation: ir.Operation, blocks: list[ir.Block], carried: int) -> None:
    """Where a carried value never changes, use its initial value instead, inside and after."""
    body = blocks[-1]
    for index, end in enumerate(yields(body)[:carried]):
        if end == body.arguments[index]:
            initial = operation.operands[index]
            operation.results[index].replace_all_uses_with(initial)
            for block in blocks:
                block.arguments[index].replace_all_uses_with(initial)


_SLIM = {"tw.cond": _slim_cond, "tw.while": _slim_while, "tw.scan": _slim_scan}
