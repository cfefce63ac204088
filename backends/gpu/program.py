"""The program that a launcher runs: kernels' machine code, launches in order, and where every buffer is.

The buffers are planned as the CPU's are (backends/cpu/plan.py): variables are updated in place, values that are never
needed at the same time share memory, loops carry their values in place where they can.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from thalweg.backends.cpu.constants import constant_array
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.plan import Location, Plan, nbytes
from thalweg.backends.cpu.program import Branch, Launch, Loop, Program
from thalweg.backends.gpu.compile import compile_all, compile_texts
from thalweg.backends.gpu.fused import place_of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.lowered import Lowered
from thalweg.backends.gpu.resident_loops import resident_loop
from thalweg.backends.gpu.trips import trip_count
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType, as_dtype, dtype_from_mlir
from thalweg.runtime.gpu import artefact
from thalweg.runtime.gpu.artefact import ALIGNMENT, Buffer, DeviceProgram, KernelImage


def build(lowered: Lowered) -> DeviceProgram:
    """The device program of a lowered one, its kernels compiled (for the chip `virtual`: saved as text).

    Raises:
        MissingExtraError: Triton is not installed; `virtual` needs none here.
    """
    images = compile_all(lowered.kernels, lowered.options)
    return _Builder(lowered, images).build()


class _Builder:
    """Plans the buffers and writes the steps.

    Args:
        images: by the name of each kernel.
    """

    def __init__(self, lowered: Lowered, images: dict[str, KernelImage]) -> None:
        self.lowered, self.by_name = lowered, images
        self.kernels = {kernel.name: kernel for kernel in lowered.kernels}
        self.program = _with_scratch(lowered.program, images)
        self.plan = Plan(self.program, lowered.aliases, 1, ALIGNMENT)
        self.images: dict[str, tuple[int, KernelImage]] = {}  # by digest
        self.tensors: dict[Buffer, artefact.Named] = {}
        self.places: dict[Value, Buffer] = {}

    def build(self) -> DeviceProgram:
        steps = [*self._steps(self.program), *self._outputs()]
        constants = sorted(self.plan.constants.items(), key=lambda item: item[1])
        return DeviceProgram(
            self.lowered.options.chip,
            tuple(image for _, image in self.images.values()),
            tuple(steps),
            self.plan.arena_bytes,
            tuple(map(_tensor, self.lowered.inputs)),
            tuple(map(_tensor, self.lowered.outputs)),
            tuple(sorted(self.lowered.aliases.items())),
            tuple(_data(value) for value, _ in constants),
            tuple(self.tensors.values()),
        )

    # Buffers.

    def _buffer(self, value: Value) -> Buffer:
        found = self._at(self.plan.location(value), nbytes(value))
        if found.kind == "arena":
            self._name(value, found)
        return found

    def _at(self, location: Location, size: int) -> Buffer:
        return Buffer(location.kind, location.number, location.offset, size)

    def _name(self, value: Value, buffer: Buffer) -> None:
        """Note what lies in a part of the arena, for messages."""
        slot = self.plan.slot(value)
        if buffer in self.tensors or slot is None:
            return
        where = place_of(value)
        text = f"{value.element}[{','.join(map(str, value.shape))}]" + (f" of {where}" if where else "")
        first, last = slot.spans[0][0] // 2, slot.spans[-1][1] // 2
        self.tensors[buffer] = artefact.Named(text, buffer, first, last)

    def _copy(self, source: Location, target: Location, size: int) -> artefact.Copy:
        return artefact.Copy(self._at(source, size), self._at(target, size))

    def _move(self, copies: Iterable[tuple[Location, Location, int]]) -> Iterable[artefact.Step]:
        """Copies that happen at the same time: ordered so that no source is overwritten before it is read."""
        pending = [copy for copy in copies if copy[0] != copy[1] and copy[2]]
        while pending:
            sources = [source for source, _, _ in pending]
            free = next((c for c in pending if c[1] not in sources), None)
            if free is None:  # a cycle: free the first source
                source, _, size = pending[0]
                room = self.plan.bounce(size)
                yield self._copy(source, room, size)
                pending = [(room if s == source else s, t, n) for s, t, n in pending]
            else:
                yield self._copy(*free)
                pending.remove(free)

    def _transfer(self, sources: Sequence[Value], targets: Sequence[Value]) -> Iterable[artefact.Step]:
        return self._move(
            (self.plan.location(source), self.plan.location(target), nbytes(target))
            for source, target in zip(sources, targets, strict=True)
            if source.kind != "empty"
        )

    # Steps.

    def _steps(self, program: Program) -> tuple[artefact.Step, ...]:
        found: list[artefact.Step] = []
        for step in program.steps:
            if isinstance(step, Launch):
                assert isinstance(step.kernel, TritonKernel)
                found += self._launch(step.kernel)
            elif isinstance(step, Loop):
                found += self._loop(step)
            else:
                found.append(self._branch(step))
        return tuple(found)

    def _launch(self, kernel: TritonKernel) -> Iterable[artefact.Step]:
        for number, target in kernel.updates:
            if target.kind != "empty":
                result = self.plan.location(kernel.results[number])
                yield from self._move([(self.plan.location(target), result, nbytes(target))])
        if kernel.collective:
            yield self._exchange(kernel)
            return
        image = self.by_name[kernel.name]
        number = self._number(image)
        buffers = [self._buffer(value) for value in (*kernel.operands, *kernel.results)]
        scratch = None
        if kernel.scratch:
            start = self.plan.scratch(kernel)
            if kernel.workspace:
                buffers.append(self._at(start, kernel.workspace))
            own = kernel.scratch - _aligned(kernel.workspace)
            moved = Location(start.kind, start.number, start.offset + _aligned(kernel.workspace))
            scratch = self._at(moved, own) if own else None
        grid, writes = (kernel.grid, 1, 1), len(kernel.results) + bool(kernel.workspace)
        yield artefact.Launch(number, grid, tuple(buffers), scratch, writes, kernel.name, kernel.where)

    def _number(self, image: KernelImage) -> int:
        """Of an image among those of the program; equal ones are one."""
        return self.images.setdefault(image.digest, (len(self.images), image))[0]

    def _exchange(self, kernel: TritonKernel) -> artefact.Exchange:
        triples = zip(kernel.collective, kernel.operands, kernel.results, strict=True)
        return artefact.Exchange(
            tuple(
                artefact.Transfer(kind, self._buffer(source), self._buffer(target), _dtype_of(target), kernel.where)
                for kind, source, target in triples
            )
        )

    def _loop(self, loop: Loop) -> Iterable[artefact.Step]:
        yield from self._transfer(loop.initial, loop.results)
        before = dict(self.images)
        condition = self._steps(loop.condition)
        predicate = self._buffer(loop.condition.graph.outputs[0])
        body = (*self._steps(loop.body), *self._transfer(loop.body.graph.outputs, loop.results))
        trips = trip_count(loop)
        resident = resident_loop(condition, predicate, body, trips, self.kernels)
        if resident is None:
            yield artefact.While(condition, predicate, body, trips)
            return
        text, launch = resident
        (image,) = compile_texts([text], self.lowered.options)
        self.images = before  # those of the loop's kernels are not needed
        yield replace(launch, image=self._number(image))

    def _branch(self, branch: Branch) -> artefact.Branch:
        selector = self._buffer(branch.selector)
        arms = tuple(
            (*self._steps(arm), *self._transfer(arm.graph.outputs, branch.results)) for arm in branch.arms
        )
        return artefact.Branch(selector, arms, branch.is_index)

    def _outputs(self) -> Iterable[artefact.Step]:
        """Results that are not in their buffers yet."""
        return self._move(
            (self.plan.location(output), self._result(number), nbytes(output))
            for number, output in enumerate(self.program.graph.outputs)
        )

    def _result(self, number: int) -> Location:
        argument = self.lowered.aliases.get(number)
        return Location("result", number) if argument is None else Location("argument", argument)


def _with_scratch(program: Program, images: dict[str, KernelImage]) -> Program:
    """The program with the memory that kernels need for themselves: theirs, then what Triton asks for."""

    def launch(step: Launch) -> Launch:
        kernel = step.kernel
        assert isinstance(kernel, TritonKernel)
        if kernel.collective:
            return step
        own = kernel.grid * images[kernel.name].clusters * images[kernel.name].scratch
        total = _aligned(kernel.workspace) + own if own else kernel.workspace
        return Launch(replace(kernel, scratch=total))

    found = Program(program.graph)
    for step in program.steps:
        if isinstance(step, Launch):
            found.steps.append(launch(step))
        elif isinstance(step, Loop):
            inside = (_with_scratch(part, images) for part in (step.condition, step.body))
            found.steps.append(Loop(step.results, *inside))
        else:
            arms = tuple(_with_scratch(arm, images) for arm in step.arms)
            found.steps.append(Branch(step.results, arms, step.is_index))
    return found


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def _tensor(kind: TensorType) -> artefact.Tensor:
    return artefact.Tensor(kind.shape, kind.dtype.name)


def _dtype_of(value: Value) -> str:
    """The array API's name of a value's element type, as NCCL sums it."""
    assert value.op is not None
    return dtype_from_mlir(str(ir.RankedTensorType(value.op.results[0].type).element_type)).name


def _data(value: Value) -> np.ndarray:
    array = np.ascontiguousarray(constant_array(value))
    return array.view(f"u{array.itemsize}") if as_dtype(array.dtype).is_foreign else array
