"""`tw.Graph`: a program that stays open. Ops are added to it by name, and a `tw.Session` runs any part of it.

    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (None, 4), name="x")
        y = tw.sum(x * 2.0, axis=1, name="y")

Within the block every array function adds its ops to the graph; several threads may do so at once. Ops have names,
`name`, `name_1`…, their results `name:0`. What changes state (`Variable.assign`, an enqueue, an optimiser's `apply`)
gives a `tw.Operation`, and happens in the runs that fetch it, or fetch what comes after it, and in no other.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from thalweg.dialects.diagnostics import GraphError, TracingError, did_you_mean
from thalweg.dialects.location import Where, scope_of, user_frame
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import control, elementwise, state
from thalweg.dialects.types import TensorType
from thalweg.dialects.walk import bodies, captures
from thalweg.frontend.names import Names
from thalweg.frontend.program import Program
from thalweg.frontend.tensor import Tensor, TracedTensor
from thalweg.frontend.trace import Body, Trace

if TYPE_CHECKING:
    from thalweg.frontend.resource import Resource
    from thalweg.frontend.train.queue_runner import QueueRunner
    from thalweg.frontend.variable import Variable


class Operation:
    """An op of a graph: what `Session.run` runs for its effect, and what control dependencies name.

    Attributes:
        name: unique in its graph.
        graph: where it stands.
        outputs: its results.
        where: the user's line.
    """

    __slots__ = ("after", "graph", "index", "mlir", "name", "outputs", "row", "values", "where")

    def __init__(self, graph: Graph, row: OpDef, mlir: ir.Operation, index: int, where: Where) -> None:
        self.graph = graph
        self.row = row
        self.mlir = mlir
        self.index = index  # the place in the order in which the graph was built
        self.where = where
        self.name = ""
        self.outputs: tuple[TracedTensor, ...] = ()
        self.after: tuple[Operation, ...] = ()
        self.values = tuple(dict.fromkeys((*mlir.operands, *captures(*bodies(mlir)))))  # all that it uses

    @property
    def type(self) -> str:
        """What it does: "add", "enqueue"."""
        return self.row.name

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """The tensors that it uses, also those that its regions use."""
        found = (self.graph.tensor_of(value) for value in self.values)
        return tuple(t for t in found if t is not None)

    @property
    def control_inputs(self) -> tuple[Operation, ...]:
        """The operations that run before it although it uses nothing of theirs."""
        return self.after

    @property
    def device(self) -> str:
        """The device that was asked for, perhaps in part; empty where none was."""
        return scope_of(self.mlir.location)

    def __repr__(self) -> str:
        return f"<tw.Operation '{self.name}' type={self.type}>"


class _Here(threading.local):
    """What a thread's open blocks ask of the ops that it adds to a graph."""

    prefix: str = ""  # of names: the scopes, each with a '/' behind it
    after: tuple[Operation, ...] = ()  # what must have run before


