"""One device's share of a StableHLO module whose batch is split over several.

    before: func @main(%x: tensor<8x4xf32>, %w: tensor<4x3xf32>)          dw = dot_general(x, dy) over the batch
    after:  func @main(%x: tensor<4x4xf32>, %w: tensor<4x3xf32>)          dw = the devices' dot_general(x, dy) summed

The batch is the first extent of the first argument that can be split evenly; arguments and results with that first
extent are split. Every choice gives the same numbers up to the order of additions; a value is split as long as ops can
do with parts of it, and what sums over the batch is combined at once. The parameters of a model are on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.backend import aliases_of, main_function, signature_types
from thalweg.backends.cpu.bodies import integers
from thalweg.backends.shards.collectives import combined, gathered, own_part
from thalweg.backends.shards.decide import BRANCHES, Decisions, decide
from thalweg.backends.shards.rules import Split
from thalweg.backends.stablehlo.expressions import Array, clone_module, i64_array
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import PassManager, ir, stablehlo
from thalweg.dialects.types import TensorType


@dataclass(frozen=True)
class Share:
    """Which part of the work is compiled.

    Args:
        devices: how many share the batch.
        index: which of them this is.
        inputs: how many of the arguments are the caller's; the others are on every device.
        nccl: whether NCCL makes the sums.
    """

    devices: int
    index: int
    inputs: int
    nccl: bool = False


@dataclass(frozen=True)
class SplitModule:
    """A device's share.

    Args:
        results: the axis along which each result is split.
        same: whether it is the same program on every device.
    """

    module: ir.Module
    arguments: tuple[Split, ...]
    results: tuple[Split, ...]
    same: bool


def split_inputs(arguments: Sequence[TensorType], devices: int) -> list[bool]:
    """Which of a program's inputs are split along their first axis; none if no extent can be split evenly."""
    extents = [t.shape[0] if t.rank else 0 for t in arguments]
    batch = next((n for n in extents if n and n % devices == 0), None)
    return [batch is not None and n == batch for n in extents]


def split_module(module: ir.Module, share: Share) -> SplitModule:
    """Rewrite a copy. Call with the context entered.

    Raises:
        LoweringError: no input has a first extent that can be split evenly.
    """
    copy = clone_module(module)
    PassManager.parse("builtin.module(inline,symbol-dce,canonicalize,cse)").run(copy.operation)
    main = main_function(copy.operation)
    types, _ = signature_types(main)
    chosen = split_inputs(types[: share.inputs], share.devices)
    if not any(chosen):
        given = ", ".join(map(str, types[: share.inputs])) or "nothing"
        where = where_of(main.location)
        raise LoweringError(
            f"{f'{where} ' if where else ''}a batch is to be split over {share.devices} devices, but of the inputs "
            f"({given}) none has a first extent that can be divided by {share.devices}. Give batches of such a size."
        )
    arguments: list[Split] = [0 if split else None for split in chosen]
    arguments += [None] * (len(types) - len(chosen))
    block = main.regions[0].blocks[0]
    decisions = decide(block, arguments, share.devices, list(aliases_of(main)))
    rewriter = _Rewriter(decisions, share)
    rewriter.block(block, decisions.results)
    end = list(block.operations)[-1].operation
    kinds = [a.type for a in block.arguments], [o.type for o in end.operands]
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(*kinds))
    return SplitModule(copy, tuple(arguments), decisions.results, not rewriter.indexed)


