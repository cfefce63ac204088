"""Clipping, dense and sparse."""

import numpy as np
import pytest

import thalweg as tw

DENSE = np.array([[3.0, -4.0], [0.5, 0.0]], np.float32)


def sparse():
    """Rows 1, 0, 1: dense [[0, 1], [3, 4]] of three rows."""
    values = tw.asarray(np.array([[1.0, 4.0], [0.0, 1.0], [2.0, 0.0]], np.float32))
    return tw.IndexedSlices(tw.asarray(np.array([1, 0, 1], np.int32)), values, (3, 2))


def dense_of(slices):
    table = np.zeros(slices.dense_shape, np.float32)
    inside = np.asarray(slices.indices) < len(table)
    np.add.at(table, np.asarray(slices.indices)[inside], np.asarray(slices.values)[inside])
    return table


def test_by_value():
    np.testing.assert_array_equal(tw.optim.clip_by_value(DENSE, -1.0, 1.0), np.clip(DENSE, -1, 1))
    clipped = dense_of(tw.optim.clip_by_value(sparse(), -1.0, 2.0))
    np.testing.assert_array_equal(clipped, [[0, 1], [2, 2], [0, 0]])


def test_by_norm_scales_only_what_is_longer():
    norm = np.linalg.norm(DENSE)
    np.testing.assert_allclose(tw.optim.clip_by_norm(DENSE, 2.0), DENSE * 2 / norm, rtol=1e-6)
    np.testing.assert_allclose(tw.optim.clip_by_norm(DENSE, 100.0), DENSE, rtol=1e-6)
    assert np.linalg.norm(dense_of(tw.optim.clip_by_norm(sparse(), 1.0))) == pytest.approx(1.0, rel=1e-6)


def test_by_global_norm_counts_duplicates_of_a_sparse_gradient_as_their_sum():
    (a, b), before = tw.optim.clip_by_global_norm([tw.asarray(DENSE), sparse()], 1.0)
    wanted = np.sqrt((DENSE**2).sum() + 26)
    assert float(before) == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(a, DENSE / wanted, rtol=1e-6)
    np.testing.assert_allclose(dense_of(b), np.array([[0, 1], [3, 4], [0, 0]]) / wanted, rtol=1e-6)


def test_a_norm_that_is_not_finite_does_not_hide():
    (clipped,), _ = tw.optim.clip_by_global_norm([np.array([np.inf, 1.0], np.float32)], 1.0)
    assert np.isnan(np.asarray(clipped)).any()


def test_no_gradients_have_no_norm():
    with pytest.raises(ValueError, match="no gradients"):
        tw.optim.global_norm([])
