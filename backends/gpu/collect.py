"""Data that goes between GPUs, as steps of the program; those that can go together stand side by side."""

from __future__ import annotations

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.program import Branch, Launch, Loop, Program, Step, storage
from thalweg.backends.cpu.schedule import made_by, read_by
from thalweg.backends.gpu.fused import place_of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.shards.collectives import kind_of


def collective(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The step of a `tw.collective`: there is nothing to compile."""
    root = group.root
    assert root.op is not None
    where = place_of(root)
    operands = tuple(map(storage, root.operands))
    lines = (str(where),) if where else ()
    return TritonKernel(name, "", operands, (root,), where=lines, collective=(kind_of(root.op),))


def is_collective(step: Step) -> bool:
    """Whether a step is data that goes between GPUs."""
    return isinstance(step, Launch) and isinstance(step.kernel, TritonKernel) and bool(step.kernel.collective)


def gather_collectives(program: Program) -> None:
    """Reorder the steps of a program, and of those inside it, in place: what needs no collective that is waiting goes
    first, then all collectives that wait go together.

        before: dw2, sum dw2, dw1, sum dw1, update       after: dw2, dw1, (sum dw2, sum dw1), update
    """
    for step in program.steps:
        if isinstance(step, Loop):
            gather_collectives(step.condition)
            gather_collectives(step.body)
        elif isinstance(step, Branch):
            for arm in step.arms:
                gather_collectives(arm)
    if not any(map(is_collective, program.steps)):
        return
    waiting, ordered = list(program.steps), list[Step]()
    while waiting:
        missing = {value for step in waiting for value in made_by(step)}
        now: list[Step] = []
        later: list[Step] = []
        for step in waiting:
            ready = all(storage(value) not in missing for value in read_by(step))
            if ready and not is_collective(step):
                now.append(step)
                missing.difference_update(made_by(step))
            else:
                later.append(step)
        if not now:  # only what waits for a collective is left
            missing = {value for step in later for value in made_by(step)}
            now = [s for s in later if is_collective(s) and all(storage(v) not in missing for v in read_by(s))]
            assert now, "steps wait for each other"
            chosen = set(map(id, now))
            waiting = [step for step in later if id(step) not in chosen]
            ordered.append(_together(now))
        else:
            ordered += now
            waiting = later
    program.steps = ordered


def _together(steps: list[Step]) -> Step:
    """Several as one, whose buffers are all needed at the same time."""
    kernels = [s.kernel for s in steps if isinstance(s, Launch) and isinstance(s.kernel, TritonKernel)]
    operands = [value for kernel in kernels for value in kernel.operands]
    results = [value for kernel in kernels for value in kernel.results]
    lines = dict.fromkeys(line for kernel in kernels for line in kernel.where)
    kinds = tuple(kind for kernel in kernels for kind in kernel.collective)
    name = kernels[0].name
    return Launch(TritonKernel(name, "", tuple(operands), tuple(results), where=tuple(lines)[:3], collective=kinds))
