"""Reverse mode through `while`, whose number of iterations nobody knows before it has run.

Forward, the loop counts its iterations and keeps checkpoints of its state in a buffer of `slots` rows. When the buffer
is full, every other checkpoint is dropped and the spacing doubles. Backward, segment after segment from the last: the
states of a segment are computed again from its checkpoint into a second buffer, then the iterations are walked in
reverse.

Up to slots * slots iterations this costs one forward run more than keeping everything would; memory is 2 * slots states
whatever the count. A longer segment keeps every k-th state and computes up to k - 1 iterations again for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, elementwise, shape
from thalweg.dialects.types import int32
from thalweg.passes.gradients.control import activate_loop, expect_repeatable, live_carry, recompute
from thalweg.passes.gradients.reverse import backward
from thalweg.passes.gradients.rules import structured
from thalweg.passes.gradients.sums import Sums, Walk
from thalweg.passes.rewriting import array, bodies, captures, copy, full, full_like, yields
from thalweg.passes.rows import row, with_row

Values = Sequence[ir.Value]

MOST_SLOTS, FEWEST_SLOTS = 128, 8
BUFFER_BYTES = 32 << 20  # a buffer has fewer slots where the state is large


@dataclass(frozen=True)
class Record:
    """What the forward loop keeps."""

    count: ir.Value  # iterations, i32
    spacing: ir.Value  # between checkpoints, i32, at least 1
    buffers: list[ir.Value]  # checkpoints of each changing value of the state; the last row is scratch
    slots: int


class _Loop:
    """A `while` and its parts. Only the values that change from one iteration to the next are its state."""

    def __init__(self, operation: ir.Operation) -> None:
        self.condition, self.body = bodies(operation)
        self.init, self.arguments, self.ends = list(operation.operands), list(self.body.arguments), yields(self.body)
        pairs = zip(self.arguments, self.ends, strict=True)
        self.changing = [i for i, (argument, value) in enumerate(pairs) if argument != value]
        self.state = [self.init[i] for i in self.changing]
        bytes_ = sum(tensor_type_of(v).nbytes for v in self.state)
        # even, since thinning halves it
        self.slots = max(FEWEST_SLOTS, min(MOST_SLOTS, BUFFER_BYTES // max(bytes_, 1))) // 2 * 2

    def complete(self, state: Values) -> list[ir.Value]:
        """All of the loop's values, from those that change."""
        values = list(self.init)
        for index, value in zip(self.changing, state, strict=True):
            values[index] = value
        return values

    def goes_on(self, state: Values) -> ir.Value:
        """The condition, copied to the insertion point."""
        return copy(self.condition, self.complete(state))[0]

    def step(self, state: Values) -> list[ir.Value]:
        """One iteration, copied to the insertion point."""
        ends = copy(self.body, self.complete(state))
        return [ends[i] for i in self.changing]

    def empty_buffers(self) -> list[ir.Value]:
        types = [tensor_type_of(v) for v in self.state]
        return [full(t.with_shape((self.slots + 1, *t.shape)), 0) for t in types]


class While:
    """See the module's docstring."""

    def activate(self, operation: ir.Operation, active: set[ir.Value]) -> None:
        body = bodies(operation)[1]
        arguments = list(body.arguments)
        active.update(a for a, operand in zip(arguments, operation.operands, strict=True) if operand in active)
        activate_loop(body, len(arguments), active)
        active.update(r for r, a in zip(operation.results, arguments, strict=True) if a in active)

    def backward(
        self, operation: ir.Operation, cotangents: Sequence[ir.Value | None], sums: Sums, walk: Walk
    ) -> None:
        expect_repeatable(operation, "a loop whose number of iterations is not known before it runs")
        loop = _Loop(operation)
        live, hit = live_carry(loop.body, cotangents, set(), walk)
        outer = [v for v in captures(loop.body) if v in hit]
        key = operation.results[0]
        if key not in walk.expansion.records:
            with ir.InsertionPoint(operation):
                record, finals = _record(loop)
            walk.expansion.records[key] = record
            walk.expansion.defer(operation, finals)
        start = [full_like(loop.init[i], 0) if (g := cotangents[i]) is None else g for i in live]
        start += [full_like(v, 0) for v in outer]
        results = _walk_segments(loop, walk.expansion.records[key], live, outer, start, walk)
        for value, result in zip([*(loop.init[i] for i in live), *outer], results, strict=True):
            if value in walk.active:
                sums.add(value, result)


