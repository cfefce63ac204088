"""cond, while_loop and scan: eager and traced give the same."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.control import cond, scan, while_loop
from thalweg.frontend.function import function
from thalweg.frontend.variable import Variable


def both(f):
    """The function as it is, and traced."""
    return [f, function(f)]


def test_cond_runs_one_branch():
    for f in both(lambda x: cond(xp.sum(x) > 0, lambda v: v * 2, lambda v: v - 1, x)):
        assert f(xp.asarray([1.0, 2.0])).tolist() == [2, 4]
        assert f(xp.asarray([-1.0, -2.0])).tolist() == [-2, -3]


def test_cond_takes_and_returns_structures():
    for f in both(lambda t: cond(t["n"], lambda t: (t["x"], {"k": 1.5}), lambda t: (t["x"] * 2, {"k": 0}), t)):
        first, second = f({"n": xp.asarray(1), "x": xp.ones((2,))}), f({"n": xp.asarray(0), "x": xp.ones((2,))})
        assert (first[0].tolist(), float(first[1]["k"])) == ([1, 1], 1.5)
        assert (second[0].tolist(), float(second[1]["k"])) == ([2, 2], 0)


def test_a_python_bool_chooses_while_tracing():
    f = function(lambda x, deep=True: cond(deep, lambda: x * 2, lambda: "anything else"))
    assert f(xp.ones((1,))).tolist() == [2]
    assert "tw.cond" not in f.ir("tw", xp.ones((1,)))


def test_branches_change_variables():
    w = Variable(0.0, name="branches")

    @function
    def step(x):
        cond(x > 0, lambda: [w.assign_add(x), None][1:], lambda: [None])
        return w.value

    assert [float(step(xp.asarray(v))) for v in (1.0, -5.0, 2.0)] == [1, 1, 3]


def test_while_loop():
    for f in both(lambda x: while_loop(lambda i, v: i < 10, lambda i, v: (i + 1, v + v), (0, x))):
        count, doubled = f(xp.asarray(1.0))
        assert (int(count), float(doubled), count.dtype.name) == (10, 1024, "int32")


def test_while_loop_with_one_structure():
    start = {"x": 100.0, "steps": 0}
    for f in both(
        lambda: while_loop(lambda s: s["x"] > 1, lambda s: {"x": s["x"] / 2, "steps": s["steps"] + 1}, start)
    ):
        assert int(f()["steps"]) == 7


def test_a_while_loop_that_never_runs():
    for f in both(lambda x: while_loop(lambda v: v < 0, lambda v: (v * 2,), (x,))):
        assert f(xp.asarray(1.0))[0].tolist() == 1


def test_a_python_number_starts_in_the_dtype_that_the_body_gives():
    x = xp.asarray(np.ones(3))
    for f in both(lambda x: scan(lambda c, r: (c + r, None), 0, x)[0]):
        assert f(x).dtype.name == "float64"
    for f in both(lambda x: while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, v + x[0]), (0, 1))[1]):
        assert (f(x).dtype.name, float(f(x))) == ("float64", 3)


def test_scan():
    x = xp.asarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    for f in both(lambda x: scan(lambda carry, row: (carry + row, carry * row), xp.zeros((3,)), x)):
        final, stacked = f(x)
        assert final.tolist() == [3, 5, 7]
        assert stacked.tolist() == [[0, 0, 0], [0, 4, 10]]


def test_scan_of_structures_in_reverse():
    xs = {"a": np.arange(3, dtype=np.float32), "b": np.ones((3, 2), np.float32)}

    def body(carry, row):
        return {"s": carry["s"] + row["a"]}, (carry["s"], {"b": row["b"] * carry["s"]}, None)

    for f in both(lambda xs: scan(body, {"s": 0.0}, xs, reverse=True)):
        final, (seen, nested, nothing) = f(xs)
        assert (float(final["s"]), seen.tolist(), nothing) == (3, [3, 2, 0], None)
        assert nested["b"].tolist() == [[3, 3], [2, 2], [0, 0]]


def test_scan_by_length_and_of_nothing():
    for f in both(lambda: scan(lambda c, _: (c * 2, c), 1, length=4)):
        final, stacked = f()
        assert (int(final), stacked.tolist()) == (16, [1, 2, 4, 8])
    final, stacked = scan(lambda c, r: (c + r, r), xp.asarray(1.0), xp.zeros((0,)))
    assert (float(final), stacked.shape) == (1, (0,))


def test_loops_nest():
    def f(x):
        def outer(carry, row):
            inner = while_loop(
                lambda i, v: i < 2, lambda i, v: (i + 1, cond(v > 4, lambda: v - 1, lambda: v * 2)), (0, row)
            )
            return carry + inner[1], None

        return scan(outer, 0.0, x)[0]

    for run in both(f):
        assert [float(run(xp.asarray([v]))) for v in (1.0, 3.0, 6.0)] == [4, 5, 4]
        assert float(run(xp.asarray([1.0, 3.0, 6.0]))) == 13


def test_loops_change_variables():
    w = Variable(0.0, name="loops")
    f = function(lambda x: scan(lambda c, r: (c, w.assign_add(r).value), 0.0, x)[1])
    assert f(xp.asarray([1.0, 2.0])).tolist() == [1, 3]
    assert float(w) == 3


@pytest.mark.parametrize(("call", "problem"), [
    (lambda x: cond(x[0] > 0, lambda: x, lambda: x[0]), "cond: the branches return different types: result is f32[2]"),
    (lambda x: cond(x[0] > 0, lambda: x, lambda: (x, x)), "cond: the branches return different structures"),
    (lambda x: cond(x > 0, lambda: x, lambda: x), "the predicate must be one value, got bool[2]"),
    (lambda x: while_loop(lambda v: v[0] < 3, lambda v: (v[:1],), (x,)), "while_loop: carry[0] starts as f32[2]"),
    (lambda x: while_loop(lambda v: v[0] < 3, lambda v: v, (x,)), "while_loop: the loop starts with the structure"),
    (lambda x: while_loop(lambda v: v < 3, lambda v: (v,), (x,)), "the predicate must be one value"),
    (lambda x: scan(lambda c, r: (c + x, r), x[0], x), "scan: carry starts as f32[]"),
    (lambda x: scan(lambda c, r: c, x[0], x), "the body must return a pair"),
    (lambda x: scan(lambda c, r: (c, r), x, x[0]), "which has no rows"),
    (lambda x: scan(lambda c, r: (c, r), x, (x, x[:1])), "with 1 rows where 2 are expected"),
    (lambda x: scan(lambda c, r: (c, r), x), "give xs, or the number of iterations"),
])  # fmt: skip
def test_misuse(call, problem):
    for f in (function(call), *([call] if "branches" not in problem else [])):
        with pytest.raises(TypeInferenceError) as caught:
            f(xp.ones((2,)))
        assert problem in str(caught.value)
        assert "test_control.py:" in str(caught.value)


def test_branches_with_python_numbers_never_cut_them_off():
    for other in (lambda x: 1, lambda x: xp.asarray(3), lambda x: x > 0):
        with pytest.raises(TypeInferenceError, match="branches return different types"):
            function(lambda p, x, other=other: cond(p, lambda: other(x), lambda: 2.5))(False, 1.0)
    assert float(function(lambda p: cond(p, lambda: 2.5, lambda: 1))(False)) == 1.0
    half = function(lambda p, x: cond(p, lambda: x, lambda: 0.5))(False, xp.asarray(3.0, dtype="bfloat16"))
    assert half.dtype.name == "bfloat16" and float(half) == 0.5
