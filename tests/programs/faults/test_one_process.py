"""Faults without a cluster: a thousand runs at once of which some fail, sessions that are closed, what stays behind."""

import gc
import os
import threading
import time

import numpy as np
import pytest
from deadlines import Background

import thalweg as tw

pytestmark = pytest.mark.timeout(120)


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_runs_at_once_of_which_some_fail_count_exactly():
    """What is put into a small queue is taken out once, whoever is late, fails or is refused meanwhile."""
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (), name="x")
        total = tw.Variable(tw.zeros(()), name="total")
        count = tw.Variable(tw.zeros(()), name="count")
        queue = tw.FIFOQueue(capacity=7, dtypes=[tw.float32], shapes=[()], name="q")
        put = queue.enqueue([x])
        taken = queue.dequeue()
        add = tw.group(total.assign_add(taken), count.assign_add(1.0))
        empty = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[()], name="empty")
        never = tw.group(total.assign_add(empty.dequeue()), count.assign_add(empty.dequeue()))
        rest = queue.size()
    with tw.Session(graph) as session:
        puts = [Background(lambda n=n: session.run(put, {x: float(n)})) for n in range(350)]
        adds = [Background(lambda: session.run(add)) for _ in range(350)]
        late = [Background(lambda: session.run(never, timeout=0.2)) for _ in range(300)]
        for thread in puts + adds:
            thread.join(60)
            assert not thread.is_alive() and thread.error is None
        assert all(isinstance(thread.failed(30), tw.DeadlineError) for thread in late)
        assert float(session.run(count)) == 350 and float(session.run(total)) == sum(range(350))
        assert int(session.run(rest)) == 0


def test_closing_a_session_ends_all_that_waits_and_all_that_begins():
    graph = tw.Graph()
    with graph.as_default():
        n = tw.placeholder(tw.float32, (None,), name="n")
        queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[()], name="q")
        taken, sized = queue.dequeue(), queue.dequeue() + tw.sum(n)
    for number in range(8):
        session = tw.Session(graph)
        threads = [Background(lambda s=session: s.run(taken)) for _ in range(10)]
        threads += [
            Background(lambda s=session, k=k: s.run(sized, {n: np.zeros(k, np.float32)})) for k in range(1, 4)
        ]
        time.sleep(0.02 * number)
        session.close()
        for thread in threads:
            assert isinstance(thread.failed(20), tw.CancelledError | tw.GraphError)


def test_a_thousand_failed_steps_leave_nothing():
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (50_000,), name="x")
        queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[(50_000,)], name="q")
        closed = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[(50_000,)], name="closed")
        close = closed.close()
        refused = x * 2.0 + closed.dequeue()
        late = x * 2.0 + queue.dequeue()
    value = np.zeros(50_000, np.float32)
    with tw.Session(graph) as session:
        session.run(close)

        def fail(times):
            for _ in range(times):
                with pytest.raises(tw.OutOfRangeError):
                    session.run(refused, {x: value})
                with pytest.raises(tw.DeadlineError):
                    session.run(late, {x: value}, timeout=0.0005)

        fail(100)
        gc.collect()
        threads, files, memory = threading.active_count(), len(os.listdir("/proc/self/fd")), resident()
        fail(900)  # 360 MB if all were kept
        gc.collect()
        assert threading.active_count() <= threads + 4
        assert len(os.listdir("/proc/self/fd")) <= files + 4
        assert resident() < memory + 40e6
