"""Traces: a program in the making. Array functions called while a trace is open add ops to it.

A trace is a module with one function and a stack of scopes, the blocks that are open: the function itself, then regions
of control ops. Every op carries the user's line. Eager tensors that a traced function uses become constants.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from thalweg.dialects import context, extents
from thalweg.dialects.build import build, create, create_with_regions
from thalweg.dialects.diagnostics import LeakedTensorError, TracingError, TypeInferenceError
from thalweg.dialects.location import Where, on_device, user_frame
from thalweg.dialects.mlir import func_dialect, ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import elementwise, shape, state
from thalweg.dialects.types import ResourceType, TensorType
from thalweg.frontend.device import current_scope
from thalweg.frontend.dtypes import default_dtype
from thalweg.frontend.program import Program
from thalweg.frontend.tensor import Array, EagerTensor, Tensor, TracedTensor

if TYPE_CHECKING:
    from thalweg.frontend.resource import Resource
    from thalweg.frontend.variable import Variable

NAME, AFTER = "tw.name", "tw.after"  # attributes: an op's name, and the names of those that must run before
Body = Callable[[list[Tensor]], Sequence[Tensor]]

# Attributes of ops live as long as the process's MLIR context: only arrays up to this many bytes become attributes.
SMALL = 256


class Scope:
    """An open block. Tensors made in it may be used until it closes."""

    __slots__ = ("arguments", "inline", "label", "open", "trace", "where")

    def __init__(self, trace: Trace, label: str, where: Where, inline: bool) -> None:
        self.trace = trace
        self.label = label
        self.where = where
        self.inline = inline  # the block runs exactly once where it stands: it belongs to a call
        self.open = True
        self.arguments: set[ir.Value] = set()

    def is_argument(self, value: ir.Value) -> bool:
        return value in self.arguments


class _Thread(threading.local):
    trace: Trace | None = None


_thread = _Thread()


def current() -> Trace | None:
    """The innermost open trace of this thread, None outside any."""
    return _thread.trace


@contextmanager
def suspended() -> Iterator[None]:
    """Compute eagerly for a block, even inside a trace (to make initial values, say)."""
    before, _thread.trace = _thread.trace, None
    try:
        yield
    finally:
        _thread.trace = before


class Trace:
    """A program in the making.

    Args:
        name: of the module.
        label: what messages call it: "step()".
        capture: what eager tensors become: "constants" of the program (small ones attributes, big ones trailing
            arguments bound once), or further "inputs", so that the program's text does not depend on their numbers.
        where: the user's line that it stands for; the innermost of the user's frames if None.
    """

    stays_open = False  # a graph: what is in it runs when it is fetched, and only then

    def __init__(
        self,
        name: str,
        label: str | None = None,
        capture: Literal["constants", "inputs"] = "constants",
        where: Where | None = None,
    ) -> None:
        self.name = name
        self.capture = capture
        self.inputs: list[TensorType] = []
        self.captured: list[EagerTensor] = []
        self.frozen: dict[Variable, EagerTensor] | None = None  # variables read from here, and may not be assigned
        self._seen: dict[int, tuple[TracedTensor, Array]] = {}  # by the id of a buffer, which is kept alive here
        self._handles: dict[Variable, ir.Value] = {}
        self._resources: dict[Resource, ir.Value] = {}
        self._latest_on: dict[ir.Value, str] = {}  # by handle: the name of the last op on it
        self._ordered = 0
        self._open = 0  # open extents given so far
        self._decided: dict[Any, tuple[int, ...]] = {}  # open extents by what decides them
        self._primals: list[tuple[Scope, dict[Variable, TracedTensor]]] = []
        self._locations: dict[tuple[Where, str], ir.Location] = {}
        self.root = Scope(self, label or name, where or user_frame(), inline=True)
        self.scopes = [self.root]
        with context.entered():
            self.module = ir.Module.create()
            self.module.operation.attributes["sym_name"] = ir.StringAttr.get(_symbol(name))
            with ir.InsertionPoint(self.module.body):
                self.function = func_dialect.FuncOp("main", ([], []))
            self.block: ir.Block = self.function.add_entry_block()

    @contextmanager
    def entered(self) -> Iterator[Trace]:
        """Make this the current trace for a block."""
        before = _thread.trace
        with context.entered(), ir.InsertionPoint(self.block):
            _thread.trace = self
            try:
                yield self
            finally:
                _thread.trace = before

    @contextmanager
    def recording(self) -> Iterator[Trace]:
        """`entered`, and close the trace at the end: tensors that outlive it are leaks."""
        try:
            with self.entered():
                yield self
        finally:
            for scope in self.scopes:
                scope.open = False

    def argument(self, type_: TensorType, weak: bool = False) -> TracedTensor:
        """A new argument of the program, before any constant is captured."""
        where = self.root.where
        with context.entered():
            value = self.block.add_argument(context.to_mlir(type_), self.location(where))
        self.root.arguments.add(value)
        self.inputs.append(type_)
        return TracedTensor(value, type_, self.root, where, weak)

    def finish(self, outputs: Sequence[Tensor]) -> Program:
        """End the function with these outputs; the program is complete."""
        with self.entered(), self.location(self.root.where):
            values = [self.value_of(t) for t in outputs]
            func_dialect.ReturnOp(values)
            signature = ir.FunctionType.get([a.type for a in self.block.arguments], [v.type for v in values])
            self.function.attributes["function_type"] = ir.TypeAttr.get(signature)
            types = tuple(context.tensor_type_of(v) for v in values)
        inputs, constants = tuple(self.inputs), tuple(t.data for t in self.captured)
        if self.capture == "inputs":
            inputs, constants = inputs + tuple(t.type for t in self.captured), ()
        return Program(self.name, self.module, inputs, types, constants, tuple(self._handles))

    def program_of(self, name: str, tensor: Tensor) -> Program:
        """The program that computes one tensor and takes nothing; a trace that ends has none to give."""
        raise TracingError(f"{user_frame()} {self.root.label} ends before anything in it can be computed")

    def location(self, where: Where) -> ir.Location:
        """The MLIR location of a user's line, with the device that is asked for now."""
        key = where, current_scope()
        found = self._locations.get(key)
        if found is None:
            found = self._locations[key] = on_device(where.location(), key[1])
        return found

    def named(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` returns; in a graph, under this name."""
        return make()

    def name_of(self, tensor: TracedTensor) -> str:
        """The name of one of its tensors; only a graph has any."""
        raise TracingError(f"{user_frame()} a traced tensor {tensor.type} has no name: only those of a tw.Graph do")

    # Values

    def value_of(self, tensor: Tensor) -> ir.Value:
        """The MLIR value of a tensor in this trace.

        Raises:
            LeakedTensorError: the tensor belongs to a block that has ended, or to another trace.
        """
        if not isinstance(tensor, TracedTensor):
            assert isinstance(tensor, EagerTensor)
            return self._captured(tensor).value
        scope = tensor.scope
        if not scope.open or scope.trace is not self:
            raise _leak(tensor)
        if tensor.weak:
            return self.strengthened(tensor).value
        return tensor.value

    def strengthened(self, tensor: TracedTensor) -> TracedTensor:
        """A weak tensor in its default dtype."""
        raw = TracedTensor(tensor.value, tensor._type, tensor.scope, tensor.where)
        (result,) = self.emit(elementwise.convert, [raw], {"dtype": default_dtype(tensor._type.dtype.kind)})
        return result

    def constant(self, value: Array) -> TracedTensor:
        """A small array as an op of the program.

        Raises:
            TypeInferenceError: it holds the number that stands for an open extent.
        """
        if value.dtype.kind in "iu" and extents.hides_open(value.reshape(-1).tolist()):
            raise TypeInferenceError(
                f"{user_frame()} an extent that is open until the graph is run has become a number. "
                "Use tw.extent(x, axis)."
            )
        (result,) = self.emit(shape.constant, [], {"value": value})
        return result

    def _captured(self, tensor: EagerTensor) -> TracedTensor:
        if self.capture == "constants" and tensor.data.nbytes <= SMALL and tensor.dtype.kind != "s":
            return self.constant(tensor.data)
        known = self._seen.get(id(tensor.data))
        if known is None:
            value = self.block.add_argument(context.to_mlir(tensor.type), self.location(self.root.where))
            known = TracedTensor(value, tensor.type, self.root, user_frame()), tensor.data
            self._seen[id(tensor.data)] = known
            kept = tensor.borrowed and self.capture == "constants"
            self.captured.append(EagerTensor(tensor.data.copy()) if kept else tensor)
        return known[0]

    # Ops

    def emit(self, row: OpDef, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[TracedTensor, ...]:
        """Add an op without regions.

        Raises:
            TypeInferenceError: operands or attributes do not fit; the message begins with the user's line.
        """
        where = user_frame()
        with self.location(where):
            values = [self.value_of(t) for t in operands]
            try:
                operation = create(row, values, attrs)
            except TypeInferenceError as error:
                raise TypeInferenceError(f"{where} {error}") from None
            return self.added(row, operation, where)

    def emit_values(self, row: OpDef, values: Sequence[ir.Value], attrs: Mapping[str, Any]) -> tuple[Any, ...]:
        """Add an op on MLIR values (handles among them); results that are no tensors come as values."""
        where = user_frame()
        with self.location(where):
            try:
                operation = create(row, values, attrs)
            except TypeInferenceError as error:
                raise TypeInferenceError(f"{where} {error}") from None
            return self.added(row, operation, where)

    def perform(self, row: OpDef, values: Sequence[ir.Value], attrs: Mapping[str, Any]) -> Any:
        """Add an op for what it does. In a graph this gives the `tw.Operation` to run; elsewhere it is done in its
        place, and there is nothing to give."""
        self.emit_values(row, values, attrs)

    def emit_regions(
        self,
        row: OpDef,
        operands: Sequence[Tensor],
        attrs: Mapping[str, Any],
        arguments: Sequence[Sequence[TensorType]],
        bodies: Sequence[Body],
        labels: Sequence[str],
        inline: bool = False,
    ) -> tuple[Any, ...]:
        """Add an op with one region per body. A body gets its block's arguments and returns what the region yields."""
        where = user_frame()

        finished = 0

        def traced(body: Body, label: str) -> Callable[..., list[ir.Value]]:
            def build_body(*block_arguments: ir.Value) -> list[ir.Value]:
                nonlocal finished
                with self._scope(label, where, inline) as scope:
                    scope.arguments.update(block_arguments)
                    given = [TracedTensor(v, context.tensor_type_of(v), scope, where) for v in block_arguments]
                    values = [self.value_of(t) for t in body(list(given))]
                finished += 1
                return values

            return build_body

        with self.location(where):
            values = [self.value_of(t) for t in operands]
            made = [traced(body, label) for body, label in zip(bodies, labels, strict=True)]
            try:
                operation = create_with_regions(row, values, attrs, arguments, made)
            except TypeInferenceError as error:
                if finished < len(bodies):  # raised inside a body, which has put the user's line in front
                    raise
                raise TypeInferenceError(f"{where} {error}") from None
            return self.added(row, operation, where)

    def added(self, row: OpDef, operation: ir.Operation, where: Where) -> tuple[Any, ...]:
        """The results of an op that has been added now: tensors, and MLIR values where they are none."""
        if row.runs == "host" and row.effects != "pure":
            self._put_in_order(row, operation)
        return self._wrap(operation.results, where)

    def _put_in_order(self, row: OpDef, operation: ir.Operation) -> None:
        """What is done to one resource happens in the order in which it is written, also in called functions and under
        gradients; within branches and loops, whose iterations may overlap, only data decides."""
        handles = [o for o in operation.operands if isinstance(context.type_of(o), ResourceType)]
        if not handles or not all(scope.inline for scope in self.scopes):
            return
        name = f"{row.name}_{self._ordered}"
        before = dict.fromkeys(self._latest_on[h] for h in handles if h in self._latest_on)
        operation.attributes[NAME] = ir.StringAttr.get(name)
        if before:
            operation.attributes[AFTER] = ir.ArrayAttr.get([ir.StringAttr.get(n) for n in before])
        self._ordered += 1
        self._latest_on.update(dict.fromkeys(handles, name))

    @contextmanager
    def _scope(self, label: str, where: Where, inline: bool) -> Iterator[Scope]:
        scope = Scope(self, label, where, inline)
        self.scopes.append(scope)
        try:
            yield scope
        finally:
            scope.open = False
            self.scopes.pop()

    def _wrap(self, results: Sequence[ir.Value], where: Where) -> tuple[Any, ...]:
        scope = self.scopes[-1]
        types = [context.type_of(v) for v in results]
        return tuple(
            TracedTensor(v, t, scope, where) if isinstance(t, TensorType) else v
            for v, t in zip(results, types, strict=True)
        )

    # Variables

    def handle(self, variable: Variable) -> ir.Value:
        """The variable's declaration, made at the top of the function at its first use."""
        if variable not in self._handles:
            with ir.InsertionPoint.at_block_begin(self.block), on_device(user_frame().location(), variable.scope):
                (self._handles[variable],) = build(
                    state.variable_handle, [], {"name": variable.name, "shape": variable.shape, "dtype": variable.dtype}
                )
        return self._handles[variable]

    def open_extents(self, count: int, decided_by: Any = None) -> tuple[int, ...]:
        """Extents for results whose sizes only the data decides, different from those given before; but the same ones
        for what is `decided_by` the same (anything that can be a key), so that such results fit together."""
        if decided_by is not None and decided_by in self._decided:
            return self._decided[decided_by]
        self._open += count
        found = tuple(extents.result(number) for number in range(self._open - count, self._open))
        if decided_by is not None:
            self._decided[decided_by] = found
        return found

    def resource(self, owner: Resource) -> ir.Value:
        """The handle of a queue or the like, made at the top of the function at its first use."""
        if owner not in self._resources:
            location = on_device(owner.where.location(), owner.scope)
            with ir.InsertionPoint.at_block_begin(self.block), location:
                (self._resources[owner],) = build(owner.row, [], owner.attrs)
        return self._resources[owner]

    def read(self, variable: Variable) -> Tensor:
        """The variable's value at this point of the program."""
        for _, primals in reversed(self._primals):
            if variable in primals:
                return primals[variable]
        if self.frozen is not None:
            if variable not in self.frozen:
                self.frozen[variable] = EagerTensor(variable.numpy())
            return self.frozen[variable]
        (value,) = self.emit_values(state.read, [self.handle(variable)], {})
        assert isinstance(value, TracedTensor)
        return value

    def assign(self, row: OpDef, variable: Variable, value: Tensor) -> Any:
        """Change a variable with the row `assign`, `assign_add` or `assign_sub`; returns what the user gets for it."""
        if self.frozen is not None:
            raise TracingError(
                f"{user_frame()} {variable.name} is assigned under an eager tw.vjp, whose function runs again for "
                "every pullback. Call tw.vjp inside a tw.function."
            )
        for scope, primals in self._primals:
            inner = self.scopes[self.scopes.index(scope) + 1 :]
            blocked = next((s for s in inner if not s.inline), None)
            if variable in primals and blocked is not None:
                raise TracingError(
                    f"{user_frame()} {variable.name} is assigned in {blocked.label} while the gradient with respect to "
                    "it is taken. Assign it after the gradient."
                )
            primals.pop(variable, None)
        self.emit_values(row, [self.handle(variable), self.value_of(value)], {})
        return variable

    @contextmanager
    def differentiating(self, primals: Mapping[Variable, Tensor]) -> Iterator[None]:
        """Within the innermost scope, reads of these variables give these tensors, until the variable is assigned."""
        self._primals.append((self.scopes[-1], {v: t for v, t in primals.items() if isinstance(t, TracedTensor)}))
        try:
            yield
        finally:
            self._primals.pop()


def _symbol(name: str) -> str:
    return "".join(c if c.isalnum() or c == "_" else "_" for c in name) or "program"


def _leak(tensor: TracedTensor) -> LeakedTensorError:
    scope = tensor.scope
    if scope.trace.stays_open and scope.open:
        return LeakedTensorError(
            f"{user_frame()} a tensor {tensor.type}, created at {str(tensor.where).removesuffix(':')}, belongs to "
            f"{scope.label}, which is not what is being built here. Add to it within `with graph.as_default():`; get "
            "its numbers with tw.Session(graph).run(…)."
        )
    ended = "has ended" if not scope.open else "is another trace"
    return LeakedTensorError(
        f"{user_frame()} a traced tensor {tensor.type}, created at {str(tensor.where).removesuffix(':')}, has escaped "
        f"from {scope.label}, which {ended}. Return it from there instead of keeping it in a list, an attribute or a "
        "global; state that outlives a call belongs in a tw.Variable."
    )
