from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from thalweg.dialects import context
from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.attributes import decode as decode_attribute
from thalweg.dialects.build import create, row_of
from thalweg.dialects.diagnostics import PassError, TypeInferenceError
from thalweg.dialects.extents import Affine, any_open, decode, hides_open, is_open
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import graph, shape
from thalweg.dialects.types import TapeType, TensorType, Type
from thalweg.passes.base import Pass
from thalweg.passes.rewriting import Regions, bodies, copy_operation, end, inside, operations, yields


@dataclass(frozen=True)
class Specialise(Pass):
    """Put real sizes in the places of open extents.

    Before:
        func.func @main(%x: tensor<?x4xf32>) { %n = "tw.extent"(%x)  %y = "tw.exp"(%x) : tensor<?x4xf32> … }
    After:
        func.func @main(%x: tensor<3x4xf32>) { %n = "tw.constant"()  %y = "tw.exp"(%x) : tensor<3x4xf32> … }

    Every op is built anew by its row, on operands of real sizes. Sizes among its attributes are found from those of its
    operands, and where it has none from the inputs'.
    """

    name: ClassVar[str] = "specialise"
    inputs: str = ""  # the shapes of the arguments, as 3x4;3 with an empty one for a number

    def run(self, module: ir.Module) -> bool:
        (main,) = [o for o in operations(module.body) if o.name == "func.func"]
        block = main.regions[0].blocks[0]
        given = [_shape(text) for text in self.inputs.split(";")] if self.inputs else []
        types = [context.tensor_type_of(a) for a in block.arguments]
        types[: len(given)] = [t.with_shape(s) for t, s in zip(types, given, strict=False)]
        return specialise(main, types)


def _shape(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"(\d+(x\d+)*)?", text):
        raise PassError(f"specialise: shapes are written 3x4, got '{text}'.")
    return tuple(int(n) for n in text.split("x") if n)


def of_sizes(module: ir.Module, inputs: Sequence[TensorType], labels: Sequence[str] = ()) -> ir.Module:
    """A copy of a module for inputs of these types; further arguments of @main have no open extents.

    Raises:
        PassError: as `specialise`.
    """
    made = ir.Module.parse(module.operation.get_asm(binary=False, enable_debug_info=True))
    (main,) = [o for o in operations(made.body) if o.name == "func.func"]
    further = list(main.regions[0].blocks[0].arguments)[len(inputs) :]
    specialise(main, [*inputs, *map(context.tensor_type_of, further)], labels)
    return made


def specialise(main: ir.Operation, types: Sequence[TensorType], labels: Sequence[str] = ()) -> bool:
    """Build the body of a function anew for arguments of these types.

    Args:
        labels: what errors call the arguments.

    Raises:
        PassError: the types do not fit, or sizes disagree; the message has the user's line.
    """
    old = main.regions[0].blocks[0]
    if not any(_is_open(type_) for o in inside(main) for type_ in _types(o)) and not _has_open(old.arguments):
        return False
    names = [*labels, *(f"input {i}" for i in range(len(labels), len(old.arguments)))]
    places = [a.location for a in old.arguments]
    new = ir.Block.create_at_start(main.regions[0], [context.to_mlir(t) for t in types], places)
    copy = _Copy(_known(old.arguments, types, names))
    copy.mapping.update(zip(old.arguments, new.arguments, strict=True))
    with ir.InsertionPoint(new):
        *body, last = operations(old)
        for operation in body:
            copy.operation(operation)
        with last.location:
            ir.Operation.create(last.name, operands=[copy.mapping[v] for v in last.operands])
    for operation in reversed(operations(old)):
        operation.erase()
    results = [v.type for v in yields(new)]
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([a.type for a in new.arguments], results))
    _erase(old)
    return True


def _erase(block: ir.Block) -> None:
    """Take a block without operations out of its region."""
    holder = ir.Operation.create("tw.region_template", regions=1, ip=False, loc=ir.Location.unknown())
    block.append_to(holder.regions[0])
    holder.erase()