class Graph(Trace):
    """A program in the making that never ends.

    Args:
        name: what messages call it.

    Example:
        >>> with tw.Graph().as_default() as graph:
        ...     tw.add(tw.placeholder(tw.float32, ()), 1.0, name="next")
        >>> graph.tensor("next:0")
    """

    stays_open = True

    def __init__(self, name: str = "graph") -> None:
        super().__init__(name, label=f"the graph '{name}'")
        self.lock = threading.RLock()  # whoever adds to it holds it
        self._names = Names()
        self._here = _Here()
        self._operations: dict[str, Operation] = {}
        self._made: dict[ir.Value, Operation] = {}
        self._latest: Operation | None = None
        self._tensors: dict[ir.Value, TracedTensor] = {}
        self._extents: dict[str, int] = {}
        self._count = 0
        self.queue_runners: list[QueueRunner] = []  # what `tw.train.start_queue_runners` starts

    def as_default(self) -> AbstractContextManager[Graph]:
        """Add what is computed in a block to this graph. Each thread that builds it opens a block of its own."""
        return self._default()

    @contextmanager
    def _default(self) -> Iterator[Graph]:
        with self.entered():
            yield self

    # Looking things up

    def operations(self) -> list[Operation]:
        """All operations in the order in which they were added."""
        with self.lock:
            return sorted(self._operations.values(), key=lambda o: o.index)

    def operation(self, name: str) -> Operation:
        """The operation called `name`.

        Raises:
            GraphError: there is none; suggests the nearest name.
        """
        found = self._operations.get(name)
        if found is None:
            raise GraphError(f"{user_frame()} {self.root.label} has no operation '{name}'{self._nearest(name)}")
        return found

    def tensor(self, name: str) -> TracedTensor:
        """The tensor called `name`: "y:0" is the first result of the operation "y".

        Raises:
            GraphError: there is none; suggests the nearest name.
        """
        base, colon, port = name.rpartition(":")
        if not colon or not port.isdigit():
            hint = f" Did you mean '{name}:0'?" if name in self._operations else ""
            raise GraphError(f"{user_frame()} tensors are called operation:port, got '{name}'.{hint}")
        found = self._operations.get(base)
        if found is None:
            raise GraphError(f"{user_frame()} {self.root.label} has no operation '{base}'{self._nearest(base)}")
        if int(port) >= len(found.outputs):
            raise GraphError(f"{user_frame()} '{name}': operation '{base}' has {len(found.outputs)} results.")
        return found.outputs[int(port)]

    def _nearest(self, name: str) -> str:
        return did_you_mean(name, self._operations) or "."

    def variables(self) -> list[Variable]:
        """The variables that its operations use."""
        return list(self._handles)

    def maker_of(self, value: ir.Value) -> Operation | None:
        """The operation that makes a value; None for the graph's constants."""
        return self._made.get(value)

    def tensor_of(self, value: ir.Value) -> TracedTensor | None:
        """The tensor that stands for a value; None for handles of variables and other resources."""
        return self._tensors.get(value)

    def name_of(self, tensor: TracedTensor) -> str:
        """The name of one of its tensors: "y:0".

        Raises:
            TracingError: it belongs to something else.
        """
        operation = self._made.get(tensor.value)
        if operation is None:
            raise TracingError(f"{user_frame()} {tensor!r} is no result of an operation of {self.root.label}")
        return f"{operation.name}:{ir.OpResult(tensor.value).result_number}"

    # Adding

    def emit(self, row: OpDef, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[TracedTensor, ...]:
        with self.lock:
            return super().emit(row, operands, attrs)

    def emit_values(self, row: OpDef, values: Sequence[ir.Value], attrs: Mapping[str, Any]) -> tuple[Any, ...]:
        with self.lock:
            return super().emit_values(row, values, attrs)

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
        with self.lock:  # also while the bodies are traced: the scopes are this thread's until they close
            return super().emit_regions(row, operands, attrs, arguments, bodies, labels, inline)

    def program_of(self, name: str, tensor: Tensor) -> Program:
        from thalweg.frontend.subgraph import cut  # which needs graphs

        assert isinstance(tensor, TracedTensor)
        return cut(self, name, [tensor], [])

    def perform(self, row: OpDef, values: Sequence[ir.Value], attrs: Mapping[str, Any]) -> Operation | None:
        with self.lock:
            self.emit_values(row, values, attrs)
            return self._latest if self.scopes[-1] is self.root else None

    def handle(self, variable: Variable) -> ir.Value:
        with self.lock:
            known = variable in self._handles
            value = super().handle(variable)
            if not known:
                operation = value.owner.operation
                self._made[value] = Operation(self, state.variable_handle, operation, -1, user_frame())
            return value

    def resource(self, owner: Resource) -> ir.Value:
        with self.lock:
            known = owner in self._resources
            value = super().resource(owner)
            if not known:
                made = Operation(self, owner.row, value.owner.operation, -1, owner.where)
                self._made[value] = made
                self._rename(made, self._names.claim(owner.name))
            return value

    def read(self, variable: Variable) -> Tensor:
        with self.lock:
            return super().read(variable)

    def assign(self, row: OpDef, variable: Variable, value: Tensor) -> Any:
        with self.lock:
            super().assign(row, variable, value)
            return self._latest if self.scopes[-1] is self.root else variable

    def added(self, row: OpDef, operation: ir.Operation, where: Where) -> tuple[Any, ...]:
        results = super().added(row, operation, where)
        if self.scopes[-1] is self.root:
            self._register(row, operation, results, where)
        return results

    def _put_in_order(self, row: OpDef, operation: ir.Operation) -> None:
        """In a graph only data and control dependencies decide."""

    def _register(self, row: OpDef, mlir: ir.Operation, results: Sequence[Any], where: Where) -> None:
        here = self._here
        self._count += 1
        made = self._latest = Operation(self, row, mlir, self._count, where)
        made.outputs = tuple(r for r in results if isinstance(r, TracedTensor))
        made.after = here.after
        called = ir.StringAttr(mlir.attributes["name"]).value if row is control.call else row.name
        self._rename(made, self._names.claim(here.prefix + called))
        for value in mlir.results:
            self._made[value] = made
        for tensor in made.outputs:
            self._tensors[tensor.value] = tensor

    def _rename(self, operation: Operation, name: str) -> None:
        self._operations.pop(operation.name, None)
        operation.name = name
        self._operations[name] = operation

    # Names, sizes and order

    def named_extent(self, name: str) -> int:
        """The open extent that is called `name` in this graph."""
        with self.lock:
            if name not in self._extents:
                (self._extents[name],) = self.open_extents(1)
            return self._extents[name]

    @property
    def prefix(self) -> str:
        """What this thread's name scopes put before names: "layer/", or nothing."""
        return self._here.prefix

    @contextmanager
    def scope(self, name: str) -> Iterator[str]:
        """Put `name/` before the names of the ops of a block."""
        here = self._here
        before = here.prefix
        with self.lock:
            full = self._names.claim(before + name)
        here.prefix = f"{full}/"
        try:
            yield full
        finally:
            here.prefix = before

    def named(self, name: str, make: Callable[[], Any]) -> Any:
        """Call `make`, and give the op of its result this name; the ops on the way get names below it."""
        if self.scopes[-1] is not self.root:
            return make()
        start = self._count
        with self.scope(name) as full:
            value = make()
            if isinstance(value, Tensor) and not self._is_new(value, start):
                (value,) = self.emit(elementwise.convert, [value], {"dtype": value.dtype})  # changes nothing
        tensors = [t for t in (value if isinstance(value, tuple | list) else [value]) if isinstance(t, TracedTensor)]
        with self.lock:
            made = dict.fromkeys(self._made[t.value] for t in tensors if self._is_new(t, start))
            for number, operation in enumerate(made):
                self._rename(operation, self._names.claim(self._here.prefix + name) if number else full)
        return value

    def _is_new(self, tensor: Tensor, start: int) -> bool:
        """Whether a tensor comes from an operation that was added after the first `start`."""
        made = self._made.get(tensor.value) if isinstance(tensor, TracedTensor) else None
        return made is not None and made.index > start

    def name_latest(self, name: str) -> Operation:
        """Give the operation that was added last (under `lock`) a name of its own."""
        assert self._latest is not None
        self._rename(self._latest, self._names.claim(self._here.prefix + name))
        return self._latest

    @contextmanager
    def ordered(self, after: Sequence[Operation] | None) -> Iterator[None]:
        """Run the ops of a block after these operations, and after those of the blocks around; None forgets them."""
        here = self._here
        before = here.after
        here.after = () if after is None else tuple(dict.fromkeys((*before, *after)))
        try:
            yield
        finally:
            here.after = before
