"""Programs with ops that run on the host, or on several devices: a part for each device, run by the executor.

    tw ──optimize──▶ ──place──▶ ──lower-control──▶ ──partition──▶ ──cluster──▶ one module per device
       ──load──▶ plans with compiled clusters ──▶ a task runs them

`Driver.compile` makes a `StepProgram` of every program that one piece of machine code cannot do alone; for a cluster,
the target gets the parts and distributes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thalweg.dialects import context
from thalweg.dialects.build import row_of
from thalweg.dialects.devices import CPU, Device, parse
from thalweg.dialects.location import scope_of
from thalweg.dialects.mlir import ir
from thalweg.frontend.program import Executable, Program
from thalweg.passes.dependences import DEVICE
from thalweg.passes.partition import parts
from thalweg.passes.pipeline import Pipeline
from thalweg.passes.pipelines import to_parts
from thalweg.passes.place.measured import averages, shared_out
from thalweg.runtime import tracing
from thalweg.runtime.plan import Array
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import StepIds
from thalweg.runtime.task import Task
from thalweg.runtime.tracing import Trace

if TYPE_CHECKING:
    from thalweg.loading import Compiler

HANDLE = "step"
COLOCATE = "colocate:"
CHECKING = "tw.checking"  # attribute of programs: what to look for in their results (`Config.checking`)


@dataclass(frozen=True)
class CutStep:
    """A step cut into the parts of its devices.

    Args:
        program: what was cut. Its inputs are numbered first, then its constants.
        parts: a module per device, with the attributes `tw.device`, `tw.feeds` and `tw.fetches`; host ops and clusters.
    """

    program: Program
    parts: tuple[ir.Module, ...]

    @property
    def constants(self) -> dict[int, Array]:
        """The inputs that are the same in every step, by number."""
        first = len(self.program.inputs)
        return {first + number: array for number, array in enumerate(self.program.constants)}

    def texts(self, checking: str = "") -> list[str]:
        """The parts as text with the user's lines, to be parsed elsewhere.

        Args:
            checking: what results of their clusters must not hold: "nan", "non-finite", or whatever they like.
        """
        with context.entered():
            for part in self.parts:
                if checking:
                    part.operation.attributes[CHECKING] = ir.StringAttr.get(checking)
                elif CHECKING in part.operation.attributes:
                    del part.operation.attributes[CHECKING]
            return [text_of(part.operation) for part in self.parts]

    def clusters(self) -> Iterator[tuple[str, ir.Module]]:
        """The programs of the clusters, each after its device and name. Those whose sizes only a run tells are left
        out."""
        from thalweg.loading import clusters_of

        for part in self.parts:
            device = ir.StringAttr(part.operation.attributes[DEVICE]).value
            yield from ((f"{device} {name}", module) for name, module in clusters_of(part))


class Traceable(Executable, Protocol):
    """A step that tells what it does."""

    def run(self, inputs: Sequence[Array], timeout: float | None = None, tracer: Trace | None = None) -> list[Array]:
        """Run one step; `tracer` is told what runs when, by default the trace that is being made."""
        ...


class Target(Protocol):
    """Where steps run if not in this process: a cluster."""

    @property
    def devices(self) -> str:
        """Its devices, as the pass `place` takes them: '/job:ps/task:0..1/cpu:0;/job:worker/task:0/cpu:0'."""
        ...

    def bind(self, step: CutStep) -> Traceable:
        """Hand the parts out to the tasks; what is returned runs a step."""
        ...


def measured(step: CutStep, executable: Traceable, inputs: Sequence[Array], runs: int) -> dict[str, float]:
    """Seconds of a step's ops, by what the next placement knows them by. Runs the step once, and `runs` times."""
    executable.run(inputs)  # compiles what is still to be compiled
    trace = tracing.Trace()
    for _ in range(runs):
        executable.run(inputs, tracer=trace)
    ran = [event for event in trace.events if isinstance(event, tracing.Ran)]
    with context.entered():
        seconds = averages((e.device, e.name, (e.end - e.begin) / 1e9) for e in ran)
        return shared_out((part.operation for part in step.parts), seconds)


