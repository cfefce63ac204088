"""The program of a step: of a graph, what some fetches need when some tensors are given.

What is fed becomes an argument, and what lies behind it is left out. What is fetched becomes a result. In between stand
the operations that the fetches use or must come after, in the order in which the graph was built, which is the order in
which they use variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

from thalweg.dialects import context
from thalweg.dialects.build import build, create
from thalweg.dialects.diagnostics import GraphError
from thalweg.dialects.location import user_frame, without_scopes
from thalweg.dialects.mlir import func_dialect, ir
from thalweg.dialects.opdef import OPS
from thalweg.dialects.ops import state
from thalweg.dialects.walk import copy_operation, inside
from thalweg.frontend.graph import Graph, Operation
from thalweg.frontend.program import Program
from thalweg.frontend.tensor import TracedTensor
from thalweg.frontend.variable import Variable

Fetch: TypeAlias = TracedTensor | Operation | Variable
TITLE = 60  # characters of a step's title, for traces
NAME, AFTER = "tw.name", "tw.after"  # attributes: the operation's name, and names of those that must run before


def cut(graph: Graph, name: str, fetches: Sequence[Fetch], feeds: Sequence[TracedTensor]) -> Program:
    """The program that takes `feeds` and gives the tensors and variables among `fetches`.

    Variables are read at the end, after all that the step does to them.

    Raises:
        GraphError: a placeholder is needed and not fed; the message says for which fetch.
    """
    with graph.lock, context.entered():
        needed = _needed(graph, fetches, [f.value for f in feeds])
        return _Copy(graph, name, needed, feeds).finish(fetches)


def placeholders(graph: Graph, fetches: Sequence[Fetch]) -> list[TracedTensor]:
    """What must be fed to run `fetches`, in the order of the graph."""
    wanted = (f for f in fetches if not isinstance(f, Variable))
    makers = (f if isinstance(f, Operation) else graph.maker_of(f.value) for f in wanted)
    todo = [m for m in makers if m is not None]
    seen = set(todo)
    while todo:
        operation = todo.pop()
        before = [m for v in operation.values if (m := graph.maker_of(v)) is not None]
        fresh = {*before, *operation.after} - seen
        seen |= fresh
        todo += fresh
    found = sorted((o for o in seen if o.type == "placeholder"), key=lambda o: o.index)
    return [tensor for operation in found for tensor in operation.outputs]


def _needed(graph: Graph, fetches: Sequence[Fetch], fed: Sequence[ir.Value]) -> list[Operation]:
    """The operations to copy, in order. Goes back from the fetches, and stops at what is fed."""
    given = set(fed)
    reason: dict[Operation, Fetch] = {}
    todo: list[tuple[Operation, Fetch]] = []

    def want(values: Iterable[ir.Value], why: Fetch) -> None:
        makers = (graph.maker_of(v) for v in values if v not in given)
        todo.extend((m, why) for m in makers if m is not None and m not in reason)

    for fetch in fetches:
        if isinstance(fetch, Operation):
            todo.append((fetch, fetch))
        else:
            want([graph.handle(fetch) if isinstance(fetch, Variable) else fetch.value], fetch)
        while todo:
            operation, why = todo.pop()
            if operation in reason:
                continue
            reason[operation] = why
            want(operation.values, why)
            todo.extend((o, why) for o in operation.after if o not in reason)
    for operation, why in reason.items():
        if operation.type == "placeholder":
            raise _unfed(operation, why)
    return sorted(reason, key=lambda o: o.index)


def _unfed(operation: Operation, why: Fetch) -> GraphError:
    (tensor,) = operation.outputs
    made = str(operation.where).removesuffix(":")
    return GraphError(
        f"{user_frame()} run: the placeholder '{operation.name}' ({tensor.type}, made at {made}) is needed by the "
        f"fetch {described(why)}, and is not fed. Give it a value: feeds={{'{operation.name}:0': …}}."
    )


def assigning(program: Program, variable: Variable) -> Program:
    """A program without feeds that assigns a variable the one result of `program`, and has none itself. It asks for no
    device, since it runs where the variable is."""
    with context.entered():
        module = without_scopes(program.module)
        (main,) = module.body.operations
        *_, last = main.regions[0].blocks[0].operations
        (value,) = last.operands
        with ir.InsertionPoint(last), variable.where.location():
            (handle,) = build(
                state.variable_handle, [], {"name": variable.name, "shape": variable.shape, "dtype": variable.dtype}
            )
            create(state.assign, [handle, value], {})
            func_dialect.ReturnOp([])
        last.operation.erase()
        inputs = [argument.type for argument in main.regions[0].blocks[0].arguments]
        main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, []))
    return replace(program, module=module, outputs=(), variables=(*program.variables, variable))


def described(fetch: Fetch) -> str:
    """A fetch as messages call it."""
    if isinstance(fetch, TracedTensor):
        trace = fetch.scope.trace
        return f"'{trace.name_of(fetch)}'" if isinstance(trace, Graph) else repr(fetch)
    return f"'{fetch.name}'"


class _Copy:
    """A program in the making, of copies of a graph's operations."""

    def __init__(self, graph: Graph, name: str, needed: Sequence[Operation], feeds: Sequence[TracedTensor]) -> None:
        self.graph = graph
        self.name = name
        self.feeds = feeds
        self.needed = needed
        self.mapping: dict[ir.Value, ir.Value] = {}  # what became of the graph's values
        self.fed: dict[ir.Value, ir.Value] = {}
        self.module = ir.Module.create()
        self.module.operation.attributes["sym_name"] = ir.StringAttr.get(name)
        with ir.InsertionPoint(self.module.body):
            self.function = func_dialect.FuncOp("main", ([], []))
        self.block: ir.Block = self.function.add_entry_block()

    def finish(self, fetches: Sequence[Fetch]) -> Program:
        """Copy everything, and end the function with what is fetched."""
        self.fed = {f.value: self.block.add_argument(f.value.type, f.value.location) for f in self.feeds}
        self.mapping.update(self.fed)
        constants = self._constants(fetches)
        with ir.InsertionPoint(self.block):
            self._operations()
            values = [v for v in map(self._value, fetches) if v is not None]
            func_dialect.ReturnOp(values)
        signature = ir.FunctionType.get([a.type for a in self.block.arguments], [v.type for v in values])
        self.function.attributes["function_type"] = ir.TypeAttr.get(signature)
        fetched = ", ".join(described(f).strip("'") for f in fetches)
        return Program(
            name=self.name,
            title=f"run {fetched}" if len(fetched) <= TITLE else f"run {fetched[:TITLE]}…",
            module=self.module,
            inputs=tuple(f.type for f in self.feeds),
            labels=tuple(f"the feed {described(f)}" for f in self.feeds),
            outputs=tuple(context.tensor_type_of(v) for v in values),
            constants=tuple(self.graph.captured[i].data for i in constants),
            variables=tuple(v for v in self.graph.variables() if self.graph.handle(v) in self.mapping),
        )

    def _constants(self, fetches: Sequence[Fetch]) -> list[int]:
        """Arguments for the graph's captured arrays that are used; gives their numbers."""
        used = {v for o in self.needed for v in o.values if isinstance(v.owner, ir.Block)}
        used |= {f.value for f in fetches if isinstance(f, TracedTensor) and isinstance(f.value.owner, ir.Block)}
        found = sorted((v for v in used if v not in self.mapping), key=lambda v: ir.BlockArgument(v).arg_number)
        for value in found:
            self.mapping[value] = self.block.add_argument(value.type, value.location)
        return [ir.BlockArgument(v).arg_number for v in found]

    def _operations(self) -> None:
        """Copies of the operations. Names and order matter where something runs on the host, or devices are asked for;
        in a program that is compiled as a whole the order is that of the text."""
        marked = any(o.device or _runs_on_host(o.mlir) for o in self.needed)
        order = _Order()
        for operation in self.needed:
            if operation.type == "no_op":
                continue
            copied = copy_operation(operation.mlir, self.mapping)
            self.mapping.update(self.fed)  # an operation may be fed in part, and needed for the rest
            if marked and has_effects(operation.mlir):
                copied.attributes[NAME] = ir.StringAttr.get(operation.name)
                if before := order.before(operation, self.graph):
                    names = [ir.StringAttr.get(o.name) for o in sorted(before, key=lambda o: o.index)]
                    copied.attributes[AFTER] = ir.ArrayAttr.get(names)

    def _value(self, fetch: Fetch) -> ir.Value | None:
        if isinstance(fetch, Operation):
            return None
        if isinstance(fetch, TracedTensor):
            return self.mapping[fetch.value]
        handle = self.graph.handle(fetch)
        with handle.owner.operation.location:  # on the variable's device
            (value,) = build(state.read, [self.mapping[handle]], {})
        return value


