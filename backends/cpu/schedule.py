"""The order of steps: a kernel that overwrites a variable runs after the last kernel that reads its old value.

before: w' = w - g      h = d @ w'…old w is needed: a copy
after:  h = d @ w       w' = w - g, in place
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.program import Branch, Launch, Loop, Program, Step, storage


def order_updates(program: Program, aliases: Mapping[int, int]) -> None:
    """Move steps of a program, and of the bodies of its loops, in place.

    Args:
        aliases: output number -> argument number: the output is to take the argument's buffer. In a loop's body that is
            every output, as the next value of what is carried.
    """
    for step in list(program.steps):
        if isinstance(step, Loop):
            order_updates(step.body, {k: k for k in range(len(step.results))})
        elif isinstance(step, Branch):
            for arm in step.arms:
                order_updates(arm, {})
    if not aliases:
        return
    reads = [frozenset(storage(value) for value in read_by(step)) for step in program.steps]
    order = list(range(len(program.steps)))
    made = {value: k for k, step in enumerate(program.steps) for value in made_by(step)}
    last = {value: k for k, values in enumerate(reads) for value in values}
    for output, argument in sorted(aliases.items(), reverse=True):
        writer = made.get(storage(program.graph.outputs[output]))
        reader = last.get(program.graph.args[argument], -1)
        if writer is None or reader <= writer:
            continue
        start, end = order.index(writer), order.index(reader)
        results = set(made_by(program.steps[writer]))
        if start < end and not any(results & reads[k] for k in order[start + 1 : end + 1]):
            order.insert(end, order.pop(start))
    program.steps = [program.steps[k] for k in order]


def read_by(step: Step) -> Iterator[Value]:
    """The values that a step reads from buffers, those read by nested programs included."""
    if isinstance(step, Launch):
        yield from step.kernel.operands
        yield from (target for _, target in step.kernel.updates)
    elif isinstance(step, Loop):
        yield from step.initial
        yield from _read_inside(step.condition)
        yield from _read_inside(step.body)
    else:
        yield step.selector
        for arm in step.arms:
            yield from _read_inside(arm)


def _read_inside(program: Program) -> Iterator[Value]:
    yield from program.graph.outputs
    for step in program.steps:
        yield from read_by(step)


def made_by(step: Step) -> tuple[Value, ...]:
    """The values that a step stores."""
    return step.kernel.results if isinstance(step, Launch) else step.results
