"""The step: one function that runs a program's kernels in order, with its control flow, on planned buffers.

    func.func @step(%a0: memref<64xi8>, …arguments, %r1: memref<4xi8>, …results, %arena: memref<1024xi8>, %pool: …)

Results that are new values of arguments have no parameter of their own. Buffers are bytes here; each kernel sees
typed views.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from thalweg.backends.cpu import copies
from thalweg.backends.cpu.constants import constant_bytes
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.kernel import Kernel, storage_type
from thalweg.backends.cpu.plan import Location, Plan, nbytes
from thalweg.backends.cpu.program import Branch, Launch, Loop, Program

# How a kernel is run: given the writer, the kernel, and its buffers, scratch included, as (SSA name, memref type).
Runner = Callable[[ScopedWriter, Kernel, Sequence[tuple[str, str]]], None]


def call_directly(w: ScopedWriter, kernel: Kernel, buffers: Sequence[tuple[str, str]]) -> None:
    """All tiles in the calling thread."""
    names = [name for name, _ in buffers] + [w.index(0), w.index(kernel.tiles)]
    types = [kind for _, kind in buffers] + ["index", "index"]
    w.emit(f"func.call @{kernel.name}({', '.join(names)}) : ({', '.join(types)}) -> ()")


class StepWriter:
    """Writes the step function of a program.

    Args:
        plan: where the values are.
        run: writes the call of a kernel: `call_directly`, or a parallel one.
        name: of the function.
    """

    def __init__(
        self, program: Program, plan: Plan, aliases: dict[int, int], run: Runner = call_directly, name: str = "step"
    ) -> None:
        self.program, self.plan, self.aliases, self.run, self.name = program, plan, aliases, run, name
        self.constant = "constant" if name == "step" else f"{name}_constant"
        self.w = ScopedWriter()
        self.copies: dict[int, Kernel] = {}  # of large buffers, by their bytes
        self.sizes: dict[str, int] = {}  # bytes of the byte buffers, by SSA name
        for number, argument in enumerate(program.graph.args):
            self.sizes[f"%a{number}"] = nbytes(argument)
        for number, output in enumerate(program.graph.outputs):
            if number not in aliases:
                self.sizes[f"%r{number}"] = nbytes(output)

    def text(self) -> str:
        """The function, the constant data that it reads, and the kernels of its own."""
        parameters = list(self.sizes)
        self._steps(self.program)
        self._outputs()
        arena = f"%arena: memref<{self.plan.arena_bytes}xi8>"
        names = [f"{name}: memref<{self.sizes[name]}xi8>" for name in parameters] + [arena]
        body = self.w.text().replace("memref<?arena?xi8>", f"memref<{self.plan.arena_bytes}xi8>")
        kernels = "".join(kernel.source for kernel in self.copies.values())
        return f"{self._constants()}{kernels}func.func @{self.name}({', '.join(names)}) {{\n{body}\nreturn\n}}\n"

    # Buffers.

    def _bytes(self, location: Location) -> tuple[str, str]:
        """The byte buffer of a location: SSA name and type."""
        if location.kind == "arena":
            return "%arena", "memref<?arena?xi8>"
        if location.kind == "constant":
            kind = f"memref<{nbytes(self.plan.constant(location.number))}xi8>"
            return self.w.hoisted(f"memref.get_global @{self.constant}{location.number} : {kind}", "constant"), kind
        name = f"%{location.kind[0]}{location.number}"
        return name, f"memref<{self.sizes[name]}xi8>"

    def view(self, location: Location, memref: str) -> tuple[str, str]:
        """A typed view of a location."""
        name, kind = self._bytes(location)
        return self.w.op(f"memref.view {name}[{self.w.index(location.offset)}][] : {kind} to {memref}", "v"), memref

    def _buffer(self, value: Value) -> tuple[str, str]:
        shape = "".join(f"{n}x" for n in value.shape)
        return self.view(self.plan.location(value), f"memref<{shape}{storage_type(value.element)}>")

    def _copy(self, source: Location, target: Location, size: int) -> None:
        if source == target or not size:
            return
        kind = f"memref<{size}xi8>"
        buffers = [self.view(source, kind), self.view(target, kind)]
        if size >= copies.LARGE:
            name = f"{'k' if self.name == 'step' else 'p'}{len(self.copies)}_copy"
            self.run(self.w, self.copies.setdefault(size, copies.copy_kernel(name, size)), buffers)
        else:
            self.w.emit(f"memref.copy {buffers[0][0]}, {buffers[1][0]} : {kind} to {kind}")

    def _move(self, copies: Iterable[tuple[Location, Location, int]]) -> None:
        """Copies that happen at the same time: ordered so that no source is overwritten before it is read."""
        pending = {number: copy for number, copy in enumerate(copies) if copy[0] != copy[1] and copy[2]}
        readers = Counter(source for source, _, _ in pending.values())
        writer = {target: number for number, (_, target, _) in pending.items()}
        free = [number for number, (_, target, _) in pending.items() if target not in readers]  # ascending: a heap
        rooms: dict[Location, Location] = {}  # where a source has gone
        while pending:
            if not free:  # only cycles are left: free the first source
                source, _, size = next(iter(pending.values()))
                rooms[source] = self.plan.bounce(size)
                self._copy(source, rooms[source], size)
                heapq.heappush(free, writer[source])
            source, target, size = pending.pop(heapq.heappop(free))
            self._copy(rooms.get(source, source), target, size)
            readers[source] -= 1
            if not readers[source] and source not in rooms and writer.get(source) in pending:
                heapq.heappush(free, writer[source])

    # Steps.

    def _steps(self, program: Program) -> None:
        for step in program.steps:
            if isinstance(step, Launch):
                self._launch(step.kernel)
            elif isinstance(step, Loop):
                self._loop(step)
            else:
                self._branch(step)

    def _launch(self, kernel: Kernel) -> None:
        for number, target in kernel.updates:
            if target.kind != "empty":
                result = kernel.results[number]
                self._copy(self.plan.location(target), self.plan.location(result), nbytes(target))
        values = (*kernel.operands, *kernel.results)
        buffers = [
            self.view(self.plan.location(value), kind) for value, kind in zip(values, kernel.buffer_types, strict=True)
        ]
        if kernel.scratch:
            buffers.append(self.view(self.plan.scratch(kernel), f"memref<{kernel.scratch}xi8>"))
        self.run(self.w, kernel, buffers)

    def _transfer(self, sources: Sequence[Value], targets: Sequence[Value]) -> None:
        self._move(
            (self.plan.location(source), self.plan.location(target), nbytes(target))
            for source, target in zip(sources, targets, strict=True)
            if source.kind != "empty"
        )

    def _scalar(self, value: Value) -> str:
        """Load a 0-d value, in order with the kernels around."""
        name, kind = self._buffer(value)
        return self.w.ordered(f"memref.load {name}[] : {kind}")

    def _truth(self, value: Value) -> str:
        return self.w.op(f"arith.trunci {self._scalar(value)} : i8 to i1")

    def _loop(self, loop: Loop) -> None:
        self._transfer(loop.initial, loop.results)
        with self.w.scope("scf.while : () -> ()", fence=True):
            self._steps(loop.condition)
            self.w.emit(f"scf.condition({self._truth(loop.condition.graph.outputs[0])})")
        with self.w.scope("do", fence=True):
            self._steps(loop.body)
            self._transfer(loop.body.graph.outputs, loop.results)
            self.w.emit("scf.yield")

    def _branch(self, branch: Branch) -> None:
        if not branch.is_index:
            with self.w.scope(f"scf.if {self._truth(branch.selector)}", fence=True):
                self._arm(branch, branch.arms[0])
            with self.w.scope("else", fence=True):
                self._arm(branch, branch.arms[1])
            return
        # Any index out of range chooses the last arm.
        selector = self.w.op(f"arith.index_castui {self._scalar(branch.selector)} : i32 to index")
        self.w.emit(f"scf.index_switch {selector}")
        last = len(branch.arms) - 1
        for number, arm in enumerate(branch.arms):
            with self.w.scope("default" if number == last else f"case {number}", fence=True):
                self._arm(branch, arm)
                self.w.emit("scf.yield")

    def _arm(self, branch: Branch, arm: Program) -> None:
        self._steps(arm)
        self._transfer(arm.graph.outputs, branch.results)

    def _outputs(self) -> None:
        """Results that are not in their buffers yet."""
        outputs = self.program.graph.outputs
        self._move(
            (self.plan.location(output), self._result(number), nbytes(output)) for number, output in enumerate(outputs)
        )

    def _result(self, number: int) -> Location:
        argument = self.aliases.get(number)
        return Location("result", number) if argument is None else Location("argument", argument)

    def _constants(self) -> str:
        return "".join(
            f'memref.global "private" constant @{self.constant}{number} : memref<{nbytes(value)}xi8> = '
            f"dense<{constant_bytes(value)}> {{alignment = 64 : i64}}\n"
            for value, number in self.plan.constants.items()
        )
