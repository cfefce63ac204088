"""What an op asks for, and gives, where some of its operands are split over devices along an axis.

    dot_general(x[batch], dy[batch]) over the batch     wants (0, 0), gives a sum of each device's own: combine `add`
    tanh(x[batch])                                      wants (0,), gives (0,)
    sort(x[batch]) along the batch                      wants it whole

An op without a rule wants everything whole: right, if slow. A rule may not look at values, only at types, attributes
and constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.backends.cpu.bodies import integers
from thalweg.dialects.attributes import array_value
from thalweg.dialects.mlir import ir, stablehlo
from thalweg.dialects.ops.reduce import identity_element
from thalweg.dialects.types import dtype_from_mlir

Split = int | None  # the axis that is split; None where every device has the whole


@dataclass(frozen=True)
class Plan:
    """What becomes of one op.

    Args:
        wants: of its operands.
        gives: its results.
        combine: the StableHLO op by which devices' results become one ("add"); empty where they need not.
    """

    wants: tuple[Split, ...]
    gives: tuple[Split, ...]
    combine: str = ""


Rule = Callable[[ir.Operation, Sequence[Split], int], Plan | None]  # of (op, its operands' splits, devices)


def plan_of(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan:
    """The plan for an op without control flow."""
    rule = RULES.get(operation.name.rpartition(".")[2])
    if any(split is not None for split in have) and rule is not None:
        found = rule(operation, have, devices)
        if found is not None and _is_even(operation, found, devices):
            return found
    return whole(operation)


def whole(operation: ir.Operation) -> Plan:
    """Every device does all of it."""
    return Plan((None,) * len(operation.operands), (None,) * len(operation.results))


def shape_of(value: ir.Value) -> list[int]:
    """The shape of a tensor."""
    return list(ir.RankedTensorType(value.type).shape)


def _is_even(operation: ir.Operation, plan: Plan, devices: int) -> bool:
    pairs = [*zip(operation.operands, plan.wants, strict=True), *zip(operation.results, plan.gives, strict=True)]
    return all(split is None or shape_of(value)[split] % devices == 0 for value, split in pairs)


def _first(have: Sequence[Split]) -> int:
    """The axis of the first operand that is split; there is one."""
    return next(split for split in have if split is not None)


def _elementwise(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    shape = shape_of(operation.results[0])
    wants = [axis if shape_of(operand) == shape else None for operand in operation.operands]  # else a scalar
    return Plan(tuple(wants), (axis,) * len(operation.results))


def _same(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    return Plan(tuple(have), tuple(have))


def _broadcast(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    return Plan((axis,), (integers(operation, "broadcast_dimensions", [])[axis],))


def _reshape(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    """The axis that starts where the split one starts: pieces of the one are pieces of the other."""
    axis, old, new = _first(have), shape_of(operation.operands[0]), shape_of(operation.results[0])
    before = math.prod(old[:axis])
    for target, size in enumerate(new):
        if math.prod(new[:target]) == before and size > 1:
            return Plan((axis,), (target,)) if size % devices == 0 else None
    return None


def _transpose(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    return Plan((axis,), (integers(operation, "permutation", []).index(axis),))


def _reverse(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    return None if axis in integers(operation, "dimensions", []) else Plan((axis,), (axis,))


def _slice(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    return Plan((axis,), (axis,)) if _is_kept(operation, axis) else None


def _is_kept(operation: ir.Operation, axis: int) -> bool:
    """Whether the first operand and the first result have all of an axis."""
    return shape_of(operation.operands[0])[axis] == shape_of(operation.results[0])[axis]


def _pad(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    padded = any(integers(operation, f"{n}", [])[axis] for n in ("edge_padding_low", "edge_padding_high"))
    return None if padded or not _is_kept(operation, axis) else Plan((axis, None), (axis,))


def _concatenate(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    joined = ir.IntegerAttr(operation.attributes["dimension"]).value == axis
    return None if joined else Plan((axis,) * len(operation.operands), (axis,))


def _dot(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    numbers = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
    batch = [list(numbers.lhs_batching_dimensions), list(numbers.rhs_batching_dimensions)]
    summed = [list(numbers.lhs_contracting_dimensions), list(numbers.rhs_contracting_dimensions)]
    for side in (0, 1):
        axis = have[side]
        if axis in batch[side]:
            at = batch[side].index(axis)
            return Plan((batch[0][at], batch[1][at]), (at,))
    for side in (0, 1):
        axis = have[side]
        if axis in summed[side]:
            at = summed[side].index(axis)
            return Plan((summed[0][at], summed[1][at]), (None,), "add")
    free = [
        [d for d in range(len(shape_of(operation.operands[side]))) if d not in (*batch[side], *summed[side])]
        for side in (0, 1)
    ]
    if have[0] is not None:
        return Plan((have[0], None), (len(batch[0]) + free[0].index(have[0]),))
    assert have[1] is not None
    return Plan((None, have[1]), (len(batch[0]) + len(free[0]) + free[1].index(have[1]),))


def _convolution(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    groups = [ir.IntegerAttr(operation.attributes[f"{kind}_group_count"]).value for kind in ("feature", "batch")]
    if have[0] == numbers.input_batch_dimension and groups[1] == 1:
        return Plan((have[0], None), (numbers.output_batch_dimension,))
    channels = numbers.input_feature_dimension, numbers.kernel_input_feature_dimension
    if groups[0] == 1 and any(split == axis for split, axis in zip(have, channels, strict=True)):
        return Plan(channels, (None,), "add")  # the gradient of a kernel: its channels are the batch
    return None


# The ops by which reductions combine, and what tells whose neutral element a constant is.
_COMBINERS = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min", "and": "and", "or": "or"}


def _reduce(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    count = len(operation.results)
    axis, dimensions = _first(have), integers(operation, "dimensions", [])
    wants = (axis,) * count + (None,) * count
    if axis not in dimensions:
        return Plan(wants, (axis - sum(d < axis for d in dimensions),) * count)
    combine = _combiner(operation)
    if count > 1 or combine is None or not _is_neutral(operation.operands[1], combine):
        return None
    return Plan(wants, (None,), combine)


def _combiner(operation: ir.Operation) -> str | None:
    """The one op in the body of a reduction or scatter, without the dialect; None where there are others."""
    first, *others = operation.regions[0].blocks[0].operations
    name = first.operation.name.rpartition(".")[2]
    both = set(first.operation.operands) == set(operation.regions[0].blocks[0].arguments)
    return name if len(others) == 1 and both and name in _COMBINERS else None


def _is_neutral(value: ir.Value, combine: str) -> bool:
    """Whether a value is a constant of nothing but the neutral element of a reduction."""
    owner = value.owner
    while not isinstance(owner, ir.Block) and owner.name == "stablehlo.broadcast_in_dim":
        owner = owner.operands[0].owner
    if isinstance(owner, ir.Block) or owner.name != "stablehlo.constant":
        return False
    dtype = dtype_from_mlir(str(ir.RankedTensorType(value.type).element_type))
    attribute: Any = owner.attributes["value"]
    if not ir.DenseElementsAttr(attribute).is_splat:
        return False
    found = array_value(attribute).flat[0]
    return bool(found == np.asarray(identity_element(_COMBINERS[combine], dtype)).astype(found.dtype))


def _window(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    """Windows that are one element wide along the split axis."""
    count, axis = len(operation.results), _first(have)
    if not _is_kept(operation, axis) or not _is_narrow(operation, axis):
        return None
    return Plan((axis,) * count + (None,) * count, (axis,) * count)


def _is_narrow(operation: ir.Operation, axis: int) -> bool:
    ones = [1] * len(shape_of(operation.operands[0]))
    names = ("window_dimensions", "window_strides", "base_dilations", "window_dilations")
    padding = integers(operation, "padding", [0] * (2 * len(ones)))
    return all(integers(operation, n, ones)[axis] == 1 for n in names) and padding[2 * axis : 2 * axis + 2] == [0, 0]


def _select_and_scatter(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    return Plan((axis, axis, None), (axis,)) if _is_narrow(operation, axis) else None


def _gather(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    """Rows of a whole table by split indices; or boxes that reach over all of the split axis."""
    numbers = stablehlo.GatherDimensionNumbers(operation.attributes["dimension_numbers"])
    offsets, collapsed = list(numbers.offset_dims), [*numbers.collapsed_slice_dims, *numbers.operand_batching_dims]
    rank = len(shape_of(operation.results[0]))
    places = [d for d in range(rank) if d not in offsets]  # of the result: where its indices' axes are
    axes = [d for d in range(len(shape_of(operation.operands[1]))) if d != numbers.index_vector_dim]
    if have[1] is not None:
        if have[1] not in axes:
            return None
        table: Split = None
        if have[1] in list(numbers.start_indices_batching_dims):
            table = list(numbers.operand_batching_dims)[list(numbers.start_indices_batching_dims).index(have[1])]
        return Plan((table, have[1]), (places[axes.index(have[1])],))
    axis = have[0]
    assert axis is not None
    if axis in list(numbers.operand_batching_dims):
        along = list(numbers.start_indices_batching_dims)[list(numbers.operand_batching_dims).index(axis)]
        return Plan((axis, along), (places[axes.index(along)],))
    size = integers(operation, "slice_sizes", [])[axis]
    if axis in collapsed or axis in list(numbers.start_index_map) or size != shape_of(operation.operands[0])[axis]:
        return None
    kept = [d for d in range(len(shape_of(operation.operands[0]))) if d not in collapsed]
    return Plan((axis, None), (offsets[kept.index(axis)],))


def _scatter(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    """Sums of split updates into zeros: each device adds up its own."""
    if len(operation.results) != 1 or have[0] is not None or _combiner(operation) != "add":
        return None
    numbers = stablehlo.ScatterDimensionNumbers(operation.attributes["scatter_dimension_numbers"])
    windows = list(numbers.update_window_dims)
    places = [d for d in range(len(shape_of(operation.operands[2]))) if d not in windows]
    axes = [d for d in range(len(shape_of(operation.operands[1]))) if d != numbers.index_vector_dim]
    at = axes.index(have[1]) if have[1] in axes else places.index(have[2]) if have[2] in places else None
    if at is None or list(numbers.input_batching_dims) or not _is_neutral(operation.operands[0], "add"):
        return None
    return Plan((None, axes[at], places[at]), (None,), "add")


def _sort(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    along = ir.IntegerAttr(operation.attributes["dimension"]).value
    rank = len(shape_of(operation.operands[0]))
    return None if axis == along % rank else Plan((axis,) * len(have), (axis,) * len(have))


def _dynamic_slice(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = have[0]
    if axis is None or not _is_kept(operation, axis):
        return None
    return Plan((axis, *(None for _ in have[1:])), (axis,))


def _dynamic_update_slice(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    axis = _first(have)
    if shape_of(operation.operands[1])[axis] != shape_of(operation.operands[0])[axis]:
        return None
    return Plan((axis, axis, *(None for _ in have[2:])), (axis,))


def _matrices(operation: ir.Operation, have: Sequence[Split], devices: int) -> Plan | None:
    """Ops on the last two axes."""
    axis = _first(have)
    inner = axis >= len(shape_of(operation.operands[0])) - 2
    return None if inner else Plan((axis,) * len(have), (axis,))


_ELEMENTWISE = """
    abs add and atan2 bitcast_convert cbrt ceil clamp compare convert cosine count_leading_zeros divide exponential
    exponential_minus_one floor imag is_finite log log_plus_one logistic maximum minimum multiply negate not or popcnt
    power real reduce_precision remainder round_nearest_afz round_nearest_even rsqrt select shift_left
    shift_right_arithmetic shift_right_logical sign sine sqrt subtract tan tanh xor

    erf erf_inv erfc lgamma digamma acos acosh asin asinh atan atanh cosh sinh square zeta polygamma bessel_i1e conj
    next_after is_inf is_neg_inf is_pos_inf
"""  # StableHLO's, and chlo's

RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE.split(), _elementwise),
    "broadcast_in_dim": _broadcast,
    "cholesky": _matrices,
    "concatenate": _concatenate,
    "convolution": _convolution,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "optimization_barrier": _same,
    "pad": _pad,
    "reduce": _reduce,
    "reduce_window": _window,
    "reshape": _reshape,
    "reverse": _reverse,
    "scatter": _scatter,
    "select_and_scatter": _select_and_scatter,
    "slice": _slice,
    "sort": _sort,
    "transpose": _transpose,
    "triangular_solve": _matrices,
}
