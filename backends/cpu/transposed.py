"""Transposed convolutions, the data gradients of strided ones, as ordinary convolutions of fewer products.

    before: %2 = stablehlo.convolution(%g, %w) …, lhs_dilate = [2, 2]     zeros between the elements of %g
    after:  for every remainder (0, 0), (0, 1), (1, 0), (1, 1) of a result's place: a convolution of %g with those
            elements of the window that meet no zero there, every second; written to every second place of the result

Where the result has few channels, or the remainders are many, a convolution of either kind becomes `tw.spread`
(emit/spread.py), which multiplies each place by the whole window and adds the products up: vectors run along the window
as well, and are full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from thalweg.backends.cpu.bodies import integers
from thalweg.dialects.mlir import ir, stablehlo

MANY_PHASES = 16  # convolutions that one becomes, where it can be spread instead
MOST_PHASES = 64  # and where it cannot
FEW_OUTPUTS = {1: 16, 2: 16, 3: 8}  # channels of a result, up to which the products are added up, by dimensions
FEW_INPUTS = 8  # summed in each of them: fewer cost less than adding up
_REVERSAL = "window_reversal"


@dataclass(frozen=True)
class Phase:
    """The results `first`, `first + step`, … along one dimension, and what they are computed from.

    Args:
        count: how many results; `window`: how many elements of the window they use, from `start` on at distance `step`.
        low, high: the padding of the undilated image.
    """

    first: int
    step: int
    count: int
    start: int
    window: int
    low: int
    high: int


def phases(image: int, window: int, result: int, step: int, low: int) -> list[Phase]:
    """The phases along one dimension.

    Args:
        image: its extent without the zeros between its elements, which lie `step` apart; `low`: padding before it.
    """
    found = []
    for first in range(min(step, result)):
        count, start = -(-(result - first) // step), (low - first) % step
        used = -(-max(0, window - start) // step)
        before = (low - first - start) // step
        found.append(Phase(first, step, count, start, used, before, count + used - 1 - image - before))
    return found


def split_phases(operation: ir.Operation) -> list[ir.Operation]:
    """Rewrite a `stablehlo.convolution` of a dilated image; the convolutions that took its place, or the op itself."""
    image, weight = operation.operands
    kinds = [ir.RankedTensorType(value.type) for value in (image, weight, operation.results[0])]
    ones = [1] * (len(kinds[0].shape) - 2)
    steps = integers(operation, "lhs_dilation", ones)
    others = [integers(operation, name, ones) for name in ("window_strides", "rhs_dilation")]
    flipped = any(_flags(operation))
    floats = all(isinstance(kind.element_type, ir.FloatType) and 0 not in kind.shape for kind in kinds)
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    window = [kinds[1].shape[k] for k in numbers.kernel_spatial_dimensions]
    if steps == ones or others != [ones, ones] or flipped or not floats or _met(steps, window) > MOST_PHASES:
        return [operation]
    low = integers(operation, "padding", [0] * (2 * len(ones)))[::2]
    along = [
        phases(kinds[0].shape[i], kinds[1].shape[k], kinds[2].shape[o], step, before)
        for i, k, o, step, before in zip(
            numbers.input_spatial_dimensions, numbers.kernel_spatial_dimensions, numbers.output_spatial_dimensions,
            steps, low, strict=True,
        )
    ]  # fmt: skip
    made = []
    with ir.InsertionPoint(operation), operation.location:
        used = [phase for phase in product(*along) if all(p.window for p in phase)]
        complete = len(used) == math.prod(map(len, along))
        whole = ir.Operation.create("tensor.empty", [kinds[2]]).results[0] if complete else _zeros(kinds[2])
        for phase in used:
            made.append(_convolution(operation, phase, list(numbers.kernel_spatial_dimensions), kinds[2], numbers))
            whole = _interleaved(made[-1].results[0], whole, phase, list(numbers.output_spatial_dimensions))
    operation.results[0].replace_all_uses_with(whole)
    operation.erase()
    return made


def _met(steps: Sequence[int], window: Sequence[int]) -> int:
    """How many phases there are: a window that is shorter than a step meets no element in some of them."""
    return math.prod(min(step, extent) for step, extent in zip(steps, window, strict=True))


def keep_spread(operation: ir.Operation) -> bool:
    """Rewrite a `stablehlo.convolution` with few results, channels last; false if it is another."""
    g, weight = operation.operands
    kinds = [ir.RankedTensorType(value.type) for value in (g, weight, operation.results[0])]
    spatial, numbers = (
        len(kinds[0].shape) - 2,
        stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"]),
    )
    ones = [1] * spatial
    steps = integers(operation, "lhs_dilation", ones)
    others = [integers(operation, name, ones) for name in ("window_strides", "rhs_dilation")]
    groups = [ir.IntegerAttr(operation.attributes[f"{of}_group_count"]).value for of in ("feature", "batch")]
    window = [kinds[1].shape[k] for k in numbers.kernel_spatial_dimensions]
    pads = integers(operation, "padding", [0] * (2 * spatial))[::2]
    low = [k - 1 - before for k, before in zip(window, pads, strict=True)]
    inputs, outputs = (kinds[k].shape[-1] for k in (0, 2))
    if (
        spatial not in FEW_OUTPUTS
        or groups != [1, 1]
        or others != [ones, ones]
        or len({str(kind.element_type) for kind in kinds}) != 1
        or str(kinds[0].element_type) not in ("f32", "f64")
        or any(0 in kind.shape for kind in kinds)
        or not _channels_last(numbers, spatial)
        or ((outputs > FEW_OUTPUTS[spatial] or inputs < FEW_INPUTS) and _met(steps, window) <= MANY_PHASES)
        or math.prod(window) == 1
        or min(low) < 0
    ):
        return False
    order = [*numbers.kernel_spatial_dimensions, numbers.kernel_output_feature_dimension]
    flags = _flags(operation) or [False] * spatial
    weight, turned = _unreversed(weight)
    flip = [flag == (k in turned) for flag, k in zip(flags, numbers.kernel_spatial_dimensions, strict=True)]
    attributes: dict[str, ir.Attribute] = {
        "steps": ir.DenseI64ArrayAttr.get(steps),
        "low": ir.DenseI64ArrayAttr.get(low),
        "flip": ir.DenseI64ArrayAttr.get([int(f) for f in flip]),
        "order": ir.DenseI64ArrayAttr.get([*order, numbers.kernel_input_feature_dimension]),
    }
    with ir.InsertionPoint(operation), operation.location:
        result = ir.Operation.create("tw.spread", [kinds[2]], [g, weight], attributes).results[0]
    operation.results[0].replace_all_uses_with(result)
    operation.erase()
    return True


def _flags(operation: ir.Operation) -> list[bool]:
    """Which dimensions of the window are reversed; nothing if none can be."""
    return list(ir.DenseBoolArrayAttr(operation.attributes[_REVERSAL])) if _REVERSAL in operation.attributes else []


def _unreversed(weight: ir.Value) -> tuple[ir.Value, list[int]]:
    """What a weight is a reversed copy of, and along which dimensions."""
    owner = weight.owner
    if isinstance(owner, ir.Block) or owner.name != "stablehlo.reverse":
        return weight, []
    return owner.operands[0], integers(owner, "dimensions", [])


def _channels_last(numbers: stablehlo.ConvDimensionNumbers, spatial: int) -> bool:
    """Are image and result [batch, *spatial, channels]?"""
    wanted = (0, spatial + 1, list(range(1, spatial + 1)))
    image = (numbers.input_batch_dimension, numbers.input_feature_dimension, list(numbers.input_spatial_dimensions))
    made = (numbers.output_batch_dimension, numbers.output_feature_dimension, list(numbers.output_spatial_dimensions))
    return image == made == wanted


def _zeros(kind: ir.RankedTensorType) -> ir.Value:
    value = ir.DenseElementsAttr.get_splat(kind, ir.FloatAttr.get(kind.element_type, 0.0))
    return ir.Operation.create("stablehlo.constant", [kind], [], {"value": value}).results[0]


def _convolution(
    operation: ir.Operation,
    phase: tuple[Phase, ...],
    window: list[int],
    result: ir.RankedTensorType,
    numbers: stablehlo.ConvDimensionNumbers,
) -> ir.Operation:
    """The convolution that computes one phase."""
    image, weight = operation.operands
    shape = list(ir.RankedTensorType(weight.type).shape)
    starts, limits, strides = [0] * len(shape), list(shape), [1] * len(shape)
    for axis, p in zip(window, phase, strict=True):
        starts[axis], strides[axis] = p.start, p.step
        shape[axis] = p.window
    attributes: dict[str, ir.Attribute] = {
        "start_indices": ir.DenseI64ArrayAttr.get(starts),
        "limit_indices": ir.DenseI64ArrayAttr.get(limits),
        "strides": ir.DenseI64ArrayAttr.get(strides),
    }
    element = ir.RankedTensorType(weight.type).element_type
    part = ir.Operation.create("stablehlo.slice", [ir.RankedTensorType.get(shape, element)], [weight], attributes)
    extents = list(result.shape)
    for axis, p in zip(numbers.output_spatial_dimensions, phase, strict=True):
        extents[axis] = p.count
    pads = ", ".join(f"[{p.low}, {p.high}]" for p in phase)
    changed = {
        "padding": ir.Attribute.parse(f"dense<[{pads}]> : tensor<{len(phase)}x2xi64>"),
        "lhs_dilation": ir.DenseI64ArrayAttr.get([1] * len(phase)),
    }
    kept = {name: operation.attributes[name] for name in operation.attributes if name not in changed}
    kind = ir.RankedTensorType.get(extents, result.element_type)
    return ir.Operation.create(operation.name, [kind], [image, part.results[0]], {**kept, **changed})


def _interleaved(part: ir.Value, whole: ir.Value, phase: tuple[Phase, ...], spatial: list[int]) -> ir.Value:
    """`whole` with one phase's results at their places."""
    sizes = list(ir.RankedTensorType(part.type).shape)
    offsets, strides = [0] * len(sizes), [1] * len(sizes)
    for axis, p in zip(spatial, phase, strict=True):
        offsets[axis], strides[axis] = p.first, p.step
    attributes: dict[str, ir.Attribute] = {
        "static_offsets": ir.DenseI64ArrayAttr.get(offsets),
        "static_sizes": ir.DenseI64ArrayAttr.get(sizes),
        "static_strides": ir.DenseI64ArrayAttr.get(strides),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, 0, 0, 0]),
    }
    return ir.Operation.create("tensor.insert_slice", [whole.type], [part, whole], attributes).results[0]
