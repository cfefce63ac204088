"""Sampled softmax and noise-contrastive estimation: right on average, sparse, and equal to their definitions."""

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend import nn

CLASSES, FEATURES, BATCH = 50, 4, 3
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(CLASSES, FEATURES)).astype(np.float32)
BIAS = RNG.normal(size=(CLASSES,)).astype(np.float32)
INPUTS = RNG.normal(size=(BATCH, FEATURES)).astype(np.float32)
LABELS = np.array([0, 7, 31], np.int32)


def test_classes_are_drawn_log_uniformly():
    drawn = np.asarray(nn.log_uniform(tw.random.key(0), 40_000, CLASSES))
    assert drawn.min() == 0 and drawn.max() == CLASSES - 1
    counts = np.bincount(drawn, minlength=CLASSES)
    expected = np.asarray(nn.log_uniform_counts(np.arange(CLASSES), len(drawn), CLASSES))
    assert expected.sum() == pytest.approx(len(drawn), rel=1e-5)
    assert ((counts - expected) ** 2 / expected).sum() < 100  # chi square with 49 degrees of freedom: p < 1e-4


def transcribed(drawn, remove_hits=True):
    """The loss for given drawn classes, in NumPy."""
    log_q = np.log(np.log((np.arange(CLASSES) + 2) / (np.arange(CLASSES) + 1)) / np.log(CLASSES + 1) * len(drawn))
    corrected = INPUTS.astype(float) @ WEIGHT.T + BIAS - log_q
    true, noise = corrected[np.arange(BATCH), LABELS], corrected[:, drawn]
    if remove_hits:
        noise = np.where(drawn == LABELS[:, None], -np.inf, noise)
    return true, noise


def test_sampled_softmax_is_the_softmax_over_the_drawn_classes():
    drawn = np.asarray(nn.log_uniform(tw.random.key(5), 20, CLASSES))
    got = nn.sampled_softmax(WEIGHT, BIAS, INPUTS, LABELS, tw.random.key(5), samples=20)
    true, noise = transcribed(drawn)
    expected = np.log(np.exp(true) + np.exp(noise).sum(axis=1)) - true
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert (drawn == LABELS[:, None]).any(), "the seed should draw a true class"


def test_nce_is_a_sum_of_binary_losses():
    drawn = np.asarray(nn.log_uniform(tw.random.key(5), 20, CLASSES))
    true, noise = transcribed(drawn, remove_hits=False)
    expected = np.log1p(np.exp(-true)) + np.log1p(np.exp(noise)).sum(axis=1)
    got = nn.nce(WEIGHT, BIAS, INPUTS, LABELS, tw.random.key(5), samples=20)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_with_many_samples_it_approaches_the_full_softmax():
    got = nn.sampled_softmax(WEIGHT, BIAS, INPUTS, LABELS, tw.random.key(0), samples=20_000)
    full = nn.softmax_cross_entropy(INPUTS @ WEIGHT.T + BIAS, LABELS)
    np.testing.assert_allclose(got, full, rtol=0.05, atol=0.05)


def test_gradients_of_weight_and_bias_are_sparse():
    weight, bias = tw.Variable(WEIGHT, name="weight"), tw.Variable(BIAS, name="bias")
    generator = tw.random.Generator(0)

    @tw.function
    def gradients():
        def loss():
            return tw.mean(nn.sampled_softmax(weight, bias, INPUTS, LABELS, generator.key(), samples=5))

        return tw.grad(loss, wrt=[weight, bias])()

    for gradient, shape in zip(gradients(), [(8, FEATURES), (8,)], strict=True):
        assert isinstance(gradient, tw.IndexedSlices) and np.asarray(gradient.values).shape == shape


def test_shapes_are_checked():
    with pytest.raises(ValueError, match=r"\[batch, features\]"):
        nn.sampled_softmax(WEIGHT, BIAS, INPUTS, LABELS[:2], tw.random.key(0), samples=5)
