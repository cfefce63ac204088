"""Floats as bytes, in StableHLO: the nearest multiples of a scale.

Where the scale is known, multiplying by it moves up to the constants that a value was multiplied by, added to and
clamped with, and the value is quantised before it is pooled or reshaped:

    before:  %q = byte(relu6(%s * scale[channels] + bias[channels]) * 42.5)
    after:   %q = byte(clamp(0, %s * (scale * 42.5)[channels] + (bias * 42.5)[channels], 255))
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.cpu.bodies import integers
from thalweg.dialects.mlir import ir, stablehlo

ROUNDING = 12582912.0  # 1.5 * 2^23: added to a small float, it leaves the nearest integer in the last bits

def op(name: str, kind: ir.Type, operands: Sequence[ir.Value], **attributes: ir.Attribute) -> ir.Value:
    return ir.Operation.create(f"stablehlo.{name}", [kind], list(operands), attributes).results[0]


def like(value: ir.Value, element: ir.Type) -> ir.RankedTensorType:
    return ir.RankedTensorType.get(ir.RankedTensorType(value.type).shape, element)


def spread(value: ir.Value, kind: ir.RankedTensorType, dimensions: Sequence[int]) -> ir.Value:
    return op("broadcast_in_dim", kind, [value], broadcast_dimensions=ir.DenseI64ArrayAttr.get(list(dimensions)))


def number(value: float, kind: ir.RankedTensorType) -> ir.Value:
    """A constant in every element."""
    attribute = ir.DenseElementsAttr.get_splat(kind, ir.FloatAttr.get(kind.element_type, value))
    return op("constant", kind, [], value=attribute)


def largest(x: ir.Value, dimensions: Sequence[int]) -> ir.Value:
    """The largest magnitude along dimensions."""
    f32 = ir.F32Type.get()
    kept = [n for d, n in enumerate(ir.RankedTensorType(x.type).shape) if d not in dimensions]
    scalar = ir.RankedTensorType.get([], f32)
    magnitude = x if never_negative(x) else op("abs", x.type, [x])
    reduce = ir.Operation.create(
        "stablehlo.reduce", [ir.RankedTensorType.get(kept, f32)], [magnitude, number(0.0, scalar)],
        {"dimensions": ir.DenseI64ArrayAttr.get(list(dimensions))}, regions=1,
    )  # fmt: skip
    block = reduce.regions[0].blocks.append(scalar, scalar)
    with ir.InsertionPoint(block):
        ir.Operation.create("stablehlo.return", [], [op("maximum", scalar, list(block.arguments))])
    return reduce.results[0]


def below(x: ir.Value, bound: float, at_least: bool = False) -> ir.Value:
    """The smaller of `x` and a number; the larger one with `at_least`."""
    limit = number(bound, ir.RankedTensorType(x.type))
    direction = stablehlo.ComparisonDirectionAttr.get("GT" if at_least else "LT")
    inside = op("compare", like(x, ir.IntegerType.get_signless(1)), [x, limit], comparison_direction=direction)
    return op("select", x.type, [inside, x, limit])


_SUMS = {"stablehlo." + name for name in ("minimum", "add", "multiply", "divide", "concatenate")}
_SAME_SIGN = {
    "stablehlo.reshape", "stablehlo.transpose", "stablehlo.slice", "stablehlo.broadcast_in_dim", "stablehlo.reverse",
    "stablehlo.dynamic_slice",
}  # fmt: skip


def never_negative(value: ir.Value) -> bool:
    """Does the program say so: is it a ReLU's result, say, perhaps pooled?"""
    if isinstance(value.owner, ir.Block):
        return False
    operation = value.owner.operation
    operands = operation.operands
    match operation.name:
        case "stablehlo.constant":
            attribute = operation.attributes["value"]
            splat = isinstance(attribute, ir.DenseFPElementsAttr) and attribute.is_splat
            return splat and ir.FloatAttr(ir.DenseElementsAttr(attribute).get_splat_value()).value >= 0
        case "stablehlo.logistic" | "stablehlo.exponential" | "stablehlo.abs":
            return True
        case "stablehlo.maximum":
            return any(map(never_negative, operands))
        case "stablehlo.clamp":
            return never_negative(operands[0])
        case name if name in _SUMS:
            return all(map(never_negative, operands))
        case "stablehlo.reduce" | "stablehlo.reduce_window":
            *_, combine, _end = (view.operation for view in operation.regions[0].blocks[0].operations)
            return combine.name in ("stablehlo.maximum", "stablehlo.add") and never_negative(operands[0])
        case name if name in _SAME_SIGN:
            return never_negative(operands[0])
    return False


def _splat(value: ir.Value) -> float | None:
    """The number in all elements of a value, if the program says so."""
    if isinstance(value.owner, ir.Block):
        return None
    operation = value.owner.operation
    if operation.name == "stablehlo.broadcast_in_dim":
        return _splat(operation.operands[0])
    attribute = operation.attributes["value"] if operation.name == "stablehlo.constant" else None
    if isinstance(attribute, ir.DenseFPElementsAttr) and attribute.is_splat:
        return float(ir.FloatAttr(ir.DenseElementsAttr(attribute).get_splat_value()).value)
    return None


