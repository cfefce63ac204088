"""One host op at once, outside any step: what an eager `queue.enqueue(x)` does."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.dialects.diagnostics import CancelledError, DeadlineError
from thalweg.runtime.kernels import Call, find
from thalweg.runtime.plan import Node, Value
from thalweg.runtime.queues.waiting import Result
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step, StepIds


@functools.cache
def _shared() -> tuple[StepIds, LocalRendezvous]:
    return StepIds(), LocalRendezvous()


def perform(
    op: str, inputs: Sequence[Value], attrs: Mapping[str, Any], resources: Resources, timeout: float | None = None
) -> Sequence[Value]:
    """Run the kernel of a host op on this thread, and wait for it.

    Args:
        timeout: seconds.

    Raises:
        DeadlineError: it took longer, and was taken back.
        StepError: what it failed with.

    Example:
        >>> perform("queue_size", [queue], {}, resources)
        (array(2, dtype=int32),)
    """
    ids, rendezvous = _shared()
    step = Step(ids(), resources, rendezvous)
    call = Call(Node(0, op, op, attrs, outputs=0), inputs, step)
    kernel = find(op)
    if kernel.run is not None:
        return kernel.run(call)
    assert kernel.start is not None
    result = Result()
    kernel.start(call, result)
    try:
        if not result.wait(timeout):
            step.cancellation.cancel(DeadlineError(f"{op} took longer than {timeout:g} s."))
            result.wait()
    except BaseException:  # the user's Ctrl-C: it must not stay in line, where it would take what is then lost
        step.cancellation.cancel(CancelledError(f"{op} was interrupted."))
        raise
    return result.get()
