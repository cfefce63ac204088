"""A module as a graph of nodes and edges, for viewers: Graphviz text, or JSON.

The JSON is that of Google's Model Explorer (a collection of graphs; each node with its `incomingEdges`), which is plain
enough for any other viewer: regions and functions are namespaces, types stand in `outputsMetadata`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from thalweg.dialects.build import row_of
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.printing import body_of, show_attributes, show_type


@dataclass(frozen=True)
class Edge:
    """A value from a result of one node to an operand of another."""

    source: str
    output: int
    input: int


@dataclass(frozen=True)
class Node:
    """An op, or a block argument."""

    id: str
    label: str
    namespace: str  # functions and regions around it, separated by '/'
    attributes: dict[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ()
    place: str = ""
    incoming: tuple[Edge, ...] = ()


def nodes(module: ir.Module | ir.Operation) -> Iterator[Node]:
    """Every op and block argument of the module, producers before consumers.

    The op that ends a region is a node, too; control ops have an edge from each of them, so that data flows through.
    """
    for view in body_of(module):
        yield from _Walk().function(view.operation)


def to_json(module: ir.Module | ir.Operation, label: str = "program") -> str:
    """JSON for Model Explorer and other viewers."""
    graph = {"id": "main", "nodes": [_json_node(n) for n in nodes(module)]}
    return json.dumps({"label": label, "graphs": [graph]}, indent=1)


def to_dot(module: ir.Module | ir.Operation, label: str = "program") -> str:
    """Graphviz text: boxes are ops, regions are clusters, edges carry types.

    Example:
        $ thalweg translate model.py:f --to dot | dot -Tsvg > f.svg
    """
    every = list(nodes(module))
    types = {(n.id, i): t for n in every for i, t in enumerate(n.types)}
    out = [f"digraph {_quoted(label)} {{", '  node [shape=box, style=rounded, fontname="Helvetica"];']
    _dot_namespace(every, "", 1, out)
    for node in every:
        for edge in node.incoming:
            text = types.get((edge.source, edge.output), "")
            out.append(f"  {edge.source} -> {node.id} [label={_quoted(text)}, fontsize=9];")
    return "\n".join([*out, "}"])


class _Walk:
    """Numbers nodes and remembers which node and output each value is."""

    def __init__(self) -> None:
        self._count = 0
        self._values: dict[ir.Value, tuple[str, int]] = {}

    def function(self, operation: ir.Operation) -> Iterator[Node]:
        name = "module"
        if "sym_name" in operation.attributes:
            name = ir.StringAttr(operation.attributes["sym_name"]).value
        for region in operation.regions:
            for block in region.blocks:
                yield from self._block(block, name)

    def _block(self, block: ir.Block, namespace: str) -> Iterator[Node]:
        for argument in block.arguments:
            yield self._argument(argument, namespace)
        for view in block.operations:
            yield from self._operation(view.operation, namespace)

    def _argument(self, argument: ir.BlockArgument, namespace: str) -> Node:
        id_ = self._id()
        self._values[argument] = (id_, 0)
        return Node(id_, f"arg{argument.arg_number}", namespace, types=(show_type(argument.type),))

    def _operation(self, operation: ir.Operation, namespace: str) -> Iterator[Node]:
        label = operation.name.removeprefix("tw.").removeprefix("func.")
        operands = [*operation.operands]
        incoming = [Edge(*self._values[o], i) for i, o in enumerate(operands) if o in self._values]
        row, around = row_of(operation), f"{namespace}/{label}_{self._count + 1}"
        for number, region in enumerate(operation.regions):
            name = row.regions[number] if row and number < len(row.regions) else f"region{number}"
            for block in region.blocks:
                last = ""
                for node in self._block(block, f"{around}/{name}"):
                    last = node.id
                    yield node
                incoming.append(Edge(last, 0, len(operands) + number))
        where = where_of(operation.location)
        id_ = self._id()
        for index, result in enumerate(operation.results):
            self._values[result] = (id_, index)
        types = tuple(show_type(r.type) for r in operation.results)
        place = f"{where.file}:{where.line}" if where else ""
        yield Node(id_, label, namespace, show_attributes(operation), types, place, tuple(incoming))

    def _id(self) -> str:
        self._count += 1
        return f"n{self._count}"


def _json_node(node: Node) -> dict[str, Any]:
    attributes = {**node.attributes, **({"source": node.place} if node.place else {})}
    return {
        "id": node.id,
        "label": node.label,
        "namespace": node.namespace,
        "attrs": [{"key": k, "value": v} for k, v in attributes.items()],
        "incomingEdges": [
            {"sourceNodeId": e.source, "sourceNodeOutputId": str(e.output), "targetNodeInputId": str(e.input)}
            for e in node.incoming
        ],
        "outputsMetadata": [
            {"id": str(i), "attrs": [{"key": "tensor_shape", "value": t}]} for i, t in enumerate(node.types)
        ],
    }


def _dot_namespace(every: list[Node], namespace: str, depth: int, out: list[str]) -> None:
    """The nodes of one namespace, and a cluster for each namespace directly below it."""
    indent = "  " * depth
    below: dict[str, list[Node]] = {}
    for node in every:
        if node.namespace == namespace:
            attributes = "".join(f"\n{k}={v}" for k, v in node.attributes.items())
            out.append(
                f"{indent}{node.id} [label={_quoted(node.label + attributes)}, tooltip={_quoted(node.place)}];"
            )
        else:
            head = node.namespace.removeprefix(f"{namespace}/" if namespace else "").partition("/")[0]
            below.setdefault(f"{namespace}/{head}" if namespace else head, []).append(node)
    for name, inner in below.items():
        out.append(f"{indent}subgraph {_quoted(f'cluster_{name}')} {{ label={_quoted(name.rpartition('/')[2])};")
        _dot_namespace(inner, name, depth + 1, out)
        out.append(f"{indent}}}")


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
