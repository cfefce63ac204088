"""Sessions: what can be fetched and fed, what is said where it does not fit, and what is kept."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import thalweg as tw


class Small:
    """y = 2 x + w, and a counter."""

    def __init__(self) -> None:
        with tw.Graph("small").as_default() as self.graph:
            self.x = tw.placeholder(tw.float32, (None, 2), name="x")
            self.w = tw.Variable([10.0, 20.0], name="small/w")
            self.twice = tw.multiply(self.x, 2.0, name="twice")
            self.y = tw.add(self.twice, self.w, name="y")
            self.count = tw.Variable(0, name="small/count")
            self.tick = tw.group(self.count.assign_add(1), name="tick")
        self.session = tw.Session(self.graph)


@pytest.fixture
def small() -> Iterator[Small]:
    made = Small()
    with made.session:
        yield made


ONE = np.ones((1, 2), np.float32)
Pair = namedtuple("Pair", "first second")


def test_fetches_keep_their_structure(small: Small) -> None:
    fetches = {"y": "y:0", "rest": [small.twice, (small.tick, None)], "p": Pair("tick", small.w)}
    found = small.session.run(fetches, {"x": ONE})
    np.testing.assert_array_equal(found["y"], [[12, 22]])
    np.testing.assert_array_equal(found["rest"][0], [[2, 2]])
    assert found["rest"][1] == (None, None) and isinstance(found["rest"], list)
    assert isinstance(found["p"], Pair) and found["p"].first is None
    np.testing.assert_array_equal(found["p"].second, [10, 20])
    assert int(small.session.run(small.count)) == 1 == int(small.session.run(small.count.name))
    assert small.session.run(small.tick) is None and small.session.run(["tick", small.tick]) == [None, None]
    assert int(small.count.value) == 3, "fetched twice in one run it runs once"


def test_a_constant_may_be_fetched(small: Small) -> None:
    with small.graph.as_default():
        known, big = tw.asarray([1.0, 2.0]), tw.identity(tw.asarray(np.arange(1000.0)))
    found = small.session.run([known, big, small.y], {small.x: ONE})
    np.testing.assert_array_equal(found[0], [1, 2])
    np.testing.assert_array_equal(found[1], np.arange(1000.0))


def test_any_tensor_can_be_fed(small: Small) -> None:
    np.testing.assert_array_equal(small.session.run(small.y, {small.twice: ONE}), [[11, 21]])
    np.testing.assert_array_equal(small.session.run("y:0", {"twice:0": tw.ones((1, 2))}), [[11, 21]])
    np.testing.assert_array_equal(small.session.run(small.y, {small.y: ONE}), ONE)
    np.testing.assert_array_equal(small.session.run(small.y, {"x": [[1, 2.5]]}), [[12, 25]])
    np.testing.assert_array_equal(small.session.run(small.y, {small.x: ONE, small.twice: ONE}), [[11, 21]])


def test_results_of_one_op_may_be_fed_in_part() -> None:
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (3,), name="x")
        high, low = tw.cond(x[0] > 0, lambda: (x + 1.0, x - 1.0), lambda: (x, x))
        total = high + 10.0 * low
    with tw.Session(graph) as session:
        found = session.run(total, {x: [1.0, 2.0, 3.0], low: [0.0, 0.0, 0.0]})
    np.testing.assert_array_equal(found, [2, 3, 4])


@pytest.mark.parametrize(
    ("fetch", "feeds", "message"),
    [
        ("y:0", {}, r"placeholder 'x' \(f32\[\?,2\], made at .*\) is needed by the fetch 'y:0', and is not fed"),
        ("yy", {}, "no operation or variable 'yy'; did you mean 'y'"),
        ("yy:0", {}, "no operation 'yy'; did you mean 'y'"),
        (3.5, {}, "tensors, operations, variables and names can be fetched, got float"),
        ("y", {"z": 1}, "no operation 'z'"),
        ("y", {3: 1}, "tensors and their names can be fed, got int"),
        ("y:0", {"x:0": np.ones((1, 2))}, r"feed of 'x:0' must be f32\[\?,2\].*got a value of dtype float64. Convert"),
        ("y:0", {"x:0": np.ones((1, 3), np.float32)}, r"got a value of shape \(1, 3\)"),
        ("y:0", {"x:0": np.ones(2, np.float32)}, r"got a value of shape \(2,\)"),
        ("y:0", {"x:0": "text"}, "got 'text'"),
        ("y:0", {"x:0": ONE, "x": ONE}, "fed twice"),
    ],
)
def test_what_does_not_fit_is_said_with_the_users_line(small: Small, fetch: Any, feeds: Any, message: str) -> None:
    with pytest.raises(tw.GraphError, match=message) as told:
        small.session.run(fetch, feeds)
    assert "test_session.py" in str(told.value)


def test_handles_of_others(small: Small) -> None:
    other = Small()
    with pytest.raises(tw.GraphError, match=r"belongs to the graph 'small', not to|belongs to another graph"):
        small.session.run(other.y, {small.x: ONE})
    with pytest.raises(tw.GraphError, match="another graph"):
        small.session.run(other.tick)
    with pytest.raises(tw.GraphError, match="a variable cannot be fed"):
        small.session.run(small.y, {small.w: ONE})
    with small.graph.as_default():
        inner: list[Any] = []
        tw.cond(tw.asarray(True) & (small.x[0, 0] > 0), lambda: inner.append(small.x * 2) or 1.0, lambda: 2.0)
    with pytest.raises(tw.GraphError, match="belongs to the true branch"):
        small.session.run(inner[0], {small.x: ONE})


def test_numbers_must_be_in_range() -> None:
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.int8, (), name="x")
        y = x + 1
    with tw.Session(graph) as session:
        assert int(session.run(y, {x: 41})) == 42
        with pytest.raises(tw.GraphError, match="out of range"):
            session.run(y, {x: 300})
        with pytest.raises(tw.GraphError, match=r"got 1.5"):
            session.run(y, {x: 1.5})


def test_a_closed_session_says_so(small: Small) -> None:
    step = small.session.make_callable(small.y, [small.x])
    np.testing.assert_array_equal(step(ONE), [[12, 22]])
    small.session.close()
    for use in (lambda: small.session.run(small.w), lambda: step(ONE), small.session.reset):
        with pytest.raises(tw.GraphError, match="the session is closed"):
            use()
    np.testing.assert_array_equal(tw.Session(small.graph).run(small.w), [10, 20])


def test_a_session_needs_a_graph() -> None:
    with pytest.raises(tw.GraphError, match="give it a graph"):
        tw.Session()
    with pytest.raises(tw.GraphError, match=r"takes a tw.Graph, got int"):
        tw.Session(3)  # type: ignore[arg-type]
    with tw.Graph().as_default() as graph:
        assert tw.Session().graph is graph


def test_callables(small: Small) -> None:
    step = small.session.make_callable([small.y, small.tick], ["x:0"])
    for n in (1, 3, 1):
        y, nothing = step(np.ones((n, 2), np.float32))
        assert y.shape == (n, 2) and nothing is None
    assert int(small.count.value) == 3
    with pytest.raises(tw.GraphError, match="takes 1 values, got 2"):
        step(ONE, ONE)


def test_the_graph_may_grow(small: Small) -> None:
    small.session.run(small.y, {small.x: ONE})
    with small.graph.as_default():
        z = tw.sum(small.y, name="z")
    assert float(small.session.run(z, {small.x: ONE})) == 34
    assert float(small.session.run("z:0", {small.x: ONE})) == 34


def test_steps_are_kept_by_what_was_asked_for(small: Small) -> None:
    for _ in range(3):
        small.session.run(small.y, {small.x: ONE})
        small.session.run("y:0", {"x:0": ONE})
        small.session.run([small.y], {small.x: ONE})
    assert len(small.session._steps) == 1 and len(small.session._requests) == 3


def test_variables_are_shared(small: Small) -> None:
    @tw.function
    def outside() -> Any:
        small.w.assign_add([1.0, 1.0])
        return small.w * 1.0

    np.testing.assert_array_equal(outside(), [11, 21])
    np.testing.assert_array_equal(tw.Session(small.graph).run(small.w), [11, 21])
    small.w.assign([0.0, 0.0])
    np.testing.assert_array_equal(small.session.run(small.y, {small.x: ONE}), [[2, 2]])


def test_reset_gives_variables_their_initial_values() -> None:
    with tw.Graph().as_default() as graph:
        a = tw.Variable(tw.random.normal((2,), seed=3), name="reset/a", container="box")
        b = tw.Variable(1.0, name="reset/b")
        change = [a.assign_add([1.0, 1.0]), b.assign_add(1.0)]
    first = np.asarray(tw.random.normal((2,), seed=3))
    with tw.Session(graph) as session:
        session.run(change)
        session.reset(["box"])
        np.testing.assert_array_equal(session.run(a), first)
        assert float(session.run(b)) == 2
        session.reset([""])
        assert float(session.run(b)) == 1
    outside = tw.Variable(1.0, name="reset/outside")
    with pytest.raises(tw.TracingError, match="container='…'"):
        outside.reset()
