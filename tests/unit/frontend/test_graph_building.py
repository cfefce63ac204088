"""Graphs: operations by name, order without data, building from threads."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend.tensor import TracedTensor


def test_operations_have_names() -> None:
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (2,), name="x")
        y = tw.add(x, x, name="y")
        again = tw.add(x, x, name="y")
        plain = x * x
        high, index = tw.unstack(tw.stack([x, x]), name="parts")
    assert isinstance(y, TracedTensor) and isinstance(plain, TracedTensor)
    assert (x.name, y.name, again.name, plain.name) == ("x:0", "y:0", "y_1:0", "mul:0")
    assert (high.name, index.name) == ("parts:0", "parts_1:0")
    assert graph.tensor("y:0") is y and graph.operation("y").outputs == (y,)
    assert [o.name for o in graph.operations()][:3] == ["x", "y", "y_1"]
    assert graph.operation("y").inputs == (x,) and graph.operation("y").type == "add"
    assert repr(graph.operation("y")) == "<tw.Operation 'y' type=add>"


def test_scopes_come_before_names() -> None:
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (2,), name="x")
        with tw.name_scope("layer") as name, tw.name_scope("inner"):
            tw.exp(x, name="y")
        with tw.name_scope("layer") as second:
            tw.nn.softmax(x, name="y")
    assert (name, second) == ("layer", "layer_1")
    names = {o.name for o in graph.operations()}
    assert {"layer/inner/y", "layer_1/y", "layer_1/y/exp"} <= names
    with tw.name_scope("nothing") as free:
        assert free == "nothing"


def test_identity_names_what_has_a_name_already() -> None:
    with tw.Graph().as_default():
        x = tw.placeholder(tw.float32, (2,), name="x")
        same = tw.identity(x, name="same")
        reshaped = tw.reshape(x, (2,), name="reshaped")
        constant = tw.identity(tw.asarray([1.0, 2.0]), name="constant")
    assert [t.name for t in (same, reshaped, constant)] == ["same:0", "reshaped:0", "constant:0"]
    assert tw.identity(tw.asarray(3.0)).tolist() == 3 and tw.exp(0.0, name="free").tolist() == 1


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda g: g.operation("yy"), "no operation 'yy'; did you mean 'y'"),
        (lambda g: g.tensor("yy:0"), "no operation 'yy'; did you mean 'y'"),
        (lambda g: g.tensor("y"), "called operation:port, got 'y'. Did you mean 'y:0'"),
        (lambda g: g.tensor("y:1"), "has 1 results"),
    ],
)
def test_unknown_names_say_so(ask, message: str) -> None:
    with tw.Graph().as_default() as graph:
        tw.exp(tw.placeholder(tw.float32, ()), name="y")
    with pytest.raises(tw.GraphError, match=message) as told:
        ask(graph)
    assert "test_graph_building.py" in str(told.value)


def test_tensors_of_a_graph_belong_to_it() -> None:
    with tw.Graph("first").as_default():
        x = tw.placeholder(tw.float32, (2,))
    with pytest.raises(tw.LeakedTensorError, match=r"belongs to the graph 'first'.*as_default"):
        x + 1
    with tw.Graph("second").as_default(), pytest.raises(tw.LeakedTensorError, match="graph 'first'"):
        x + 1
    with pytest.raises(tw.TracingError, match=r"tw.Session\(graph\).run"):
        bool(x)
    with pytest.raises(tw.TracingError, match=r"tw.placeholder belongs in a graph"):
        tw.placeholder(tw.float32)

    @tw.function
    def f(a):
        return a.name

    with pytest.raises(tw.TracingError, match="has no name"):
        f(tw.ones(2))


def test_order_without_data() -> None:
    with tw.Graph().as_default() as graph:
        w = tw.Variable(0.0, name="ordered")
        first = w.assign_add(1.0)
        with tw.control_dependencies([first]):
            second = w.assign_add(1.0)
            with tw.control_dependencies([second]):
                x = tw.asarray([1.0]) * 2.0 + w.value
            with tw.control_dependencies(None):
                free = w.assign_add(1.0)
        both = tw.group(first, [second, None], name="both")
    assert isinstance(first, tw.Operation) and isinstance(x, TracedTensor)
    assert second.control_inputs == (first,) and free.control_inputs == ()
    assert graph.operation(x.name.removesuffix(":0")).control_inputs == (first, second)
    assert both.name == "both" and both.control_inputs == (first, second)
    with graph.as_default(), pytest.raises(tw.GraphError, match="no operation 'missing'"):
        tw.group("missing")
    with tw.Graph().as_default(), pytest.raises(tw.TracingError, match="expected operations and tensors"):
        tw.group(first)


def test_several_threads_build_one_graph() -> None:
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (), name="x")
    made: list[TracedTensor] = []

    def build(number: int) -> None:
        with graph.as_default(), tw.name_scope(f"part{number}"):
            y = x
            for _ in range(20):
                y = tw.cond(y > 0, lambda v: v + 1.0, lambda v: v, y) * 1.0
            made.append(tw.add(y, float(number), name="y"))

    threads = [threading.Thread(target=build, args=(n,), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 4 and {t.name for t in made} == {f"part{n}/y:0" for n in range(4)}
    with tw.Session(graph) as session:
        found = session.run({n: f"part{n}/y:0" for n in range(4)}, feeds={x: 1.0})
    assert {n: float(v) for n, v in found.items()} == {n: 21.0 + n for n in range(4)}


def test_variables_get_their_memory_when_they_are_used() -> None:
    with tw.Graph().as_default() as graph:
        a = tw.Variable(tw.random.normal((3,), seed=1), name="lazy/a")
        b = tw.Variable(a.value * 2.0, name="lazy/b")
        c = tw.Variable(lambda: tw.ones((2, 2)) * 3.0, name="lazy/c", dtype="float64")
        d = tw.Variable(np.arange(3), name="lazy/d")
    assert (c.shape, c.dtype, d.dtype) == ((2, 2), tw.float64, tw.int64)
    assert a._buffer is None and b.initial_program() is not None and d.initial_program() is None
    with tw.Session(graph) as session:
        np.testing.assert_array_equal(session.run(b), 2 * np.asarray(tw.random.normal((3,), seed=1)))
    assert a._buffer is not None and c._buffer is None
    np.testing.assert_array_equal(c.value, np.full((2, 2), 3.0))


def test_a_variable_reads_in_the_order_of_the_graph() -> None:
    with tw.Graph().as_default() as graph:
        w = tw.Variable(1.0, name="order")
        before = w + 0.0
        add = w.assign_add(1.0)
        after = w + 0.0
    with tw.Session(graph) as session:
        assert [float(v) for v in session.run([before, after])] == [1, 1], "an assignment that is not fetched"
        found = session.run({"before": before, "add": add, "after": after, "w": w})
        assert found["add"] is None
        assert [float(found[k]) for k in ("before", "after", "w")] == [1, 2, 2]
