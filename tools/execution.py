"""Running a program that a command works on: compiled, in its reference interpreter, and both against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from thalweg.backends.reference import interpreter
from thalweg.backends.reference.bisect import Culprit, bisect
from thalweg.backends.reference.compare import Difference, compare
from thalweg.backends.reference.probe import replayer
from thalweg.backends.reference.shadow import Execute
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.compiler import driver, optimized
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.tools.loading import Array, Subject
from thalweg.tools.stages import executable, stablehlo_of


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
class Execution:
    """A program with what it runs on. Each run starts from these values; none changes them."""

    subject: Subject
    inputs: Sequence[Array]
    variables: Mapping[str, Array]

    def compiled(self) -> Callable[[], Results]:
        """Compile now; the function that comes back runs."""
        with context.entered():
            module, names = self._lowered()
            native = executable(module)
        bound = [*self.inputs, *self.subject.constants]

        def run() -> Results:
            state = {name: self.variables[name].copy() for name in names}
            outputs = native([*bound, *state.values()])
            count = len(outputs) - len(native.aliases)
            return Results(tuple(outputs[:count]), {**self.variables, **state})

        return run

    def reference(self) -> Results:
        """By the interpreter: ours for `tw`, StableHLO's for StableHLO."""
        with context.entered():
            if self.subject.dialect == "stablehlo":
                return Results(tuple(evaluate(self.subject.module, self.inputs)), {})
            state = dict(self.variables)
            bound = [*self.inputs, *self.subject.constants]
            return Results(tuple(interpreter.run(self.shadow_module(), bound, state)), state)

    def check(self, found: Results, tolerance: float | None) -> tuple[str, Difference] | None:
        """The name of the first result that differs from the reference, and how; None if all agree."""
        ours, theirs = found.named, self.reference().named
        names = sorted(theirs)
        difference = compare([ours[n] for n in names], [theirs[n] for n in names], tolerance)
        return (names[difference.number], difference) if difference else None

    def bisect(self, tolerance: float | None) -> Culprit | None:
        """The first op from which compiled and reference differ."""
        with context.entered():
            if self.subject.dialect == "stablehlo":
                return bisect(self.subject.module, self.inputs, _run_native, evaluate, tolerance)
            pure, names = driver().prepared(self.subject.module)
            bound = [*self.inputs, *self.subject.constants, *(self.variables[name] for name in names)]
            return bisect(pure, bound, _run_lowered, interpreter.run, tolerance)

    def shadow_module(self) -> ir.Module:
        """What a shadow run goes through: `tw-optimized`, which has no vjp left, or the StableHLO."""
        return self.subject.module if self.subject.dialect == "stablehlo" else optimized(self.subject.module)

    def execute(self, module: ir.Module) -> Execute | None:
        """How a shadow run of it works; None for the interpreter of `tw`."""
        return replayer(module, evaluate) if self.subject.dialect == "stablehlo" else None

    def _lowered(self) -> tuple[ir.Module, Sequence[str]]:
        if self.subject.dialect == "stablehlo":
            return stablehlo_of(self.subject), ()
        return driver().to_stablehlo(self.subject.module)


def _run_native(module: ir.Module, inputs: Sequence[Array]) -> Sequence[Array]:
    return executable(module)(list(inputs))


def _run_lowered(module: ir.Module, inputs: Sequence[Array]) -> Sequence[Array]:
    return _run_native(lower_module(module), inputs)
