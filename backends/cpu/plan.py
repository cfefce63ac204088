"""Where every stored value lives: one arena, the caller's buffers, or constant data; what can share a buffer does.

Positions number the kernels of a program in the order in which they run, nested programs in place. Each stored
value has a `Slot`; values that are never needed at the same time may be merged into one slot:

- a result and the operand that dies in the kernel that makes it, where the kernel allows it (`Kernel.inplace`,
  `updates`);
- a value carried by a loop, its initial value and its next value, where no copy is needed for correctness;
- a result of the function and the variable it is the new value of.

Whatever could not be merged is copied by the step where the semantics need a copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from thalweg.backends.cpu.graph import BYTES, Value
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.program import Branch, Launch, Loop, Program, storage

ALIGNMENT = 64


def nbytes(value: Value) -> int:
    """Bytes of a value's buffer."""
    return value.size * BYTES[value.element]


@dataclass(frozen=True)
class Location:
    """Bytes `offset`… of a buffer of the step: kind is 'argument', 'result' (both with a number), 'arena' or
    'constant'.
    """

    kind: str
    number: int = 0
    offset: int = 0


Span = tuple[int, int]


@dataclass(eq=False)
class Slot:
    """A buffer that one or more values share, one after the other.

    `spans` are half-open ranges of instants in which the contents matter. A kernel at position p reads and writes from
    instant 2p to 2p + 1; a result that may be written over an operand comes to life at 2p + 1 only.
    """

    bytes: int
    spans: list[Span] = field(default_factory=list)
    location: Location | None = None
    merged: Slot | None = None  # the slot that took this one in

    def overlaps(self, spans: Sequence[Span]) -> bool:
        return any(a < d and c < b for a, b in self.spans for c, d in spans)

    def absorb(self, other: Slot) -> None:
        """Take in the values of another slot."""
        spans = sorted(self.spans + other.spans)
        self.spans = spans[:1]
        for first, last in spans[1:]:
            if first <= self.spans[-1][1]:
                self.spans[-1] = (self.spans[-1][0], max(last, self.spans[-1][1]))
            else:
                self.spans.append((first, last))
        self.location = self.location or other.location
        other.merged = self


