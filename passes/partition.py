"""One program for each device, and what goes between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from thalweg.dialects.attributes import encode_all
from thalweg.dialects.context import to_mlir, type_of
from thalweg.dialects.devices import parse
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import func_dialect, ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import comm
from thalweg.dialects.types import TensorType, bool_, float32
from thalweg.passes.base import Pass
from thalweg.passes.dependences import (
    DEVICE,
    DEVICES,
    NAME,
    Dependences,
    Node,
    after_of,
    device_of,
    name_of,
    set_after,
)
from thalweg.passes.distribute_loops import frame_of, gate_name
from thalweg.passes.place import spans
from thalweg.passes.place.costs import grows, is_cheap
from thalweg.passes.rewriting import array, copy_operation, functions, inside, operations, substitute

FEEDS = "tw.feeds"
FETCHES = "tw.fetches"


@dataclass(frozen=True)
class Partition(Pass):
    """Cut a placed program into one for each device, with `send` and `recv` where values go from one to another.

    Before:
        module { func.func @main(%x, %y) { %a = "tw.exp"(%x) {tw.device = d0}
                                           %b = "tw.add"(%a, %y) {tw.device = d1}  return %b } }
    After:
        module { module {tw.device = d0, tw.feeds = [0], tw.fetches = []} { func.func @main(%x) {
                   %a = "tw.exp"(%x)  "tw.send"(%a) {edge = "exp/0:0 to d1", source = d0, target = d1}  return } }
                 module {tw.device = d1, tw.feeds = [1], tw.fetches = [0]} { func.func @main(%y) {
                   %a = "tw.recv"() {edge = "exp/0:0 to d1", …}  %b = "tw.add"(%a, %y)  return %b } } }

    `tw.feeds` and `tw.fetches` say which arguments and results of the whole program those of a part are. A tensor goes
    at most once to each device, right after it is made, and is received right before it is first used there; inputs,
    and cheap work on constants, are not sent but had where they are used. Control edges between devices become the
    sending of a token. `compress` sends f32 between tasks as their upper 16 bits. Needs `place` before it.
    """

    name: ClassVar[str] = "partition"
    compress: bool = False

    def run(self, module: ir.Module) -> bool:
        blocks = functions(module)
        if len(blocks) != 1:
            raise PassError(f"partition takes a module with one function, this one has {len(blocks)}.")
        _Cut(module, blocks[0], self.compress).run()
        return True


def parts(module: ir.Module) -> Iterator[ir.Operation]:
    """The programs of the devices in a partitioned module, each with `tw.device`, `tw.feeds` and `tw.fetches`."""
    return (o for o in operations(module.body) if o.name == "builtin.module" and DEVICE in o.attributes)


@dataclass
class _Part:
    """The program of one device in the making."""

    device: str
    operation: ir.Operation  # the module
    block: ir.Block
    values: dict[ir.Value, ir.Value] = field(default_factory=dict)  # of the whole program, as this part has them
    tokens: dict[str, str] = field(default_factory=dict)  # what stands here for an op of another device, by names
    feeds: list[int] = field(default_factory=list)
    fetches: list[tuple[int, ir.Value]] = field(default_factory=list)


class _Cut:
    """Moves the ops of a program, in order, to the parts of their devices.

    Since an op comes after what it takes, a value that is on another device has been made when its `recv` is put before
    the first op that needs it; the `send` goes right after the op that made it.
    """

    def __init__(self, module: ir.Module, block: ir.Block, compress: bool) -> None:
        self._module, self._block, self._compress = module, block, compress
        dependences = Dependences(block)
        self._nodes, self._end = dependences.nodes, dependences.end
        self._maker = dependences.maker
        self._arguments = {argument: i for i, argument in enumerate(block.arguments)}
        self._cheap: set[int] = set()
        self._parts: dict[str, _Part] = {}
        self._named = {name: n.index for n in self._nodes if (name := name_of(n.operation)) is not None}
        self._devices = [_device(n.operation) for n in self._nodes]
        self._edges = Counter[str]()
        self._awaited = {name for n in self._nodes for name in after_of(n.operation)}

    def run(self) -> None:
        first = self._default_device()
        self._part(first)
        for node in self._nodes:
            if self._is_done_again(node):
                self._cheap.add(node.index)
            else:
                self._move(node, self._part(self._devices[node.index]))
        for number, value in enumerate(self._end.operands):
            maker = self._maker(value)
            part = self._part(self._devices[maker] if maker is not None else first)
            part.fetches.append((number, self._local(value, part, "")))
        for part in self._parts.values():
            _finish(part, self._end.location)
        if len(self._parts) > 1 and _is_idle(self._parts[first]):
            self._parts[first].operation.erase()
        function = self._block.owner
        for operation in reversed([*operations(self._block)]):
            operation.erase()
        function.erase()
        if DEVICES in self._module.operation.attributes:
            del self._module.operation.attributes[DEVICES]

    def _default_device(self) -> str:
        """Where inputs that are fetched as they are come from: the first device of the list that `place` was given."""
        attributes = self._module.operation.attributes
        if DEVICES in attributes:
            return str(ir.StringAttr(ir.ArrayAttr(attributes[DEVICES])[0]).value)
        if not self._devices:
            raise PassError("the module has no devices. Run the pass 'place' before 'partition'.")
        return self._devices[0]

    def _part(self, device: str) -> _Part:
        if device not in self._parts:
            with ir.InsertionPoint(self._module.body), self._end.location:
                made = ir.Operation.create("builtin.module", regions=1)
                block = made.regions[0].blocks.append()
                with ir.InsertionPoint(block):
                    function = func_dialect.FuncOp("main", ([], []))
            made.attributes[DEVICE] = ir.StringAttr.get(device)
            self._parts[device] = _Part(device, made, function.add_entry_block())
        return self._parts[device]

    def _is_done_again(self, node: Node) -> bool:
        if after_of(node.operation) or name_of(node.operation) in self._awaited:
            return False
        operation = node.operation
        return is_cheap(operation) and (all(self._is_cheap(v) for v in node.inputs) or grows(operation))

    def _is_cheap(self, value: ir.Value) -> bool:
        maker = self._maker(value)
        return maker is not None and maker in self._cheap

    def _move(self, node: Node, part: _Part) -> None:
        operation = node.operation
        if spans(operation):
            where = where_of(operation.location) or ""
            raise PassError(f"{where} {operation.name} spans devices. Run the pass 'lower-control' first.".strip())
        frame = frame_of(operation)
        local = {value: self._local(value, part, frame) for value in node.inputs}
        earlier = [name for name in after_of(operation) if self._named[name] not in node.data]
        after = [self._local_name(name, part, frame) for name in earlier]
        part.block.append(operation)
        for inner in inside(operation):
            substitute(inner, local)
            if DEVICE in inner.attributes:
                del inner.attributes[DEVICE]
        set_after(operation, after)
        part.values.update((r, r) for r in operation.results)

    # What a part has of the whole program

    def _local(self, value: ir.Value, part: _Part, frame: str) -> ir.Value:
        """A value of the whole program in a part: its own, or copied, fed or received."""
        if value not in part.values:
            if value in self._arguments:
                part.feeds.append(self._arguments[value])
                part.values[value] = part.block.add_argument(value.type, value.location)
            elif self._is_cheap(value):
                self._copy(value.owner.operation, part, frame)
            else:
                part.values[value] = self._transfer(ir.OpResult(value), part, frame)
        return part.values[value]

    def _copy(self, operation: ir.Operation, part: _Part, frame: str) -> None:
        for operand in operation.operands:
            self._local(operand, part, frame)
        with ir.InsertionPoint(part.block), operation.location:
            copied = copy_operation(operation, part.values)
        if DEVICE in copied.attributes:
            del copied.attributes[DEVICE]

    def _transfer(self, value: ir.OpResult, part: _Part, frame: str) -> ir.Value:
        """Send a value to a part from that of the op that made it."""
        operation = value.owner.operation
        maker = self._maker(value)
        assert maker is not None
        source = self._parts[self._devices[maker]]
        edge = self._edge(operation, f":{value.result_number}", part)
        with operation.location, ir.InsertionPoint.after(operation):
            return self._connect(value, source, part, edge, frame).results[0]

    def _local_name(self, name: str, part: _Part, frame: str) -> str:
        """What an op in a part that is to come after another by name comes after: that one, or the token it sends."""
        node = self._nodes[self._named[name]]
        device = self._devices[node.index]
        if device == part.device:
            return name
        if name not in part.tokens:
            source, operation = self._parts[device], node.operation
            with operation.location, ir.InsertionPoint.after(operation):
                token = self._gate(frame, source).results[0] if frame else array(True, bool_)
                edge = self._edge(operation, "", part)
                received = self._connect(token, source, part, edge, frame, after=name)
            received.attributes[NAME] = ir.StringAttr.get(edge)
            part.tokens[name] = edge
        return part.tokens[name]

    def _connect(
        self, value: ir.Value, source: _Part, target: _Part, edge: str, frame: str, after: str = ""
    ) -> ir.Operation:
        """A `send` at the insertion point, and its `recv` at the present end of the other part."""
        type_ = type_of(value)
        if not isinstance(type_, TensorType):
            raise _error(value, f"{type_} is needed on {target.device}, too, but cannot leave {source.device}.")
        between_tasks = parse(source.device).task_name != parse(target.device).task_name
        attrs = {
            "edge": edge, "source": source.device, "target": target.device,
            "compress": self._compress and type_.dtype == float32 and between_tasks,
        }  # fmt: skip
        sent = _make(comm.send, [value], attrs)
        set_after(sent, [after] if after else [])
        with ir.InsertionPoint(target.block):
            received = _make(comm.recv, [], {**attrs, "shape": type_.shape, "dtype": type_.dtype})
        set_after(received, [gate_name(frame, target.device)] if frame and self._gate(frame, target) else [])
        return received

    def _gate(self, frame: str, part: _Part) -> ir.Operation:
        """What tells a device that an iteration of a loop begins."""
        name = gate_name(frame, part.device)
        if name not in self._named:
            raise PassError(f"the loop '{frame}' has nothing on {part.device} that tells when an iteration begins.")
        return self._nodes[self._named[name]].operation

    def _edge(self, operation: ir.Operation, suffix: str, part: _Part) -> str:
        """A name for an edge that no other has."""
        name, label = name_of(operation), operation.name.removeprefix("tw.")
        if name is None:
            name = f"{label}/{self._edges[label]}"
            self._edges[label] += 1
        return f"{name}{suffix} to {part.device}"


def _make(row: OpDef, operands: Sequence[ir.Value], attrs: Mapping[str, Any]) -> ir.Operation:
    """An op at the insertion point; unlike the row itself, this gives it even where it has no result."""
    types = row.result_types([type_of(o) for o in operands], row.complete(attrs))
    return ir.Operation.create(
        row.mlir_name,
        results=[to_mlir(t) for t in types],
        operands=list(operands),
        attributes=encode_all(row, row.complete(attrs)),
    )


def _device(operation: ir.Operation) -> str:
    device = device_of(operation)
    if not device:
        where = where_of(operation.location) or ""
        raise PassError(f"{where} {operation.name} has no device. Run the pass 'place' before 'partition'.".strip())
    return device


def _finish(part: _Part, location: ir.Location) -> None:
    """End the function of a part, and say which inputs and results of the whole program it has."""
    values = [value for _, value in part.fetches]
    with location:
        with ir.InsertionPoint(part.block):
            func_dialect.ReturnOp(values)
        signature = ir.FunctionType.get([a.type for a in part.block.arguments], [v.type for v in values])
    part.block.owner.attributes["function_type"] = ir.TypeAttr.get(signature)
    part.operation.attributes[FEEDS] = ir.DenseI64ArrayAttr.get(part.feeds)
    part.operation.attributes[FETCHES] = ir.DenseI64ArrayAttr.get([number for number, _ in part.fetches])


def _is_idle(part: _Part) -> bool:
    return not part.fetches and len(operations(part.block)) == 1


def _error(value: ir.Value, message: str) -> PassError:
    where = None if isinstance(value.owner, ir.Block) else where_of(value.owner.operation.location)
    return PassError(f"{where} {message}" if where else message)
