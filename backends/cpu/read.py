"""Reads a function of linalg on tensors into a value graph (graph.py)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from thalweg.backends.cpu.bodies import BodyReader, affine_map
from thalweg.backends.cpu.graph import Affine, Body, Generic, Graph, Map, ScalarOp, Value, drop_dead, tidy
from thalweg.backends.cpu.staged import stage_reductions
from thalweg.backends.cpu.vector_math import OWN_FUNCTIONS
from thalweg.backends.cpu.views import absorb_views
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir

DYNAMIC = -(2**63)  # how MLIR marks a dynamic entry of static_offsets
_ALIASES = {"builtin.unrealized_conversion_cast", "stablehlo.optimization_barrier", "tensor.cast"}
_FUNCTIONS = {f"tw.{name}" for name, _ in OWN_FUNCTIONS}
_CONTROL = {"stablehlo.while", "stablehlo.if", "stablehlo.case"}
_TERMINATORS = {"func.return", "stablehlo.return"}


def read_function(function: ir.Operation) -> Graph:
    """The graph of a function's body, dead values dropped and `users` filled in.

    Raises:
        LoweringError: a dynamic shape, an element type or an op that the backend cannot represent.
    """
    graph = _Reader().block(function.regions[0].blocks[0])
    drop_dead(graph)
    if absorb_views(graph):
        tidy(graph)
    stage_reductions(graph)
    return graph


def element_and_shape(value: ir.Value) -> tuple[str, tuple[int, ...]]:
    """Signless element type and static shape of an MLIR tensor or scalar."""
    kind = value.type
    if not isinstance(kind, ir.RankedTensorType):
        return str(kind), ()
    tensor = ir.RankedTensorType(kind)
    if not tensor.has_static_shape:
        raise LoweringError(f"{value.type} has a dynamic dimension; the CPU backend compiles static shapes only.")
    element = str(tensor.element_type).removeprefix("u")
    if element not in _ELEMENTS:
        raise LoweringError(f"{value.type}: the CPU backend has no {element}; it has {', '.join(sorted(_ELEMENTS))}.")
    return element, tuple(tensor.shape)


_ELEMENTS = {"f64", "f32", "f16", "bf16", "f8E4M3FN", "f8E5M2", "i64", "i32", "i16", "i8", "i1", "index"}


class _Reader:
    """Turns ops into values, one block at a time; nested blocks see the values of the blocks around them."""

    def __init__(self) -> None:
        self.count = 0
        self.env: dict[ir.Value, Value] = {}
        self.graph = Graph()
        self.handlers: dict[str, Callable[[ir.Operation], None]] = {
            "arith.constant": self._constant,
            "tensor.empty": self._empty,
            "tensor.expand_shape": self._reshape,
            "tensor.collapse_shape": self._reshape,
            "tensor.extract": self._extract,
            "tensor.from_elements": self._from_elements,
            "tensor.extract_slice": self._slice,
            "tensor.insert_slice": self._insert,
            "tensor.pad": self._pad,
            "linalg.generic": self._generic,
            "stablehlo.reduce": self._empty_reduction,
            **dict.fromkeys(_FUNCTIONS, self._function),
            **dict.fromkeys(_ALIASES, self._alias),
            **dict.fromkeys(_CONTROL, self._control),
            **dict.fromkeys(_TERMINATORS, self._return),
        }

    def block(self, block: ir.Block) -> Graph:
        outer, self.graph = self.graph, Graph()
        for argument in block.arguments:
            value = self._new("arg", *element_and_shape(argument))
            self.env[argument] = value
            self.graph.args.append(value)
        for view in block.operations:
            operation = view.operation
            handler = self.handlers.get(operation.name)
            if handler is not None:
                handler(operation)
            elif operation.name.startswith(("arith.", "math.")):
                self._scalar(operation)
            else:
                self._opaque(operation)
        graph, self.graph = self.graph, outer
        return graph

    # Making values.

    def _new(self, kind: str, element: str, shape: Sequence[int], operands: Sequence[Value] = ()) -> Value:
        self.count += 1
        return Value(self.count, kind, tuple(shape), element, tuple(operands))

    def _add(self, kind: str, element: str, shape: Sequence[int], operands: Sequence[Value] = ()) -> Value:
        value = self._new(kind, element, shape, operands)
        self.graph.values.append(value)
        return value

    def _results(self, operation: ir.Operation, kind: str, operands: Sequence[Value]) -> tuple[Value, ...]:
        """One value for each result of `operation`, peers of each other."""
        peers = tuple(self._add(kind, *element_and_shape(result), operands) for result in operation.results)
        where = str(operation.location) if kind in ("opaque", "control") else ""
        for result, value in zip(operation.results, peers, strict=True):
            value.op, value.peers, value.location = operation, peers, where
            self.env[result] = value
        return peers

    def _get(self, value: ir.Value) -> Value:
        return self.env[value]

    # One method for each op.

    def _constant(self, operation: ir.Operation) -> None:
        value = self._add("constant", *element_and_shape(operation.results[0]))
        value.attribute = operation.attributes["value"]
        value.splat = splat_text(value.attribute)
        self.env[operation.results[0]] = value

    def _empty(self, operation: ir.Operation) -> None:
        self.env[operation.results[0]] = self._add("empty", *element_and_shape(operation.results[0]))

    def _alias(self, operation: ir.Operation) -> None:
        for operand, result in zip(operation.operands, operation.results, strict=True):
            self.env[result] = self._get(operand)

    def _reshape(self, operation: ir.Operation) -> None:
        self.env[operation.results[0]] = self._reshaped(
            self._get(operation.operands[0]), element_and_shape(operation.results[0])[1]
        )

    def _reshaped(self, value: Value, shape: tuple[int, ...]) -> Value:
        return value if value.shape == shape else self._add("reshape", value.element, shape, [value])

    def _extract(self, operation: ir.Operation) -> None:
        source, *indices = [self._get(operand) for operand in operation.operands]
        if indices:
            source = self._sliced(source, tuple(_static(i) for i in indices), (1,) * len(indices), (1,) * len(indices))
        self.env[operation.results[0]] = self._reshaped(source, ())

    def _from_elements(self, operation: ir.Operation) -> None:
        _, shape = element_and_shape(operation.results[0])
        if math.prod(shape) != 1:
            raise LoweringError(f"{operation.location}: tensor.from_elements with several elements is not supported.")
        self.env[operation.results[0]] = self._reshaped(self._get(operation.operands[0]), shape)

    def _box(
        self, operation: ir.Operation, first: int
    ) -> tuple[tuple[int | Value, ...], tuple[int, ...], tuple[int, ...]]:
        """Offsets, sizes and strides of an extract_slice or insert_slice whose dynamic offsets start at operand
        `first`.
        """
        dynamic = iter([self._get(operand) for operand in list(operation.operands)[first:]])
        static = [
            list(ir.DenseI64ArrayAttr(operation.attributes[f"static_{n}"])) for n in ("offsets", "sizes", "strides")
        ]
        offsets = tuple(_static(next(dynamic)) if entry == DYNAMIC else entry for entry in static[0])
        if DYNAMIC in static[1] or DYNAMIC in static[2]:
            raise LoweringError(
                f"{operation.location}: {operation.name} with dynamic sizes or strides is not supported."
            )
        return offsets, tuple(static[1]), tuple(static[2])

    def _sliced(
        self, source: Value, offsets: tuple[int | Value, ...], sizes: tuple[int, ...], strides: tuple[int, ...]
    ) -> Value:
        value = self._add("slice", source.element, sizes, [source, *_values(offsets)])
        value.offsets, value.sizes, value.strides = offsets, sizes, strides
        return value

    def _slice(self, operation: ir.Operation) -> None:
        value = self._sliced(self._get(operation.operands[0]), *self._box(operation, 1))
        self.env[operation.results[0]] = self._reshaped(value, element_and_shape(operation.results[0])[1])

    def _inserted(
        self,
        target: Value,
        source: Value,
        offsets: tuple[int | Value, ...],
        sizes: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> Value:
        value = self._add(
            "insert", target.element, target.shape, [target, self._reshaped(source, sizes), *_values(offsets)]
        )
        value.offsets, value.sizes, value.strides = offsets, sizes, strides
        return value

    def _insert(self, operation: ir.Operation) -> None:
        source, target = self._get(operation.operands[0]), self._get(operation.operands[1])
        self.env[operation.results[0]] = self._inserted(target, source, *self._box(operation, 2))

    def _pad(self, operation: ir.Operation) -> None:
        """`tensor.pad` is an insert into a tensor filled with the padding value."""
        source = self._get(operation.operands[0])
        _, shape = element_and_shape(operation.results[0])
        fill = self._get(list(operation.regions[0].blocks[0].operations)[-1].operation.operands[0])
        low = tuple(ir.DenseI64ArrayAttr(operation.attributes["static_low"]))
        target = self._broadcast(fill, shape)
        self.env[operation.results[0]] = self._inserted(target, source, low, source.shape, (1,) * len(shape))

    def _broadcast(self, scalar: Value, shape: tuple[int, ...]) -> Value:
        if scalar.splat is not None:
            value = self._add("constant", scalar.element, shape)
            value.splat = scalar.splat
            return value
        identity = tuple(Affine(((d, 1),)) for d in range(len(shape)))
        value = self._add("map", scalar.element, shape, [scalar])
        body = Body((scalar.element, scalar.element), (), (0,))
        value.generic = Generic(shape, frozenset(), 1, ((), identity), body)
        value.peers = (value,)
        return value

    def _scalar(self, operation: ir.Operation) -> None:
        operands = [self._get(operand) for operand in operation.operands]
        if any(value.shape for value in operands):
            raise LoweringError(f"{operation.location}: {operation.name} on tensors is not supported.")
        body = BodyReader(operands)
        op = body.scalar_op(operation)
        for value in self._results(operation, "scalar", operands):
            value.scalar = op

    def _empty_reduction(self, operation: ir.Operation) -> None:
        """A reduction that StableHLO's pass leaves: of tensors without elements, whose result is the initial value."""
        operands = [self._get(operand) for operand in operation.operands]
        count = len(operation.results)
        if any(value.size for value in operands[:count]):
            self._opaque(operation)
            return
        for result, initial in zip(operation.results, operands[count:], strict=True):
            self.env[result] = self._broadcast(initial, element_and_shape(result)[1])

    def _opaque(self, operation: ir.Operation) -> None:
        if not operation.results:
            raise LoweringError(f"{operation.location}: {operation.name} has no result and no lowering on the CPU.")
        self._results(operation, "opaque", [self._get(operand) for operand in operation.operands])

    def _control(self, operation: ir.Operation) -> None:
        operands = [self._get(operand) for operand in operation.operands]
        regions = tuple(self.block(region.blocks[0]) for region in operation.regions)
        for value in self._results(operation, "control", operands):
            value.regions = regions

    def _return(self, operation: ir.Operation) -> None:
        self.graph.outputs = [self._get(operand) for operand in operation.operands]

    def _function(self, operation: ir.Operation) -> None:
        """An elementary function that was kept in `tw` (`OWN_FUNCTIONS`)."""
        element, shape = element_and_shape(operation.results[0])
        identity = tuple(Affine(((d, 1),)) for d in range(len(shape)))
        op = ScalarOp(operation.name.replace("tw.", "math."), (0,), (2,), (element,))
        body = Body((element, element), (op,), (2,))
        (value,) = self._results(operation, "map", [self._get(operation.operands[0])])
        value.generic = Generic(shape, frozenset(), 1, (identity, identity), body)

    def _generic(self, operation: ir.Operation) -> None:
        maps = [affine_map(ir.AffineMapAttr(a).value) for a in ir.ArrayAttr(operation.attributes["indexing_maps"])]
        kinds = [str(a) for a in ir.ArrayAttr(operation.attributes["iterator_types"])]
        operands = [self._get(operand) for operand in operation.operands]
        inputs = len(operands) - len(operation.results)
        body = BodyReader(operands, self.env)
        code = body.block(operation.regions[0].blocks[0])
        extents = _extents(len(kinds), maps, operands)
        if not code.ops and len(code.yields) == 1 and operands[code.yields[0]].splat is not None:
            value = self._add("constant", *element_and_shape(operation.results[0]))
            value.splat = operands[code.yields[0]].splat
            self.env[operation.results[0]] = value
            return
        reduced = frozenset(d for d, kind in enumerate(kinds) if "reduction" in kind)
        if all(extents[d] == 1 for d in reduced):
            code, maps, operands, inputs = _without_reduction(code, maps, operands, inputs)
            reduced = frozenset()
        generic = Generic(extents, reduced, inputs, tuple(maps), code, len(body.captures), tuple(body.scalars))
        kind = classify(generic)
        if kind == "map":  # initial values are not read
            operands = operands[:inputs]
        for value in self._results(operation, kind, [*operands, *body.captures, *body.captured_scalars]):
            value.generic = generic


