"""Running a program that a command works on: compiled, in its reference interpreter, and both against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.capture import capture
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.peaks import Peaks
from thalweg.backends.cpu.profile import KernelTime, profile
from thalweg.backends.cpu.roofline import Bound, roofline
from thalweg.backends.cpu.timeline import Timeline, record
from thalweg.backends.cpu.tuning import Found
from thalweg.backends.reference import cut, interpreter
from thalweg.backends.reference.bisect import Culprit, bisect
from thalweg.backends.reference.bisect_passes import WrongPass, first_wrong_pass
from thalweg.backends.reference.compare import Difference, compare
from thalweg.backends.reference.probe import replayer
from thalweg.backends.reference.shadow import Execute
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.compiler import driver, optimized
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.passes.pipeline import Pipeline
from thalweg.tools.loading import Array, LoadError, Subject
from thalweg.tools.stages import executable

PASSES = "optimize,to-stablehlo"  # all that a program goes through before it is lowered op by op


@dataclass(frozen=True)
class Results:
    """What a run gave: outputs, and variables as it left them."""

    outputs: tuple[Array, ...]
    variables: Mapping[str, Array]

    @property
    def named(self) -> dict[str, Array]:
        """All arrays under a name each, for files and messages."""
        return {f"result_{i}": o for i, o in enumerate(self.outputs)} | dict(self.variables)


@dataclass(frozen=True)
class Compiled:
    """A compiled program with what it runs on."""

    native: Executable
    inputs: Sequence[Array]  # constants included
    variables: Mapping[str, Array]
    names: Sequence[str]  # of the variables that are the program's trailing arguments

    def __call__(self) -> Results:
        """Run once, from the variables' first values."""
        state = self._state()
        outputs = self.native([*self.inputs, *state.values()])
        count = len(outputs) - len(self.native.aliases)
        return Results(tuple(outputs[:count]), {**self.variables, **state})

    def seconds(self, count: int) -> list[float]:
        """The time of each of `count` calls, one after the other on the same variables."""
        arguments, taken = [*self.inputs, *self._state().values()], []
        weights = self.native.weights(arguments, [None] * len(arguments))
        for _ in range(count):
            start = perf_counter()
            self.native(arguments, weights)
            taken.append(perf_counter() - start)
        return taken

    def _state(self) -> dict[str, Array]:
        return {name: self.variables[name].copy() for name in self.names}


@dataclass(frozen=True)
class Execution:
    """A program with what it runs on. Each run starts from these values; none changes them."""

    subject: Subject
    inputs: Sequence[Array]
    variables: Mapping[str, Array]

    @property
    def bound(self) -> list[Array]:
        """The inputs of @main: those given, then the program's constants."""
        return [*self.inputs, *self.subject.constants]

    def compiled(self) -> Compiled:
        """Compile it."""
        with context.entered():
            if self.subject.dialect == "stablehlo":
                return Compiled(executable(self.subject.module), self.bound, {}, ())
            module, names = driver().to_stablehlo(self.subject.module)
            return Compiled(executable(module), self.bound, self.variables, names)

    def _lowered(self) -> tuple[ir.Module, list[Array]]:
        """As StableHLO, and all that it takes, variables included."""
        if self.subject.dialect == "stablehlo":
            return self.subject.module, self.bound
        module, names = driver().to_stablehlo(self.subject.module)
        return module, [*self.bound, *(self.variables[name] for name in names)]

    def profile(self) -> list[KernelTime]:
        """Where its time goes, kernel by kernel."""
        with context.entered():
            return profile(*self._lowered(), driver().cpu_options(), tuner=driver().tuner())

    def roofline(self) -> tuple[list[Bound], Peaks]:
        """How near each kernel comes to what the machine can do, and what that is."""
        with context.entered():
            return roofline(*self._lowered(), driver().cpu_options(), driver().tuner())

    def timeline(self) -> Timeline:
        """When each kernel of a call ran."""
        with context.entered():
            return record(*self._lowered(), driver().cpu_options(), driver().tuner())

    def dump_kernels(self, folder: Path) -> list[str]:
        """Write each kernel with what it read and wrote; their names."""
        with context.entered():
            module, arrays = self._lowered()
            return capture(module, arrays, folder, driver().cpu_options(), driver().tuner())

    def tune(self) -> Mapping[str, Found]:
        """What is best for its kernels, by name: measured where it is not known yet. Tuning has to be on."""
        with context.entered():
            tuner = driver().tuner()
            assert tuner is not None, "tuning is off"
            lower(self._lowered()[0], driver().cpu_options(), tuner=tuner)
            return tuner.found

    def reference(self) -> Results:
        """By the interpreter: StableHLO's for StableHLO, ours for `tw`, on the program with nothing but its derivatives
        expanded, so that the optimising passes are under test as well."""
        with context.entered():
            if self.subject.dialect == "stablehlo":
                return Results(tuple(evaluate(self.subject.module, self.inputs)), {})
            module, state = cut.clone(self.subject.module), dict(self.variables)
            Pipeline.parse("expand").run(module)
            return Results(tuple(interpreter.run(module, self.bound, state)), state)

    def pure(self) -> tuple[ir.Module, list[Array], Callable[[ir.Module, Sequence[Array]], Sequence[Array]]]:
        """The program with pure ops at its top level, its inputs (variables among them), and its reference runner."""
        if self.subject.dialect == "stablehlo":
            return self.subject.module, self.bound, evaluate
        module, names = driver().prepared(self.subject.module)
        return module, [*self.bound, *(self.variables[name] for name in names)], interpreter.run

    def bisect(self, tolerance: float | None) -> Culprit | WrongPass | None:
        """The pass that changed what the program means, or else the first op whose compiled result differs."""
        with context.entered():
            if self.subject.dialect == "tw":
                wrong = first_wrong_pass(self.subject.module, PASSES, self.bound, self.variables, tolerance)
                if wrong is not None:
                    return wrong
            native = _run_native if self.subject.dialect == "stablehlo" else _run_lowered
            module, inputs, reference = self.pure()
            return bisect(module, inputs, native, reference, tolerance)

    def shadow_module(self) -> ir.Module:
        """What a shadow run goes through: `tw-optimized`, which has no vjp left, or the StableHLO."""
        return self.subject.module if self.subject.dialect == "stablehlo" else optimized(self.subject.module)

    def execute(self, module: ir.Module) -> Execute | None:
        """How a shadow run of it works; None for the interpreter of `tw`."""
        return replayer(module, evaluate) if self.subject.dialect == "stablehlo" else None


def differs(
    found: Mapping[str, Array], expected: Mapping[str, Array], tolerance: float | None
) -> tuple[str, Difference] | None:
    """The name of the first result that is not as expected, and how; None if all are.

    Raises:
        LoadError: they do not hold results of the same names and types.
    """
    names = sorted(expected)
    if names != sorted(found):
        raise LoadError(f"the results are {', '.join(sorted(found))}, expected are {', '.join(names) or 'none'}.")
    try:
        difference = compare([found[n] for n in names], [expected[n] for n in names], tolerance)
    except ValueError as error:
        raise LoadError(f"{error}.") from None
    return (names[difference.number], difference) if difference else None


def _run_native(module: ir.Module, inputs: Sequence[Array]) -> Sequence[Array]:
    return executable(module)(list(inputs))


def _run_lowered(module: ir.Module, inputs: Sequence[Array]) -> Sequence[Array]:
    return _run_native(lower_module(module), inputs)
