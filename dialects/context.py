"""The process-wide MLIR context, and MLIR types to and from ours.

One context, made once under a lock; parsing, building and verifying in it from several threads is fine. The ops of `tw`
are not registered with MLIR, whose IRDL cannot express operands of mixed types in any number (docs/design/0001): their
rules are the rows, and `dialects.verify` applies them wherever a module comes in or a pass ends.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from thalweg.dialects.attributes import element_type
from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.extents import LARGEST, extent
from thalweg.dialects.mlir import PassManager, ir, stablehlo
from thalweg.dialects.opdef import RegionType
from thalweg.dialects.types import VARIES, ResourceType, TapeType, TensorType, Type, VariableType, dtype_from_mlir


class _Process:
    """The context and the two-way cache between MLIR types and ours."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.context: ir.Context | None = None
        self.to_mlir: dict[Type, ir.Type] = {}
        self.from_mlir: dict[ir.Type, Type] = {}


_process = _Process()


def get() -> ir.Context:
    """The context, created and loaded at the first call."""
    if _process.context is None:
        with _process.lock:
            if _process.context is None:
                _process.context = _load()
    return _process.context


@contextmanager
def entered(location: ir.Location | None = None) -> Iterator[ir.Context]:
    """Enter the context, with `location` (or an unknown one) as the current location."""
    context = get()
    with context, location or ir.Location.unknown(context):
        yield context


def _load() -> ir.Context:
    import thalweg.dialects.ops  # noqa: F401  (a context is of use only with the rows)

    context = ir.Context()
    context.allow_unregistered_dialects = True
    stablehlo.register_dialect(context)
    stablehlo.register_stablehlo_passes()
    with context:  # `register_dialect` leaves CHLO out; a pass that depends on it loads it
        load_chlo = PassManager.parse("builtin.module(func.func(stablehlo-complex-math-expander))")
        load_chlo.run(ir.Module.create(ir.Location.unknown()).operation)
    return context


def region_type(region: ir.Region) -> RegionType:
    """What a single-block region takes and yields."""
    block = region.blocks[0]
    arguments = tuple(type_of(a) for a in block.arguments)
    last = list(block.operations)[-1:] if len(block.operations) else []
    yields = tuple(type_of(o) for o in last[0].operation.operands) if last else ()
    return RegionType(arguments, yields)


def type_of(value: ir.Value) -> Type:
    """Our type of an MLIR value.

    Raises:
        TypeError: it is none of the dialect's types (a dynamic dimension, a memref…).
    """
    mlir_type = value.type
    known = _process.from_mlir.get(mlir_type)
    if known is None:
        known = _process.from_mlir[mlir_type] = from_mlir(mlir_type)
    return known


def tensor_type_of(value: ir.Value) -> TensorType:
    """`type_of` for a value that must be a tensor."""
    known = type_of(value)
    if not isinstance(known, TensorType):
        raise TypeError(f"expected a tensor, got {known}")
    return known


def from_mlir(mlir_type: ir.Type) -> Type:
    """Our type for an MLIR type."""
    text = str(mlir_type)
    if text.startswith("!tw.variable<"):
        tensor = from_mlir(ir.Type.parse(text[len("!tw.variable<") : -1]))
        assert isinstance(tensor, TensorType)
        return VariableType(tensor)
    if text.startswith("!tw.tape<"):
        signature = ir.FunctionType(ir.Type.parse(text[len("!tw.tape<") : -1]))
        return TapeType(_tensors(signature.inputs), _tensors(signature.results))
    if text.startswith("!tw."):
        kind, _, components = text.removeprefix("!tw.").partition("<")
        signature = ir.FunctionType(ir.Type.parse(f"({components[:-1]}) -> ()"))
        return ResourceType(kind, tuple(map(_component, signature.inputs)))
    if not isinstance(mlir_type, ir.RankedTensorType):
        raise TypeError(f"type {text} is not a type of the tw dialect")
    ranked = ir.RankedTensorType(mlir_type)
    if not ranked.has_static_shape:
        raise TypeError(f"type {text} has a dynamic dimension; tw tensors have static shapes")
    return TensorType(tuple(map(extent, ranked.shape)), dtype_from_mlir(str(ranked.element_type)))


def _component(mlir_type: ir.Type) -> TensorType:
    """What goes through a resource: unlike a tensor it may have extents that vary."""
    ranked = ir.RankedTensorType(mlir_type)
    shape = tuple(VARIES if ranked.is_dynamic_dim(i) else ranked.get_dim_size(i) for i in range(ranked.rank))
    return TensorType(shape, dtype_from_mlir(str(ranked.element_type)))


def _tensors(mlir_types: Sequence[ir.Type]) -> tuple[TensorType, ...]:
    ours = [from_mlir(t) for t in mlir_types]
    return tuple(t for t in ours if isinstance(t, TensorType))


def to_mlir(type_: Type) -> ir.Type:
    """The MLIR type for ours."""
    known = _process.to_mlir.get(type_)
    if known is None:
        if isinstance(type_, TensorType):
            if any(n > LARGEST for n in type_.shape):
                raise TypeInferenceError(f"{type_} has an extent that is the product of two open ones: too many.")
            shape = [ir.ShapedType.get_dynamic_size() if n == VARIES else n for n in type_.shape]
            known = ir.RankedTensorType.get(shape, element_type(type_.dtype))
        elif isinstance(type_, VariableType):
            known = ir.Type.parse(f"!tw.variable<{to_mlir(type_.tensor)}>")
        elif isinstance(type_, ResourceType):
            known = ir.Type.parse(f"!tw.{type_.kind}<{', '.join(str(to_mlir(t)) for t in type_.components)}>")
        else:
            signature = ir.FunctionType.get([to_mlir(t) for t in type_.primals], [to_mlir(t) for t in type_.outputs])
            known = ir.Type.parse(f"!tw.tape<{signature}>")
        _process.to_mlir[type_] = known
    return known
