"""Convolutions that StableHLO's own pass would turn into more work than they are.

A dilated window becomes a `linalg.generic`, whose maps step over the elements between; so do groups, whose channels
get a dimension of their own: padded after that, the image is still read where it lies.

    before: %2 = stablehlo.convolution(%x, %g) …, rhs_dilate = [2, 2]
    after:  %2 = linalg.generic {… (b, i, j, f, ki, kj, c) -> (b, i + 2 ki, j + 2 kj, c) …} ins(%x, %g) { mulf; addf }

StableHLO's own pass writes zeros between the window's elements first, and multiplies by them: four times the work for
the weight gradient of a convolution with stride 2.

A depthwise convolution with channels last becomes `tw.depthwise` (emit/depthwise.py), which pads by leaving out what
lies in the padding; the pass pads a copy of the image. The data gradient of one that is strided becomes
`tw.depthwise_transposed`, its weight gradient `tw.depthwise_weights`. One of many small groups becomes
`tw.small_groups` (emit/small_groups.py), which does the like.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.backends.cpu.bodies import integers
from thalweg.dialects.mlir import ir, stablehlo

_REVERSAL = "window_reversal"
SMALL_GROUPS = (1, 2, 4, 8)  # results of a group, several of which share a vector
MOST_INPUTS = 8  # of such a group
MOST_SLICES = 8  # of the lines of a depthwise weight gradient
FEWEST_LINES = 4  # in a slice
SLICE_PRODUCTS = 1 << 18
MOST_UNROLLED = 16  # a longer line of a depthwise window is left to the general code


def step_over_dilation(operation: ir.Operation) -> None:
    """Rewrite a `stablehlo.convolution` on floats of one type whose window is dilated, or that has groups; leave
    others."""
    x, weight = operation.operands
    kinds = [ir.RankedTensorType(value.type) for value in (x, weight, operation.results[0])]
    spatial = len(kinds[0].shape) - 2
    ones = [1] * spatial
    window = integers(operation, "rhs_dilation", ones)
    groups = [ir.IntegerAttr(operation.attributes[f"{of}_group_count"]).value for of in ("feature", "batch")]
    one_type = len({str(kind.element_type) for kind in kinds}) == 1 and isinstance(kinds[0].element_type, ir.FloatType)
    empty = any(0 in kind.shape for kind in kinds)
    if (window == ones and groups == [1, 1]) or 1 not in groups or not one_type or empty or _reversed(operation):
        return
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    strides = integers(operation, "window_strides", ones)
    # Loops: batch, the result's positions, its channels; the window's positions, the channels that are summed; groups.
    loops = 2 * spatial + 3 + (max(groups) > 1)
    d = [ir.AffineDimExpr.get(k) for k in range(loops)]
    inner = d[spatial + 2 : 2 * spatial + 2]
    moved = [
        ir.AffineExpr.get_add(ir.AffineExpr.get_mul(o, stride), ir.AffineExpr.get_mul(k, step))
        for o, k, stride, step in zip(d[1:], inner, strides, window, strict=False)
    ]
    outer, channels, summed = d[1 : spatial + 1], d[spatial + 1], d[2 * spatial + 2]
    places = [
        {numbers.input_batch_dimension: d[0], numbers.input_feature_dimension: summed}
        | dict(zip(numbers.input_spatial_dimensions, moved, strict=True)),
        {numbers.kernel_output_feature_dimension: channels, numbers.kernel_input_feature_dimension: summed}
        | dict(zip(numbers.kernel_spatial_dimensions, inner, strict=True)),
        {numbers.output_batch_dimension: d[0], numbers.output_feature_dimension: channels}
        | dict(zip(numbers.output_spatial_dimensions, outer, strict=True)),
    ]
    count = max(groups)
    split = [
        numbers.input_feature_dimension if groups[0] > 1 else numbers.input_batch_dimension,
        numbers.kernel_output_feature_dimension,
        numbers.output_feature_dimension,
    ]
    shapes = [list(kind.shape) for kind in kinds]
    expressions = [[at[k] for k in range(len(at))] for at in places]
    axes = list(numbers.input_spatial_dimensions)
    if count > 1:
        for shape, expression, axis in zip(shapes, expressions, split, strict=True):
            shape[axis : axis + 1] = [count, shape[axis] // count]
            expression.insert(axis, d[-1])
        axes = [axis + (axis > split[0]) for axis in axes]
    maps = [ir.AffineMap.get(loops, 0, expression) for expression in expressions]
    with ir.InsertionPoint(operation), operation.location:
        x, weight = (_reshaped(value, shape) for value, shape in zip((x, weight), shapes, strict=False))
        made = _sum_of_products(_padded(operation, x, axes), weight, shapes[2], maps, spatial)
        made = _reshaped(made, list(kinds[2].shape))
    operation.results[0].replace_all_uses_with(made)
    operation.erase()


def _reshaped(value: ir.Value, shape: list[int]) -> ir.Value:
    kind = ir.RankedTensorType(value.type)
    if list(kind.shape) == shape:
        return value
    kind = ir.RankedTensorType.get(shape, kind.element_type)
    return ir.Operation.create("stablehlo.reshape", [kind], [value]).results[0]


def keep_depthwise(operation: ir.Operation, small_groups: bool) -> bool:
    """Rewrite a `stablehlo.convolution` of single channels, and if `small_groups` one of groups smaller than vectors;
    false if it is another."""
    x, weight = operation.operands
    kind, made = ir.RankedTensorType(x.type), ir.RankedTensorType(operation.results[0].type)
    channels, spatial = kind.shape[-1], len(kind.shape) - 2
    ones, zeros = [1] * spatial, [0] * (2 * spatial)
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    groups = [ir.IntegerAttr(operation.attributes[f"{of}_group_count"]).value for of in ("feature", "batch")]
    shape = list(ir.RankedTensorType(weight.type).shape)
    pads = integers(operation, "padding", zeros)
    inputs, outputs = channels // groups[0], made.shape[-1] // groups[0]
    single = inputs == outputs == 1
    if (
        groups[0] == 1
        or groups[1] != 1
        or spatial == 0
        or not (single or (small_groups and outputs in SMALL_GROUPS and inputs <= min(2 * outputs, MOST_INPUTS)))
        or not _channels_last(numbers, spatial)
        or len({str(value.type.element_type) for value in (x, weight, operation.results[0])}) != 1
        or str(kind.element_type) not in ("f32", "f64")
        or integers(operation, "lhs_dilation", ones) != ones
        or min(pads) < 0
        or shape[spatial - 1] > MOST_UNROLLED
        or any(0 in value.type.shape for value in (x, weight, operation.results[0]))
    ):
        return False
    attributes: dict[str, ir.Attribute] = {
        "strides": ir.DenseI64ArrayAttr.get(integers(operation, "window_strides", ones)),
        "dilations": ir.DenseI64ArrayAttr.get(integers(operation, "rhs_dilation", ones)),
        "low": ir.DenseI64ArrayAttr.get(pads[::2]),
    }
    with ir.InsertionPoint(operation), operation.location:
        between = [] if single else [inputs]
        ends = (numbers.kernel_input_feature_dimension, numbers.kernel_output_feature_dimension)
        order = [*numbers.kernel_spatial_dimensions, *ends]
        turned = ir.RankedTensorType.get([shape[d] for d in order], kind.element_type)
        if order != sorted(order):
            permutation = {"permutation": ir.DenseI64ArrayAttr.get(order)}
            weight = ir.Operation.create("stablehlo.transpose", [turned], [weight], permutation).results[0]
        flat = ir.RankedTensorType.get([*turned.shape[:spatial], *between, made.shape[-1]], kind.element_type)
        weight = _reshaped(weight, list(flat.shape))
        name = "tw.depthwise" if single else "tw.small_groups"
        result = ir.Operation.create(name, [made], [x, weight], attributes).results[0]
    operation.results[0].replace_all_uses_with(result)
    operation.erase()
    return True


def keep_depthwise_transposed(operation: ir.Operation) -> bool:
    """Rewrite a `stablehlo.convolution` of single channels of a dilated image; false if it is another."""
    x, weight = operation.operands
    kind, made = ir.RankedTensorType(x.type), ir.RankedTensorType(operation.results[0].type)
    channels, spatial = kind.shape[-1], len(kind.shape) - 2
    ones = [1] * spatial
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    groups = [ir.IntegerAttr(operation.attributes[f"{of}_group_count"]).value for of in ("feature", "batch")]
    shape = list(ir.RankedTensorType(weight.type).shape)
    steps = integers(operation, "lhs_dilation", ones)
    if (
        groups != [channels, 1]
        or channels == 1
        or spatial == 0
        or made.shape[-1] != channels
        or not _channels_last(numbers, spatial)
        or len({str(value.type.element_type) for value in (x, weight, operation.results[0])}) != 1
        or str(kind.element_type) not in ("f32", "f64")
        or steps == ones
        or any(integers(operation, name, ones) != ones for name in ("window_strides", "rhs_dilation"))
        or _reversed(operation)
        or shape[spatial - 1] > MOST_UNROLLED
        or any(0 in value.type.shape for value in (x, weight, operation.results[0]))
    ):
        return False
    attributes: dict[str, ir.Attribute] = {
        "steps": ir.DenseI64ArrayAttr.get(steps),
        "low": ir.DenseI64ArrayAttr.get(integers(operation, "padding", [0] * (2 * spatial))[::2]),
    }
    with ir.InsertionPoint(operation), operation.location:
        flat = ir.RankedTensorType.get([*shape[:spatial], channels], kind.element_type)
        operands = [x, _reshaped(weight, list(flat.shape))]
        result = ir.Operation.create("tw.depthwise_transposed", [made], operands, attributes).results[0]
    operation.results[0].replace_all_uses_with(result)
    operation.erase()
    return True


def keep_depthwise_weights(operation: ir.Operation) -> bool:
    """Rewrite a `stablehlo.convolution` that is the weight gradient of a depthwise one, or of one of groups that are
    smaller than vectors; false if it is another."""
    x, g = operation.operands
    kinds = [ir.RankedTensorType(value.type) for value in (x, g, operation.results[0])]
    channels, spatial = kinds[1].shape[-1], len(kinds[0].shape) - 2
    ones = [1] * spatial
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    groups = [ir.IntegerAttr(operation.attributes[f"{of}_group_count"]).value for of in ("feature", "batch")]
    pads = integers(operation, "padding", [0] * (2 * spatial))
    inputs, outputs = (kind.shape[-1] // groups[1] for kind in kinds[:2])
    single = inputs == outputs == 1
    if (
        groups[0] != 1
        or groups[1] == 1
        or spatial not in (1, 2)
        or not (single or (outputs in SMALL_GROUPS and inputs <= min(2 * outputs, MOST_INPUTS)))
        or not _sums_over_images(numbers, spatial)
        or len({str(kind.element_type) for kind in kinds}) != 1
        or str(kinds[0].element_type) not in ("f32", "f64")
        or integers(operation, "lhs_dilation", ones) != ones
        or _reversed(operation)
        or min(pads[::2]) < 0
        or kinds[2].shape[spatial - 1] > MOST_UNROLLED
        or any(0 in kind.shape for kind in kinds)
    ):
        return False
    attributes: dict[str, ir.Attribute] = {
        "strides": ir.DenseI64ArrayAttr.get(integers(operation, "rhs_dilation", ones)),
        "dilations": ir.DenseI64ArrayAttr.get(integers(operation, "window_strides", ones)),
        "low": ir.DenseI64ArrayAttr.get(pads[::2]),
    }
    with ir.InsertionPoint(operation), operation.location:
        window, element = list(kinds[2].shape[:spatial]), kinds[2].element_type
        count, name = _line_slices(kinds[1].shape, math.prod(window) * inputs), "tw.depthwise_weights"
        if not single:
            window, name = [*window, inputs], "tw.small_groups_weights"
        partial = ir.RankedTensorType.get([count, *window, channels], element)
        made = ir.Operation.create(name, [partial], [x, g], attributes).results[0]
        made = _added(made, ir.RankedTensorType.get([*window, channels], element))
        result = ir.Operation.create("stablehlo.reshape", [kinds[2]], [made]).results[0]
    operation.results[0].replace_all_uses_with(result)
    operation.erase()
    return True


def _line_slices(shape: Sequence[int], window: int) -> int:
    """How many slices the lines of a cotangent are summed in, which threads share: by shapes alone."""
    lines = math.prod(shape[:-2])
    products = math.prod(shape) * window
    return max(1, min(MOST_SLICES, lines // FEWEST_LINES, products // SLICE_PRODUCTS))


def _added(slices: ir.Value, kind: ir.RankedTensorType) -> ir.Value:
    """The sum over the first dimension."""
    if ir.RankedTensorType(slices.type).shape[0] == 1:
        return _reshaped(slices, list(kind.shape))
    scalar = ir.RankedTensorType.get([], kind.element_type)
    attributes: dict[str, ir.Attribute] = {"dimensions": ir.DenseI64ArrayAttr.get([0])}
    made = ir.Operation.create("stablehlo.reduce", [kind], [slices, _zero(scalar)], attributes, regions=1)
    block = made.regions[0].blocks.append(scalar, scalar)
    with ir.InsertionPoint(block):
        total = ir.Operation.create("stablehlo.add", [scalar], list(block.arguments)).results[0]
        ir.Operation.create("stablehlo.return", [], [total])
    return made.results[0]


def _sums_over_images(numbers: stablehlo.ConvDimensionNumbers, spatial: int) -> bool:
    """Are operands [batch, *spatial, channels], the batch summed, and is the result [*window, 1, channels]?"""
    places = list(range(1, spatial + 1))
    image = (numbers.input_feature_dimension, numbers.input_batch_dimension, list(numbers.input_spatial_dimensions))
    other = (
        numbers.kernel_input_feature_dimension,
        numbers.kernel_output_feature_dimension,
        list(numbers.kernel_spatial_dimensions),
    )
    made = (numbers.output_batch_dimension, numbers.output_feature_dimension, list(numbers.output_spatial_dimensions))
    return image == other == (0, spatial + 1, places) and made == (spatial, spatial + 1, list(range(spatial)))


def _channels_last(numbers: stablehlo.ConvDimensionNumbers, spatial: int) -> bool:
    """Are image and result [batch, *spatial, channels], and is the window's place first in the kernel?"""
    places = list(range(1, spatial + 1))
    images = (
        (numbers.input_batch_dimension, numbers.input_feature_dimension, list(numbers.input_spatial_dimensions)),
        (numbers.output_batch_dimension, numbers.output_feature_dimension, list(numbers.output_spatial_dimensions)),
    )
    last = all(image == (0, spatial + 1, places) for image in images)
    return last and list(numbers.kernel_spatial_dimensions) == list(range(spatial))