class StepProgram:
    """A step on this process's devices, bound to its constants and variables.

    Called like any executable: the inputs' arrays in, the outputs' arrays out. Safe from several threads at once; their
    steps overlap.
    """

    direct = None

    def __init__(self, task: Task, outputs: int) -> None:
        self.task = task
        self._outputs = range(outputs)

    def __call__(self, inputs: Sequence[Array], timeout: float | None = None) -> list[Array]:
        return self.run(inputs, timeout)

    def run(self, inputs: Sequence[Array], timeout: float | None = None, tracer: Trace | None = None) -> list[Array]:
        """Run one step.

        Args:
            timeout: seconds; for steps that wait for queues.
            tracer: is told what runs when; by default the trace that is being made, if there is one.

        Raises:
            StepError: an op failed, or the time was over. The message names the op and the user's line.
        """
        found = self.task.run(HANDLE, _ids(), dict(enumerate(inputs)), timeout, tracer or tracing.current())
        return [_owned(found[number], inputs) for number in self._outputs]

    def abort(self, why: str) -> None:
        """Give up the steps of this program, those that are under way and those to come."""
        self.task.close(why)


def _owned(value: Any, inputs: Sequence[Array]) -> Any:
    """A result as an array that is not the caller's: a fetched input, or what a host op made a view of it."""
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, np.ndarray) and any(np.may_share_memory(value, given) for given in inputs):
        return value.copy()
    return value


_ids = StepIds()


def home_of(module: ir.Module, devices: Sequence[str], places: Collection[Device] = ()) -> Device | None:
    """The device that does a traced program as one piece of machine code; None if there is none: something in it runs
    on the host, or something asks for another device.

    It is the first device, where nothing asks for another one; or a CPU, where everything asks for that.

    Args:
        places: where the program's variables are.
    """
    first, cpu = parse(devices[0]), next((d for d in map(parse, devices) if d.kind == "CPU"), CPU)
    if first.kind != "TPU" and _lives(places, first) and _runs_alone(module, first, nothing_asked=True):
        return first
    if first != cpu and _lives(places, cpu) and _runs_alone(module, cpu, nothing_asked=False):
        return cpu
    return None


def _lives(places: Collection[Device], home: Device) -> bool:
    """Whether all variables are where a program runs; what is on one CPU is on all."""
    return all(place.kind in (None, "CPU") if home.kind == "CPU" else place == home for place in places)


def _runs_alone(module: ir.Module, here: Device, nothing_asked: bool) -> bool:
    """Whether nothing runs on the host, or asks for another device.

    Args:
        nothing_asked: whether an op that asks for no device is here.
    """
    found = False
    known: dict[str, bool] = {"": nothing_asked}

    def look(operation: ir.Operation) -> ir.WalkResult:
        nonlocal found
        row = row_of(operation)
        if row is None or row.terminator:
            return ir.WalkResult.ADVANCE
        scope = scope_of(operation.location)
        if scope not in known:
            known[scope] = scope.startswith(COLOCATE) or here.satisfies(parse(scope))
        if row.runs == "host" or not known[scope]:
            found = True
            return ir.WalkResult.INTERRUPT
        return ir.WalkResult.ADVANCE

    module.operation.walk(look, ir.WalkOrder.PRE_ORDER)
    return not found


def cut(
    program: Program,
    optimised: ir.Module,
    devices: str,
    verify_each: bool = True,
    compress: bool = False,
    costs: str = "",
) -> CutStep:
    """Cut a program into the parts of devices.

    Args:
        optimised: the program's module after `optimize`; it is consumed.
        devices: as the pass `place` takes them.
        compress: send 32-bit floats between tasks as 16 bits.
        costs: a file of what was measured of the ops.

    Raises:
        PassError: what is asked for cannot be: the message names the user's lines.
    """
    Pipeline.parse(to_parts(devices, compress, costs)).run(optimised, verify_each=verify_each)
    return CutStep(program, tuple(ir.Module.parse(text_of(part)) for part in parts(optimised)))


def text_of(module: ir.Operation) -> str:
    """A module as text with the user's lines."""
    text: str = module.get_asm(enable_debug_info=True)
    return text


def compile_step(compiler: Compiler, step: CutStep, devices: Sequence[str], state: Resources) -> StepProgram:
    """A step on this process's devices.

    Args:
        state: what all steps of this process share: queues and the like.
    """
    from thalweg.loading import loader  # plain programs do without

    resources = state.scoped()
    for variable in step.program.variables:
        resources.bind(variable.name, variable.buffer, variable.lock, variable.residence)
    task = Task(devices=devices, load=loader(compiler), resources=resources)
    task.register(HANDLE, step.parts, step.constants)
    return StepProgram(task, len(step.program.outputs))
