"""Any part of a graph, with any tensors fed, gives what the same computation gives eagerly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import thalweg as tw

ROWS = 3
UNARY: dict[str, Callable[[Any], Any]] = {
    "tanh": tw.tanh,
    "negative": lambda x: -x,
    "mean": lambda x: x - tw.mean(x, axis=0, keepdims=True),
    "reversed": lambda x: x[::-1],
    "softmax": tw.nn.softmax,
    "cond": lambda x: tw.cond(tw.sum(x) > 0, lambda v: v * 2.0, lambda v: v - 1.0, x),
    "scan": lambda x: tw.scan(lambda c, row: (c + row, c * row), tw.zeros((2,)), x)[1],
    "called": tw.function(lambda x: tw.exp(-x * x)),
    "gradient": lambda x: tw.grad(lambda v: tw.sum(tw.tanh(v) ** 2))(x),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "multiply": lambda x, y: x * y,
    "where": lambda x, y: tw.where(x > 0, x, y),
    "matmul": lambda x, y: x @ (y.T @ y),
}


@dataclass(frozen=True)
class Recipe:
    """Ops, each on values made before it; which values are fetched, and which are fed."""

    steps: tuple[tuple[str, int, int], ...]
    fetches: tuple[int, ...]
    feeds: frozenset[int]
    is_open: bool
    seed: int

    def cook(self, values: list[Any], replaced: dict[int, Any]) -> list[Any]:
        """All values, those in `replaced` put in the place of what was computed."""
        values = [replaced.get(i, v) for i, v in enumerate(values)]
        for name, a, b in self.steps:
            x, y = values[a % len(values)], values[b % len(values)]
            made = UNARY[name](x) if name in UNARY else BINARY[name](x, y)
            values.append(replaced.get(len(values), made))
        return values


numbers = st.integers(0, 100)
recipes = st.builds(
    Recipe,
    st.lists(st.tuples(st.sampled_from([*UNARY, *BINARY]), numbers, numbers), min_size=1, max_size=7).map(tuple),
    st.lists(numbers, min_size=1, max_size=3).map(tuple),
    st.frozensets(numbers, max_size=3),
    st.booleans(),
    numbers,
)


@settings(max_examples=25, deadline=None)
@given(recipes)
def test_pruned_and_fed_programs_give_what_eager_computation_gives(recipe: Recipe) -> None:
    rng = np.random.default_rng(recipe.seed)
    inputs = [rng.normal(size=(ROWS, 2)).astype(np.float32) for _ in range(2)]
    with tw.Graph().as_default() as graph:
        shape = (None if recipe.is_open else ROWS, 2)
        placeholders = [tw.placeholder(tw.float32, shape) for _ in inputs]
        values = recipe.cook(list(placeholders), {})
    fed = {i % len(values): rng.normal(size=(ROWS, 2)).astype(np.float32) for i in sorted(recipe.feeds)}
    wanted = [i % len(values) for i in recipe.fetches]
    feeds: dict[Any, Any] = {**dict(zip(placeholders, inputs, strict=True)), **{values[i]: a for i, a in fed.items()}}
    expected = recipe.cook([tw.asarray(a) for a in inputs], {i: tw.asarray(a) for i, a in fed.items()})
    with tw.Session(graph) as session:
        found = session.run([values[i] for i in wanted], feeds)
    for i, value in zip(wanted, found, strict=True):
        np.testing.assert_allclose(value, expected[i], rtol=2e-5, atol=1e-5)
