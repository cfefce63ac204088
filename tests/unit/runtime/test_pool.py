"""Threads on demand."""

from __future__ import annotations

import threading
import time

import pytest

from thalweg.runtime.pool import Pool

pytestmark = pytest.mark.timeout(30)


def test_threads_are_started_when_none_is_idle_and_reused_when_one_is() -> None:
    pool, done = Pool("test", limit=8), threading.Semaphore(0)
    assert pool.threads == 0
    for _ in range(20):
        pool.submit(done.release)
        done.acquire()
        time.sleep(0.001)  # the thread says that it is idle after its job
    assert pool.threads <= 2
    everybody = threading.Barrier(9, timeout=10)
    for _ in range(8):
        pool.submit(lambda: everybody.wait() and None)
    everybody.wait()
    assert pool.threads == 8


def test_never_more_threads_than_the_limit_and_no_job_is_lost() -> None:
    pool, names, lock, done = Pool("test", limit=3), set[str](), threading.Lock(), threading.Semaphore(0)

    def job() -> None:
        with lock:
            names.add(threading.current_thread().name)
        time.sleep(0.001)
        done.release()

    for _ in range(200):
        pool.submit(job)
    for _ in range(200):
        done.acquire()
    assert len(names) == pool.threads == 3
    assert all(name.startswith("thalweg-test-") for name in names)


def test_idle_threads_end_and_new_ones_start() -> None:
    pool, done = Pool("test", limit=4, patience=0.02), threading.Semaphore(0)
    for _ in range(3):
        pool.submit(done.release)
        done.acquire()
        deadline = time.monotonic() + 10
        while pool.threads and time.monotonic() < deadline:
            time.sleep(0.005)
        assert pool.threads == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_survives_a_job_that_fails() -> None:
    pool, done = Pool("test", limit=1), threading.Semaphore(0)

    def fail() -> None:
        raise ValueError("printed, and no more")

    pool.submit(fail)
    pool.submit(done.release)
    assert done.acquire(timeout=10) and pool.threads == 1
