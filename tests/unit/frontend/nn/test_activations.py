"""Activations against their formulas in float64, and where they are easily wrong: large arguments."""

import math

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend import nn

X = np.array([-90.0, -20.0, -3.5, -1.0, -0.1, 0.0, 0.1, 1.0, 3.5, 20.0, 90.0])

CASES = {
    "relu": (nn.relu, lambda x: max(x, 0)),
    "relu6": (nn.relu6, lambda x: min(max(x, 0), 6)),
    "leaky_relu": (lambda x: nn.leaky_relu(x, 0.2), lambda x: x if x > 0 else 0.2 * x),
    "elu": (lambda x: nn.elu(x, 1.5), lambda x: x if x > 0 else 1.5 * math.expm1(x)),
    "selu": (nn.selu, lambda x: 1.0507009873554805 * (x if x > 0 else 1.6732632423543772 * math.expm1(x))),
    "sigmoid": (nn.sigmoid, lambda x: 1 / (1 + math.exp(-x))),
    "log_sigmoid": (nn.log_sigmoid, lambda x: -math.log1p(math.exp(-x)) if x > 0 else x - math.log1p(math.exp(x))),
    "softplus": (nn.softplus, lambda x: max(x, 0) + math.log1p(math.exp(-abs(x)))),
    "softsign": (nn.softsign, lambda x: x / (1 + abs(x))),
    "tanh": (nn.tanh, math.tanh),
    "silu": (nn.silu, lambda x: x / (1 + math.exp(-x))),
    "mish": (nn.mish, lambda x: x * math.tanh(max(x, 0) + math.log1p(math.exp(-abs(x))))),
    "gelu": (nn.gelu, lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2)))),
    "gelu_tanh": (
        lambda x: nn.gelu(x, approximate=True),
        lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "hard_sigmoid": (nn.hard_sigmoid, lambda x: min(max(x / 6 + 0.5, 0), 1)),
}


@pytest.mark.parametrize("name", CASES)
def test_values(name):
    function, formula = CASES[name]
    got = np.asarray(function(X.astype(np.float32)))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [formula(x) for x in X.astype(np.float32).astype(float)], rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_the_slopes_and_finite_everywhere(name):
    function, formula = CASES[name]
    smooth = X[np.abs(X) != 0]
    got = np.asarray(tw.grad(lambda x: tw.sum(function(x)))(smooth.astype(np.float32)))
    step = 1e-6
    slopes = [(formula(x + step) - formula(x - step)) / (2 * step) for x in smooth]
    np.testing.assert_allclose(got, slopes, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_family(axis):
    x = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32) * 5
    exact = np.exp(x.astype(float)) / np.exp(x.astype(float)).sum(axis=axis, keepdims=True)
    np.testing.assert_allclose(nn.softmax(x, axis=axis), exact, rtol=1e-5)
    np.testing.assert_allclose(nn.log_softmax(x, axis=axis), np.log(exact), rtol=1e-5, atol=1e-6)
    summed = np.log(np.exp(x.astype(float)).sum(axis=axis))
    np.testing.assert_allclose(nn.logsumexp(x, axis=axis), summed, rtol=1e-5)
    assert np.asarray(nn.logsumexp(x, axis=axis, keepdims=True)).ndim == 2


def test_softmax_does_not_overflow():
    x = np.array([[1e4, 0.0, -1e4]], np.float32)
    np.testing.assert_array_equal(nn.softmax(x), [[1, 0, 0]])
    np.testing.assert_array_equal(nn.log_softmax(x), [[0, -1e4, -2e4]])
    np.testing.assert_array_equal(nn.logsumexp(x, axis=1), [1e4])
    assert np.asarray(nn.logsumexp(np.full((1, 2), -np.inf, np.float32), axis=1))[0] == -np.inf


def test_gradient_of_softmax_is_its_jacobian():
    x = np.array([0.3, -1.0, 2.0], np.float32)
    p = np.asarray(nn.softmax(x))
    got = np.asarray(tw.grad(lambda v: nn.softmax(v)[1])(x))
    np.testing.assert_allclose(got, p[1] * (np.eye(3)[1] - p), rtol=1e-5, atol=1e-7)
