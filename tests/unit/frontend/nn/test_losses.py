"""Losses against their definitions, their gradients, and their refusals."""

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend import nn

RNG = np.random.default_rng(0)
LOGITS = (RNG.normal(size=(4, 5)) * 3).astype(np.float32)
LABELS = np.array([0, 4, 2, 2], np.int32)


def probabilities(logits):
    weights = np.exp(logits.astype(float) - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def test_softmax_cross_entropy_of_classes():
    exact = -np.log(probabilities(LOGITS)[np.arange(4), LABELS])
    np.testing.assert_allclose(nn.softmax_cross_entropy(LOGITS, LABELS), exact, rtol=1e-5)


def test_softmax_cross_entropy_of_probabilities():
    target = probabilities(RNG.normal(size=(4, 5))).astype(np.float32)
    exact = -(target * np.log(probabilities(LOGITS))).sum(axis=-1)
    np.testing.assert_allclose(nn.softmax_cross_entropy(LOGITS, target), exact, rtol=1e-5)
    hard = nn.softmax_cross_entropy(LOGITS, nn.one_hot(LABELS, 5))
    np.testing.assert_allclose(hard, nn.softmax_cross_entropy(LOGITS, LABELS), rtol=1e-6)


def test_its_gradient_is_softmax_minus_one_hot():
    got = tw.grad(lambda x: tw.sum(nn.softmax_cross_entropy(x, LABELS)))(LOGITS)
    np.testing.assert_allclose(got, probabilities(LOGITS) - np.eye(5)[LABELS], rtol=1e-4, atol=1e-6)


def test_it_is_exact_for_huge_logits_and_nan_for_a_class_that_is_not_there():
    huge = np.array([[1e4, 0.0], [1e4, 0.0], [0.0, 0.0]], np.float32)
    got = np.asarray(nn.softmax_cross_entropy(huge, np.array([0, 1, 2], np.int32)))
    assert got[0] == 0 and got[1] == 1e4 and np.isnan(got[2])


def test_it_works_on_more_dimensions():
    logits, labels = RNG.normal(size=(2, 3, 5)).astype(np.float32), np.zeros((2, 3), np.int64)
    assert np.asarray(nn.softmax_cross_entropy(logits, labels)).shape == (2, 3)


def test_sigmoid_cross_entropy():
    x = np.array([-100.0, -1.0, 0.0, 2.0, 100.0], np.float32)
    z = np.array([0.0, 1.0, 0.5, 0.0, 0.0], np.float32)
    exact = np.maximum(x, 0) - x * z + np.log1p(np.exp(-np.abs(x.astype(float))))
    np.testing.assert_allclose(nn.sigmoid_cross_entropy(x, z), exact, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(nn.sigmoid_cross_entropy(x, z > 0.7), nn.sigmoid_cross_entropy(x, (z > 0.7) * 1.0))
    got = tw.grad(lambda v: tw.sum(nn.sigmoid_cross_entropy(v, z)))(x + 0.1)
    np.testing.assert_allclose(got, 1 / (1 + np.exp(-(x + 0.1).astype(float))) - z, rtol=1e-5, atol=1e-6)


def test_regression_losses():
    a, b = np.array([1.0, 2.0, 5.0], np.float32), np.array([1.5, 2.0, 1.0], np.float32)
    assert float(nn.mse(a, b)) == pytest.approx((0.25 + 16) / 3)
    np.testing.assert_allclose(nn.huber(a, b), [0.125, 0, 3.5])
    np.testing.assert_allclose(nn.huber(a, b, 0.1), [0.1 * 0.45, 0, 0.1 * 3.95], rtol=1e-5)
    np.testing.assert_allclose(nn.hinge(np.array([2.0, 0.5, -1.0], np.float32), np.array([1, 1, 1])), [0, 0.5, 2])
    assert float(nn.l2(a)) == pytest.approx(15)
    np.testing.assert_allclose(tw.grad(nn.l2)(a), a)


def test_one_hot():
    np.testing.assert_array_equal(nn.one_hot(np.array([2, 0, 7]), 3), [[0, 0, 1], [1, 0, 0], [0, 0, 0]])


@pytest.mark.parametrize(
    "loss, a, b",
    [
        (nn.softmax_cross_entropy, np.zeros((4, 5), np.float32), np.zeros((4, 1), np.int32)),
        (nn.softmax_cross_entropy, np.zeros((4, 5), np.float32), np.zeros(4, np.float32)),
        (nn.sigmoid_cross_entropy, np.zeros((4, 1), np.float32), np.zeros(4, np.float32)),
        (nn.mse, np.zeros((4, 1), np.float32), np.zeros(4, np.float32)),
        (nn.huber, np.zeros(3, np.float32), np.zeros(4, np.float32)),
        (nn.hinge, np.zeros(3, np.float32), np.zeros(1, np.float32)),
    ],
)
def test_shapes_that_would_broadcast_in_silence_are_refused(loss, a, b):
    with pytest.raises(ValueError, match="must have shape"):
        loss(a, b)