def has_effects(operation: ir.Operation) -> bool:
    """Whether it, or an op in its regions, does more than compute."""
    rows = (OPS.get(o.name.removeprefix("tw.")) for o in inside(operation))
    return any(r is not None and (r.effects != "pure" or r.runs == "host") for r in rows)


def _runs_on_host(operation: ir.Operation) -> bool:
    rows = (OPS.get(o.name.removeprefix("tw.")) for o in inside(operation))
    return any(r is not None and r.runs == "host" for r in rows)


class _Order:
    """Which operations with effects must have run before an operation, by control dependencies: its own, and those of
    the pure operations that it uses, which vanish in compiled clusters."""

    def __init__(self) -> None:
        self._passed_on: dict[Operation, frozenset[Operation]] = {}

    def before(self, operation: Operation, graph: Graph) -> frozenset[Operation]:
        """All of them, transitively through pure operations."""
        found = self._passed_on.get(operation)
        if found is None:
            found = frozenset[Operation]()
            for earlier in operation.after:
                found |= {earlier} if has_effects(earlier.mlir) else self._behind(earlier, graph)
            for value in operation.values:
                maker = graph.maker_of(value)
                if maker is not None and not has_effects(maker.mlir):
                    found |= self.before(maker, graph)
            self._passed_on[operation] = found
        return found

    def _behind(self, operation: Operation, graph: Graph) -> frozenset[Operation]:
        """The nearest operations with effects behind a pure one, by data or by order."""
        found = self.before(operation, graph)
        for value in operation.values:
            maker = graph.maker_of(value)
            if maker is not None:
                found |= {maker} if has_effects(maker.mlir) else self._behind(maker, graph)
        return found
