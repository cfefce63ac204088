"""StableHLO ops as Python expressions: what decompositions are written in.

    with ir.InsertionPoint(op), op.location:
        x = Array(op.operands[0])
        mean = x.sum(axes) / full_like(…)

An `Array` wraps an MLIR value; operators, methods and the functions below build ops at the current insertion point and
location. Shapes are static; operands of elementwise ops have equal types (`spread` broadcasts explicitly), Python
numbers become constants of the other operand's type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from thalweg.dialects.mlir import ir, stablehlo

Number = int | float


class Array:
    """A value of a static tensor type with StableHLO ops as methods."""

    def __init__(self, value: ir.Value) -> None:
        self.value = value

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return tuple(ir.RankedTensorType(self.value.type).shape)

    @cached_property
    def element(self) -> str:
        """The element type as MLIR prints it: 'f32', 'ui8', 'complex<f32>'."""
        return str(ir.RankedTensorType(self.value.type).element_type)

    @property
    def rank(self) -> int:
        return len(self.shape)

    def like(self, other: Array | Number) -> Array:
        """`other`, or a constant of this shape and element type."""
        return other if isinstance(other, Array) else constant(other, self.element, self.shape)

    def __add__(self, other: Array | Number) -> Array:
        return elementwise("add", self, self.like(other))

    def __sub__(self, other: Array | Number) -> Array:
        return elementwise("subtract", self, self.like(other))

    def __rsub__(self, other: Number) -> Array:
        return elementwise("subtract", self.like(other), self)

    def __mul__(self, other: Array | Number) -> Array:
        return elementwise("multiply", self, self.like(other))

    def __truediv__(self, other: Array | Number) -> Array:
        return elementwise("divide", self, self.like(other))

    def __rtruediv__(self, other: Number) -> Array:
        return elementwise("divide", self.like(other), self)

    def __neg__(self) -> Array:
        return elementwise("negate", self)

    def __and__(self, other: Array | Number) -> Array:
        return elementwise("and", self, self.like(other))

    def __or__(self, other: Array | Number) -> Array:
        return elementwise("or", self, self.like(other))

    def __xor__(self, other: Array | Number) -> Array:
        return elementwise("xor", self, self.like(other))

    def __lshift__(self, bits: int) -> Array:
        return elementwise("shift_left", self, self.like(bits))

    def __rshift__(self, bits: int) -> Array:
        return elementwise("shift_right_logical", self, self.like(bits))

    def __lt__(self, other: Array | Number) -> Array:
        return self.compare("LT", other)

    def __gt__(self, other: Array | Number) -> Array:
        return self.compare("GT", other)

    def __ge__(self, other: Array | Number) -> Array:
        return self.compare("GE", other)

    def equals(self, other: Array | Number) -> Array:
        return self.compare("EQ", other)

    def compare(self, direction: str, other: Array | Number) -> Array:
        """An i1 array: `self direction other`."""
        kind = "FLOAT" if "f" in self.element else "UNSIGNED" if self.element in _UNSIGNED else "SIGNED"
        attributes = {
            "comparison_direction": stablehlo.ComparisonDirectionAttr.get(direction),
            "compare_type": stablehlo.ComparisonTypeAttr.get(kind),
        }
        return create("compare", tensor(self.shape, "i1"), [self, self.like(other)], attributes)

    def select(self, yes: Array, no: Array | Number) -> Array:
        """`yes` where this i1 array is true, else `no`."""
        return create("select", yes.value.type, [self, yes, yes.like(no)])

    def select_not_nan(self, other: Number) -> Array:
        """This array with `other` for NaN."""
        return self.equals(self).select(self, other)

    def convert(self, element: str) -> Array:
        return self if element == self.element else create("convert", tensor(self.shape, element), [self])

    def bitcast(self, element: str) -> Array:
        """The same bits as elements of another type of the same width."""
        return create("bitcast_convert", tensor(self.shape, element), [self])

    def reshape(self, *shape: int) -> Array:
        return self if shape == self.shape else create("reshape", tensor(shape, self.element), [self])

    def transpose(self, *permutation: int) -> Array:
        shape = tuple(self.shape[d] for d in permutation)
        return create("transpose", tensor(shape, self.element), [self], {"permutation": i64_array(permutation)})

    def spread(self, shape: Sequence[int], dims: Sequence[int] | None = None) -> Array:
        """Broadcast to `shape`, dimension i of this array becoming dimension dims[i] (default: the last ones)."""
        to = tuple(range(len(shape) - self.rank, len(shape))) if dims is None else tuple(dims)
        return create("broadcast_in_dim", tensor(shape, self.element), [self], {"broadcast_dimensions": i64_array(to)})

    def sum(self, dims: Sequence[int]) -> Array:
        """The sum over `dims`, which are dropped."""
        return self.reduce("add", 0, dims)

    def reduce(self, op: str, start: Number, dims: Sequence[int]) -> Array:
        """Combine elements along `dims` by a binary StableHLO op."""
        shape = tuple(n for d, n in enumerate(self.shape) if d not in dims)
        scalar = tensor((), self.element)
        operation = ir.Operation.create(
            "stablehlo.reduce",
            [tensor(shape, self.element)],
            [self.value, constant(start, self.element).value],
            {"dimensions": i64_array(dims)},
            regions=1,
        )
        block = operation.regions[0].blocks.append(scalar, scalar)
        with ir.InsertionPoint(block):
            result = elementwise(op, Array(block.arguments[0]), Array(block.arguments[1]))
            ir.Operation.create("stablehlo.return", [], [result.value])
        return Array(operation.results[0])

    def slice(self, *bounds: tuple[int, int], strides: Sequence[int] | None = None) -> Array:
        """The box of (start, limit) pairs, one for each dimension; every `strides`-th element of it."""
        starts, limits = [b[0] for b in bounds], [b[1] for b in bounds]
        steps = [1] * self.rank if strides is None else strides
        attributes = {
            "start_indices": i64_array(starts),
            "limit_indices": i64_array(limits),
            "strides": i64_array(steps),
        }
        shape = tuple(-(-(limit - start) // step) for start, limit, step in zip(starts, limits, steps, strict=True))
        return create("slice", tensor(shape, self.element), [self], attributes)

    def pad(
        self, value: Array, low: Sequence[int], high: Sequence[int], interior: Sequence[int] | None = None
    ) -> Array:
        """The scalar `value` around this array, and `interior` times between neighbours."""
        between = [0] * self.rank if interior is None else interior
        attributes = {
            "edge_padding_low": i64_array(low),
            "edge_padding_high": i64_array(high),
            "interior_padding": i64_array(between),
        }
        geometry = zip(self.shape, low, high, between, strict=True)
        shape = [n + below + above + max(0, n - 1) * gap for n, below, above, gap in geometry]
        return create("pad", tensor(shape, self.element), [self, value], attributes)

    def reverse(self, dim: int) -> Array:
        return create("reverse", self.value.type, [self], {"dimensions": i64_array([dim])})

    def narrow(self, dim: int, start: int, limit: int) -> Array:
        """The elements start … limit - 1 along one dimension."""
        return self.slice(*((start, limit) if d == dim else (0, n) for d, n in enumerate(self.shape)))

    def dot(self, other: Array, contracting: tuple[int, int], batch: int = 0) -> Array:
        """`dot_general` over one dimension of each, the first `batch` dimensions shared."""
        left, right = contracting
        lead = ", ".join(map(str, range(batch)))
        numbers = ir.Attribute.parse(
            f"#stablehlo.dot<lhs_batching_dimensions = [{lead}], rhs_batching_dimensions = [{lead}], "
            f"lhs_contracting_dimensions = [{left}], rhs_contracting_dimensions = [{right}]>"
        )
        free = [n for d, n in enumerate(self.shape) if d >= batch and d != left]
        free += [n for d, n in enumerate(other.shape) if d >= batch and d != right]
        shape = (*self.shape[:batch], *free)
        return create("dot_general", tensor(shape, self.element), [self, other], {"dot_dimension_numbers": numbers})


_UNSIGNED = {"i1", "ui8", "ui16", "ui32", "ui64"}


def tensor(shape: Sequence[int], element: str) -> ir.Type:
    """The MLIR type: tensor((2, 3), 'f32') is tensor<2x3xf32>."""
    return ir.RankedTensorType.get(list(shape), ir.Type.parse(element))


def i64_array(values: Sequence[int]) -> ir.Attribute:
    return ir.DenseI64ArrayAttr.get(list(values))


def create(
    name: str, result: ir.Type, operands: Sequence[Array] = (), attributes: dict[str, ir.Attribute] | None = None
) -> Array:
    """The one result of a StableHLO op without regions."""
    operation = ir.Operation.create(f"stablehlo.{name}", [result], [o.value for o in operands], attributes or {})
    return Array(operation.results[0])


def elementwise(name: str, *operands: Array) -> Array:
    """An op whose result has the type of its operands: elementwise("sqrt", x)."""
    return create(name, operands[0].value.type, operands)


def constant(value: Number, element: str, shape: Sequence[int] = ()) -> Array:
    """A tensor of one repeated number; infinities and NaN included."""
    if element.startswith(("f", "bf")):
        attribute: ir.Attribute = ir.FloatAttr.get(ir.Type.parse(element), float(value))
    else:
        width = int(element.lstrip("ui"))
        bits = int(value) & ((1 << width) - 1)
        attribute = ir.Attribute.parse(f"{bits if element.startswith('u') else _signed(bits, width)} : {element}")
        if element == "i1":
            attribute = ir.BoolAttr.get(bool(value))
    kind = tensor(shape, element)
    return create("constant", kind, [], {"value": ir.DenseElementsAttr.get_splat(kind, attribute)})


def _signed(bits: int, width: int) -> int:
    return bits - (1 << width) if width > 1 and bits >> (width - 1) else bits


def dense(values: np.ndarray[Any, Any], element: str) -> Array:
    """A constant tensor of these numbers, rounded to an f32 or f64 element type."""
    numbers = np.array(values, np.float64 if element == "f64" else np.float32, order="C")
    attribute = ir.DenseElementsAttr.get(numbers)
    return create("constant", attribute.type, [], {"value": attribute})


def iota(dim: int, shape: Sequence[int], element: str = "i32") -> Array:
    """0, 1, 2… along `dim`."""
    attributes = {"iota_dimension": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), dim)}
    return create("iota", tensor(shape, element), [], attributes)


def concatenate(parts: Sequence[Array], dim: int) -> Array:
    shape = list(parts[0].shape)
    shape[dim] = sum(p.shape[dim] for p in parts)
    attributes = {"dimension": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), dim)}
    return create("concatenate", tensor(shape, parts[0].element), parts, attributes)


def for_loop(count: int, start: Sequence[Array], body: Callable[[Array, list[Array]], Sequence[Array]]) -> list[Array]:
    """`body(i, carried)` for i in 0 … count - 1 (an i32 scalar); the carried arrays after the last round."""
    types = [tensor((), "i32"), *(a.value.type for a in start)]
    operation = ir.Operation.create(
        "stablehlo.while", types, [constant(0, "i32").value, *(a.value for a in start)], regions=2
    )
    test, step = (region.blocks.append(*types) for region in operation.regions)
    with ir.InsertionPoint(test):
        more = Array(test.arguments[0]) < count
        ir.Operation.create("stablehlo.return", [], [more.value])
    with ir.InsertionPoint(step):
        index, *carried = (Array(argument) for argument in step.arguments)
        following = [index + 1, *body(index, carried)]
        ir.Operation.create("stablehlo.return", [], [a.value for a in following])
    return [Array(result) for result in list(operation.results)[1:]]


def sort(arrays: Sequence[Array], dim: int, direction: str) -> list[Array]:
    """The arrays in the order of the first one along `dim`; stable."""
    attributes: dict[str, ir.Attribute] = {
        "dimension": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), dim),
        "is_stable": ir.BoolAttr.get(True),
    }
    types, values = [a.value.type for a in arrays], [a.value for a in arrays]
    operation = ir.Operation.create("stablehlo.sort", types, values, attributes, regions=1)
    block = operation.regions[0].blocks.append(*(tensor((), a.element) for a in arrays for _ in range(2)))
    with ir.InsertionPoint(block):
        first = Array(block.arguments[0]).compare(direction, Array(block.arguments[1]))
        ir.Operation.create("stablehlo.return", [], [first.value])
    return [Array(result) for result in operation.results]


def clone_module(module: ir.Module) -> ir.Module:
    """A copy to rewrite. Call with the module's context entered."""
    copy = ir.Module.create()
    for name in module.operation.attributes:
        copy.operation.attributes[name] = module.operation.attributes[name]
    with ir.InsertionPoint(copy.body):
        for view in module.body.operations:
            view.operation.clone()
    return copy


def clone_block(source: ir.Block, target: ir.Block) -> None:
    """Copy a function's block to the end of a region's, whose arguments take the place of the function's."""
    known = dict(zip(source.arguments, target.arguments, strict=True))
    with ir.InsertionPoint(target):
        for view in source.operations:
            if view.operation.name == "func.return":
                operands = [known.get(operand, operand) for operand in view.operation.operands]
                ir.Operation.create("stablehlo.return", [], operands)
                continue
            copy = view.operation.clone().operation
            for position, operand in enumerate(copy.operands):
                if operand in known:
                    copy.operands[position] = known[operand]
            known.update(zip(view.operation.results, copy.results, strict=True))


def size(shape: Sequence[int]) -> int:
    return math.prod(shape)