def _times(x: ir.Value, factor: float) -> ir.Value:
    """`x * factor`, of constants and of what is broadcast where that is possible."""
    splat = _splat(x)
    if splat is not None:
        return number(splat * factor, ir.RankedTensorType(x.type))
    if not isinstance(x.owner, ir.Block):
        operation = x.owner.operation
        operands = list(operation.operands)
        if operation.name == "stablehlo.add":
            return op("add", x.type, [_times(each, factor) for each in operands])
        if operation.name == "stablehlo.multiply":
            for k in range(2):
                if _is_small(operands[k]):
                    return op("multiply", x.type, [operands[1 - k], _times(operands[k], factor)])
        if operation.name == "stablehlo.broadcast_in_dim":
            dimensions = integers(operation, "broadcast_dimensions", ())
            return spread(_times(operands[0], factor), ir.RankedTensorType(x.type), dimensions)
    return op("multiply", x.type, [x, number(factor, ir.RankedTensorType(x.type))])


def _is_small(value: ir.Value) -> bool:
    """Is it made of fewer elements than it has?"""
    return not isinstance(value.owner, ir.Block) and value.owner.operation.name == "stablehlo.broadcast_in_dim"


def _clamped(x: ir.Value, factor: float, low: float, high: float) -> ir.Value:
    """`x * factor` between two numbers."""
    while not isinstance(x.owner, ir.Block):
        operation = x.owner.operation
        if operation.name not in ("stablehlo.maximum", "stablehlo.minimum"):
            break
        bounds = [_splat(operand) for operand in operation.operands]
        if bounds.count(None) != 1:
            break
        at = bounds.index(None)
        bound = (bounds[1 - at] or 0.0) * factor
        if operation.name == "stablehlo.maximum" and bound <= high:
            low = max(low, bound)
        elif operation.name == "stablehlo.minimum" and bound >= low:
            high = min(high, bound)
        else:
            break
        x = operation.operands[at]
    return below(below(_times(x, factor), low, at_least=True), high)


def _byte(unsigned: bool) -> ir.Type:
    return ir.IntegerType.get_unsigned(8) if unsigned else ir.IntegerType.get_signless(8)


def _rounded(x: ir.Value, unsigned: bool) -> ir.Value:
    """Floats that fit as the nearest bytes."""
    shifted = op("add", x.type, [x, number(ROUNDING, ir.RankedTensorType(x.type))])
    bits = op("bitcast_convert", like(x, ir.IntegerType.get_signless(32)), [shifted])
    return op("convert", like(x, _byte(unsigned)), [bits])


def quantised(x: ir.Value, scale: ir.Value | float) -> ir.Value:
    """`x * scale` as the nearest bytes, without a sign if `x` is never negative.

    Args:
        scale: a number, which values of `x` may exceed, or what fits each element of `x`.
    """
    unsigned = never_negative(x)
    if isinstance(scale, ir.Value):
        return _rounded(op("multiply", x.type, [x, scale]), unsigned)
    return _known(x, scale, unsigned)


def _known(x: ir.Value, scale: float, unsigned: bool) -> ir.Value:
    """`quantised` before what only moves or pools the elements."""
    operation = None if isinstance(x.owner, ir.Block) else x.owner.operation
    if operation is not None and operation.name == "stablehlo.reshape":
        return op("reshape", like(x, _byte(unsigned)), [_known(operation.operands[0], scale, unsigned)])
    if operation is not None and unsigned and _is_max_pool(operation):
        return _pooled(operation, _known(operation.operands[0], scale, unsigned))
    return _rounded(_clamped(x, scale, 0.0 if unsigned else -127.0, 255.0 if unsigned else 127.0), unsigned)


def _is_max_pool(operation: ir.Operation) -> bool:
    """Is it the maximum over windows without padding of what is never negative, read by nothing else?"""
    if operation.name != "stablehlo.reduce_window" or len(operation.results) != 1:
        return False
    combine, *rest = (view.operation for view in operation.regions[0].blocks[0].operations)
    source = operation.operands[0]
    alone = len(list(source.uses)) == 1 and len(list(operation.results[0].uses)) == 1
    pads = any(integers(operation, "padding", [0]))
    return alone and not pads and len(rest) == 1 and combine.name == "stablehlo.maximum" and never_negative(source)


def _pooled(operation: ir.Operation, source: ir.Value) -> ir.Value:
    """The maximum over windows of bytes without a sign."""
    byte = ir.RankedTensorType(source.type).element_type
    scalar = ir.RankedTensorType.get([], byte)
    nothing = op("constant", scalar, [], value=ir.DenseElementsAttr.get_splat(scalar, ir.IntegerAttr.get(byte, 0)))
    attributes = {name: operation.attributes[name] for name in operation.attributes}
    made = ir.Operation.create(
        "stablehlo.reduce_window", [like(operation.results[0], byte)], [source, nothing], attributes, regions=1
    )
    block = made.regions[0].blocks.append(scalar, scalar)
    with ir.InsertionPoint(block):
        ir.Operation.create("stablehlo.return", [], [op("maximum", scalar, list(block.arguments))])
    return made.results[0]
