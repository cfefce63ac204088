"""Models over placeholders with open extents compute, bit for bit, what the program of each size computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import thalweg as tw

RNG = np.random.default_rng(7)


def weights(*shapes: tuple[int, ...]) -> list[tw.Variable]:
    return [tw.Variable((RNG.normal(size=s) * 0.3).astype(np.float32), name="open/weight") for s in shapes]


def mlp(w: list[tw.Variable], x: tw.Tensor, labels: tw.Tensor) -> tw.Tensor:
    hidden = tw.nn.layer_norm(x @ w[0], w[1], w[2])
    return tw.mean(tw.nn.softmax_cross_entropy(tw.nn.gelu(hidden) @ w[3], labels))


def convnet(w: list[tw.Variable], x: tw.Tensor, labels: tw.Tensor) -> tw.Tensor:
    y = tw.nn.relu(tw.nn.conv(x, w[0], padding="same"))
    y = tw.nn.max_pool(y, 2)
    y = tw.nn.relu(tw.nn.conv(y, w[1], stride=2, padding="valid"))
    y = tw.reshape(y, (y.shape[0], -1))
    return tw.mean(tw.nn.softmax_cross_entropy(y @ w[2], labels))


def attention(w: list[tw.Variable], x: tw.Tensor, labels: tw.Tensor) -> tw.Tensor:
    query, key, value = (tw.expand_dims(x @ m, axis=1) for m in w[:3])
    seen = tw.squeeze(tw.nn.attention(query, key, value, causal=True), axis=1)
    pooled = tw.mean(seen, axis=1) + tw.std(seen, axis=1)
    return tw.mean(tw.nn.softmax_cross_entropy(pooled @ w[3], labels))


def recurrent(w: list[tw.Variable], x: tw.Tensor, labels: tw.Tensor) -> tw.Tensor:
    def step(state: Any, row: tw.Tensor) -> Any:
        state = tw.tanh(row @ w[0] + state @ w[1])
        return state, tw.sum(state, axis=1)

    start = tw.zeros((x.shape[0], 5))
    last, sums = tw.scan(step, start, tw.permute_dims(x, (1, 0, 2)))
    return tw.mean(tw.nn.softmax_cross_entropy(last @ w[2], labels)) + tw.var(sums)


def embedding(w: list[tw.Variable], x: tw.Tensor, labels: tw.Tensor) -> tw.Tensor:
    found = tw.take(w[0], x, axis=0)
    return tw.mean(tw.nn.softmax_cross_entropy(tw.mean(found, axis=1) @ w[1], labels))


def pairs(w: list[tw.Variable], x: tw.Tensor, labels: tw.Tensor) -> tw.Tensor:
    y = tw.concat([x @ w[0], x @ w[0] * 2.0], axis=0)
    both = tw.concat([labels, labels], axis=0)
    return tw.mean(tw.nn.softmax_cross_entropy(y[::-1][:-1], both[1:])) + tw.mean(tw.log_softmax(y) ** 2)


Model = Callable[[list[tw.Variable], Any, Any], tw.Tensor]
MODELS: dict[str, tuple[Model, tuple[int | None, ...], list[tuple[int, ...]]]] = {
    "mlp": (mlp, (None, 6), [(6, 8), (8,), (8,), (8, 3)]),
    "convnet": (convnet, (None, 8, 8, 2), [(3, 3, 2, 4), (2, 2, 4, 3), (12, 3)]),
    "attention": (attention, (None, None, 4), [(4, 4), (4, 4), (4, 4), (4, 3)]),
    "recurrent": (recurrent, (None, 4, 4), [(4, 5), (5, 5), (5, 3)]),
    "recurrent in time": (recurrent, (None, None, 4), [(4, 5), (5, 5), (5, 3)]),
    "embedding": (embedding, (None, None), [(7, 4), (4, 3)]),
    "pairs": (pairs, (None, 4), [(4, 3)]),
}


@pytest.mark.parametrize("name", MODELS)
def test_value_and_gradients_are_those_of_the_static_program(name: str) -> None:
    model, shape, sizes = MODELS[name]
    w = weights(*sizes)
    integers = name == "embedding"

    def both(x: Any, labels: Any) -> Any:
        value, grads = tw.value_and_grad(lambda: model(w, x, labels), wrt=w)()
        return value, [g.dense() if isinstance(g, tw.IndexedSlices) else g for g in grads]

    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.int32 if integers else tw.float32, shape, name="x")
        labels = tw.placeholder(tw.int32, (None,), name="labels")
        fetches = both(x, labels)
    static = tw.function(both)
    with tw.Session(graph) as session:
        step = session.make_callable(fetches, [x, labels])
        for rows, time in ((3, 5), (1, 2), (4, 4), (3, 5)):
            extents = [n or (rows, time)[i] for i, n in enumerate(shape)]
            given = RNG.integers(0, 7, extents) if integers else RNG.normal(size=extents)
            given = given.astype(np.int32 if integers else np.float32)
            wanted = RNG.integers(0, 3, rows).astype(np.int32)
            value, grads = step(given, wanted)
            expected, expected_grads = static(given, wanted)
            np.testing.assert_array_equal(value, expected)
            for g, e in zip(grads, expected_grads, strict=True):
                np.testing.assert_array_equal(g, e)


def test_sizes_that_disagree_are_told_with_both_feeds() -> None:
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (None, 2), name="x")
        y = tw.placeholder(tw.float32, (None, 2), name="y")
        total = tw.sum(x * y)
        table = tw.sum(tw.matmul(x, y.T) * 2.0)
    with tw.Session(graph) as session, pytest.raises(Exception, match=r"x:0' f32.3,2.") as told:
        session.run(total, {x: np.ones((3, 2), np.float32), y: np.ones((5, 2), np.float32)})
    assert "y:0' f32[5,2]" in str(told.value) and "test_open_extents.py" in str(told.value)
    with tw.Session(graph) as session, pytest.raises(Exception, match=r"disagree.*tw.placeholder"):
        session.run(table, {x: np.ones((3, 2), np.float32), y: np.ones((5, 2), np.float32)})


def test_extents_with_names_are_free_of_each_other() -> None:
    with tw.Graph().as_default() as graph:
        support = tw.placeholder(tw.float32, ("support", 2), name="support")
        query = tw.placeholder(tw.float32, ("query", 2), name="query")
        again = tw.placeholder(tw.float32, ("query",), name="again")
        scores = tw.mean((query * 2.0) @ (support + 1.0).T, axis=1) + again
    assert scores.shape == (None,) and query.shape != support.shape
    a, b = RNG.normal(size=(3, 2)).astype(np.float32), RNG.normal(size=(5, 2)).astype(np.float32)
    with tw.Session(graph) as session:
        found = session.run(scores, {support: a, query: b, again: np.ones(5, np.float32)})
    np.testing.assert_allclose(found, ((b * 2) @ (a + 1).T).mean(axis=1) + 1, rtol=1e-5)


def test_the_shape_is_none_and_goes_where_shapes_go() -> None:
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (None, 4), name="x")
        twice = tw.reshape(x, (x.shape[0] * 2, 2))
        ones = tw.ones((x.shape[0], 3)) + tw.zeros_like(x)[:, :3]
        wide = tw.broadcast_to(x[:, None], (x.shape[0], 2, 4))
        noise = tw.random.uniform((x.shape[0], 2), seed=1)
        rows = tw.extent(x, 0)
        assert x.shape == (None, 4) and repr(x.shape) == "(None, 4)" and x.size is None
        assert str(x.type) == "f32[?,4]" and twice.shape == (None, 2)
        for wrong in (lambda: 1 / x.shape[0], lambda: range(x.shape[0]), lambda: len(x), lambda: float(x.shape[0])):
            with pytest.raises(tw.TracingError, match=r"tw\.extent"):
                wrong()
        with pytest.raises(tw.TypeInferenceError, match=r"tw\.extent"):
            tw.asarray(x.type.shape[0]) + tw.astype(x, tw.int64)
        with pytest.raises(tw.TypeInferenceError, match=r"tw.scan"):
            tw.unstack(x)
    with tw.Session(graph) as session:
        found = session.run([twice, ones, wide, noise, rows], {x: np.ones((3, 4), np.float32)})
    assert [t.shape for t in found] == [(6, 2), (3, 3), (3, 2, 4), (3, 2), ()] and int(found[4]) == 3
    np.testing.assert_array_equal(found[3], tw.random.uniform((3, 2), seed=1))


def test_moving_statistics_over_an_open_batch() -> None:
    eager, lazy = tw.nn.BatchNorm(3), tw.nn.BatchNorm(3)
    with tw.Graph().as_default() as graph:
        x = tw.placeholder(tw.float32, (None, 3), name="x")
        y = lazy(x, training=True)
    with tw.Session(graph) as session:
        for rows in (4, 7):
            given = RNG.normal(size=(rows, 3)).astype(np.float32)
            np.testing.assert_allclose(session.run(y, {x: given}), eager(given, training=True), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(lazy.variance.value, eager.variance.value, rtol=1e-6)
            np.testing.assert_allclose(lazy.mean.value, eager.mean.value, rtol=1e-6, atol=1e-7)