@dataclass
class _Sizes:
    """What the symbols stand for, as far as is known."""

    given: tuple[str, ...] = ()  # what has been fed, for messages
    found: dict[int, int] = field(default_factory=dict)
    sources: dict[int, str] = field(default_factory=dict)  # where each was found, for messages
    doubtful: dict[int, str] = field(default_factory=dict)  # those that stand for two sizes, and how

    def learn(self, declared: Type, real: Type, source: str) -> None:
        """Compare a type with what it has become."""
        for old, new in _pairs(declared, real):
            for n, size in zip(old.shape, new.shape, strict=True):
                if is_open(n) and not is_open(size):
                    self._learn(decode(n), size, source)

    def _learn(self, affine: Affine, size: int, source: str) -> None:
        exact = affine.solve(size)
        if exact.denominator != 1 or exact < 0:
            raise ValueError(f"an extent that is {affine} cannot be {size}, as {source} has it")
        value = self.found.setdefault(affine.symbol, int(exact))
        where = self.sources.setdefault(affine.symbol, source)
        if value != exact:
            self.doubtful[affine.symbol] = f"{value} by {where} and {exact} by {source}"

    def size(self, number: int, around: _Sizes | None) -> int:
        """A number with the symbol's size in its place; as it is where nothing is known."""
        if not is_open(number):
            return number
        affine = decode(number)
        if affine.symbol in self.doubtful:
            raise ValueError(
                f"the sizes given disagree: an open extent is {self.doubtful[affine.symbol]}. Give arrays that agree, "
                "or call the extents by different names: tw.placeholder(dtype, ('rows', 4))"
            )
        if affine.symbol in self.found:
            return affine.size(self.found[affine.symbol])
        return number if around is None else around.size(number, None)


def _known(arguments: Sequence[ir.Value], types: Sequence[TensorType], names: Sequence[str]) -> _Sizes:
    """What the types of the arguments tell."""
    sizes = _Sizes(tuple(f"{n} {t}" for n, t, a in zip(names, types, arguments, strict=True) if _has_open([a])))
    for argument, type_, name in zip(arguments, types, names, strict=True):
        declared = context.tensor_type_of(argument)
        fits = declared.dtype == type_.dtype and declared.rank == type_.rank
        if not fits or any(n != m for n, m in zip(declared.shape, type_.shape, strict=True) if not is_open(n)):
            raise PassError(f"specialise: {name} is {declared}, which cannot be {type_}.")
        try:
            sizes.learn(declared, type_, f"{name} {type_}")
        except ValueError as error:
            raise PassError(f"specialise: {error}.") from None
    return sizes