class Plan:
    """The buffers of a program.

    Args:
        program: the whole function.
        aliases: result number -> argument number: the result is the new value of the argument, written into its buffer.
        threads: how many threads need scratch of their own.
        alignment: of every buffer in the arena.

    `location(value)` is where a value is; `arena_bytes` the size of the arena, final when the step has been written.
    """

    def __init__(self, program: Program, aliases: Mapping[int, int], threads: int, alignment: int = ALIGNMENT) -> None:
        self._scratch: dict[tuple[Value, ...], Location] = {}  # by the kernel's results
        self.constants: dict[Value, int] = {}  # constant data, numbered
        self._constants: list[Value] = []  # by their numbers
        self.positions = 0
        self._slots: dict[Value, Slot] = {}
        self._carried: dict[Value, Value] = {}  # argument of a loop's region -> the loop's result
        self._read: dict[Value, int] = {}  # the last position that reads a value
        self._defined: dict[Value, int] = {}
        self._may_overwrite: set[tuple[Value, Value]] = set()  # (result, root of the operand)
        self._scratch_slots: list[tuple[Kernel, Slot]] = []
        self._aliases, self._threads, self._alignment = aliases, threads, alignment
        self._planned = self._bounce = 0
        for number, argument in enumerate(program.graph.args):
            self._place(argument, 0).location = Location("argument", number)
        self._walk(program)
        for output in program.graph.outputs:
            self._use(output, self.positions + 1)
        self._merge_results(program)
        self._merge_steps(program)
        self._allocate()

    # What others ask.

    def root(self, value: Value) -> Value:
        """The value whose slot holds `value`."""
        value = storage(value)
        while value in self._carried:
            value = storage(self._carried[value])
        return value

    def slot(self, value: Value) -> Slot | None:
        """The slot of a value; None for constant data."""
        slot = self._slots.get(self.root(value))
        while slot is not None and slot.merged is not None:
            slot = slot.merged
        return slot

    def location(self, value: Value) -> Location:
        """Where a value's bytes are."""
        slot = self.slot(value)
        if slot is None:
            number = self.constants.setdefault(self.root(value), len(self.constants))
            if number == len(self._constants):
                self._constants.append(self.root(value))
            return Location("constant", number)
        assert slot.location is not None
        return slot.location

    def constant(self, number: int) -> Value:
        """The value of a number among the constant data."""
        return self._constants[number]

    def bounce(self, bytes_: int) -> Location:
        """Room for one value while values change places."""
        self._bounce = max(self._bounce, bytes_)
        return Location("arena", 0, self._planned)

    @property
    def arena_bytes(self) -> int:
        return self._planned + self._bounce

    def least_bytes(self) -> int:
        """What no plan can do without: the most bytes of the arena whose contents matter at one instant."""
        change: dict[int, int] = {}
        for slot in self._in_arena():
            for first, last in slot.spans:
                change[first] = change.get(first, 0) + slot.bytes
                change[last] = change.get(last, 0) - slot.bytes
        return max(itertools.accumulate(change[instant] for instant in sorted(change)), default=0)

    def _in_arena(self) -> list[Slot]:
        slots = {id(s): s for s in self._slots.values() if s.merged is None and s.location is not None}
        return [s for s in slots.values() if s.location and s.location.kind == "arena"] + [
            s for _, s in self._scratch_slots
        ]

    def scratch(self, kernel: Kernel) -> Location:
        """Where the scratch of one launch of a kernel is."""
        return self._scratch[kernel.results]

    # Spans.

    def _place(self, value: Value, instant: int) -> Slot:
        slot = self._slots.setdefault(value, Slot(nbytes(value)))
        slot.spans.append((instant, instant + 1))
        return slot

    def _use(self, value: Value, position: int) -> None:
        root = self.root(value)
        slot = self._slots.get(root)
        if slot is not None:
            first, last = slot.spans[-1]
            slot.spans[-1] = (first, max(last, 2 * position + 1))
            self._read[root] = position

    def _walk(self, program: Program) -> None:
        for step in program.steps:
            if isinstance(step, Launch):
                self._walk_launch(step.kernel)
            elif isinstance(step, Loop):
                self._walk_loop(step)
            else:
                self._walk_branch(step)

    def _walk_launch(self, kernel: Kernel) -> None:
        position = self.positions
        for value in (*kernel.operands, *(target for _, target in kernel.updates)):
            self._use(value, position)
        for value in kernel.results:
            self._place(value, 2 * position)
            self._defined[value] = position
        roots = [self.root(operand) for operand in kernel.operands]
        for number, operand in kernel.inplace:
            # The same buffer may come in twice, a second time under another shape that is read elsewhere.
            if all((number, other) in kernel.inplace for other, root in enumerate(roots) if root is roots[operand]):
                self._may_overwrite.add((kernel.results[number], roots[operand]))
        for number, target in kernel.updates:
            if self.root(target) not in roots:
                self._may_overwrite.add((kernel.results[number], self.root(target)))
        if kernel.scratch:
            size = self._aligned(kernel.scratch) * self._threads
            self._scratch_slots.append((kernel, Slot(size, [(2 * position, 2 * position + 1)])))
        self.positions += 1

    def _walk_loop(self, loop: Loop) -> None:
        start = self.positions
        self.positions += 1
        for value in loop.initial:
            self._use(value, start)
        outer = list(self._slots)
        for result, initial in zip(loop.results, loop.initial, strict=True):
            self._place(result, 2 * start)
            self._defined[result] = start
            self._may_overwrite.add((result, self.root(initial)))
        for region in (loop.condition, loop.body):
            self._carried.update(zip(region.graph.args, loop.results, strict=True))
        self._walk(loop.condition)
        self._use(loop.condition.graph.outputs[0], self.positions)
        self.positions += 1
        self._walk(loop.body)
        end = self.positions
        self.positions += 1
        for output in loop.body.graph.outputs:
            self._use(output, end)
        for value in outer:
            if self._read.get(value, -1) > start:  # read in every iteration
                self._use(value, end)
        for result, output in zip(loop.results, loop.body.graph.outputs, strict=True):
            if self.root(output) is result:  # not changed by the loop
                self._use(result, end)
            self._place(result, 2 * end + 1)

    def _walk_branch(self, branch: Branch) -> None:
        self._use(branch.selector, self.positions)
        self.positions += 1
        for arm in branch.arms:
            self._walk(arm)
            for output in arm.graph.outputs:
                self._use(output, self.positions)
            for result in branch.results:
                self._place(result, 2 * self.positions)
            self.positions += 1

    # Merging.

    def _merge_results(self, program: Program) -> None:
        """Outputs are computed in the caller's buffers: once each, and never over an argument that is still read."""
        for number, output in enumerate(program.graph.outputs):
            slot = self.slot(output)
            if slot is None or slot.location is not None:
                continue
            argument = self._aliases.get(number)
            if argument is None:
                slot.location = Location("result", number)
            else:
                self._join(program.graph.args[argument], self.root(output))

    def _join(self, keep: Value, value: Value, until: int | None = None) -> None:
        """Merge the slot of `value` into that of `keep`, if their contents are never needed together.

        Args:
            until: the contents of `value` move to `keep` at this position, where both are alive in name only.
        """
        kept, slot = self.slot(keep), self.slot(value)
        if kept is None or slot is None or kept is slot or kept.bytes != slot.bytes:
            return
        if kept.location is not None and slot.location is not None:
            return
        spans = slot.spans
        if until is not None:
            spans = [(a, min(b, 2 * until)) if a < 2 * until else (a, b) for a, b in spans]
        position = self._defined.get(value)
        if (value, self.root(keep)) in self._may_overwrite and position is not None:
            spans = [(a + 1 if a == 2 * position else a, b) for a, b in spans]
        if not kept.overlaps(spans):
            kept.absorb(slot)

    def _merge_steps(self, program: Program) -> None:
        for step in program.steps:
            if isinstance(step, Launch):
                for number, target in step.kernel.updates:
                    self._reuse(step.kernel.results[number], target)
                for number, operand in step.kernel.inplace:
                    self._reuse(step.kernel.results[number], step.kernel.operands[operand])
            elif isinstance(step, Loop):
                self._merge_loop(step)
                self._merge_steps(step.condition)
                self._merge_steps(step.body)
            else:
                for arm in step.arms:
                    self._merge_arm(step, arm)
                    self._merge_steps(arm)

    def _reuse(self, result: Value, operand: Value) -> None:
        """Compute a result in the buffer of an operand that dies, if that is in the arena."""
        slot = self.slot(operand)
        if slot is not None and slot.location is None and (result, self.root(operand)) in self._may_overwrite:
            self._join(self.root(operand), result)

    def _merge_loop(self, loop: Loop) -> None:
        inside = _made(loop.body)
        for result, initial, output in zip(loop.results, loop.initial, loop.body.graph.outputs, strict=True):
            if self.root(output) in inside:
                self._join(result, self.root(output))
            slot = self.slot(initial)
            if slot is not None and slot.location is None:
                self._join(self.root(initial), result)

    def _merge_arm(self, branch: Branch, arm: Program) -> None:
        inside = _made(arm)
        for result, output in zip(branch.results, arm.graph.outputs, strict=True):
            root = self.root(output)
            slot = self.slot(root)
            if root in inside and slot is not None:
                self._join(result, root, until=(max(b for _, b in slot.spans) - 1) // 2)

    # Allocation.

    def _aligned(self, bytes_: int) -> int:
        return -(-bytes_ // self._alignment) * self._alignment

    def _allocate(self) -> None:
        slots = [s for s in self._slots.values() if s.location is None and s.merged is None]
        slots += [slot for _, slot in self._scratch_slots]
        offsets = first_fit(
            [(min(a for a, _ in s.spans), max(b for _, b in s.spans), self._aligned(s.bytes)) for s in slots]
        )
        for slot, offset in zip(slots, offsets, strict=True):
            slot.location = Location("arena", 0, offset)
            self._planned = max(self._planned, offset + self._aligned(slot.bytes))
        for kernel, slot in self._scratch_slots:
            assert slot.location is not None
            self._scratch[kernel.results] = slot.location


def _made(program: Program) -> set[Value]:
    """Values that a program's own steps make (not those of nested programs)."""
    made: set[Value] = set()
    for step in program.steps:
        made.update(step.kernel.results if isinstance(step, Launch) else step.results)
    return made


def first_fit(requests: Sequence[tuple[int, int, int]]) -> list[int]:
    """Offsets for buffers (first instant, instant after the last, bytes), so that those alive together do not overlap.

    The largest buffers are placed first, each at the lowest place that is free during its life.

    Example:
        >>> first_fit([(0, 2, 64), (1, 3, 64), (2, 4, 64)])
        [0, 64, 0]
    """
    offsets = [0] * len(requests)
    order = sorted(range(len(requests)), key=lambda k: -requests[k][2])
    placed = np.zeros((len(requests), 4), np.int64)  # first, last, offset, end of every placed buffer
    for count, k in enumerate(order):
        first, last, size = requests[k]
        size = -(-size // ALIGNMENT) * ALIGNMENT
        done = placed[:count]
        alive = done[(done[:, 0] < last) & (done[:, 1] > first)]
        alive = alive[np.argsort(alive[:, 2])]
        free_from = np.concatenate(([0], np.maximum.accumulate(alive[:, 3])))  # before each of them, and after all
        gaps = np.flatnonzero(free_from[:-1] + size <= alive[:, 2])
        free = int(free_from[gaps[0] if len(gaps) else -1])
        offsets[k] = free
        placed[count] = (first, last, free, free + size)
    return offsets
