"""Long lines in several launches: sorts by runs that are merged, running sums by blocks.

    before: %s = sort %x : [100000]                           n² comparisons
    after:  %r = sort %x {tw.stage = "runs", run = 256}       391 runs, each in order
            %m = sort %r {tw.stage = "merge", run = 256}      196 runs of 512; and so on, n log² n comparisons in all
            …

    before: %s = cumulative %x : [100000]                     one program
    after:  each block of 2048 by itself; the blocks' last elements; each block on top of what comes before it

Where only the first k elements of a sorted line are used (top-k), no run keeps more than k: the rest holds nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.legalize import running_axis
from thalweg.backends.cpu.pooling import COMBINERS
from thalweg.backends.stablehlo.expressions import Array, clone_module, create
from thalweg.dialects.mlir import ir

STAGE, RUNS, MERGE = "tw.stage", "runs", "merge"  # an attribute of sorts, and what it says
LONG = 512  # elements of a line that one launch sorts
RUN = 256  # of the first runs: each is sorted by n² comparisons
LONG_SUM, BLOCK = 8192, 2048  # of a running reduction: from which length on it is cut, and the blocks
FEW = 128  # lines; more of them keep a chip at work


def cut_long_lines(module: ir.Module) -> ir.Module:
    """A copy of a StableHLO module without long lines, or the module. Call with the context entered."""
    if not _found(module):
        return module
    copy = clone_module(module)
    for operation, cut in _found(copy):
        cut(operation)
    return copy


def _found(module: ir.Module) -> list[tuple[ir.Operation, Callable[[ir.Operation], None]]]:
    found: list[tuple[ir.Operation, Callable[[ir.Operation], None]]] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        if operation.name == "stablehlo.sort" and _is_long_sort(operation):
            found.append((operation.operation, _cut_sort))
        elif operation.name == "stablehlo.reduce_window" and _is_long_sum(operation):
            found.append((operation.operation, _cut_sum))
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    return found


def _shape(value: ir.Value) -> list[int]:
    return list(ir.RankedTensorType(value.type).shape)


# Sorts.


def axis_of(operation: ir.Operation) -> int:
    """The axis that a sort is along."""
    return int(ir.IntegerAttr(operation.attributes["dimension"]).value) % max(1, len(_shape(operation.operands[0])))


def _is_long_sort(operation: ir.Operation) -> bool:
    shape = _shape(operation.operands[0])
    return bool(shape) and shape[axis_of(operation)] > LONG and 0 not in shape and STAGE not in operation.attributes


def _cut_sort(operation: ir.Operation) -> None:
    sort = _without_unused(operation)
    axis, keep, values = axis_of(sort), _kept(sort), list(sort.operands)
    length, run = _shape(values[0])[axis], RUN
    values = _stage(sort, RUNS, values, run, keep)
    while run < length:
        values = _stage(sort, MERGE, values, run, keep)
        run *= 2
    for result, value in zip(sort.results, values, strict=True):
        result.replace_all_uses_with(value)
    sort.erase()


def _without_unused(sort: ir.Operation) -> ir.Operation:
    """A sort without the operands that nobody wants in order, and whose elements are not compared: MLIR would drop them
    from the last stage, and its attributes with them."""
    block = sort.regions[0].blocks[0]
    arguments = list(block.arguments)
    compared = [any(list(a.uses) for a in arguments[2 * k : 2 * k + 2]) for k in range(len(sort.operands))]
    wanted = [k for k, result in enumerate(sort.results) if compared[k] or list(result.uses)]
    if len(wanted) == len(compared):
        return sort
    operands = [sort.operands[k] for k in wanted]
    made = _like(sort, operands, [arguments[2 * k + side] for k in wanted for side in (0, 1)], {})
    for k, result in zip(wanted, made.results, strict=True):
        sort.results[k].replace_all_uses_with(result)
    sort.erase()
    return made


def _like(
    sort: ir.Operation, operands: list[ir.Value], arguments: list[ir.Value], more: dict[str, ir.Attribute]
) -> ir.Operation:
    """A sort of other operands by the same comparison.

    Args:
        arguments: those of the block of `sort` that are left.
        more: attributes beside its own.
    """
    attributes = {name: sort.attributes[name] for name in ("dimension", "is_stable") if name in sort.attributes}
    with ir.InsertionPoint(sort), sort.location:
        types = [operand.type for operand in operands]
        made = ir.Operation.create("stablehlo.sort", types, operands, {**attributes, **more}, regions=1)
        block = made.regions[0].blocks.append(*(argument.type for argument in arguments))
        known = dict(zip(arguments, block.arguments, strict=True))
        with ir.InsertionPoint(block):
            for view in sort.regions[0].blocks[0].operations:
                copy = view.operation.clone().operation
                for position, operand in enumerate(copy.operands):
                    copy.operands[position] = known.get(operand, operand)
                known.update(zip(view.operation.results, copy.results, strict=True))
    return made


def _stage(sort: ir.Operation, stage: str, values: list[ir.Value], run: int, keep: int) -> list[ir.Value]:
    """One launch.

    Args:
        run: elements of what it sorts, or merges two of.
        keep: how many of a run are wanted at most.
    """
    number = ir.IntegerType.get_signless(64)
    more: dict[str, ir.Attribute] = {STAGE: ir.StringAttr.get(stage)}
    more |= {f"tw.{key}": ir.IntegerAttr.get(number, n) for key, n in (("run", run), ("keep", keep))}
    return list(_like(sort, values, list(sort.regions[0].blocks[0].arguments), more).results)


def stage_of(sort: ir.Operation) -> tuple[str, int, int]:
    """Which launch a sort is: its stage, the run, and how many of a run are wanted; an empty stage for a whole one."""
    if STAGE not in sort.attributes:
        return "", 0, 0
    run, keep = (int(ir.IntegerAttr(sort.attributes[f"tw.{key}"]).value) for key in ("run", "keep"))
    return str(ir.StringAttr(sort.attributes[STAGE]).value), run, keep


def _kept(sort: ir.Operation) -> int:
    """How many of the first elements of its lines are used."""
    axis = axis_of(sort)
    length, most = _shape(sort.operands[0])[axis], 0
    for result in sort.results:
        for use in result.uses:
            user = use.owner.operation
            if user.name != "stablehlo.slice":
                return length
            most = max(most, integers(user, "limit_indices", [])[axis])
    return max(most, 1)


# Running reductions.


def _is_long_sum(operation: ir.Operation) -> bool:
    direction = running_axis(operation)
    if direction is None or _combiner(operation) is None:
        return False
    shape = _shape(operation.operands[0])
    length = shape[direction[0]]
    return length >= LONG_SUM and math.prod(shape) // length < FEW


def _combiner(operation: ir.Operation) -> str | None:
    combine = next(iter(operation.regions[0].blocks[0].operations)).operation
    both = set(combine.operands) == set(operation.regions[0].blocks[0].arguments)
    return combine.name if combine.name in COMBINERS and both else None


def _cut_sum(operation: ir.Operation) -> None:
    direction, combine = running_axis(operation), _combiner(operation)
    assert direction is not None and combine is not None
    axis, reverse = direction
    x, neutral = (Array(operand) for operand in operation.operands)
    length, outer, inner = x.shape[axis], x.shape[:axis], x.shape[axis + 1 :]
    blocks = -(-length // BLOCK)
    more, zeros = blocks * BLOCK - length, [0] * x.rank
    with ir.InsertionPoint(operation), operation.location:
        behind = [0 if reverse or d != axis else more for d in range(x.rank)]
        before = [more if reverse and d == axis else 0 for d in range(x.rank)]
        padded = x.pad(neutral, before, behind) if more else x
        own = _running(operation, padded.reshape(*outer, blocks, BLOCK, *inner), neutral, axis + 1, reverse)
        last = own.narrow(axis + 1, 0, 1) if reverse else own.narrow(axis + 1, BLOCK - 1, BLOCK)
        total = _running(operation, last.reshape(*outer, blocks, *inner), neutral, axis, reverse)
        part = total.narrow(axis, 1, blocks) if reverse else total.narrow(axis, 0, blocks - 1)
        one = [1 if d == axis else 0 for d in range(x.rank)]
        carried = part.pad(neutral, zeros, one) if reverse else part.pad(neutral, one, zeros)
        dims = [d for d in range(x.rank + 1) if d != axis + 1]
        name = combine.removeprefix("stablehlo.")
        whole = create(name, own.value.type, [carried.spread(own.shape, dims), own])
        flat = whole.reshape(*outer, blocks * BLOCK, *inner)
        found = flat.narrow(axis, *((more, blocks * BLOCK) if reverse else (0, length)))
    operation.results[0].replace_all_uses_with(found.value)
    operation.erase()


def _running(like: ir.Operation, x: Array, neutral: Array, axis: int, reverse: bool) -> Array:
    """A running reduction along an axis, by the body of another."""
    reach = x.shape[axis] - 1
    window = [x.shape[axis] if d == axis else 1 for d in range(x.rank)]
    padding = [[0, 0] if d != axis else [0, reach] if reverse else [reach, 0] for d in range(x.rank)]
    pairs = ir.Attribute.parse(f"dense<{padding}> : tensor<{x.rank}x2xi64>")
    attributes = {"window_dimensions": ir.DenseI64ArrayAttr.get(window), "padding": pairs}
    made = ir.Operation.create(
        "stablehlo.reduce_window", [x.value.type], [x.value, neutral.value], attributes, regions=1
    )
    source = like.regions[0].blocks[0]
    block = made.regions[0].blocks.append(*(a.type for a in source.arguments))
    combine = next(iter(source.operations)).operation
    with ir.InsertionPoint(block):
        result = ir.Operation.create(combine.name, [combine.results[0].type], list(block.arguments)).results[0]
        ir.Operation.create("stablehlo.return", [], [result])
    return Array(made.results[0])
