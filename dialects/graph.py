"""A module as a graph of nodes and edges, for viewers: Graphviz text, or JSON.

The JSON is that of Google's Model Explorer (a collection of graphs; each node with its `incomingEdges`), which is plain
enough for any other viewer: regions and functions are namespaces, types stand in `outputsMetadata`.

Devices are namespaces, too, task by task: `job:ps/task:0/device:CPU:0`. What one sends goes to where another receives
it, and control edges are drawn.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from thalweg.dialects.build import row_of
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.printing import body_of, show_attributes, show_type


@dataclass(frozen=True)
class Edge:
    """A value from a result of one node to an operand of another; or what is sent from device to device, of the type
    `label`; or just the order of the two, for control edges."""

    source: str
    output: int
    input: int
    kind: Literal["data", "transfer", "control"] = "data"
    label: str = ""


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
    walk = _Walk()
    every = [node for view in body_of(module) for node in walk.function(view.operation)]
    yield from walk.connected(every)


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
            text = edge.label or (types.get((edge.source, edge.output), "") if edge.kind == "data" else "")
            out.append(f"  {edge.source} -> {node.id} [label={_quoted(text)}, fontsize=9{_STYLES[edge.kind]}];")
    return "\n".join([*out, "}"])


# How edges are drawn: bold what goes from device to device, dashed what is order alone.
_STYLES = {"data": "", "transfer": ", penwidth=2, color=blue", "control": ", style=dashed"}


class _Walk:
    """Numbers nodes and remembers which node and output each value is."""

    def __init__(self) -> None:
        self._count = 0
        self._values: dict[ir.Value, tuple[str, int]] = {}
        self._sends: dict[str, str] = {}  # nodes by the name of the edge
        self._waiting: dict[str, str] = {}  # names of the edges that nodes receive
        self._named: dict[tuple[str, str], str] = {}  # nodes by module and name
        self._after: dict[str, list[tuple[str, str]]] = {}
        self._part = ""

    def connected(self, every: list[Node]) -> Iterator[Node]:
        """The nodes with what comes from sends, and from those that they must come after."""
        for node in every:
            incoming = list(node.incoming)
            if (edge := self._waiting.get(node.id)) in self._sends:
                incoming.append(Edge(self._sends[edge], 0, 0, "transfer", node.types[0]))
            names = [self._named[name] for name in self._after.get(node.id, []) if name in self._named]
            yield replace(node, incoming=(*incoming, *(Edge(source, 0, 0, "control") for source in names)))

    def function(self, operation: ir.Operation, around: str = "") -> Iterator[Node]:
        """The nodes of a function, or of a module of functions, which is the part of a device."""
        if operation.name == "builtin.module":
            self._part = _device(operation)
            for view in body_of(operation):
                yield from self.function(view.operation, _joined(around, self._part))
            return
        name = "module"
        if "sym_name" in operation.attributes:
            name = ir.StringAttr(operation.attributes["sym_name"]).value
        for region in operation.regions:
            for block in region.blocks:
                yield from self._block(block, around or name)

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
        namespace = _joined(namespace, _device(operation))
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
        attributes = show_attributes(operation)
        if label in ("send", "recv"):
            attributes = {"edge": attributes["edge"]}  # which says where to
        place = f"{where.file}:{where.line}" if where else ""
        self._note(operation, id_)
        yield Node(id_, label, namespace, attributes, types, place, tuple(incoming))

    def _note(self, operation: ir.Operation, id_: str) -> None:
        """Remember what edges without values begin or end here."""
        attributes = operation.attributes
        if operation.name in ("tw.send", "tw.recv"):
            edge = str(ir.StringAttr(attributes["edge"]).value)
            if operation.name == "tw.send":
                self._sends[edge] = id_
            else:
                self._waiting[id_] = edge
        if "tw.name" in attributes:
            self._named[self._part, str(ir.StringAttr(attributes["tw.name"]).value)] = id_
        if "tw.after" in attributes:
            names = [str(ir.StringAttr(a).value) for a in ir.ArrayAttr(attributes["tw.after"])]
            self._after[id_] = [(self._part, name) for name in names]

    def _id(self) -> str:
        self._count += 1
        return f"n{self._count}"


def _device(operation: ir.Operation) -> str:
    """The device of an op or a module as a namespace; empty if it has none."""
    attributes = operation.attributes
    return str(ir.StringAttr(attributes["tw.device"]).value).strip("/") if "tw.device" in attributes else ""


def _joined(*namespaces: str) -> str:
    return "/".join(filter(None, namespaces))


def _json_node(node: Node) -> dict[str, Any]:
    attributes = {**node.attributes, **({"source": node.place} if node.place else {})}
    return {
        "id": node.id,
        "label": node.label,
        "namespace": node.namespace,
        "attrs": [{"key": k, "value": v} for k, v in attributes.items()],
        "incomingEdges": [
            {
                "sourceNodeId": e.source,
                "sourceNodeOutputId": str(e.output),
                "targetNodeInputId": str(e.input),
                **({} if e.kind == "data" else {"metadata": [{"key": "kind", "value": e.kind}]}),
            }
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
