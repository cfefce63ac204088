"""A schedule: the kernels of a graph in order, with control flow around them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from thalweg.backends.cpu.graph import Graph, Value
from thalweg.backends.cpu.kernel import Kernel


@dataclass(frozen=True)
class Launch:
    """Run a kernel."""

    kernel: Kernel


@dataclass(frozen=True)
class Loop:
    """stablehlo.while: `condition` and `body` see the carried values as the arguments of their graphs."""

    results: tuple[Value, ...]
    condition: Program
    body: Program

    @property
    def initial(self) -> tuple[Value, ...]:
        return self.results[0].operands


@dataclass(frozen=True)
class Branch:
    """stablehlo.if and stablehlo.case: one of the arms runs; `is_index` says that the selector is an arm's number."""

    results: tuple[Value, ...]
    arms: tuple[Program, ...]
    is_index: bool

    @property
    def selector(self) -> Value:
        return self.results[0].operands[0]


Step = Launch | Loop | Branch


@dataclass
class Program:
    """The steps of one graph."""

    graph: Graph
    steps: list[Step] = field(default_factory=list)

    def kernels(self) -> Iterator[Kernel]:
        """All kernels, those of nested programs included."""
        for step in self.steps:
            if isinstance(step, Launch):
                yield step.kernel
            elif isinstance(step, Loop):
                yield from step.condition.kernels()
                yield from step.body.kernels()
            else:
                for arm in step.arms:
                    yield from arm.kernels()


def share_kernels(program: Program, known: dict[str, Kernel] | None = None) -> None:
    """Let kernels with the same text be one function, in place: the layers of a deep network repeat themselves."""
    known = {} if known is None else known
    for position, step in enumerate(program.steps):
        if isinstance(step, Launch):
            text = step.kernel.source.partition("(")[2]  # without the name
            first = known.setdefault(text, step.kernel)
            program.steps[position] = Launch(replace(step.kernel, name=first.name, source=first.source))
        elif isinstance(step, Loop):
            share_kernels(step.condition, known)
            share_kernels(step.body, known)
        else:
            for arm in step.arms:
                share_kernels(arm, known)


def storage(value: Value) -> Value:
    """The value whose buffer holds `value`: a reshape that is not computed inside a kernel shares its operand's
    buffer.
    """
    while value.kind == "reshape":
        value = value.operands[0]
    return value