class _Rewriter:
    """Gives values their local types, and converts them where an op wants another part than there is."""

    def __init__(self, decisions: Decisions, share: Share) -> None:
        self.decisions, self.share = decisions, share
        self.indexed = False  # whether something depends on which device it is
        self._converted: dict[tuple[ir.Value, Split], ir.Value] = {}

    def block(self, block: ir.Block, results: Sequence[Split]) -> None:
        """Rewrite the ops of a block, which is to give such results."""
        outer, self._converted = self._converted, {}  # what is made in a block is seen in it alone
        for argument in block.arguments:
            self._localise(argument)
        *operations, end = [view.operation for view in block.operations]
        for operation, following in zip(operations, [*operations[1:], end], strict=True):
            self._rewrite(operation, following)
        self._give(end, results)
        self._converted = outer

    def _localise(self, value: ir.Value) -> None:
        split = self.decisions.split(value)
        if split is not None:
            kind = ir.RankedTensorType(value.type)
            shape = list(kind.shape)
            shape[split] //= self.share.devices
            value.set_type(ir.RankedTensorType.get(shape, kind.element_type))

    def _give(self, operation: ir.Operation, wants: Sequence[Split]) -> None:
        """Convert an op's operands to what it wants."""
        for position, want in enumerate(wants):
            value = operation.operands[position]
            if self.decisions.split(value) != want:
                operation.operands[position] = self._as(operation, value, want)

    def _as(self, before: ir.Operation, value: ir.Value, want: Split) -> ir.Value:
        known = self._converted.get((value, want))
        if known is not None:
            return known
        share, have, found = self.share, self.decisions.split(value), value
        with ir.InsertionPoint(before), before.location:
            if have is not None:
                found = gathered(Array(found), have, share.devices).value
            if want is not None:
                part, indexed = own_part(found, want, share.devices, share.index)
                found, self.indexed = part.value, self.indexed or indexed
        self._converted[value, want] = found
        return found

    def _rewrite(self, operation: ir.Operation, following: ir.Operation) -> None:
        plan = self.decisions.plans[operation.results[0]]
        self._give(operation, plan.wants)
        if operation.name == "stablehlo.while":
            condition, body = operation.regions
            self.block(condition.blocks[0], (None,))  # all devices go on, or none does
            self.block(body.blocks[0], plan.gives)
        elif operation.name in BRANCHES:
            for region in operation.regions:
                self.block(region.blocks[0], plan.gives)
        for result in operation.results:
            self._localise(result)
        fix = _FIXES.get(operation.name)
        if fix is not None and any(split is not None for split in (*plan.wants, *plan.gives)):
            fix(operation)
        if plan.combine:
            (result,) = operation.results
            uses = [(use.owner, use.operand_number) for use in result.uses]
            with ir.InsertionPoint(following), operation.location:
                total = combined(Array(result), plan.combine, self.share.devices, self.share.nccl)
            for user, number in uses:
                user.operation.operands[number] = total.value


# Attributes that hold extents.


def _fix_slice(operation: ir.Operation) -> None:
    shape = list(ir.RankedTensorType(operation.results[0].type).shape)
    starts, limits, strides = (integers(operation, name, []) for name in ("start_indices", "limit_indices", "strides"))
    ends = [
        start + n if stride == 1 else limit
        for start, n, stride, limit in zip(starts, shape, strides, limits, strict=True)
    ]
    operation.attributes["limit_indices"] = i64_array(ends)


def _fix_dynamic_slice(operation: ir.Operation) -> None:
    operation.attributes["slice_sizes"] = i64_array(list(ir.RankedTensorType(operation.results[0].type).shape))


def _fix_gather(operation: ir.Operation) -> None:
    """Boxes are as large as the result says, along the axes that it has from them."""
    numbers = stablehlo.GatherDimensionNumbers(operation.attributes["dimension_numbers"])
    sizes = integers(operation, "slice_sizes", [])
    dropped = [*numbers.collapsed_slice_dims, *numbers.operand_batching_dims]
    kept = [d for d in range(len(sizes)) if d not in dropped]
    shape = list(ir.RankedTensorType(operation.results[0].type).shape)
    for d, place in zip(kept, numbers.offset_dims, strict=True):
        sizes[d] = shape[place]
    operation.attributes["slice_sizes"] = i64_array(sizes)


_FIXES: dict[str, Callable[[ir.Operation], None]] = {
    "stablehlo.slice": _fix_slice,
    "stablehlo.dynamic_slice": _fix_dynamic_slice,
    "stablehlo.gather": _fix_gather,
}