def _static(value: Value) -> int | Value:
    """The number that a constant index is, else the value itself."""
    return int(value.splat) if value.splat is not None else value


def _values(offsets: Sequence[int | Value]) -> list[Value]:
    return [offset for offset in offsets if isinstance(offset, Value)]


def splat_text(attribute: ir.Attribute) -> str | None:
    """The text of a constant's only value ('1.000000e+00', '-3', 'true', '0x7FC00000'), or None where values differ."""
    if isinstance(attribute, ir.DenseElementsAttr):
        if not attribute.is_splat:
            return None
        attribute = attribute.get_splat_value()
    text = str(attribute)
    return text.split(" : ")[0]


def _extents(loops: int, maps: Sequence[Map], operands: Sequence[Value]) -> tuple[int, ...]:
    """The number of iterations of each loop, from the operands that are read at exactly the loop's dimension."""
    extents = [1] * loops
    for map_, operand in zip(maps, operands, strict=True):
        for expression, extent in zip(map_, operand.shape, strict=True):
            if expression.dim is not None:
                extents[expression.dim] = extent
    return tuple(extents)


def _without_reduction(
    body: Body, maps: list[Map], operands: list[Value], inputs: int
) -> tuple[Body, list[Map], list[Value], int]:
    """A generic whose reduced extents are all 1, or that has none: where it reads its initial values, they are
    inputs.
    """
    outs = range(inputs, len(operands))
    used = {index for op in body.ops for index in op.operands} | set(body.yields)
    if not any(out in used for out in outs):
        return body, maps, operands, inputs
    arguments = len(body.arguments)
    results = len(outs)

    def moved(index: int) -> int:
        return index if index < arguments else index + results

    ops = tuple(
        ScalarOp(
            op.name,
            tuple(map(moved, op.operands)),
            tuple(map(moved, op.results)),
            op.types,
            op.attributes,
            op.tensor,
            op.dim,
            op.regions,
        )
        for op in body.ops
    )
    renamed = Body(body.arguments + body.arguments[inputs:], ops, tuple(map(moved, body.yields)))
    return renamed, maps + maps[inputs:], operands + operands[inputs:], inputs + results