def _number(value: int) -> ir.Value:
    return array(value, int32)


def _while(start: Values, condition: object, step: object) -> list[ir.Value]:
    types = [type_of(v) for v in start]
    return list(build_with_regions(control.while_, list(start), {}, [types, types], [condition, step]))  # type: ignore[list-item]


def _slot(offset: ir.Value, spacing: ir.Value, slots: int) -> ir.Value:
    """Where the state `offset` iterations after the first is kept: the scratch row unless its turn has come."""
    turn = elementwise.equal(elementwise.rem(offset, spacing), _number(0))
    made: ir.Value = elementwise.select(turn, elementwise.div(offset, spacing), _number(slots))
    return made


def _keep(buffers: Values, state: Values, slot: ir.Value) -> list[ir.Value]:
    return [with_row(buffer, value, slot) for buffer, value in zip(buffers, state, strict=True)]


def _thinned(buffer: ir.Value, slots: int) -> ir.Value:
    """Every other checkpoint in the first half; what follows is free."""
    type_ = tensor_type_of(buffer)
    rest, ones = type_.shape[1:], (1,) * (type_.rank - 1)
    zeros = (0,) * len(rest)
    even = shape.slice(buffer, start=(0, *zeros), limit=(slots, *rest), strides=(2, *ones))
    free = shape.slice(buffer, start=(slots // 2, *zeros), limit=(slots + 1, *rest), strides=(1, *ones))
    made: ir.Value = shape.concatenate(even, free, axis=0)
    return made


def _record(loop: _Loop) -> tuple[Record, list[ir.Value | None]]:
    """The forward loop with counting and checkpoints, at the insertion point; the record, the results that change."""
    count, width, slots = len(loop.state), 2 + len(loop.state), loop.slots

    def goes_on(*values: ir.Value) -> list[ir.Value]:
        return [loop.goes_on(values[width:])]

    def fill(done: ir.Value, spacing: ir.Value, *values: ir.Value) -> list[ir.Value]:
        """Thin the buffers (at first: of nothing), then run until they are full or the loop ends."""
        spacing = elementwise.max(elementwise.mul(spacing, _number(2)), _number(1))
        limit = elementwise.mul(spacing, _number(slots))
        buffers = [_thinned(b, slots) for b in values[:count]]

        def inner_goes_on(done: ir.Value, *values: ir.Value) -> list[ir.Value]:
            return [elementwise.and_(loop.goes_on(values[count:]), elementwise.less(done, limit))]

        def inner_step(done: ir.Value, *values: ir.Value) -> list[ir.Value]:
            kept = _keep(values[:count], values[count:], _slot(done, spacing, slots))
            return [elementwise.add(done, _number(1)), *kept, *loop.step(values[count:])]

        done, *values_ = _while([done, *buffers, *values[count:]], inner_goes_on, inner_step)
        return [done, spacing, *values_]

    done, spacing, *rest = _while([_number(0), _number(0), *loop.empty_buffers(), *loop.state], goes_on, fill)
    spacing = elementwise.max(spacing, _number(1))
    finals: list[ir.Value | None] = [None] * len(loop.init)
    for index, value in zip(loop.changing, rest[count:], strict=True):
        finals[index] = value
    return Record(done, spacing, rest[:count], slots), finals


def _ceil_div(a: ir.Value, b: ir.Value) -> ir.Value:
    made: ir.Value = elementwise.div(elementwise.add(a, elementwise.sub(b, _number(1))), b)
    return made


def _walk_segments(
    loop: _Loop, record: Record, live: list[int], outer: list[ir.Value], start: Values, walk: Walk
) -> list[ir.Value]:
    """From the last segment to the first; carries the buffer for replays and the cotangents."""
    count, slots = len(loop.state), record.slots

    def goes_on(segment: ir.Value, *values: ir.Value) -> list[ir.Value]:
        return [elementwise.greater_equal(segment, _number(0))]

    def segment_step(segment: ir.Value, *values: ir.Value) -> list[ir.Value]:
        first = elementwise.mul(segment, record.spacing)
        last = elementwise.sub(elementwise.min(elementwise.add(first, record.spacing), record.count), _number(1))
        length = elementwise.add(elementwise.sub(last, first), _number(1))
        stride = elementwise.max(_ceil_div(length, _number(slots)), _number(1))
        checkpoint = [row(b, segment) for b in record.buffers]
        states = _replay(loop, checkpoint, values[:count], first, last, stride, slots)
        cotangents = _walk_iterations(loop, states, first, last, stride, live, outer, values[count:], walk)
        return [elementwise.sub(segment, _number(1)), *states, *cotangents]

    segments = _ceil_div(record.count, record.spacing)
    begin = [elementwise.sub(segments, _number(1)), *loop.empty_buffers(), *start]
    return _while(begin, goes_on, segment_step)[1 + count :]


def _replay(
    loop: _Loop, state: Values, buffers: Values, first: ir.Value, last: ir.Value, stride: ir.Value, slots: int
) -> list[ir.Value]:
    """The states before iterations first…last, every `stride`-th of them, as rows of buffers."""
    count = len(loop.state)

    def slot(time: ir.Value) -> ir.Value:
        return _slot(elementwise.sub(time, first), stride, slots)

    def goes_on(time: ir.Value, *values: ir.Value) -> list[ir.Value]:
        return [elementwise.less(time, last)]

    def step(time: ir.Value, *values: ir.Value) -> list[ir.Value]:
        kept = _keep(values[:count], values[count:], slot(time))
        return [elementwise.add(time, _number(1)), *kept, *loop.step(values[count:])]

    _, *values = _while([first, *buffers, *state], goes_on, step)
    return _keep(values[:count], values[count:], slot(last))


def _walk_iterations(
    loop: _Loop,
    states: Values,
    first: ir.Value,
    last: ir.Value,
    stride: ir.Value,
    live: list[int],
    outer: list[ir.Value],
    start: Values,
    walk: Walk,
) -> list[ir.Value]:
    """Cotangents through iterations last…first of a segment."""

    def goes_on(time: ir.Value, *values: ir.Value) -> list[ir.Value]:
        return [elementwise.greater_equal(time, first)]

    def step(time: ir.Value, *values: ir.Value) -> list[ir.Value]:
        nearest = elementwise.div(elementwise.sub(time, first), stride)
        at = elementwise.add(first, elementwise.mul(nearest, stride))
        state = _catch_up(loop, [row(b, nearest) for b in states], at, time)
        mapping = dict(zip(loop.arguments, loop.complete(state), strict=True))
        copied = recompute(loop.body, mapping, [a for a in loop.arguments if a in walk.active], walk)
        inner = Sums()
        for index, cotangent in zip(live, values[: len(live)], strict=True):
            inner.add(mapping.get(loop.ends[index], loop.ends[index]), cotangent)
        backward(copied, inner, walk)
        totals = values[len(live) :]
        added = [
            total if (g := inner.take(v)) is None else elementwise.add(total, g)
            for total, v in zip(totals, outer, strict=True)
        ]
        through = [inner.take_full(mapping[loop.arguments[i]]) for i in live]
        return [elementwise.sub(time, _number(1)), *through, *added]

    return _while([last, *start], goes_on, step)[1:]


def _catch_up(loop: _Loop, state: Values, at: ir.Value, time: ir.Value) -> list[ir.Value]:
    """The state before iteration `time` from that before iteration `at`."""

    def goes_on(at: ir.Value, *state: ir.Value) -> list[ir.Value]:
        return [elementwise.less(at, time)]

    def step(at: ir.Value, *state: ir.Value) -> list[ir.Value]:
        return [elementwise.add(at, _number(1)), *loop.step(state)]

    return _while([at, *state], goes_on, step)[1:]


structured(control.while_, While())
