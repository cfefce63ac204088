"""Sampled softmax and noise-contrastive estimation: equal to their definitions, right in the limit, and sparse."""

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
PROBABILITY = np.log((np.arange(CLASSES) + 2) / (np.arange(CLASSES) + 1)) / np.log(CLASSES + 1)  # of one draw


def test_classes_are_drawn_log_uniformly():
    drawn = np.asarray(nn.log_uniform(tw.random.key(0), 40_000, CLASSES))
    assert drawn.min() == 0 and drawn.max() == CLASSES - 1
    counts = np.bincount(drawn, minlength=CLASSES)
    expected = PROBABILITY * len(drawn)
    assert ((counts - expected) ** 2 / expected).sum() < 100  # chi square with 49 degrees of freedom: p < 1e-4


def test_probability_of_being_drawn():
    sets = np.asarray(nn.log_uniform(tw.random.key(1), 20 * 4000, CLASSES)).reshape(4000, 20)
    inside = np.array([[k in chosen for k in (0, 7, 31)] for chosen in map(set, sets.tolist())]).mean(axis=0)
    got = np.asarray(nn.log_uniform_probability(LABELS, 20, CLASSES))
    np.testing.assert_allclose(got, 1 - (1 - PROBABILITY[LABELS]) ** 20, rtol=1e-4)
    np.testing.assert_allclose(inside, got, atol=0.03)


def transcribed(drawn, remove_hits=True):
    """Corrected logits of the true classes and the set of drawn ones, in NumPy."""
    corrected = INPUTS.astype(float) @ WEIGHT.T + BIAS - np.log(1 - (1 - PROBABILITY) ** len(drawn))
    chosen = np.unique(drawn)
    true, noise = corrected[np.arange(BATCH), LABELS], corrected[:, chosen]
    if remove_hits:
        noise = np.where(chosen == LABELS[:, None], -np.inf, noise)
    return true, noise


def test_sampled_softmax_is_the_softmax_over_the_drawn_classes():
    drawn = np.asarray(nn.log_uniform(tw.random.key(5), 20, CLASSES))
    got = nn.sampled_softmax(WEIGHT, BIAS, INPUTS, LABELS, tw.random.key(5), samples=20)
    true, noise = transcribed(drawn)
    np.testing.assert_allclose(got, np.log(np.exp(true) + np.exp(noise).sum(axis=1)) - true, rtol=1e-4)
    assert (drawn == LABELS[:, None]).any(), "the seed should draw a true class"
    assert len(np.unique(drawn)) < 20, "the seed should draw a class twice"


def test_nce_is_a_sum_of_binary_losses():
    drawn = np.asarray(nn.log_uniform(tw.random.key(5), 20, CLASSES))
    true, noise = transcribed(drawn, remove_hits=False)
    expected = np.log1p(np.exp(-true)) + np.log1p(np.exp(noise)).sum(axis=1)
    got = nn.nce(WEIGHT, BIAS, INPUTS, LABELS, tw.random.key(5), samples=20)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_with_many_samples_it_approaches_the_full_softmax():
    got = nn.sampled_softmax(WEIGHT, BIAS, INPUTS, LABELS, tw.random.key(0), samples=3000)
    full = nn.softmax_cross_entropy(INPUTS @ WEIGHT.T + BIAS, LABELS)
    np.testing.assert_allclose(got, full, rtol=1e-3, atol=1e-3)


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
