"""Products and convolutions in int8: their weights in bytes, what they multiply quantised to bytes, sums in 32 bits.

    before:  %2 = dot_general(%x, %w)                                      f32[rows, inner] x f32[inner, columns]
    after:   %q = convert(round(%x * (127 / largest)))                     i8[rows, inner]
             %s = dot_general(%q, %w in bytes)                             i32[rows, columns]
             %2 = convert(%s) * scale[columns] * (largest / 127)

`largest` is the largest magnitude of a row (of an image), found when the program runs, or, where the user's samples
have told it, one number for all. What is never negative, as after a ReLU, takes the bytes from 0 to 255. There is no
zero point: zero is zero, and padding stays padding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from thalweg.backends.aot.quantise import below, largest, like, never_negative, number, op, quantised, spread
from thalweg.backends.cpu.bodies import integers
from thalweg.backends.cpu.packed import unpacked
from thalweg.dialects.mlir import ir, stablehlo

Arithmetic = Literal["f32", "int8", "int8-dynamic"]
LEAST = 1e-30  # the largest magnitude of a row of zeros
EXACT_WINDOW = 512  # products of bytes that float32 adds up exactly


@dataclass(frozen=True)
class Product:
    """An op that multiplies by an argument: `run` summed elements lie side by side in what it multiplies; 0 where every
    channel has a window of its own."""

    operation: ir.Operation
    number: int
    argument: int
    run: int

    @property
    def x(self) -> ir.Value:
        return self.operation.operands[0]

    @property
    def reduced(self) -> list[int]:
        """The dimensions of `x` that share a scale."""
        if self.operation.name == "stablehlo.dot_general":
            numbers = stablehlo.DotDimensionNumbers(self.operation.attributes["dot_dimension_numbers"])
            return list(numbers.lhs_contracting_dimensions)
        return list(range(1, ir.RankedTensorType(self.x.type).rank))


def products(main: ir.Operation) -> list[Product]:
    """The ops of a function, nested ones too, that can multiply an argument in bytes, in order."""
    block = main.regions[0].blocks[0]
    places = {argument: k for k, argument in enumerate(block.arguments)}
    found: list[Product] = []
    for operation in _walk(main):
        if operation.name not in ("stablehlo.dot_general", "stablehlo.convolution"):
            continue
        argument = places.get(operation.operands[1])
        run = _run(operation) if argument is not None else None
        if argument is not None and run is not None:
            found.append(Product(operation, len(found), argument, run))
    return found


def _walk(main: ir.Operation) -> Iterator[ir.Operation]:
    for region in main.regions:
        for block in region.blocks:
            for view in list(block.operations):
                yield view.operation
                yield from _walk(view.operation)


def packable(main: ir.Operation) -> dict[int, int]:
    """The arguments that such products alone read, all with runs of the same length: the run of each."""
    runs: dict[int, set[int]] = {}
    uses: dict[int, int] = {}
    for product in products(main):
        runs.setdefault(product.argument, set()).add(product.run)
        uses[product.argument] = uses.get(product.argument, 0) + 1
    arguments = main.regions[0].blocks[0].arguments
    return {
        number: next(iter(lengths))
        for number, lengths in runs.items()
        if len(lengths) == 1 and uses[number] == sum(1 for _ in arguments[number].uses)
    }


def _run(operation: ir.Operation) -> int | None:
    """Summed elements that lie side by side; 0 for a window for each channel, None for what stays in float32."""
    kinds = [ir.RankedTensorType(v.type) for v in (*operation.operands, *operation.results)]
    x, weights, made = (list(kind.shape) for kind in kinds)
    if any(str(kind.element_type) != "f32" or 0 in kind.shape for kind in kinds):
        return None
    if operation.name == "stablehlo.dot_general":
        numbers = stablehlo.DotDimensionNumbers(operation.attributes["dot_dimension_numbers"])
        inner = list(numbers.lhs_contracting_dimensions)
        last = inner == [len(x) - 1] and list(numbers.rhs_contracting_dimensions) == [0]
        fits = last and len(weights) == 2 and not list(numbers.lhs_batching_dimensions)
        return weights[0] if fits and weights[0] >= 4 and weights[1] > 1 else None
    return _window_run(operation, x, weights, made)


def _window_run(operation: ir.Operation, x: list[int], weights: list[int], made: list[int]) -> int | None:
    numbers = stablehlo.ConvDimensionNumbers(operation.attributes["dimension_numbers"])
    spatial = len(x) - 2
    places, ones = list(range(1, spatial + 1)), [1] * spatial
    images = (
        (numbers.input_batch_dimension, numbers.input_feature_dimension, list(numbers.input_spatial_dimensions)),
        (numbers.output_batch_dimension, numbers.output_feature_dimension, list(numbers.output_spatial_dimensions)),
    )
    kernel = (numbers.kernel_input_feature_dimension, numbers.kernel_output_feature_dimension)
    groups = [ir.IntegerAttr(operation.attributes[f"{of}_group_count"]).value for of in ("feature", "batch")]
    flags = "window_reversal" in operation.attributes and any(
        ir.DenseBoolArrayAttr(operation.attributes["window_reversal"])
    )
    if (
        flags or not spatial or any(image != (0, spatial + 1, places) for image in images)
        or kernel != (spatial, spatial + 1) or list(numbers.kernel_spatial_dimensions) != list(range(spatial))
        or integers(operation, "lhs_dilation", ones) != ones or groups[1] != 1 or made[-1] < 2
        or min(integers(operation, "padding", [0])) < 0
    ):  # fmt: skip
        return None
    if groups[0] == x[-1] == made[-1]:
        return 0 if math.prod(weights[:spatial]) <= EXACT_WINDOW else None
    apart = integers(operation, "rhs_dilation", ones)[-1] != 1
    run = x[-1] * (1 if apart else weights[spatial - 1])
    return run if groups[0] == 1 and run >= 4 else None


def multiply_in_bytes(product: Product, weights: ir.Value, scale: ir.Value, known: float | None) -> None:
    """Rewrite a product in place.

    Args:
        weights: in bytes, packed (packed.py) where the product's `run` is not 0; `scale`: of each of their columns.
        known: the largest magnitude of what is multiplied, if it is not to be found when the program runs.
    """
    operation, x, f32 = product.operation, product.x, ir.F32Type.get()
    result, shape = operation.results[0], ir.RankedTensorType(operation.operands[1].type).shape
    with ir.InsertionPoint(operation), operation.location:
        channel = ir.RankedTensorType(result.type).rank - 1
        levels = 255.0 if never_negative(x) else 127.0
        if known is None:
            reduced = product.reduced
            top = largest(x, reduced)
            rows = ir.RankedTensorType(top.type)
            top = below(top, LEAST, at_least=True)
            up = op("divide", rows, [number(levels, rows), top])
            kept = [d for d in range(ir.RankedTensorType(x.type).rank) if d not in reduced]
            q = quantised(x, spread(up, x.type, kept))
            back = op("multiply", rows, [top, number(1 / levels, rows)])
            step = spread(back, result.type, list(range(rows.rank)))
            factor = op("multiply", result.type, [spread(scale, result.type, [channel]), step])
        else:
            top_ = max(known, LEAST)
            q = quantised(x, levels / top_)
            each = op("multiply", scale.type, [scale, number(top_ / levels, ir.RankedTensorType(scale.type))])
            factor = spread(each, result.type, [channel])
        sums = _sums(product, q, weights, list(shape))
        scaled = op("multiply", result.type, [sums, factor])
    result.replace_all_uses_with(scaled)
    operation.erase()
    assert ir.RankedTensorType(scaled.type).element_type == f32


def _sums(product: Product, q: ir.Value, weights: ir.Value, shape: Sequence[int]) -> ir.Value:
    """The sums of products of bytes, as float32."""
    operation = product.operation
    made = ir.RankedTensorType(operation.results[0].type)
    # Sums over one channel's window are exact in float32, and take no instruction more.
    wide: ir.Type = ir.IntegerType.get_signless(32) if product.run else ir.F32Type.get()
    rows = unpacked(weights, shape, product.run) if product.run else weights
    attributes = {name: operation.attributes[name] for name in operation.attributes}
    operands = [op("convert", like(value, wide), [value]) for value in (q, rows)]
    sums = ir.Operation.create(operation.name, [like(operation.results[0], wide)], operands, attributes).results[0]
    return op("convert", made, [sums]) if product.run else sums


def observed(main: ir.Operation) -> list[int]:
    """Let a function return, instead of its results, the largest magnitude of what each product outside of loops
    multiplies. Returns the products' numbers.
    """
    block = main.regions[0].blocks[0]
    *_, end = (view.operation for view in block.operations)
    kind = ir.FunctionType(ir.TypeAttr(main.attributes["function_type"]).value)
    found: list[int] = []
    values: list[ir.Value] = []
    for product in products(main):
        if product.operation.parent.operation == main:
            with ir.InsertionPoint(end), product.operation.location:
                values.append(largest(product.x, range(ir.RankedTensorType(product.x.type).rank)))
            found.append(product.number)
    with ir.InsertionPoint(end), end.location:
        ir.Operation.create("func.return", [], values)
    end.erase()
    made = ir.FunctionType.get(kind.inputs, [value.type for value in values])
    main.attributes["function_type"] = ir.TypeAttr.get(made)
    for name in ("res_attrs", "arg_attrs"):  # no argument is the memory of a result now
        if name in main.attributes:
            del main.attributes[name]
    return found


Ranges = Mapping[int, float]  # by the number of a product
