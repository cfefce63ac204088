"""Programs with ops that run on the host, or on several devices: one plan per device, run by the executor.

    tw ──optimize──▶ ──cluster──▶ plans with compiled clusters ──▶ a task runs them

`Driver.compile` makes a `StepProgram` of every program that one piece of machine code cannot do alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from thalweg.dialects.build import row_of
from thalweg.dialects.mlir import ir
from thalweg.frontend.program import Program
from thalweg.passes.pipeline import Pipeline
from thalweg.passes.rewriting import functions, inside, operations
from thalweg.runtime.plan import Array
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import StepIds
from thalweg.runtime.task import Task

if TYPE_CHECKING:
    from thalweg.loading import Compiler

HANDLE = "step"


class StepProgram:
    """A program that the executor runs, bound to its constants and variables.

    Called like any executable: the inputs' arrays in, the outputs' arrays out. Safe from several threads at once; their
    steps overlap.
    """

    direct = None

    def __init__(self, task: Task, inputs: int, outputs: int, timeout: float | None = None) -> None:
        self.task = task
        self.timeout = timeout
        self._inputs = inputs
        self._outputs = range(outputs)

    def __call__(self, inputs: Sequence[Array]) -> list[Array]:
        found = self.task.run(HANDLE, _ids(), dict(enumerate(inputs)), self.timeout)
        return [found[number] for number in self._outputs]


_ids = StepIds()


def runs_alone(module: ir.Module) -> bool:
    """Whether a traced program is one piece of machine code: nothing in it runs on the host."""
    return not any(
        (row := row_of(inner)) is not None and row.runs == "host"
        for block in functions(module)
        for outer in operations(block)
        for inner in inside(outer)
    )


def compile_step(compiler: Compiler, program: Program, optimised: ir.Module, state: Resources) -> StepProgram:
    """A program as a step on this process's devices.

    Args:
        optimised: the program's module after `optimize`; it is consumed.
        state: what all steps of this process share: queues and the like.
    """
    from thalweg.loading import load  # plain programs do without

    Pipeline.parse("cluster").run(optimised)
    resources = state.scoped()
    for variable in program.variables:
        resources.bind(variable.name, variable.buffer, variable.lock)
    task = Task(resources=resources)
    constants = {len(program.inputs) + number: array for number, array in enumerate(program.constants)}
    task.register(HANDLE, [load(compiler, optimised, resources)], constants)
    return StepProgram(task, len(program.inputs), len(program.outputs))
