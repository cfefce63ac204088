"""Initial values: their distributions, shapes, and that a seed fixes them."""

import math

import numpy as np
import pytest

from thalweg.frontend import initializers


def draw(initializer, shape=(400, 300), seed=0):
    return initializer(shape, np.random.default_rng(seed))


@pytest.mark.parametrize(
    "initializer, variance",
    [
        (initializers.glorot_uniform, 2 / 700),
        (initializers.glorot_normal, 2 / 700),
        (initializers.he_uniform, 2 / 400),
        (initializers.he_normal, 2 / 400),
        (initializers.lecun_uniform, 1 / 400),
        (initializers.lecun_normal, 1 / 400),
        (initializers.uniform(-0.5, 0.5), 1 / 12),
        (initializers.normal(0.3), 0.09),
    ],
)
def test_mean_and_variance(initializer, variance):
    values = draw(initializer)
    assert values.dtype == np.float32 and values.shape == (400, 300)
    assert abs(values.mean()) < 4 * math.sqrt(variance / values.size)
    assert values.var() == pytest.approx(variance, rel=0.02)
    np.testing.assert_array_equal(values, draw(initializer))
    assert (values != draw(initializer, seed=1)).mean() > 0.99


def test_fans_of_a_convolution_count_the_window():
    assert initializers.fans((5, 5, 3, 32)) == (75, 800)
    values = draw(initializers.he_normal, (5, 5, 16, 64))
    assert values.var() == pytest.approx(2 / 400, rel=0.03)


def test_truncated_values_stay_within_two_deviations():
    values = draw(initializers.truncated_normal(0.1, mean=1.0))
    assert np.abs(values - 1.0).max() <= 0.2
    assert np.abs(values - 1.0).max() > 0.19


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (3, 3, 4, 8)])
def test_orthogonal_matrices_are(shape):
    matrix = draw(initializers.orthogonal(2.0), shape).reshape(-1, shape[-1]).astype(np.float64)
    if matrix.shape[0] < matrix.shape[1]:
        matrix = matrix.T
    np.testing.assert_allclose(matrix.T @ matrix, 4 * np.eye(matrix.shape[1]), atol=1e-5)


def test_fixed_values():
    assert initializers.zeros((2,)).tolist() == [0, 0]
    assert initializers.ones((2,)).tolist() == [1, 1]
    assert draw(initializers.constant(0.5), (2,)).tolist() == [0.5, 0.5]


@pytest.mark.parametrize("initializer", [initializers.glorot_uniform, initializers.orthogonal()])
def test_a_vector_has_no_fans(initializer):
    with pytest.raises(ValueError, match=r"\(10,\)"):
        draw(initializer, (10,))