def flip_groups(operation: ir.Operation) -> None:
    """Reverse the kernel of a convolution of several groups instead of its window: the pass forgets to."""
    if ir.IntegerAttr(operation.attributes["feature_group_count"]).value == 1 or not _reversed(operation):
        return
    flags = list(ir.DenseBoolArrayAttr(operation.attributes[_REVERSAL]))
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    axes = [axis for axis, flag in zip(numbers.kernel_spatial_dimensions, flags, strict=True) if flag]
    weight = operation.operands[1]
    with ir.InsertionPoint(operation), operation.location:
        attributes: dict[str, ir.Attribute] = {"dimensions": ir.DenseI64ArrayAttr.get(axes)}
        operation.operands[1] = ir.Operation.create("stablehlo.reverse", [weight.type], [weight], attributes).results[0]
        operation.attributes[_REVERSAL] = ir.DenseBoolArrayAttr.get([False] * len(flags))


def _reversed(operation: ir.Operation) -> bool:
    return _REVERSAL in operation.attributes and any(ir.DenseBoolArrayAttr(operation.attributes[_REVERSAL]))


def _padded(operation: ir.Operation, x: ir.Value, spatial: list[int]) -> ir.Value:
    """The image with its padding along its spatial dimensions, and zeros between its elements where it is dilated."""
    kind = ir.RankedTensorType(x.type)
    low, high, between = ([0] * len(kind.shape) for _ in range(3))
    pads = integers(operation, "padding", [0] * (2 * len(spatial)))
    dilation = integers(operation, "lhs_dilation", [1] * len(spatial))
    shape = list(kind.shape)
    for k, axis in enumerate(spatial):
        low[axis], high[axis], between[axis] = pads[2 * k], pads[2 * k + 1], dilation[k] - 1
        shape[axis] = low[axis] + high[axis] + (shape[axis] - 1) * dilation[k] + 1
    if shape == list(kind.shape) and not any(low):
        return x
    zero = _zero(ir.RankedTensorType.get([], kind.element_type))
    attributes: dict[str, ir.Attribute] = {
        "edge_padding_low": ir.DenseI64ArrayAttr.get(low),
        "edge_padding_high": ir.DenseI64ArrayAttr.get(high),
        "interior_padding": ir.DenseI64ArrayAttr.get(between),
    }
    made = ir.RankedTensorType.get(shape, kind.element_type)
    return ir.Operation.create("stablehlo.pad", [made], [x, zero], attributes).results[0]


