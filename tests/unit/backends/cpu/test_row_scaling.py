"""Rows that are divided by their norm are multiplied with its inverse; other divisions stay exact."""

from __future__ import annotations

import re

import numpy as np
import pytest

import thalweg as tw

X = np.random.default_rng(0).standard_normal((37, 130)).astype(np.float32)


def norm(x):
    return x / tw.sqrt(tw.mean(x * x, axis=-1, keepdims=True) + 1e-5)


def by_largest(x):
    return x / tw.max(x, axis=-1, keepdims=True)


def divisions(function) -> set[str]:
    text = tw.function(lambda x: function(x)).ir("kernels", X)
    return set(re.findall(r'(?:"arith.divf"\(.*-> |arith.divf .*: )(.*)', text))


@pytest.mark.parametrize(("function", "types"), [
    (norm, {"f32"}), (tw.softmax, {"f32"}), (by_largest, {"vector<16xf32>"}),
])  # fmt: skip
def test_divisions(function, types):
    assert divisions(function) == types


def test_numbers():
    wide = X.astype(np.float64)
    close = {"rtol": 1e-6, "atol": 1e-7}
    np.testing.assert_allclose(tw.function(norm)(X), wide / np.sqrt((wide**2).mean(-1, keepdims=True) + 1e-5), **close)
    e = np.exp(wide - wide.max(-1, keepdims=True))
    np.testing.assert_allclose(tw.function(tw.softmax)(X), e / e.sum(-1, keepdims=True), rtol=2e-6, atol=1e-8)
    assert np.asarray(tw.function(by_largest)(X)).max(-1).tolist() == [1.0] * len(X)