def classify(generic: Generic) -> str:
    """The kind of a generic: map, reduce, contract, convolution or window."""
    if not generic.reductions:
        return "map"
    windowed = any(len(e.terms) > 1 for m in generic.input_maps for e in m)
    if is_product_sum(generic):
        if windowed:
            return "convolution"
        if all(e.dim is not None for m in generic.maps for e in m) and not _is_dot(generic):
            return "contract"
    return "window" if windowed else "reduce"


def _is_dot(generic: Generic) -> bool:
    """Does each element of both inputs count once, as in a product of vectors, or of rows? That is a sum, which runs
    at the speed of memory, not a product of matrices."""
    left, right = ({e.dim for e in map_ if e.dim is not None} for map_ in generic.input_maps)
    return left == right


_PRODUCT_SUMS = {("mulf", "addf"), ("muli", "addi"), ("andi", "ori")}
_EXTENSIONS = {"arith.extf", "arith.extsi", "arith.extui"}


def is_product_sum(generic: Generic) -> bool:
    """Is the body out + a * b, with a and b the two inputs, perhaps widened first?"""
    if generic.inputs != 2 or len(generic.result_maps) != 1 or generic.captures or generic.scalars:
        return False
    ops = [op for op in generic.body.ops if op.name not in _EXTENSIONS]
    if tuple(op.name.removeprefix("arith.") for op in ops) not in _PRODUCT_SUMS:
        return False
    product, total = ops
    return (
        len(set(product.operands)) == 2
        and 2 not in product.operands
        and set(total.operands) == {2, product.results[0]}
        and generic.body.yields == total.results
    )