class _Copy:
    """A function's body in the making."""

    def __init__(self, inputs: _Sizes) -> None:
        self.inputs = inputs
        self.mapping: dict[ir.Value, ir.Value] = {}

    def operation(self, operation: ir.Operation) -> None:
        """Build one op anew; one without open extents is copied."""
        if not any(_is_open(t) for o in inside(operation) for t in _types(o)) and not _open_attributes(operation):
            copy_operation(operation, self.mapping)
            return
        row = row_of(operation)
        assert row is not None, operation.name
        try:
            with operation.location:
                made = self._built(row, operation)
        except (TypeInferenceError, ValueError) as error:
            where = where_of(operation.location)
            problem = str(error).rstrip(".")
            given = ", ".join(self.inputs.given)
            raise PassError(f"{where or ''} {problem}. (With the sizes of this run: {given}.)".strip()) from None
        self.mapping.update(zip(operation.results, made, strict=True))

    def _built(self, row: OpDef, operation: ir.Operation) -> Sequence[ir.Value]:
        operands = [self.mapping.get(v, v) for v in operation.operands]
        sizes = _Sizes()
        for number, (old, new) in enumerate(zip(operation.operands, operands, strict=True)):
            sizes.learn(context.type_of(old), context.type_of(new), f"operand {number} of {row.name}")
        attrs = {k: self._real(row, k, v, sizes) for k, v in attributes_of(row, operation).items()}
        if row is graph.extent and not any_open(context.tensor_type_of(operands[0]).shape[a] for a in attrs["axes"]):
            count = np.prod([context.tensor_type_of(operands[0]).shape[a] for a in attrs["axes"]], dtype=np.int64)
            return [shape.constant(value=np.array(count, attrs["dtype"].numpy))]
        made = self._create(row, operation, operands, attrs, sizes)
        for name in operation.attributes:  # what others have noted on it: its name, its order
            if name not in row.attrs:
                made.attributes[name] = operation.attributes[name]
        return list(made.results)

    def _real(self, row: OpDef, name: str, value: Any, sizes: _Sizes) -> Any:
        kind = row.attrs[name]
        if value is None:
            return None
        if kind == "int":
            return sizes.size(value, self.inputs)
        if kind == "ints":
            return tuple(sizes.size(n, self.inputs) for n in value)
        if kind == "array" and _hides_open(value):
            raise ValueError(f"{row.name}: the number of an open extent has become a constant. Use tw.extent(x, axis).")
        return value

    def _create(
        self, row: OpDef, operation: ir.Operation, operands: list[ir.Value], attrs: Mapping[str, Any], sizes: _Sizes
    ) -> ir.Operation:
        if not row.regions:
            return create(row, operands, attrs)
        regions = Regions(*[[self._argument(a, sizes) for a in block.arguments] for block in bodies(operation)])
        for old, new in zip(bodies(operation), regions.blocks, strict=True):
            self.mapping.update(zip(old.arguments, new.arguments, strict=True))
            *body, last = operations(old)
            with ir.InsertionPoint(new):
                for inner in body:
                    self.operation(inner)
                with last.location:
                    end(*[self.mapping.get(v, v) for v in last.operands])
        return regions.finish(row, operands, attrs)

    def _argument(self, argument: ir.Value, sizes: _Sizes) -> Type:
        type_ = context.type_of(argument)
        if not isinstance(type_, TensorType):
            return type_
        return type_.with_shape(tuple(sizes.size(n, self.inputs) for n in type_.shape))


def _pairs(declared: Type, real: Type) -> list[tuple[TensorType, TensorType]]:
    """The tensors of a type beside those of what it has become."""
    if isinstance(declared, TensorType) and isinstance(real, TensorType):
        return [(declared, real)]
    if isinstance(declared, TapeType) and isinstance(real, TapeType):
        olds, news = (*declared.primals, *declared.outputs), (*real.primals, *real.outputs)
        return list(zip(olds, news, strict=True))
    return []


def _types(operation: ir.Operation) -> list[Type]:
    if not operation.name.startswith("tw."):
        return []
    arguments = [a for block in bodies(operation) for a in block.arguments]
    return [context.type_of(v) for v in (*operation.operands, *operation.results, *arguments)]


def _is_open(type_: Type) -> bool:
    if isinstance(type_, TensorType):
        return any_open(type_.shape)
    if isinstance(type_, TapeType):
        return any(any_open(t.shape) for t in (*type_.primals, *type_.outputs))
    return False


def _has_open(values: Sequence[ir.Value]) -> bool:
    return any(_is_open(context.type_of(v)) for v in values)


def _open_attributes(operation: ir.Operation) -> bool:
    for inner in inside(operation):
        row = row_of(inner)
        for name, kind in row.attrs.items() if row is not None else ():
            if kind in ("int", "ints", "array") and name in inner.attributes:
                value = decode_attribute(kind, inner.attributes[name])
                if _hides_open(value) if kind == "array" else any_open([value] if kind == "int" else value):
                    return True
    return False


def _hides_open(value: np.ndarray[Any, Any]) -> bool:
    """Whether the number of an open extent has got among those of a constant."""
    return value.dtype.kind in "iu" and value.dtype.itemsize == 8 and hides_open(value.reshape(-1).tolist())
