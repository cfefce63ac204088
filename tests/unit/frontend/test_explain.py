"""Function.explain: which program runs, or what makes the function trace again."""

from __future__ import annotations

import numpy as np

from thalweg.frontend import array as xp
from thalweg.frontend.function import function
from thalweg.frontend.variable import Variable

RATE = 0.1


def test_before_the_first_call():
    f = function(lambda x: x)
    found = f.explain(xp.ones((2,)))
    assert found.traces and found.program is None
    assert "lambda(x: f32[2]), defined at " in str(found)
    assert "would trace: it has not been traced yet" in repr(found)
    assert f.trace_count == 0


def test_what_is_cached():
    f = function(lambda x: x)
    f(xp.ones((2,)))
    found = f.explain(xp.zeros((2,)))
    assert (found.traces, found.program, found.changes) == (False, 1, ())
    assert "runs program 1, traced for the call at" in str(found) and "test_explain.py" in str(found)


def test_arguments():
    @function
    def f(tree, n, scale=2.0):
        return tree["a"] * n * scale

    f({"a": xp.ones((2,))}, 1)
    changes = {
        "argument 'tree['a']': was f32[2], is f32[3] (another shape)": ({"a": xp.ones((3,))}, 1),
        "argument 'tree['a']': was f32[2], is f32[2,1] (another rank)": ({"a": xp.ones((2, 1))}, 1),
        "argument 'tree['a']': was f32[2], is f64[2] (another dtype)": ({"a": np.ones(2)}, 1),
        "argument 'n': was a Python int, is a Python float (another dtype)": ({"a": xp.ones((2,))}, 1.0),
        "argument 'n': was a Python int, is i64[] (a Python number against an array)": (
            {"a": xp.ones((2,))},
            np.int64(1),
        ),
        "argument 'scale': was 2.0, is 3.0 (static values are part of the program)": ({"a": xp.ones((2,))}, 1, 3.0),
        "argument 'tree': the structure was {'a': *}, is {'b': *}": ({"b": xp.ones((2,))}, 1),
    }
    for change, arguments in changes.items():
        found = f.explain(*arguments)
        assert found.traces
        assert found.changes == (change,)
        assert change in str(found)


def test_the_nearest_program_is_compared():
    f = function(lambda x, y: x)
    f(xp.ones((2,)), xp.ones((2,)))
    f(xp.ones((3,)), xp.ones((3,)))
    found = f.explain(xp.ones((3,)), xp.ones((4,)))
    assert found.program == 2
    assert found.changes == ("argument 'y': was f32[3], is f32[4] (another shape)",)


def test_closures_globals_and_variables():
    w = Variable([1.0], name="first")
    depth = 2

    @function
    def f(x):
        return x * RATE * depth + w

    f(xp.ones((1,)))
    depth = 3
    assert f.explain(xp.ones((1,))).changes == ("closure variable 'depth': was 2, is 3",)
    depth = 2
    globals()["RATE"] = 0.2
    assert f.explain(xp.ones((1,))).changes == ("global 'RATE': was 0.1, is 0.2",)
    globals()["RATE"] = 0.1
    assert not f.explain(xp.ones((1,))).traces
    w = Variable([1.0], name="second")
    (change,) = f.explain(xp.ones((1,))).changes
    assert change.startswith("closure variable 'w': was Variable [1]")
