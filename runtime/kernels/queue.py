"""Kernels of `dialects/ops/queue.py`: each calls the object that the handle gave it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from thalweg.runtime.kernels import Call, Done, async_kernel, kernel
from thalweg.runtime.plan import Value
from thalweg.runtime.queues import making
from thalweg.runtime.queues.waiting import Waitable, start


@kernel("queue_handle")
def queue_handle(call: Call) -> Sequence[Value]:
    return (making.queue(call.step.resources, call.attrs),)


@kernel("accumulator_handle")
def accumulator_handle(call: Call) -> Sequence[Value]:
    return (making.accumulator(call.step.resources, call.attrs),)


@kernel("barrier_handle")
def barrier_handle(call: Call) -> Sequence[Value]:
    return (making.barrier(call.step.resources, call.attrs),)


@kernel("mutex_handle")
def mutex_handle(call: Call) -> Sequence[Value]:
    return (making.mutex(call.step.resources, call.attrs),)


# Queues


class _Counting:
    """Tells a trace the queue's length after an operation."""

    def __init__(self, call: Call, done: Done) -> None:
        self._call = call
        self._done = done

    def __call__(self, outputs: Sequence[Value]) -> None:
        tracer, queue = self._call.step.tracer, self._call.inputs[0]
        if tracer is not None:
            tracer.counted(self._call.device, queue.name, queue.size(), time.time_ns())
        self._done(outputs)

    def fail(self, error: BaseException) -> None:
        self._done.fail(error)


def _start(call: Call, done: Done, begin: Callable[[Done], Waitable]) -> None:
    start(call, done if call.step.tracer is None else _Counting(call, done), begin)


@async_kernel("enqueue")
def enqueue(call: Call, done: Done) -> None:
    queue, *values = call.inputs
    _start(call, done, lambda then: queue.enqueue(values, then))


@async_kernel("enqueue_many")
def enqueue_many(call: Call, done: Done) -> None:
    queue, *values = call.inputs
    _start(call, done, lambda then: queue.enqueue_many(values, then))


@async_kernel("dequeue")
def dequeue(call: Call, done: Done) -> None:
    _start(call, done, call.inputs[0].dequeue)


@async_kernel("dequeue_many")
def dequeue_many(call: Call, done: Done) -> None:
    _start(call, done, lambda then: call.inputs[0].dequeue_many(call.attrs["count"], then))


@async_kernel("dequeue_up_to")
def dequeue_up_to(call: Call, done: Done) -> None:
    _start(call, done, lambda then: call.inputs[0].dequeue_up_to(call.attrs["count"], then))


@kernel("queue_close")
def queue_close(call: Call) -> Sequence[Value]:
    call.inputs[0].close_input(call.attrs["cancel_pending"])
    return ()


@kernel("queue_size")
def queue_size(call: Call) -> Sequence[Value]:
    return (np.array(call.inputs[0].size(), np.int32),)


@kernel("queue_is_closed")
def queue_is_closed(call: Call) -> Sequence[Value]:
    return (np.array(call.inputs[0].is_closed),)


# Accumulators


@kernel("accumulator_apply")
def accumulator_apply(call: Call) -> Sequence[Value]:
    accumulator, gradient, step = call.inputs
    accumulator.apply(gradient, int(step))
    return ()


@kernel("accumulator_apply_rows")
def accumulator_apply_rows(call: Call) -> Sequence[Value]:
    accumulator, indices, values, step = call.inputs
    accumulator.apply(indices, values, int(step))
    return ()


@async_kernel("accumulator_take")
def accumulator_take(call: Call, done: Done) -> None:
    start(call, done, lambda then: call.inputs[0].take(call.attrs["required"], then))


@async_kernel("accumulator_take_rows")
def accumulator_take_rows(call: Call, done: Done) -> None:
    start(call, done, lambda then: call.inputs[0].take(call.attrs["required"], then))


@kernel("accumulator_count")
def accumulator_count(call: Call) -> Sequence[Value]:
    return (np.array(call.inputs[0].count(), np.int32),)


@kernel("accumulator_set_step")
def accumulator_set_step(call: Call) -> Sequence[Value]:
    accumulator, step = call.inputs
    accumulator.set_step(int(step))
    return ()


# Barriers


@kernel("barrier_insert")
def barrier_insert(call: Call) -> Sequence[Value]:
    barrier, keys, values = call.inputs
    barrier.insert(call.attrs["component"], keys, values)
    return ()


@async_kernel("barrier_take")
def barrier_take(call: Call, done: Done) -> None:
    count, partial = call.attrs["count"], call.attrs["partial"]
    start(call, done, lambda then: call.inputs[0].take(count, then, partial))


@kernel("barrier_close")
def barrier_close(call: Call) -> Sequence[Value]:
    call.inputs[0].close_input(call.attrs["cancel_pending"])
    return ()


@kernel("barrier_size")
def barrier_size(call: Call) -> Sequence[Value]:
    barrier = call.inputs[0]
    size = barrier.ready_size() if call.attrs["complete"] else barrier.incomplete_size()
    return (np.array(size, np.int32),)


# Mutexes


class _Acquired:
    """Gives an acquired mutex back if the step is given up before it is released."""

    def __init__(self, call: Call, done: Done) -> None:
        self._call = call
        self._done = done

    def __call__(self, outputs: Sequence[Value]) -> None:
        mutex, number = self._call.inputs[0], int(outputs[0])
        self._done((np.array(number, np.int64),))
        self._call.step.cancellation.register(lambda error: mutex.release_if_held(number))

    def fail(self, error: BaseException) -> None:
        self._done.fail(error)


@async_kernel("mutex_acquire")
def mutex_acquire(call: Call, done: Done) -> None:
    start(call, _Acquired(call, done), call.inputs[0].acquire)


@kernel("mutex_release")
def mutex_release(call: Call) -> Sequence[Value]:
    mutex, number = call.inputs
    mutex.release(int(number))
    return ()
