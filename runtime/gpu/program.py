"""A device program, loaded and run: launches packed once, replayed as a graph from the second run on.

    loaded = LoadedProgram(gpu, program, state=1)
    (loss, w) = loaded([x, w])                   # w is an argument that the program gives a new value, in place

The steps become a tree of segments (launches and copies that nothing interrupts), loops and branches, whose predicates
the host reads back. The first run launches kernel by kernel, which also loads what the driver loads late. From the
second run on each segment is captured once as a graph and replayed, unless its inputs and results are so large that
copying them takes longer than launching. A graph holds addresses, so the arguments that are
not state are copied into places of the program's own, and results out of them; state (variables, constants) stays where
it is, and if its address has changed the graph is captured again.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import ml_dtypes
import numpy as np

from thalweg.dialects.diagnostics import DeviceError
from thalweg.runtime.gpu.array import DeviceArray
from thalweg.runtime.gpu.artefact import (
    ALIGNMENT,
    Branch,
    Buffer,
    Copy,
    DeviceProgram,
    Exchange,
    Launch,
    Step,
    Tensor,
    While,
)  # fmt: skip
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.driver import DriverError, Handle, Packed, Shape
from thalweg.runtime.gpu.memory import Memory

Action: TypeAlias = Callable[[], None]
Integer: TypeAlias = np.dtype[np.uint8] | np.dtype[np.int32]
Place: TypeAlias = tuple[str, int]  # a buffer's kind and number
MOST: Final = 4096  # launches that a loop is written out to
FEWEST: Final = 2  # launches and copies of a segment that is worth a graph
COPIED: Final = 2**22  # bytes that a GPU copies while the host launches a kernel


@dataclass
class Segment:
    """Launches and copies in a row, which nothing interrupts."""

    actions: list[tuple[Action, str]] = field(default_factory=list)  # and what messages call each
    is_warm: bool = False  # it has run: drivers load kernels late, which cannot happen while capturing
    graph: Handle | None = None
    addresses: tuple[int, ...] = ()  # that the graph was captured with


@dataclass(frozen=True)
class LoopNode:
    """A loop that the host drives."""

    condition: list[Node]
    predicate: Buffer
    body: list[Node]
    trips: int | None = None  # where it is known how often the body runs


@dataclass(frozen=True)
class ChoiceNode:
    """A branch whose arm the host chooses."""

    branch: Branch
    arms: list[list[Node]]


Node: TypeAlias = Segment | LoopNode | ChoiceNode | Exchange


class LoadedProgram:
    """A program on a GPU. Safe to call from several threads: their runs follow each other on the GPU.

    Args:
        state: how many of the last arguments are state: at the same address from run to run.
        name: of the program, for messages.
        graphs: whether to make graphs.

    Raises:
        DeviceError: compiled for another chip.
        DeviceMemoryError: the GPU has no memory for its arena.
    """

    def __init__(
        self, gpu: Gpu, program: DeviceProgram, state: int = 0, name: str = "a program", graphs: bool = True,
    ) -> None:  # fmt: skip
        self.gpu, self.program, self.name = gpu, program, name
        self.runs = 0
        self._check = False
        self._new: dict[int, DeviceArray] = {}  # the results of the run that is under way
        self._inputs = len(program.arguments) - state  # those that are not state
        self._aliases = dict(program.aliases)
        self._fresh = [
            (number, tensor.shape, _numpy(tensor), f"result {number} of {name}")
            for number, tensor in enumerate(program.results)
            if number not in self._aliases
        ]
        assert all(argument >= self._inputs for argument in self._aliases.values()), "only state is updated in place"
        self._kept: list[Memory] = []
        self._where: dict[Place, int] = {}
        self._fixed = False  # whether inputs and results have places of their own
        self._patches: list[tuple[Packed, int, Place, int]] = []  # parameters that depend on arguments and results
        self._bound: tuple[int, ...] = ()
        with gpu.lock:
            gpu.enter()
            self._place("arena", 0, program.arena, f"the arena of {name}")
            for number, array in enumerate(program.constants):
                constant = gpu.put(array, f"a constant of {name}")
                gpu.order(gpu.compute, constant.ready)
                self._kept.append(constant.memory)
                self._where["constant", number] = constant.address
            self._predicate = gpu.staging.take(8)
            self.nodes = self._built(program.steps)
        self._graphs = graphs and self._is_worth_graphs()

    def __call__(self, arguments: Sequence[DeviceArray], check_launches: bool = False) -> list[DeviceArray]:
        """Start a run.

        Args:
            arguments: on this GPU, of the program's types; those that it updates hold their new values afterwards.
            check_launches: wait for each kernel, to tell which one fails.

        Returns:
            The results; one that is an argument's new value is that argument.

        Raises:
            DeviceError: a kernel could not be launched; names it and the user's lines. What fails while it runs is told
                by whoever waits for the results.
        """
        with self.gpu.lock:
            self.gpu.enter()
            self.begin(arguments, check_launches)
            self._run(self.nodes)
            return self.finish(arguments)

    def begin(self, arguments: Sequence[DeviceArray], check_launches: bool) -> None:
        """The first part of a run, before its nodes are played: for who runs several programs together, and holds the
        GPU's lock for it, as for `play`, `goes_on`, `chosen` and `finish`."""
        for array in arguments:
            self.gpu.order(self.gpu.compute, array.ready)
        if self._graphs and self.runs == 1:
            self._fix()
        self._new = {} if self._fixed else self._results()
        self._bind(arguments, self._new)
        if self._fixed:
            self._copy_in(arguments)
        self._check = check_launches

    def finish(self, arguments: Sequence[DeviceArray]) -> list[DeviceArray]:
        """The last part of a run: its results."""
        if self._fixed:
            self._new = self._results()
            self._copy_out(self._new)
        self.runs += 1
        ready = self.gpu.mark(self.gpu.compute)
        fresh, self._new = self._new, {}
        found = [fresh[k] if k in fresh else arguments[self._aliases[k]] for k in range(len(self.program.results))]
        for array in found:
            array.ready = ready
        return found

    # Places.

    def _place(self, kind: str, number: int, nbytes: int, label: str) -> None:
        program = self.program  # not self, which would live as long as the memory, and the memory as long as it
        parts = (lambda: [(t.buffer.bytes, t.text) for t in program.largest()]) if kind == "arena" else None
        memory = self.gpu.allocate(nbytes + ALIGNMENT, label, parts)
        self._kept.append(memory)
        self._where[kind, number] = -(-memory.address // ALIGNMENT) * ALIGNMENT

    def _fix(self) -> None:
        """Give inputs and results places of their own, which a graph can hold."""
        for number, tensor in enumerate(self.program.arguments[: self._inputs]):
            self._place("argument", number, _nbytes(tensor), f"input {number} of {self.name}")
        for number, tensor in enumerate(self.program.results):
            if number not in self._aliases:
                self._place("result", number, _nbytes(tensor), f"result {number} of {self.name}")
        self._fixed = True

    def _results(self) -> dict[int, DeviceArray]:
        empty = self.gpu.empty
        return {number: empty(shape, dtype, label) for number, shape, dtype, label in self._fresh}

    def _bind(self, arguments: Sequence[DeviceArray], results: dict[int, DeviceArray]) -> None:
        """Have the launches' parameters point to these arrays."""
        first = self._inputs if self._fixed else 0
        for number, array in enumerate(arguments[first:], first):
            self._where["argument", number] = array.address
        for number, array in results.items():
            self._where["result", number] = array.address
        bound = tuple(self._where.values())
        if bound != self._bound:
            self._bound = bound
            for packed, at, place, offset in self._patches:
                packed.values[at] = self._where[place] + offset

    def _copy_in(self, arguments: Sequence[DeviceArray]) -> None:
        for number, array in enumerate(arguments[: self._inputs]):
            if array.nbytes:
                self.gpu.driver.copy(self._where["argument", number], array.address, array.nbytes, self.gpu.compute)

    def _copy_out(self, results: dict[int, DeviceArray]) -> None:
        for number, array in results.items():
            if array.nbytes:
                self.gpu.driver.copy(array.address, self._where["result", number], array.nbytes, self.gpu.compute)

    def _is_worth_graphs(self) -> bool:
        """Whether launches that are saved cost more than copies to where graphs expect inputs, and of results."""
        counts = [len(segment.actions) for segment in _segments(self.nodes)]
        copied = sum(map(_nbytes, self.program.arguments[: self._inputs]))
        copied += sum(_nbytes(self.program.results[number]) for number, *_ in self._fresh)
        return max(counts, default=0) >= FEWEST and copied <= COPIED * sum(counts)

    # From steps to segments.

    def _built(self, steps: Sequence[Step]) -> list[Node]:
        nodes: list[Node] = []
        for step in steps:
            if isinstance(step, While) and step.trips is not None:
                self._repeat(nodes, step, step.trips)
            elif isinstance(step, While):
                nodes.append(LoopNode(self._built(step.condition), step.predicate, self._built(step.body)))
            elif isinstance(step, Branch):
                nodes.append(ChoiceNode(step, [self._built(arm) for arm in step.arms]))
            elif isinstance(step, Exchange):
                nodes.append(step)
            else:
                action = self._launch(step) if isinstance(step, Launch) else self._copy(step)
                _segment(nodes).actions.append(action)
        return nodes

    def _repeat(self, nodes: list[Node], loop: While, trips: int) -> None:
        """A loop whose trips are known is written out, as far as a graph can hold it: the rest is driven by the host,
        many trips at a time."""
        body = self._built(loop.body)
        actions = body[0].actions if len(body) == 1 and isinstance(body[0], Segment) else []
        together = max(1, MOST // len(actions)) if actions else 1
        times, rest = divmod(trips, together)
        if times > 1 or not actions:
            whole: list[Node] = [Segment(actions * together)] if actions else body
            nodes.append(LoopNode([], loop.predicate, whole, times))
            times = 0
        _segment(nodes).actions.extend(actions * (times * together + rest))

    def _launch(self, step: Launch) -> tuple[Action, str]:
        image = self.program.images[step.image]
        packed = Packed(len(step.buffers) + 2)
        for at, buffer in enumerate(step.buffers):
            self._point(packed, at, buffer)
        if step.scratch is not None:
            self._point(packed, len(step.buffers), step.scratch)
        x, y, z = step.grid
        shape = Shape((x * image.clusters, y, z), image.threads, image.shared, image.clusters)
        launcher = self.gpu.driver.launcher(self.gpu.function(image), shape, packed, self.gpu.compute)
        lines = f" of {', '.join(step.where)}" if step.where else ""
        return launcher, f"kernel {step.label or image.name}{lines}"

    def _point(self, packed: Packed, at: int, buffer: Buffer) -> None:
        place = buffer.kind, buffer.number
        if place in self._where:
            packed.values[at] = self._where[place] + buffer.offset
        else:
            self._patches.append((packed, at, place, buffer.offset))

    def _copy(self, step: Copy) -> tuple[Action, str]:
        driver, stream, where = self.gpu.driver, self.gpu.compute, self._where
        source, target = (step.source.kind, step.source.number), (step.target.kind, step.target.number)

        def copy() -> None:
            to, of = where[target] + step.target.offset, where[source] + step.source.offset
            driver.copy(to, of, step.source.bytes, stream)

        return copy, f"a copy of {step.source.bytes} bytes"

    # Running.

    def _run(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if isinstance(node, Segment):
                self.play(node)
            elif isinstance(node, LoopNode) and node.trips is not None:
                for _ in range(node.trips):
                    self._run(node.body)
            elif isinstance(node, LoopNode):
                self._run(node.condition)
                while self.goes_on(node):
                    self._run(node.body)
                    self._run(node.condition)
            elif isinstance(node, ChoiceNode):
                self._run(node.arms[self.chosen(node)])
            else:
                raise DeviceError(f"{self.name} is one GPU's part of a program of several, and cannot run alone.")

    def play(self, segment: Segment) -> None:
        """Start what is in a segment."""
        if self._fixed and not self._check and segment.is_warm and len(segment.actions) >= FEWEST:
            self._replay(segment)
        else:
            self._start(segment)

    def goes_on(self, loop: LoopNode) -> bool:
        """Whether a loop's condition has come out true; waits for it."""
        return bool(self._read(loop.predicate, np.dtype(np.uint8)))

    def chosen(self, choice: ChoiceNode) -> int:
        """The number of the arm that runs; waits for it."""
        kind: Integer = np.dtype(np.int32) if choice.branch.is_index else np.dtype(np.uint8)
        steps = choice.branch.chosen(self._read(choice.branch.selector, kind))
        return next(n for n, arm in enumerate(choice.branch.arms) if arm is steps)

    def address(self, buffer: Buffer) -> int:
        """Where a buffer is in this run."""
        return self._where[buffer.kind, buffer.number] + buffer.offset

    def _start(self, segment: Segment) -> None:
        for action, label in segment.actions:
            try:
                action()
                if self._check:
                    self.gpu.driver.synchronise(self.gpu.compute)
            except DriverError as error:
                raise DeviceError(f"{label} failed on {self.gpu.name}, in {self.name}: {error}") from error
        segment.is_warm = True

    def _replay(self, segment: Segment) -> None:
        """Run a segment as a graph, which is captured first if there is none for these addresses."""
        driver, stream = self.gpu.driver, self.gpu.compute
        if segment.graph is not None and segment.addresses != self._bound:
            driver.destroy_graph(segment.graph)
            segment.graph = None
        if segment.graph is None:
            driver.begin_capture(stream)
            try:
                self._captured(segment)
            except BaseException:
                with suppress(DriverError):  # the stream must not go on capturing; the first error is the one to tell
                    driver.destroy_graph(driver.end_capture(stream))
                raise
            segment.graph, segment.addresses = driver.end_capture(stream), self._bound
        driver.launch_graph(segment.graph, stream)

    def _captured(self, segment: Segment) -> None:
        for action, label in segment.actions:
            try:
                action()
            except DriverError as error:
                raise DeviceError(f"{label} cannot be captured on {self.gpu.name}, in {self.name}: {error}") from error

    def _read(self, buffer: Buffer, kind: Integer) -> int:
        """A number that the program has computed; waits for it."""
        gpu, staged = self.gpu, self._predicate.address
        try:
            gpu.driver.download(staged, self.address(buffer), kind.itemsize, gpu.compute)
            gpu.driver.synchronise(gpu.compute)
        except DriverError as error:
            raise gpu.failed(error) from error
        return int(np.frombuffer(ctypes.string_at(staged, kind.itemsize), kind)[0])

    def __del__(self) -> None:
        if hasattr(self, "_predicate"):
            self.gpu.staging.give_back(self._predicate)
        for segment in _segments(getattr(self, "nodes", ())):
            if segment.graph is not None:
                with suppress(Exception):  # at the end of the process the driver may be gone
                    self.gpu.driver.destroy_graph(segment.graph)


def _segment(nodes: list[Node]) -> Segment:
    """The segment at the end, a new one if there is none."""
    if nodes and isinstance(nodes[-1], Segment):
        return nodes[-1]
    nodes.append(made := Segment())
    return made


def _segments(nodes: Sequence[Node]) -> list[Segment]:
    found: list[Segment] = []
    for node in nodes:
        if isinstance(node, Segment):
            found.append(node)
        elif isinstance(node, LoopNode):
            found += _segments(node.condition) + _segments(node.body)
        elif isinstance(node, ChoiceNode):
            found += [segment for arm in node.arms for segment in _segments(arm)]
    return found


def _numpy(tensor: Tensor) -> np.dtype[np.generic]:
    return np.dtype(getattr(ml_dtypes, tensor.dtype, tensor.dtype))


def _nbytes(tensor: Tensor) -> int:
    return math.prod(tensor.shape) * _numpy(tensor).itemsize
