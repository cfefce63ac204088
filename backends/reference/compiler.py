"""Programs on the reference interpreter, behind the same door as the real compiler: the null backend.

Slow and plain: what it computes is what the rows of the dialect say. Tests of the frontend run on it.

    program.install(ReferenceCompiler)
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from thalweg.backends.reference.interpreter import Interpreter
from thalweg.dialects import context
from thalweg.dialects.extents import any_open
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType
from thalweg.dialects.verify import verify, walk
from thalweg.passes.pipeline import Pipeline
from thalweg.passes.pipelines import PIPELINES
from thalweg.passes.specialise import of_sizes

Array: TypeAlias = np.ndarray[Any, Any]


class Variable(Protocol):
    """A named buffer."""

    name: str
    buffer: Array


class Program(Protocol):
    """What is needed of `frontend.program.Program`."""

    @property
    def module(self) -> ir.Module: ...
    @property
    def inputs(self) -> tuple[TensorType, ...]: ...
    @property
    def constants(self) -> tuple[Array, ...]: ...
    @property
    def variables(self) -> tuple[Any, ...]: ...
    @property
    def labels(self) -> tuple[str, ...]: ...


class ReferenceCompiler:
    """Verifies programs, expands their gradients, and runs them op by op on NumPy."""

    def compile(self, program: Program) -> ReferenceExecutable | OpenExecutable:
        """An executable that interprets the program."""
        if any(any_open(t.shape) for t in program.inputs):
            return OpenExecutable(program)
        with context.entered():
            return ReferenceExecutable(program, expanded(program.module))

    def stage(self, program: Program, stage: str) -> str:
        """The text of "tw" or "tw-optimized"; there are no further stages here."""
        with context.entered():
            if stage == "tw":
                return str(program.module)
            if stage == "tw-optimized":
                return str(expanded(program.module, "optimize"))
        raise ValueError(f"the reference compiler has the stages tw and tw-optimized, not '{stage}'")


class ReferenceExecutable:
    """An interpreted program, bound to its constants and variables."""

    def __init__(self, program: Program, module: ir.Module) -> None:
        self._inputs = program.inputs
        self._constants = program.constants
        self._variables = program.variables
        self._interpreter = Interpreter(module)
        self._lock = threading.Lock()

    def __call__(self, inputs: Sequence[Array], timeout: float | None = None) -> list[Array]:
        """Run on arrays; variables are changed in place."""
        with self._lock:
            values = {v.name: v.buffer.copy() for v in self._variables}
            results = self._interpreter([*inputs, *self._constants], values)
            for variable in self._variables:
                np.copyto(variable.buffer, values[variable.name])
            return [np.array(r, order="C") for r in results]

    @property
    def direct(self) -> None:
        """The interpreter has no quick way in."""
        return None


class OpenExecutable:
    """An interpreted program whose inputs have open extents: it is specialised at each call."""

    direct = None

    def __init__(self, program: Program) -> None:
        self._program = program

    def __call__(self, inputs: Sequence[Array], timeout: float | None = None) -> list[Array]:
        """Run on arrays; variables are changed in place."""
        types = [t.with_shape(a.shape) for t, a in zip(self._program.inputs, inputs, strict=True)]
        with context.entered():
            module = of_sizes(self._program.module, types, self._program.labels)
            return ReferenceExecutable(self._program, expanded(module))(inputs)


def expanded(module: ir.Module, pipeline: str = "expand") -> ir.Module:
    """A verified copy of a module, without gradients left to take."""
    verify(module)
    copy = ir.Module.parse(module.operation.get_asm(binary=False, enable_debug_info=True))
    if pipeline == "expand" and not any(op.name == "tw.vjp" for op in walk(copy.body)):
        return copy
    Pipeline.parse(PIPELINES[pipeline]).run(copy, verify_each=True)
    return copy
