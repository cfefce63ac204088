"""The thread pool: every task once, from many callers at a time, and in a forked child."""

from __future__ import annotations

import ctypes
import os
import threading

import numpy as np
import pytest

from thalweg.backends.cpu.jit import Code, compile_llvm
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.threads import PARALLEL_FOR, parallel_for_address, pool_ir

COUNT = """
define void @count(i64 %task, i64 %thread, ptr %counts) {
  %at = getelementptr i64, ptr %counts, i64 %task
  %old = atomicrmw add ptr %at, i64 1 seq_cst
  %own = sub i64 -1, %thread
  %mine = getelementptr i64, ptr %counts, i64 %own
  %before = load i64, ptr %mine
  %after = add i64 %before, 1
  store i64 %after, ptr %mine
  ret void
}
define void @many(ptr %pool, ptr %f, ptr %a, i32 %n, i32 %threads, i32 %wake, i32 %times) {
entry:
  br label %loop
loop:
  %i = phi i32 [ 0, %entry ], [ %j, %loop ]
  call void %pool(ptr %f, ptr %a, i32 %n, i32 %threads, i32 %wake)
  %j = add i32 %i, 1
  %more = icmp slt i32 %j, %times
  br i1 %more, label %loop, label %out
out:
  ret void
}
"""


class Counter:
    """Native code that dispatches jobs which count their tasks."""

    def __init__(self, threads: int) -> None:
        options = CpuOptions(threads=1)
        self.code = Code(compile_llvm(COUNT, options).object_code, "many", "count")
        self.pool = parallel_for_address(threads)
        self.threads = threads
        kinds = [ctypes.c_void_p] * 3 + [ctypes.c_int] * 4
        self.many = ctypes.CFUNCTYPE(None, *kinds)(self.code.address("many"))

    def run(self, tasks: int, times: int, wake: bool = True) -> np.ndarray:
        """How often each task ran. What each thread ran is counted without atomics, just before that."""
        counts = np.zeros(self.threads + tasks, np.int64)
        start = counts.ctypes.data + 8 * self.threads
        self.many(self.pool, self.code.address("count"), start, tasks, self.threads, wake, times)
        assert counts[: self.threads].sum() == tasks * times
        return counts[self.threads :]


@pytest.mark.parametrize("tasks", [0, 1, 2, 7, 64])
def test_every_task_runs_once(tasks: int) -> None:
    assert (Counter(3).run(tasks, 2000) == 2000).all()


def test_nobody_is_woken_for_short_work() -> None:
    assert (Counter(3).run(7, 2000, wake=False) == 2000).all()


def test_more_tasks_than_are_shared_are_done_by_the_caller() -> None:
    assert (Counter(3).run(70_000, 2) == 2).all()


@pytest.mark.parametrize("threads", [1, 300])
def test_any_number_of_threads_may_be_asked_for(threads: int) -> None:
    counter = Counter(3)
    counts = np.zeros(256 + 600, np.int64)
    function = counter.code.address("count")
    counter.many(counter.pool, function, counts.ctypes.data + 8 * 256, 600, threads, 1, 50)
    assert (counts[256:] == 50).all()
    assert counts[:256].sum() == 50 * 600


def test_a_task_that_calls_the_pool_does_its_tasks_itself() -> None:
    counter = Counter(2)
    found = np.zeros((4, 8), np.int64)

    @ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    def inner(task: int, thread: int, argument: int) -> None:
        found[argument - 1, task] += 1

    address = ctypes.cast(inner, ctypes.c_void_p).value

    @ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    def outer(task: int, thread: int, argument: int) -> None:
        counter.many(counter.pool, address, task + 1, 8, 2, 1, 3)

    counter.many(counter.pool, ctypes.cast(outer, ctypes.c_void_p).value, 0, 4, 2, 1, 5)
    assert (found == 15).all()


def test_no_more_threads_take_part_than_are_asked_for() -> None:
    parallel_for_address(4)
    assert (Counter(2).run(6, 2000) == 2000).all()


@pytest.mark.timeout(60)
def test_callers_on_several_threads_do_not_disturb_each_other() -> None:
    counter = Counter(3)
    results: list[np.ndarray] = []
    callers = [threading.Thread(target=lambda: results.append(counter.run(5, 3000))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    assert all((counts == 3000).all() for counts in results)


@pytest.mark.timeout(60)
def test_a_forked_child_works_alone() -> None:
    counter = Counter(2)
    assert (counter.run(4, 10) == 10).all()
    child = os.fork()
    if child == 0:
        os._exit(0 if (counter.run(4, 10) == 10).all() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize(("system", "processor"), [("Linux", "aarch64"), ("Linux", "x86_64"), ("Darwin", "arm64")])
def test_other_platforms_have_a_text(system: str, processor: str) -> None:
    text = pool_ir(system, processor)
    assert f"define void @{PARALLEL_FOR}(" in text
    assert "define internal void @wait(" in text
    assert "define internal void @pause(" in text


def test_a_system_without_a_wait_is_an_error() -> None:
    with pytest.raises(ValueError, match="threads=1"):
        pool_ir("Plan9", "x86_64")
