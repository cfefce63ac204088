"""Reads scalar bodies: the region of a `linalg.generic`, or a StableHLO region on 0-d tensors (sort, scatter,
reduce).
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.cpu.graph import Affine, Body, Map, ScalarOp, Value
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir

_YIELDS = {"linalg.yield", "stablehlo.return", "scf.yield", "tensor.yield"}
# Ops on 0-d tensors that are the identity on scalars.
_TRANSPARENT = {"tensor.extract", "builtin.unrealized_conversion_cast", "tensor.from_elements", "tensor.cast"}


def region_body(operation: ir.Operation, region: int = 0) -> Body:
    """The scalar body of a region whose arguments are 0-d tensors, after legalisation.

    Example:
        The region of a sort, `^bb0(%a: tensor<f32>, %b: tensor<f32>): %c = linalg.generic … ; return %c`, becomes the
        body with arguments ('f32', 'f32') and the op inside the generic.
    """
    return BodyReader(()).block(operation.regions[region].blocks[0])


def affine_map(map_: ir.AffineMap) -> Map:
    """An MLIR affine map as expressions."""
    return tuple(_affine(expression) for expression in map_.results)


def _affine(expression: ir.AffineExpr) -> Affine:
    if isinstance(expression, ir.AffineDimExpr):
        return Affine(((ir.AffineDimExpr(expression).position, 1),))
    if isinstance(expression, ir.AffineConstantExpr):
        return Affine((), ir.AffineConstantExpr(expression).value)
    if isinstance(expression, ir.AffineAddExpr):
        add = ir.AffineAddExpr(expression)
        left, right = _affine(add.lhs), _affine(add.rhs)
        terms = dict(left.terms)
        for dim, factor in right.terms:
            terms[dim] = terms.get(dim, 0) + factor
        return Affine(tuple(sorted((d, f) for d, f in terms.items() if f)), left.constant + right.constant)
    if isinstance(expression, ir.AffineMulExpr):
        mul = ir.AffineMulExpr(expression)
        left, right = _affine(mul.lhs), _affine(mul.rhs)
        if left.terms and right.terms:
            raise LoweringError(f"affine expression {expression} is not linear.")
        if right.terms:
            left, right = right, left
        factor = right.constant
        return Affine(tuple((d, f * factor) for d, f in left.terms if factor), left.constant * factor)
    raise LoweringError(f"affine expression {expression} is not supported by the CPU backend.")


def scalar_type(type_: ir.Type) -> str:
    """'f32' for f32, tensor<f32> and ui32-like types without their sign."""
    if isinstance(type_, ir.RankedTensorType):
        type_ = ir.RankedTensorType(type_).element_type
    return str(type_).removeprefix("u")


class BodyReader:
    """Numbers the scalars of a region.

    Args:
        operands: values bound to scalars of their own when met as operands of a block-level scalar op.
        env: values of the enclosing block: scalars and tensors that the region captures are looked up here.
    """

    def __init__(self, operands: Sequence[Value], env: dict[ir.Value, Value] | None = None) -> None:
        self.env = env if env is not None else {}
        self.table: dict[ir.Value, int] = {}
        self.count = len(operands) if env is None else 0
        self.ops: list[ScalarOp] = []
        self.constants: list[ScalarOp] = []  # captured ones: before all other ops, nested bodies included
        self.captures: list[Value] = []
        self.scalars: list[int] = []
        self.captured_scalars: list[Value] = []

    def block(self, block: ir.Block) -> Body:
        """The body of a block, its arguments numbered first."""
        types = tuple(scalar_type(argument.type) for argument in block.arguments)
        for argument in block.arguments:
            self.table[argument] = self._fresh()
        yields = self._operations(block)
        return Body(types, (*self.constants, *self.ops), yields)

    def scalar_op(self, operation: ir.Operation) -> ScalarOp:
        """One block-level op: operand k is scalar k, the results follow."""
        results = tuple(self._fresh() for _ in operation.results)
        types = tuple(scalar_type(result.type) for result in operation.results)
        return ScalarOp(operation.name, tuple(range(len(operation.operands))), results, types, attributes(operation))

    def _fresh(self) -> int:
        self.count += 1
        return self.count - 1

    def _operations(self, block: ir.Block) -> tuple[int, ...]:
        for view in block.operations:
            operation = view.operation
            if operation.name in _YIELDS:
                return tuple(self._index(operand) for operand in operation.operands)
            self._operation(operation)
        return ()

    def _operation(self, operation: ir.Operation) -> None:
        name = operation.name
        if name == "linalg.generic":
            self._inline(operation)
        elif name == "tensor.empty":
            pass
        elif name in _TRANSPARENT and len(operation.operands) == 1 and operation.operands[0] in self.table:
            self.table[operation.results[0]] = self.table[operation.operands[0]]
        elif name == "tensor.extract":
            self._extract(operation)
        elif name == "scf.for":
            self._unroll(operation)
        elif name == "linalg.index":
            self._add(operation, (), dim=ir.IntegerAttr(operation.attributes["dim"]).value)
        elif not name.startswith(("arith.", "math.", "scf.")):
            raise LoweringError(f"{operation.location}: {name} inside a scalar body is not supported on the CPU.")
        else:
            operands = tuple(self._index(operand) for operand in operation.operands)
            self._add(operation, operands, regions=tuple(self._nested(region) for region in operation.regions))

    def _nested(self, region: ir.Region) -> Body:
        """The body of an scf.if branch: it reads the scalars around it, and shares their numbering."""
        outer, self.ops = self.ops, []
        yields = self._operations(region.blocks[0])
        body, self.ops = Body((), tuple(self.ops), yields), outer
        return body

    def _inline(self, operation: ir.Operation) -> None:
        """A 0-d linalg.generic: its body, with the operands in the place of the arguments."""
        block = operation.regions[0].blocks[0]
        for argument, operand in zip(block.arguments, operation.operands, strict=True):
            if operand in self.table:
                self.table[argument] = self.table[operand]
            elif any(True for _ in argument.uses):
                self.table[argument] = self._index(operand)
        yields = self._operations(block)
        for result, index in zip(operation.results, yields, strict=True):
            self.table[result] = index

    def _unroll(self, operation: ir.Operation) -> None:
        """A loop of a few iterations (the bits of an integer power's exponent), written out."""
        lower, upper, step = (self._constant_index(operand) for operand in list(operation.operands)[:3])
        block = operation.regions[0].blocks[0]
        induction, *carried = block.arguments
        numbers = [self._index(operand) for operand in list(operation.operands)[3:]]
        for value in range(lower, upper, step):
            self.table[induction] = self._fresh()
            self.ops.append(ScalarOp("arith.constant", (), (self.table[induction],), ("index",), str(value)))
            for argument, number in zip(carried, numbers, strict=True):
                self.table[argument] = number
            numbers = list(self._operations(block))
        for result, number in zip(operation.results, numbers, strict=True):
            self.table[result] = number

    def _constant_index(self, value: ir.Value) -> int:
        owner = value.owner
        if isinstance(owner, ir.Block) or owner.operation.name != "arith.constant":
            raise LoweringError(f"{value}: a loop in a scalar body must have constant bounds on the CPU.")
        return int(constant_text(owner.operation))

    def _extract(self, operation: ir.Operation) -> None:
        tensor = self.env[operation.operands[0]]
        if tensor not in self.captures:
            self.captures.append(tensor)
        indices = tuple(self._index(operand) for operand in list(operation.operands)[1:])
        self._add(operation, indices, tensor=self.captures.index(tensor))

    def _index(self, value: ir.Value) -> int:
        """The number of a scalar; captured constants become constants of the body, other captures operands."""
        known = self.table.get(value)
        if known is not None:
            return known
        outside = self.env.get(value)
        owner = value.owner.operation if not isinstance(value.owner, ir.Block) else None
        index = self.table[value] = self._fresh()
        if owner is not None and owner.name == "arith.constant":
            kind = scalar_type(value.type)
            self.constants.append(ScalarOp("arith.constant", (), (index,), (kind,), constant_text(owner)))
        elif outside is not None:
            self.scalars.append(index)
            self.captured_scalars.append(outside)
        else:
            raise LoweringError(f"{value}: a scalar body reads a value that is not known to the backend.")
        return index

    def _add(
        self,
        operation: ir.Operation,
        operands: tuple[int, ...],
        tensor: int | None = None,
        dim: int | None = None,
        regions: tuple[Body, ...] = (),
    ) -> None:
        if operation.name == "arith.constant":
            text = constant_text(operation)
        else:
            text = attributes(operation) if tensor is None and dim is None and not regions else ""
        results = tuple(self._fresh() for _ in operation.results)
        for result, index in zip(operation.results, results, strict=True):
            self.table[result] = index
        types = tuple(scalar_type(result.type) for result in operation.results)
        self.ops.append(ScalarOp(operation.name, operands, results, types, text, tensor, dim, regions))


def constant_text(operation: ir.Operation) -> str:
    """The number of a scalar or 0-d constant, as MLIR prints it ('1.000000e+00', '-3', 'true')."""
    attribute = operation.attributes["value"]
    if isinstance(attribute, ir.DenseElementsAttr):
        attribute = attribute.get_splat_value()
    return str(attribute).split(" : ")[0]


def attributes(operation: ir.Operation) -> str:
    """The attributes as the generic form prints them, without the braces; default fast-math and overflow flags
    dropped.
    """
    found = []
    for name in operation.attributes:
        text = str(operation.attributes[name])
        if text not in ("#arith.fastmath<none>", "#arith.overflow<none>"):
            found.append(f"{name} = {text}")
    return ", ".join(found)


def integers(operation: ir.Operation, name: str, default: Sequence[int]) -> list[int]:
    """The numbers of an array attribute, or `default` where the op does not have it."""
    if name not in operation.attributes:
        return list(default)
    attribute = operation.attributes[name]
    if isinstance(attribute, ir.DenseI64ArrayAttr):
        return list(attribute)
    return [int(number) for number in ir.DenseIntElementsAttr(attribute)]
