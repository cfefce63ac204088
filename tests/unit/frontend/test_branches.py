"""switch_case and case: eager and traced give the same, one branch runs, misfits are told."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.branches import case, switch_case
from thalweg.frontend.function import function
from thalweg.frontend.gradient import grad

X = xp.asarray([1.0, 2.0])


def chosen(branches, index, default=None) -> tuple[list[float], list[float]]:
    """What eager and traced calls of switch_case give."""

    def f(i, x):
        return switch_case(i, branches, x, default=default)

    return f(xp.asarray(index), X).tolist(), function(f)(xp.asarray(index), X).tolist()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("index", [-9, -1, 0, 1, 2, 4, 7, 100])
def test_a_list_of_branches_is_clamped(count: int, index: int) -> None:
    branches = [lambda x, k=k: x * 10 + k for k in range(count)]
    k = min(max(index, 0), count - 1)
    assert chosen(branches, index) == ([10 + k, 20 + k], [10 + k, 20 + k])


@pytest.mark.parametrize("index", [-2, -1, 0, 1, 2, 3, 4, 5, 9])
def test_a_dictionary_with_a_default(index: int) -> None:
    branches = {5: lambda x: x * 5, 0: lambda x: x * 0, 1: lambda x: x, 3: lambda x: x * 3}
    factor = index if index in branches else -1
    assert chosen(branches, index, lambda x: -x) == ([factor, 2 * factor],) * 2


@pytest.mark.parametrize("index", [0, 3, 4, 5, 9])
def test_a_dictionary_without_a_default_takes_the_nearest_below(index: int) -> None:
    factor = 5 if index >= 5 else 3
    assert chosen({5: lambda x: x * 5, 3: lambda x: x * 3}, index) == ([factor, 2 * factor],) * 2


def test_a_python_index_chooses_while_tracing() -> None:
    f = function(lambda x, which=1: switch_case(which, [lambda: 1 / 0, lambda: x + 1]))
    assert f(X).tolist() == [2, 3]
    assert "tw.cond" not in f.ir("tw", X)


def test_case_takes_the_first_that_holds() -> None:
    def f(x):
        return case([(x < 0, lambda: -x), (x > 9, lambda: 9.0), (x > 5, lambda: x * 100)], lambda: x)

    for value, wanted in ((-3.0, 3), (12.0, 9), (7.0, 700), (2.0, 2)):
        assert float(f(xp.asarray(value))) == float(function(f)(xp.asarray(value))) == wanted


def test_a_python_bool_ends_the_list_of_cases() -> None:
    f = function(lambda x, deep=True: case([(x < 0, lambda: -x), (deep, lambda: x * 2)], lambda: 1 / 0))
    assert [float(f(xp.asarray(v))) for v in (-1.0, 4.0)] == [1, 8]


def test_gradients_go_through_the_branch_that_ran() -> None:
    def f(i, x):
        return xp.sum(switch_case(i, [lambda v: v**2, lambda v: v**3, lambda v: xp.sin(v)], x))

    for index, slope in enumerate((lambda x: 2 * x, lambda x: 3 * x**2, np.cos)):
        got = function(lambda i, x: grad(lambda x: f(i, x))(x))(xp.asarray(index), X)
        np.testing.assert_allclose(got.numpy(), slope(X.numpy()), rtol=1e-6)


def test_branches_must_agree() -> None:
    differ = r"test_branches.py:\d+: .*f32\[2\] in branch 0 and i32\[\] in branch 2"
    with pytest.raises(TypeInferenceError, match=differ):
        function(lambda i, x: switch_case(i, [lambda: x, lambda: x * 2, lambda: xp.asarray(1)]))(xp.asarray(0), X)
    with pytest.raises(TypeInferenceError, match="case: the branches return different structures"):
        function(lambda x: case([(x > 0, lambda: (x, x))], lambda: x))(xp.asarray(1.0))


def test_what_is_no_branch() -> None:
    with pytest.raises(TypeInferenceError, match="there are no branches"):
        switch_case(0, [])
    with pytest.raises(TypeInferenceError, match="the index must be one integer"):
        switch_case(xp.asarray(0.5), [lambda: 1])
    with pytest.raises(TypeError, match="takes a function"):
        case([(True, 3)], lambda: 1)
