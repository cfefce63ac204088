"""What must happen before what in a block: data, the order of accesses to each variable, and control edges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from thalweg.dialects.build import row_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.location import scope_of, where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.passes.rewriting import bodies, captures, definition, inside, operations

NAME = "tw.name"
AFTER = "tw.after"
DEVICE = "tw.device"
DEVICES = "tw.devices"  # of a module: those that `place` was given, the default one first


@dataclass
class Node:
    """An op of the block. `data` and `order` are indices of earlier nodes: whose results it takes, and which it must
    come after for another reason."""

    index: int
    operation: ir.Operation
    row: OpDef | None
    inputs: list[ir.Value]  # operands, and what regions capture
    data: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)
    later: list[int] = field(default_factory=list)  # control edges from ops further down: back edges of lowered loops
    reads: list[str] = field(default_factory=list)  # variables
    writes: list[str] = field(default_factory=list)

    @property
    def before(self) -> Iterator[int]:
        """All nodes that come before it directly."""
        yield from self.data
        yield from self.order


class Dependences:
    """The ops of a block with the edges between them; the block's last op, which ends it, is not among them.

    Raises:
        PassError: a control edge names no op of the block.
    """

    def __init__(self, block: ir.Block) -> None:
        *body, self.end = operations(block)
        self.nodes: list[Node] = []
        self.users: list[list[int]] = []
        self._made_by: dict[ir.Value, int] = {}
        self._named: dict[str, int] = {}
        self._touched: dict[str, tuple[int | None, list[int]]] = {}  # last write, reads since, of each variable
        for operation in body:
            self._add(operation)
        for node in self.nodes:  # when all names are known
            self._control(node)
        for node in self.nodes:
            for earlier in {*node.before}:
                self.users[earlier].append(node.index)

    def maker(self, value: ir.Value) -> int | None:
        """The node whose result a value is; None for what comes from outside."""
        return self._made_by.get(value)

    def _add(self, operation: ir.Operation) -> None:
        index = len(self.nodes)
        inputs = list(operation.operands)
        if operation.regions:
            inputs += captures(*bodies(operation))
        node = Node(index, operation, row_of(operation), inputs)
        node.data = list(dict.fromkeys(m for v in inputs if (m := self._made_by.get(v)) is not None))
        for inner in inside(operation) if operation.regions else (operation,):
            _note_accesses(inner, node)
        self._order(node)
        self._made_by.update((result, index) for result in operation.results)
        name = name_of(operation)
        if name is not None:
            self._named[name] = index
        self.nodes.append(node)
        self.users.append([])

    def _order(self, node: Node) -> None:
        """Accesses to one variable happen in program order; reads may change places with each other."""
        for name in node.writes:
            wrote, read = self._touched.get(name, (None, []))
            node.order += [*read, *([wrote] if wrote is not None else [])]
            self._touched[name] = node.index, []
        for name in node.reads:
            if name not in node.writes:
                wrote, read = self._touched.setdefault(name, (None, []))
                node.order += [wrote] if wrote is not None else []
                read.append(node.index)

    def _control(self, node: Node) -> None:
        for name in after_of(node.operation):
            if name not in self._named:
                where = where_of(node.operation.location)
                raise PassError(f"{where or ''} {node.operation.name} is to run after '{name}', which is not there.")
            earlier = self._named[name]
            (node.order if earlier < node.index else node.later).append(earlier)


def name_of(operation: ir.Operation) -> str | None:
    """The op's name in the graph, if it has one."""
    attributes = operation.attributes
    return str(ir.StringAttr(attributes[NAME]).value) if NAME in attributes else None


def device_of(operation: ir.Operation) -> str:
    """The device that an op was placed on, or that it asks for where it was not; the empty string for none."""
    attributes = operation.attributes
    return str(ir.StringAttr(attributes[DEVICE]).value) if DEVICE in attributes else scope_of(operation.location)


def after_of(operation: ir.Operation) -> list[str]:
    """The names of the ops that it must come after."""
    attributes = operation.attributes
    if AFTER not in attributes:
        return []
    return [str(ir.StringAttr(a).value) for a in ir.ArrayAttr(attributes[AFTER])]


def set_after(operation: ir.Operation, names: list[str]) -> None:
    """Make `names` the control edges into an op."""
    if names:
        operation.attributes[AFTER] = ir.ArrayAttr.get([ir.StringAttr.get(n) for n in names])
    elif AFTER in operation.attributes:
        del operation.attributes[AFTER]


def _note_accesses(operation: ir.Operation, node: Node) -> None:
    row = row_of(operation)
    if row is None or row.effects == "pure":
        return
    for operand in operation.operands:
        handle = definition(operand)
        if handle is not None and handle.name == "tw.variable_handle":
            accesses = node.writes if row.effects == "write" else node.reads
            accesses.append(str(ir.StringAttr(handle.attributes["name"]).value))