def _zero(kind: ir.RankedTensorType) -> ir.Value:
    value = ir.DenseElementsAttr.get_splat(kind, ir.FloatAttr.get(kind.element_type, 0.0))
    return ir.Operation.create("stablehlo.constant", [kind], [], {"value": value}).results[0]


def _sum_of_products(
    x: ir.Value, weight: ir.Value, shape: list[int], maps: list[ir.AffineMap], spatial: int
) -> ir.Value:
    kind = ir.RankedTensorType.get(shape, ir.RankedTensorType(x.type).element_type)
    parallel, summed = (ir.Attribute.parse(f"#linalg.iterator_type<{name}>") for name in ("parallel", "reduction"))
    kinds = [parallel] * (spatial + 2) + [summed] * (spatial + 1)
    kinds += [parallel] * (maps[0].n_dims - len(kinds))
    attributes: dict[str, ir.Attribute] = {
        "indexing_maps": ir.ArrayAttr.get([ir.AffineMapAttr.get(map_) for map_ in maps]),
        "iterator_types": ir.ArrayAttr.get(kinds),
        "operandSegmentSizes": ir.DenseI32ArrayAttr.get([2, 1]),
    }
    start = _zero(kind)
    generic = ir.Operation.create("linalg.generic", [kind], [x, weight, start], attributes, regions=1)
    block = generic.regions[0].blocks.append(*[kind.element_type] * 3)
    a, b, total = block.arguments
    with ir.InsertionPoint(block):
        product = ir.Operation.create("arith.mulf", [kind.element_type], [a, b]).results[0]
        added = ir.Operation.create("arith.addf", [kind.element_type], [total, product]).results[0]
        ir.Operation.create("linalg.yield", [], [added])
    return generic.results[0]
