"""A module as TensorBoard's graph: one node per op, with its inputs, device, types and the user's line."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from thalweg.dialects.build import row_of
from thalweg.dialects.context import type_of
from thalweg.dialects.extents import is_open
from thalweg.dialects.location import scope_of, where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.printing import show_attributes
from thalweg.dialects.types import TensorType
from thalweg.frontend.graph import Operation

_DTYPES = {  # numbers of TensorFlow's DataType
    "float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7, "int64": 9, "bool": 10,
    "bfloat16": 14, "uint16": 17, "float16": 19, "uint32": 22, "uint64": 23,
    "float8_e5m2": 24, "float8_e4m3fn": 25,
}  # fmt: skip


def graph_def(module: ir.Module, named: Iterable[Operation] = ()) -> bytes:
    """The serialised GraphDef. Ops in regions stand under the name of the op that holds them.

    Args:
        named: those of a graph, which have names and control inputs that its module does not show.
    """
    from tensorboard.compat.proto.graph_pb2 import GraphDef

    graph = GraphDef()
    graph.versions.producer = 22
    writer = _Writer(graph, {operation.mlir: operation for operation in named})
    for view in module.body.operations:
        if view.operation.name == "func.func":
            writer.block(view.operation.regions[0].blocks[0], "")
    return bytes(graph.SerializeToString())


class _Writer:
    def __init__(self, graph: Any, named: Mapping[ir.Operation, Operation]) -> None:
        self._graph = graph
        self._named = named
        self._taken = {operation.name for operation in named.values()}
        self._values: dict[ir.Value, str] = {}

    def block(self, block: ir.Block, prefix: str) -> None:
        for argument in block.arguments:
            name = self._unique(f"{prefix}argument")
            self._values[argument] = name
            self._typed(self._graph.node.add(name=name, op="Argument"), [argument])
        for view in block.operations:
            self._operation(view.operation, prefix)

    def _operation(self, operation: ir.Operation, prefix: str) -> None:
        label = operation.name.removeprefix("tw.")
        known = self._named.get(operation)
        name = known.name if known else self._unique(prefix + _called(operation, label))
        row = row_of(operation)
        for number, region in enumerate(operation.regions):
            for block in region.blocks:
                self.block(block, f"{name}/{row.regions[number] if row else number}/")
        node = self._graph.node.add(name=name, op=label, device=scope_of(operation.location))
        node.input.extend(self._values[o] for o in operation.operands if o in self._values)
        before = [o.name for o in known.control_inputs] if known else _after(operation)
        node.input.extend(f"^{earlier}" for earlier in before)
        for key, value in show_attributes(operation).items():
            node.attr[key].s = value.encode()
        where = where_of(operation.location)
        if where is not None:
            node.attr["source"].s = f"{where.file}:{where.line}".encode()
        for index, result in enumerate(operation.results):
            self._values[result] = name if index == 0 else f"{name}:{index}"
        self._typed(node, list(operation.results))

    def _unique(self, name: str) -> str:
        choices = (f"{name}_{number}" for number in itertools.count(1))
        while name in self._taken:
            name = next(choices)
        self._taken.add(name)
        return name

    @staticmethod
    def _typed(node: Any, values: list[Any]) -> None:
        shapes = node.attr["_output_shapes"].list
        for value in values:
            kind = type_of(value)
            if isinstance(kind, TensorType):
                shape = shapes.shape.add()
                for extent in kind.shape:
                    shape.dim.add(size=-1 if is_open(extent) else extent)
                node.attr["dtype"].type = _DTYPES.get(kind.dtype.name, 0)


def _called(operation: ir.Operation, label: str) -> str:
    """What an op is called that the graph has no name for: variables by theirs."""
    for attribute in ("tw.name", *(("name",) if label == "variable_handle" else ())):
        if attribute in operation.attributes:
            return str(ir.StringAttr(operation.attributes[attribute]).value)
    return label


def _after(operation: ir.Operation) -> list[str]:
    """The names of the ops that must run before."""
    found = operation.attributes
    return [ir.StringAttr(a).value for a in ir.ArrayAttr(found["tw.after"])] if "tw.after" in found else []
