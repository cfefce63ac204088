"""Queues in graphs, sessions and traced functions, end to end."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import thalweg as tw

PATIENCE = 60.0


def start(work) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def joined(*threads: threading.Thread) -> None:
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"


def eventually(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_the_program_of_the_documentation() -> None:
    graph = tw.Graph()
    with graph.as_default():
        a = tw.placeholder(tw.float32, (None, 4), name="a")
        q = tw.FIFOQueue(capacity=8, dtypes=[tw.float32], shapes=[(4,)], name="q")
        push = q.enqueue_many([a])
        batch = q.dequeue_many(2)
        y = tw.sum(batch * 2.0, axis=1, name="y")
    with tw.Session(graph) as s:
        assert s.run(push, feeds={a: np.ones((4, 4), np.float32)}) is None
        assert s.run(["y:0"])[0].tolist() == [8, 8]
        assert s.run(y, feeds={batch: np.zeros((2, 4), np.float32)}).tolist() == [0, 0]
        assert s.run(y).tolist() == [8, 8]


def test_names_in_a_graph() -> None:
    graph = tw.Graph()
    with graph.as_default():
        q = tw.FIFOQueue(8, [tw.float32, tw.int32], shapes=[(), ()], name="named_in_graph")
        push = q.enqueue((1.0, 2), name="push")
        q.dequeue(name="pop")
        q.size(name="length")
    assert isinstance(push, tw.Operation) and push.name == "push" and push.type == "enqueue"
    assert graph.operation("named_in_graph").type == "queue_handle"
    with tw.Session(graph) as s:
        s.run("push")
        assert int(s.run("length:0")) == 1
        assert [v.tolist() for v in s.run(["pop:0", "pop:1"])] == [1.0, 2]


def test_fetching_two_results_dequeues_once_and_nothing_else_runs() -> None:
    graph = tw.Graph()
    with graph.as_default():
        q = tw.FIFOQueue(8, [tw.int32], shapes=[()])
        fill = q.enqueue_many([np.arange(4, dtype=np.int32)])
        x = q.dequeue()
        twice, square, size = x * 2, x * x, q.size()
    with tw.Session(graph) as s:
        s.run(fill)
        assert [int(v) for v in s.run([twice, square])] == [0, 0]
        assert [int(v) for v in s.run([x, twice, square])] == [1, 2, 1]
        assert int(s.run(size)) == 2


def test_a_step_waits_for_another_one() -> None:
    graph = tw.Graph()
    with graph.as_default():
        value = tw.placeholder(tw.float32, (), name="value")
        q = tw.FIFOQueue(1, [tw.float32], shapes=[()])
        push, y = q.enqueue(value), q.dequeue() + 1.0
    got: list[float] = []
    with tw.Session(graph) as s:
        waiting = start(lambda: got.append(float(s.run(y))))
        time.sleep(0.05)
        assert not got
        s.run(push, feeds={value: 2.0})
        joined(waiting)
        assert got == [3.0]
        s.run(push, feeds={value: 0.0})
        blocked = start(lambda: s.run(push, feeds={value: 1.0}))
        time.sleep(0.05)
        assert blocked.is_alive(), "the queue is full"
        s.run(y)
        joined(blocked)
        assert float(s.run(y)) == 2.0


def test_errors_name_the_op_the_queue_and_the_users_line() -> None:
    graph = tw.Graph()
    with graph.as_default():
        q = tw.FIFOQueue(4, [tw.float32], shapes=[()], name="empty_one")
        y, close, push = q.dequeue(name="next"), q.close(), q.enqueue(1.0, name="add")
    with tw.Session(graph) as s:
        with pytest.raises(tw.DeadlineError, match=r"test_queue_programs\.py:\d+.*'next'"):
            s.run(y, timeout=0.1)
        s.run(close)
        with pytest.raises(tw.OutOfRangeError, match=r"test_queue_programs\.py:\d+.*'next'.*from queue 'empty_one'"):
            s.run(y)
        with pytest.raises(tw.CancelledError, match=r"test_queue_programs\.py:\d+.*'add'.*to queue 'empty_one': it"):
            s.run(push)


def test_a_step_that_times_out_has_taken_nothing() -> None:
    graph = tw.Graph()
    with graph.as_default():
        q = tw.FIFOQueue(4, [tw.int32], shapes=[()])
        push, two, size = q.enqueue(7), q.dequeue_many(2), q.size()
    with tw.Session(graph) as s:
        s.run(push)
        with pytest.raises(tw.DeadlineError):
            s.run(two, timeout=0.1)
        assert int(s.run(size)) == 1
        s.run(push)
        assert s.run(two, timeout=PATIENCE).tolist() == [7, 7]


def test_an_op_that_fails_cancels_what_waits_in_its_step() -> None:
    graph = tw.Graph()
    with graph.as_default():
        waits = tw.FIFOQueue(4, [tw.int32], shapes=[()], name="never_filled")
        fails = tw.FIFOQueue(4, [tw.int32], shapes=[()], name="closed_one")
        close, both = fails.close(), [waits.dequeue(), fails.dequeue()]
        push, get = waits.enqueue(1), waits.dequeue()
    with tw.Session(graph) as s:
        s.run(close)
        with pytest.raises(tw.OutOfRangeError, match="closed_one"):
            s.run(both)
        s.run(push)
        assert int(s.run(get, timeout=PATIENCE)) == 1, "the failed step does not stand in line any more"


def test_a_queue_between_graphs_and_eager_code() -> None:
    first, second = tw.Graph(), tw.Graph()
    with first.as_default():
        push = tw.FIFOQueue(8, [tw.int32], shapes=[()], shared_name="between").enqueue(5)
    with second.as_default():
        get = tw.FIFOQueue(8, [tw.int32], shapes=[()], shared_name="between").dequeue()
    with tw.Session(first) as a, tw.Session(second) as b:
        a.run(push), a.run(push)
        assert int(b.run(get)) == 5
    assert int(tw.FIFOQueue(8, [tw.int32], shapes=[()], shared_name="between").dequeue()) == 5


def test_in_a_traced_function_things_happen_as_they_are_written() -> None:
    q = tw.FIFOQueue(8, [tw.float32], shapes=[(2,)])

    @tw.function
    def step(x):
        before = q.size()
        q.enqueue(x)
        q.enqueue(x * 2)
        between = q.size()
        y = q.dequeue()
        return before, between, y + 1, q.size()

    for number in range(3):
        before, between, y, after = step(np.full(2, number, np.float32))
        assert (int(before), int(between), int(after)) == (number, number + 2, number + 1)
        assert y.tolist() == [[1, 1], [1, 1], [2, 2]][number], "0 and 0 of the first call, then 1 of the second"


def test_the_order_goes_through_called_functions_and_gradients() -> None:
    q = tw.FIFOQueue(10, [tw.float32], [()])
    w = tw.Variable(2.0, name="w_of_order_test")

    @tw.function
    def push(x):
        q.enqueue(x)
        return q.size()

    @tw.function
    def calls(x):
        return push(x), push(x * 2), q.size(), q.dequeue(), q.size()

    @tw.function
    def under_a_gradient():
        def loss():
            x, y = q.dequeue(), q.dequeue()
            q.enqueue(x * 100)
            return w * x + y * 0

        return *tw.value_and_grad(loss, wrt=w)(), q.size()

    for _ in range(5):
        assert [float(v) for v in calls(np.float32(3))] == [1, 2, 2, 3, 1]
        assert float(q.dequeue()) == 6
    q.enqueue_many([[5.0, 7.0, 8.0]])
    assert [float(v) for v in under_a_gradient()] == [10, 5, 2]
    assert q.dequeue_many(2).tolist() == [8, 500]


def test_a_function_computes_on_what_it_dequeues() -> None:
    q = tw.FIFOQueue(8, [tw.float32, tw.int32], shapes=[(3,), ()])
    w = tw.Variable(tw.ones((3,)), name="w_of_queue_test")

    @tw.function
    def train():
        x, y = q.dequeue_many(4)

        def loss():
            return tw.mean((x @ w - tw.astype(y, tw.float32)) ** 2)

        value, gradient = tw.value_and_grad(loss, wrt=w)()
        w.assign_sub(0.1 * gradient)
        return value

    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 3)).astype(np.float32)
    y = np.arange(8, dtype=np.int32)
    q.enqueue_many((x, y))
    losses = [float(train()), float(train())]
    wanted, weights = [], np.ones(3, np.float32)
    for rows, targets in ((x[:4], y[:4]), (x[4:], y[4:])):
        error = rows @ weights - targets
        wanted.append(float(np.mean(error**2)))
        weights = weights - 0.1 * 2 * rows.T @ error / 4
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)
    np.testing.assert_allclose(w.numpy(), weights, rtol=1e-5)


def test_extents_that_only_the_run_decides() -> None:
    graph = tw.Graph()
    with graph.as_default():
        q = tw.PaddingFIFOQueue(8, [tw.int32, tw.string], shapes=[(None,), ()])
        pushes = [q.enqueue((np.arange(1, n + 1, dtype=np.int32), f"{n}")) for n in (2, 3, 5)]
        rows, names = q.dequeue_up_to(2)
        total = tw.sum(rows, axis=1) * 10
        close = q.close()
    assert rows.shape == (None, None) and names.shape == (None,)
    with tw.Session(graph) as s:
        s.run(pushes[0]), s.run(pushes[1]), s.run(pushes[2]), s.run(close)
        a, labels, sums = s.run([rows, names, total])
        assert a.tolist() == [[1, 2, 0], [1, 2, 3]] and labels.tolist() == [b"2", b"3"] and sums.tolist() == [30, 60]
        assert s.run(total).tolist() == [150]


def test_sum_of_what_many_steps_pass_on() -> None:
    """Several producing and consuming steps at once: every element is counted once."""
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.int32, (), name="x")
        q = tw.FIFOQueue(5, [tw.int32], shapes=[()])
        total = tw.Variable(np.int32(0), name="total_of_queue_test")
        push = q.enqueue(x)
        add = total.assign_add(tw.sum(q.dequeue_many(3)))
    with tw.Session(graph) as s:
        def produce(k: int) -> None:
            for number in range(60):
                s.run(push, feeds={x: np.int32(k * 60 + number)})

        def consume() -> None:
            for _ in range(20):
                s.run(add)

        joined(*[start(lambda k=k: produce(k)) for k in range(4)], *[start(consume) for _ in range(4)])
        assert int(s.run(total)) == sum(range(240))


def test_gradients_are_accumulated_over_workers() -> None:
    """Synchronous training by hand: three workers, the mean of the first two gradients is applied."""
    graph = tw.Graph()
    with graph.as_default():
        g = tw.placeholder(tw.float32, (2,), name="g")
        at = tw.placeholder(tw.int64, (), name="at")
        w = tw.Variable(tw.zeros((2,)), name="w_of_accumulator_test")
        sums = tw.ConditionalAccumulator(tw.float32, (2,))
        give = sums.apply_grad(g, at)
        update = w.assign_sub(sums.take_grad(2))
        count = sums.num_accumulated()
    with tw.Session(graph) as s:
        chief = start(lambda: s.run(update))
        for k in range(2):
            s.run(give, feeds={g: np.array([k, 4.0], np.float32), at: 0})
        joined(chief)
        assert s.run(w).tolist() == [-0.5, -4.0]
        s.run(give, feeds={g: np.ones(2, np.float32), at: 0})
        assert int(s.run(count)) == 0, "the third worker is late"


def test_a_mutex_makes_read_and_write_one() -> None:
    graph = tw.Graph()
    with graph.as_default():
        mutex = tw.Mutex()
        slot = tw.FIFOQueue(1, [tw.int32], shapes=[()])
        first, total = slot.enqueue(0), slot.dequeue()

        def bump():
            value = slot.dequeue()
            with tw.control_dependencies([value]):
                return slot.enqueue(value + 1)

        step = mutex.execute(bump)
    with tw.Session(graph) as s:
        s.run(first)
        joined(*[start(lambda: [s.run(step) for _ in range(25)]) for _ in range(4)])
        assert int(s.run(total)) == 100


def test_resets_and_containers() -> None:
    graph = tw.Graph()
    with graph.as_default():
        kept = tw.FIFOQueue(4, [tw.int32], shapes=[()], container="kept", shared_name="reset_kept")
        gone = tw.FIFOQueue(4, [tw.int32], shapes=[()], container="gone", shared_name="reset_gone")
        push = [kept.enqueue(1), gone.enqueue(1)]
        sizes, get = [kept.size(), gone.size()], gone.dequeue()
    errors: list[BaseException] = []

    def wait(s) -> None:
        try:
            s.run(get)
        except tw.StepError as error:
            errors.append(error)

    from thalweg.runtime.resources import of_process

    with tw.Session(graph) as s:
        s.run(push)
        s.run(get)
        waiting = start(lambda: wait(s))
        eventually(lambda: of_process().find("gone", "queue", "reset_gone").state()["waiting_dequeues"] == 1)
        of_process().reset(["gone"])
        joined(waiting)
        assert isinstance(errors[0], tw.CancelledError) and "its container was reset" in str(errors[0])
        assert [int(n) for n in s.run(sizes)] == [1, 0]


def test_strings_are_fed_decoded_and_passed_on() -> None:
    graph = tw.Graph()
    with graph.as_default():
        lines = tw.placeholder(tw.string, (None,), name="lines")
        x, n = tw.io.decode_csv(lines, [tw.float32, tw.int32])
        q = tw.FIFOQueue(4, [tw.string], [()])
        push, first = q.enqueue_many([lines]), q.dequeue()
    with tw.Session(graph) as s:
        found = s.run([x, n], feeds={lines: np.array([b"1.5,2", b"2.5,3"], object)})
        assert [v.tolist() for v in found] == [[1.5, 2.5], [2, 3]]
        s.run(push, feeds={lines: ["a", "ü"]})
        assert [s.run(first).item() for _ in range(2)] == [b"a", "ü".encode()]
        with pytest.raises(tw.StepError, match=r"test_queue_programs\.py:\d+.*line:1: column '1': 'x' is not of int32"):
            s.run(n, feeds={lines: ["1,1", "1,x"]})


def test_in_branches_and_loops() -> None:
    q = tw.FIFOQueue(40, [tw.int32], [()])

    @tw.function
    def large_only(n):
        def yes():
            q.enqueue(n)
            return n

        return tw.cond(n > 2, yes, lambda: n * 0)

    for number in range(5):
        large_only(np.int32(number))
    assert int(q.size()) == 2 and q.dequeue_many(2).tolist() == [3, 4]

    @tw.function
    def count(n):
        def body(i):
            q.enqueue(i)
            return i + 1

        return tw.while_loop(lambda i: i < n, body, tw.asarray(np.int32(0)))

    count(np.int32(5))
    assert sorted(q.dequeue_many(5).tolist()) == [0, 1, 2, 3, 4]


def test_only_the_branch_that_is_taken_dequeues() -> None:
    graph = tw.Graph()
    with graph.as_default():
        one, two = (tw.FIFOQueue(4, [tw.int32], [()]) for _ in range(2))
        fill = [one.enqueue(1), two.enqueue(2)]
        which = tw.placeholder(tw.bool, (), name="which")
        taken = tw.cond(which, one.dequeue, lambda: two.dequeue() * 10)
        sizes = [one.size(), two.size()]
    with tw.Session(graph) as s:
        s.run(fill)
        assert int(s.run(taken, feeds={which: False})) == 20
        assert [int(n) for n in s.run(sizes)] == [1, 0]
        assert int(s.run(taken, feeds={which: True})) == 1


def test_a_queue_stays_on_its_device() -> None:
    """Operations on it go there, wherever they are asked for: its elements are in one place."""
    from thalweg.runtime.tracing import Ran, trace_steps

    before = len(tw.devices())
    tw.config.set_virtual_devices(cpu=2)
    try:
        graph = tw.Graph()
        with graph.as_default():
            with tw.device("/device:CPU:1"):
                q = tw.FIFOQueue(4, [tw.float32], [(2,)])
            x = tw.placeholder(tw.float32, (2,), name="x")
            with tw.device("/device:CPU:0"):
                push, y = q.enqueue(x * 2), q.dequeue() + 1
        with tw.Session(graph) as s, trace_steps() as recorded:
            s.run(push, feeds={x: np.ones(2, np.float32)})
            assert s.run(y).tolist() == [3, 3]
    finally:
        tw.config.set_virtual_devices(cpu=before)
    places = {(e.op, e.device[-5:]) for e in recorded.events if isinstance(e, Ran)}
    assert {("enqueue", "CPU:1"), ("dequeue", "CPU:1"), ("cluster", "CPU:0")} <= places
