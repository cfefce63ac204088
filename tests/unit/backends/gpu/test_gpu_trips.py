"""Loops whose number of trips is known before they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_programs import check, lowered, numbers

import thalweg as tw
from thalweg.backends.cpu.program import Loop
from thalweg.backends.gpu.trips import trip_count
from thalweg.dialects import context

X = numbers(3, 4)


def _counted(start: int, test: Callable[[Any], Any], step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda x: tw.while_loop(lambda i, a: test(i), lambda i, a: (step(i), a * 1.5), (start, x))[1]


def _trips(function: Callable[..., Any], *arguments: Any) -> list[int | None]:
    with context.entered():
        steps = lowered(function, *arguments).program.steps
        return [trip_count(step) for step in steps if isinstance(step, Loop)]


@pytest.mark.parametrize(
    ("start", "test", "step", "trips"),
    [
        (0, lambda i: i < 1000, lambda i: i + 1, 1000),
        (3, lambda i: i < 10, lambda i: i + 2, 4),
        (3, lambda i: i <= 9, lambda i: 3 + i, 3),
        (-2, lambda i: i < -5, lambda i: i + 1, 0),
        (0, lambda i: i < 9, lambda i: i * 2 + 1, None),
        (9, lambda i: i > 0, lambda i: i + -2, 5),
        (9, lambda i: i >= 0, lambda i: i + -1, 10),
        (9, lambda i: i > 0, lambda i: i + 1, None),
        (0, lambda i: (i < 9) & (i != 4), lambda i: i + 1, None),
    ],
)
def test_counted_loops(start: int, test: Any, step: Any, trips: int | None) -> None:
    assert _trips(_counted(start, test, step), X) == [trips]


def test_what_only_a_run_tells_is_not_known() -> None:
    grow = lambda a: a * 1.5  # noqa: E731
    assert _trips(lambda x: tw.while_loop(lambda a: tw.sum(a) < 9, grow, x), X) == [None]
    assert _trips(lambda x, n: tw.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, grow(a)), (0, x))[1], X, 4) == [
        None
    ]


def test_loops_over_rows_and_their_gradients(tmp_path: Path) -> None:
    def last(x: Any) -> Any:
        return tw.sum(tw.scan(lambda c, row: (tw.tanh(c * row) + row, None), tw.ones((4,)), x)[0])

    assert _trips(tw.grad(last), X) == [3, 3]
    pytest.importorskip("triton")
    check(tw.grad(last), X, folder=tmp_path)


def test_numbers_of_counted_loops(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    w = np.eye(4, dtype=np.float32) / 2
    body = lambda i, a: (i + 1, tw.tanh(a @ w) + tw.astype(i, tw.float32))  # noqa: E731
    check(lambda x: tw.while_loop(lambda i, a: i < 5, body, (0, x))[1], X, folder=tmp_path)
