"""First values are computed where variables live."""

import numpy as np
import pytest
from deadlines import Background

import thalweg as tw

pytestmark = pytest.mark.timeout(120)


def outside(compute):
    """What is computed at once: a thread of its own builds no graph."""
    thread = Background(lambda: np.asarray(compute()))
    thread.join(60)
    return thread.result


def sent(victims):
    """Bytes that this process has sent to tasks."""
    return sum(t.sent_bytes for t in victims.cluster._master._transport.traffic().values())


def test_a_table_does_not_pass_through_the_client(victims, graph):
    with tw.device(victims.ps):
        table = tw.Variable(tw.random.normal((500_000, 8), seed=7), name="table")
        corner = table[:2] * 1.0
    before = sent(victims)
    with tw.Session(graph, target=victims.cluster) as session:
        found = session.run(corner)
        assert sent(victims) - before < 1e6, "16 MB are its values"
        assert table._buffer is None, "this process has no copy of it"
    np.testing.assert_array_equal(found, outside(lambda: tw.random.normal((500_000, 8), seed=7))[:2])


def test_values_that_depend_on_other_variables(victims, graph):
    base = tw.Variable(np.full(4, 3, np.float32), name="base")
    with tw.device(victims.ps):
        double = tw.Variable(base.value * 2.0, name="double")
    with tw.device(victims.workers[0]):
        more = tw.Variable(double.value + tw.random.normal((4,), seed=1), name="more")
    with tw.Session(graph, target=victims.cluster) as session:
        np.testing.assert_array_equal(session.run(double), np.full(4, 6))
        np.testing.assert_array_equal(session.run(more), 6 + outside(lambda: tw.random.normal((4,), seed=1)))


def test_keys_without_a_seed_are_different_and_go_on_here(victims, graph):
    with tw.device(victims.ps):
        first = tw.Variable(tw.random.normal((1000,)), name="first")
        second = tw.Variable(tw.random.normal((1000,)), name="second")
    with tw.Session(graph, target=victims.cluster) as session:
        a, b = (np.asarray(v) for v in session.run([first, second]))
    counter = tw.random.default_generator().counter.numpy()
    assert counter >= 2 and not np.allclose(a, b)


def test_a_reset_and_an_order_to_begin_again_compute_it_again(victims, graph):
    with tw.device(victims.workers[1]):
        w = tw.Variable(tw.arange(5, dtype=tw.float32) * 2.0, name="w")
        add = w.assign_add(tw.ones((5,)))
    wanted = np.arange(5) * 2
    with tw.Session(graph, target=victims.cluster) as session:
        session.run(add)
        np.testing.assert_array_equal(session.run(w), wanted + 1)
        victims.cluster.initialise(w)
        np.testing.assert_array_equal(session.run(w), wanted)
        session.run(add)
        session.reset([""])
        np.testing.assert_array_equal(session.run(w), wanted)


def test_a_value_that_cannot_be_computed_is_an_error_that_names_the_line(victims, graph):
    with tw.device(victims.ps):
        queue = tw.FIFOQueue(capacity=1, dtypes=[tw.float32], shapes=[(2,)], name="values")
        close = queue.close()
        w = tw.Variable(queue.dequeue(), name="w")
    with tw.Session(graph, target=victims.cluster) as session:
        session.run(close)
        with pytest.raises(tw.OutOfRangeError, match=r"test_first_values.py:\d+.*closed.*\[/job:ps/task:0\]"):
            session.run(w)
