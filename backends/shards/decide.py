"""Which axis of each value of a function is split over the devices, forwards from its arguments.

Loops are walked until what they carry stays as it is: an axis that the body does not keep is whole. The arms of a
branch give what all of them give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from thalweg.backends.shards.rules import Plan, Split, plan_of
from thalweg.dialects.mlir import ir

BRANCHES = {"stablehlo.if", "stablehlo.case"}


@dataclass
class Decisions:
    """Args:
    splits: of values; those that are not there are whole.
    plans: of ops, by their first results.
    results: what the function gives: split along their first axis, if at all.
    """

    devices: int
    splits: dict[ir.Value, Split] = field(default_factory=dict)
    plans: dict[ir.Value, Plan] = field(default_factory=dict)
    results: tuple[Split, ...] = ()

    def split(self, value: ir.Value) -> Split:
        return self.splits.get(value)


def decide(block: ir.Block, arguments: Sequence[Split], devices: int, aliased: Sequence[int]) -> Decisions:
    """Decide for a function's block.

    Args:
        arguments: what its arguments are.
        aliased: the numbers of results that are variables' new values: those are whole.
    """
    found = Decisions(devices)
    results = _walk(found, block, arguments)
    found.results = tuple(split if split == 0 and k not in aliased else None for k, split in enumerate(results))
    return found


def _walk(found: Decisions, block: ir.Block, arguments: Sequence[Split]) -> tuple[Split, ...]:
    """Decide for a block; what its last op is given."""
    found.splits.update(zip(block.arguments, arguments, strict=True))
    operation = None
    for view in block.operations:
        operation = view.operation
        if operation.name in ("func.return", "stablehlo.return"):
            break
        if operation.name == "stablehlo.while":
            plan = _loop(found, operation)
        elif operation.name in BRANCHES:
            plan = _branch(found, operation)
        else:
            plan = plan_of(operation, [found.split(o) for o in operation.operands], found.devices)
        found.plans[operation.results[0]] = plan
        found.splits.update(zip(operation.results, plan.gives, strict=True))
    assert operation is not None
    return tuple(found.split(o) for o in operation.operands)


def _loop(found: Decisions, operation: ir.Operation) -> Plan:
    condition, body = (region.blocks[0] for region in operation.regions)
    carried = tuple(found.split(o) for o in operation.operands)
    settled: set[int] = set()  # what is whole for good, and what was whole and is split for a try
    while True:
        after = _walk(found, body, carried)
        differ = [k for k, pair in enumerate(zip(carried, after, strict=True)) if pair[0] != pair[1]]
        # Zeros that a loop begins with are whole, and cost nothing to cut.
        wanted = {k: after[k] if carried[k] is None and k not in settled else None for k in differ}
        changed = {k: split for k, split in wanted.items() if split != carried[k]}
        if not changed:
            break
        settled.update(changed)
        carried = tuple(changed.get(k, split) for k, split in enumerate(carried))
    _walk(found, condition, carried)
    return Plan(carried, carried)


def _branch(found: Decisions, operation: ir.Operation) -> Plan:
    arms = [region.blocks[0] for region in operation.regions]
    given = [_walk(found, arm, ()) for arm in arms]
    kept = tuple(first if all(s == first for s in others) else None for first, *others in zip(*given, strict=True))
    return Plan((None,) * len(operation.operands), kept)
