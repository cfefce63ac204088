"""From a partition's module to what a task runs: its plan, and its clusters compiled.

    partition (a `tw` module: host ops and clusters) ──▶ PartitionPlan + one callable per cluster

A cluster is outlined to a program of its own and goes the driver's ordinary way to machine code. Its variables are
bound to buffers of the task, so that reads and assignments happen in place; variables are renamed by position before,
so that clusters that differ in names only are compiled once.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from thalweg.backends.cpu.executable import Executable
from thalweg.backends.pjrt.lower import Portable
from thalweg.backends.reference.shadow import first_nan, has_nan, has_non_finite
from thalweg.dialects import context
from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.devices import parse
from thalweg.dialects.diagnostics import ExecutionError, LoweringError
from thalweg.dialects.extents import any_open
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.types import TensorType, VariableType
from thalweg.passes.cluster import outlined
from thalweg.passes.dependences import DEVICE, after_of, name_of
from thalweg.passes.hoist_state import READS, WRITES, variable_name
from thalweg.passes.partition import FEEDS, FETCHES
from thalweg.passes.rewriting import functions, inside, operations
from thalweg.passes.specialise import specialise
from thalweg.runtime.config import Config
from thalweg.runtime.gpu.artefact import DeviceProgram
from thalweg.runtime.locks import Held
from thalweg.runtime.plan import CLUSTER, FEED, Array, Endpoint, LoadedPartition, Node, PartitionPlan, Program
from thalweg.runtime.resources import Buffer, Resources
from thalweg.runtime.task import Load
from thalweg.steps import CHECKING

if TYPE_CHECKING:
    from thalweg.backends.gpu.tuning import Measure

Make: TypeAlias = Callable[["Compiler", ir.Module, Sequence[Buffer]], Program]  # a cluster of known sizes
SIZES = 64  # of one cluster whose code is kept
TOLD = 4  # kinds of ops in the title of a cluster
_UNTOLD = frozenset(
    f"tw.{name}" for name in ("constant", "broadcast", "reshape", "convert", "variable_handle", "read", "yield")
) | {"func.return", "func.func"}  # fmt: skip


class Compiler(Protocol):
    """What loading needs of the driver."""

    options: Config

    def executable(self, module: ir.Module) -> tuple[Executable, list[str]]:
        """Machine code for a `tw` module, and the names of the variables that are its trailing arguments."""
        ...

    def portable(self, module: ir.Module) -> tuple[Portable, list[str]]:
        """The same for PJRT."""
        ...

    def device_program(
        self, module: ir.Module, chip: str, measure: Measure | None = None
    ) -> tuple[DeviceProgram, list[str]]:
        """The same for a GPU."""
        ...


class CompiledCluster:
    """A cluster bound to its variables' buffers: the inputs' arrays in, the results' arrays out.

    Several steps may be inside at once: each call holds the locks of the variables, and has an arena of its own.

    Args:
        module: its program, whose trailing arguments after compilation are the variables called `variable0`…
        buffers: of these variables.
    """

    locks = True

    def __init__(self, compiler: Compiler, module: ir.Module, buffers: Sequence[Buffer]) -> None:
        self._executable, names = compiler.executable(module)
        self._names = names
        variables = [buffers[int(name.removeprefix("variable"))] for name in names]
        self._bound = [buffer.array for buffer in variables]
        self._options = compiler.options
        asked = module.operation.attributes
        self._checking = ir.StringAttr(asked[CHECKING]).value if CHECKING in asked else ""
        self._text: str = module.operation.get_asm(enable_debug_info=True)
        fresh = [k for k in range(len(self._executable.outputs)) if k not in self._executable.aliases]
        self._outputs = len(fresh)
        assert fresh == [*range(self._outputs)], "what variables become comes after the results"
        written = set(self._executable.aliases.values())
        first = len(self._executable.inputs) - len(names)
        locks = [(buffer.lock, first + at in written) for at, buffer in enumerate(variables)]
        by_name = sorted(range(len(locks)), key=lambda at: variables[at].name)
        self._held = Held(locks[at] for at in by_name)
        self._weights = self._executable.weights(self._bound, [lock.words for lock, _ in locks])
        passed = [(lock.words, write) for lock, write in locks]
        self._entry = self._executable.direct(self._bound, passed, weights=self._weights)
        self._direct: Callable[..., Any] | None = self._entry.call if self._entry is not None else None

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        if self._checking or self._options.checking:
            return self._checked(inputs)
        if self._direct is not None:
            result = self._direct(*inputs)
            if result is not NotImplemented:
                return (result,) if self._outputs == 1 else result
        with self._held:
            return self._executable([*inputs, *self._bound], self._weights)[: self._outputs]

    def _checked(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """Run; where a result holds what it must not, run once more in the reference interpreter to name the maker."""
        infinities = "non-finite" in (self._checking, self._options.checking)
        bad = has_non_finite if infinities else has_nan
        with self._held:
            before = {name: array.copy() for name, array in zip(self._names, self._bound, strict=True)}
            results = self._executable([*inputs, *self._bound], self._weights)[: self._outputs]
            found_one = any(map(bad, (*results, *self._bound)))
        if found_one:
            with context.entered():
                found = first_nan(ir.Module.parse(self._text), inputs, before, infinities=infinities)
            if found is not None:
                raise ExecutionError(str(found))
        return results


class SizedCluster:
    """A cluster with open extents: compiled when arrays of new sizes come, looked up from then on.

    Its inputs' sizes may be known to the data only, so this happens while a step runs.
    """

    locks = True

    def __init__(
        self, compiler: Compiler, module: ir.Module, buffers: Sequence[Buffer], make: Make = CompiledCluster
    ) -> None:
        self._compiler = compiler
        self._make = make
        self._text: str = module.operation.get_asm(enable_debug_info=True)
        self._buffers = buffers
        self._sizes: OrderedDict[tuple[tuple[int, ...], ...], Program] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Array]) -> Sequence[Array]:
        key = tuple([array.shape for array in inputs])
        found = self._sizes.get(key)
        if found is None:
            found = self._of_sizes(key)
            with self._lock:
                self._sizes[key] = found
                if len(self._sizes) > SIZES:
                    self._sizes.popitem(last=False)
        return found(inputs)

    def settle(self) -> None:
        """Wait for what was started, where clusters only start their work."""
        for program in list(self._sizes.values()):
            if hasattr(program, "settle"):
                program.settle()

    def _of_sizes(self, shapes: Sequence[tuple[int, ...]]) -> Program:
        with context.entered():
            module = ir.Module.parse(self._text)
            (main,) = operations(module.body)
            declared = [context.tensor_type_of(argument) for argument in main.regions[0].blocks[0].arguments]
            specialise(main, [t.with_shape(shape) for t, shape in zip(declared, shapes, strict=True)])
            return self._make(self._compiler, module, self._buffers)


def loader(compiler: Compiler) -> Load:
    """The function with which a task loads partitions, which it is given as text or as modules."""

    def load_any(partition: Any, resources: Resources) -> LoadedPartition:
        with context.entered():
            module = ir.Module.parse(partition) if isinstance(partition, str) else partition
            return load(compiler, module, resources)

    return load_any


def load(compiler: Compiler, module: ir.Module, resources: Resources) -> LoadedPartition:
    """Make a partition ready to run.

    Args:
        compiler: the driver.
        module: host ops and clusters, with the attributes `tw.device`, `tw.feeds` and `tw.fetches`.
        resources: of the task; variables that it does not have are declared there.

    Raises:
        LoweringError: an op outside clusters that the host cannot do.
        PassError: a control edge to nothing.
    """
    with context.entered():
        return _Loader(compiler, module, resources).load()


class _Loader:
    def __init__(self, compiler: Compiler, module: ir.Module, resources: Resources) -> None:
        self._compiler = compiler
        self._module = module
        self._resources = resources
        self._endpoints: dict[ir.Value, Endpoint] = {}
        self._nodes: list[Node] = []
        self._numbers: dict[str, int] = {}  # of named nodes
        self._programs: list[Program] = []
        attributes = module.operation.attributes
        self._device = ir.StringAttr(attributes[DEVICE]).value if DEVICE in attributes else "/device:CPU:0"
        self._make = _cluster_on(self._device)

    def load(self) -> LoadedPartition:
        (block,) = functions(self._module)
        *body, end = operations(block)
        for number, argument in enumerate(block.arguments):
            self._endpoints[argument] = FEED, number
        self._number(body)
        for operation in body:
            self._nodes.append(self._node(len(self._nodes), operation))
        attributes = self._module.operation.attributes
        feeds = _integers(attributes, FEEDS, len(block.arguments))
        fetched = zip(_integers(attributes, FETCHES, len(end.operands)), end.operands, strict=True)
        plan = PartitionPlan(
            self._device,
            tuple(self._nodes),
            tuple(feeds),
            tuple((number, self._endpoints[value]) for number, value in fetched),
        )
        return LoadedPartition(plan, tuple(self._programs))

    def _number(self, body: Sequence[ir.Operation]) -> None:
        for number, operation in enumerate(body):
            name = name_of(operation)
            if name is not None:
                self._numbers[name] = number
            for output, result in enumerate(operation.results):
                self._endpoints[result] = number, output

    def _node(self, number: int, operation: ir.Operation) -> Node:
        row = row_of(operation)
        where = where_of(operation.location)
        if row is None or (row.runs == "compiled" and row.name not in (CLUSTER, "variable_handle")):
            raise LoweringError(f"{where or ''} {operation.name} stands outside a cluster, but the host cannot do it.")
        return Node(
            number,
            row.name,
            name_of(operation) or f"{row.name}/{number}",
            self._attrs(row, operation),
            tuple(self._endpoints[operand] for operand in operation.operands),
            tuple(self._numbers[name] for name in after_of(operation)),
            len(operation.results),
            str(where) if where else "",
        )

    def _attrs(self, row: OpDef, operation: ir.Operation) -> dict[str, Any]:
        if row.name == CLUSTER:
            return self._cluster(operation)
        if row.name == "variable_handle":
            self._declare(operation)
        return attributes_of(row, operation)

    def _cluster(self, operation: ir.Operation) -> dict[str, Any]:
        module = outlined(operation)
        handles = [o for o in _all(module) if o.name == "tw.variable_handle"]
        buffers = {buffer.name: buffer for buffer in map(self._declare, handles)}
        reads, writes = accesses(module)
        order = list(buffers)
        for handle in handles:
            position = order.index(ir.StringAttr(handle.attributes["name"]).value)
            handle.attributes["name"] = ir.StringAttr.get(f"variable{position}")
        bound = [buffers[name] for name in order]
        if CHECKING in self._module.operation.attributes:
            module.operation.attributes[CHECKING] = self._module.operation.attributes[CHECKING]
        make = partial(SizedCluster, make=self._make) if _is_open(module) else self._make
        self._programs.append(make(self._compiler, module, bound))
        return {"program": len(self._programs) - 1, "reads": reads, "writes": writes, "title": _title(module)}

    def _declare(self, handle: ir.Operation) -> Buffer:
        variable = context.type_of(handle.results[0])
        assert isinstance(variable, VariableType)
        return self._resources.declare(ir.StringAttr(handle.attributes["name"]).value, variable.tensor)


def _cluster_on(device: str) -> Make:
    """Who compiles what a device runs: our backends for CPUs and GPUs, PJRT for TPUs.

    Raises:
        LoweringError: nobody does.
    """
    kind = parse(device).kind
    if kind == "CPU":
        return CompiledCluster
    if kind == "GPU":
        from thalweg.gpus import GpuCluster  # whoever has no GPU does without

        return partial(GpuCluster, device=parse(device))
    if kind != "TPU":
        raise LoweringError(f"nothing here compiles for {device}; CPUs, GPUs and TPUs have a backend.")
    from thalweg.accelerated import AcceleratedCluster

    return partial(AcceleratedCluster, device=parse(device))


def clusters_of(part: ir.Module) -> Iterator[tuple[str, ir.Module]]:
    """The clusters of a partition whose sizes are known: name and program."""
    for block in functions(part):
        for operation in operations(block):
            if operation.name == "tw.cluster" and not _is_open(module := outlined(operation)):
                yield name_of(operation) or "cluster", module


def _is_open(module: ir.Module) -> bool:
    """Whether a size in a program is not known yet."""
    (block,) = functions(module)
    values = [*block.arguments, *(result for operation in _all(module) for result in operation.results)]
    types = [context.type_of(value) for value in values]
    return any(any_open(t.shape) for t in types if isinstance(t, TensorType))


def _title(module: ir.Module) -> str:
    """What traces call a cluster: the first of its ops that do work.

    Example:
        >>> _title(module)
        'dot_general, tanh, 3 x mul, …'
    """
    counts = Counter(o.name.removeprefix("tw.") for o in _all(module) if o.name not in _UNTOLD)
    told = [f"{count} x {name}" if count > 1 else name for name, count in counts.items()]
    return ", ".join([*told[:TOLD], *(["…"] if len(told) > TOLD else [])])


def accesses(module: ir.Module) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The variables whose value from before a program needs, and those that it gives one, in order of appearance."""
    reads: dict[str, None] = {}
    writes: dict[str, None] = {}
    for operation in _all(module):
        if operation.name not in READS | WRITES:
            continue
        name = variable_name(operation)
        if operation.name in READS and name not in writes:
            reads[name] = None
        if operation.name in WRITES:
            writes[name] = None
    return tuple(reads), tuple(writes)


def _all(module: ir.Module) -> list[ir.Operation]:
    return [inner for block in functions(module) for outer in operations(block) for inner in inside(outer)]


def _integers(attributes: Any, name: str, count: int) -> list[int]:
    """A list of numbers among a module's attributes; by default each its own place."""
    return list(ir.DenseI64ArrayAttr(attributes[name])) if name in attributes else [*range(count)]
