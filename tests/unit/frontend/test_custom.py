"""custom_gradient and checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.custom import checkpoint, custom_gradient
from thalweg.frontend.function import function
from thalweg.frontend.gradient import grad


@custom_gradient
def limited(x):
    """The identity, its gradient limited to [-1, 1]."""
    return x, lambda dy: xp.clip(dy, -1, 1)


@custom_gradient
def product(a, tree, *, scale=1.0):
    """A product of an array and two in a dict, whose gradient is not the true one."""
    b, c = tree["b"], tree["c"]
    return (a * b, c * scale), lambda d, e: (d, {"b": e, "c": None})


def test_the_function_itself_is_unchanged():
    assert limited(xp.asarray([3.0])).tolist() == [3]
    assert function(limited)(xp.asarray([3.0])).tolist() == [3]
    assert limited.__doc__.startswith("The identity")


def test_its_gradient_replaces_the_true_one():
    for slope in (grad(lambda x: xp.sum(limited(x) * 5.0)), function(grad(lambda x: xp.sum(limited(x) * 5.0)))):
        assert slope(xp.asarray([3.0, 4.0])).tolist() == [1, 1]


def test_structures_options_and_none():
    def loss(a, tree):
        first, second = product(a, tree, scale=2.0)
        return xp.sum(first) + 10 * xp.sum(second)

    one = xp.ones((2,))
    da, tree = grad(loss, argnums=(0, 1))(one, {"b": one * 3, "c": one * 7})
    assert (da.tolist(), tree["b"].tolist(), tree["c"].tolist()) == ([1, 1], [10, 10], [0, 0])


def test_backward_may_use_forward_values_and_is_differentiable():
    @custom_gradient
    def cube(x):
        y = x * x
        return y * x, lambda dy: dy * y * 30.0

    assert grad(cube)(xp.asarray(2.0)).tolist() == 120
    assert grad(grad(cube))(xp.asarray(2.0)).tolist() == 120


def test_wrong_number_of_cotangents():
    wrong = custom_gradient(lambda a, b: (a * b, lambda dy: dy))
    with pytest.raises(TypeInferenceError, match=r"test_custom.py:\d+:.*returns 1 cotangents for 2 arguments"):
        grad(lambda x: wrong(x, x))(xp.asarray(1.0))


def test_checkpoint_keeps_values_and_gradients():
    def f(x):
        return xp.sum(xp.exp(xp.sin(x)) * x)

    x = xp.asarray(np.linspace(0, 1, 5))
    assert checkpoint(f)(x).tolist() == f(x).tolist()
    np.testing.assert_allclose(grad(checkpoint(f))(x), grad(f)(x))
    assert '"tw.checkpoint"' in function(grad(checkpoint(f))).ir("tw", x)


def test_checkpoint_passes_structures():
    f = checkpoint(lambda tree, n=2: {"y": tree["x"] * n, "name": "n"})
    result = function(f)({"x": xp.ones((2,))})
    assert (result["y"].tolist(), result["name"]) == ([2, 2], "n")
