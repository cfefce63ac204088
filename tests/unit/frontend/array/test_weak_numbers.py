"""A Python number given to a traced function as data behaves as the same number written in the function."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.frontend import array as xp
from thalweg.frontend import random
from thalweg.frontend.control import cond, scan, while_loop
from thalweg.frontend.function import function
from thalweg.frontend.gradient import grad
from thalweg.frontend.tree import leaves_of

X = np.array([0.5, 1.5, 2.5], np.float16)

USES = {
    "arithmetic": lambda s: (s + 1, s * 2.5, 2**s, s / 2, s // 2, s % 2, -s, abs(s) if not isinstance(s, float) else s),
    "with an array": lambda s: (X * 1 + s, xp.maximum(X, s), xp.pow(xp.asarray(X), s), xp.where(X > 1, X, s)),
    "chains": lambda s: X * xp.asarray(1, dtype="float16") * (s * 2 - 1) / 3,
    "alone": lambda s: (xp.tanh(s), xp.square(s), xp.floor(s), xp.sign(s), xp.isnan(s), xp.logical_not(s)),
    "reductions": lambda s: (xp.sum(s), xp.mean(s), xp.max(s), xp.logsumexp(s), xp.var(s)),
    "shapes": lambda s: (xp.stack([s, s]), xp.reshape(s, 1), xp.broadcast_to(s, (2,)), xp.full((2,), s)),
    "casts": lambda s: (xp.astype(s, "float64"), xp.astype(s, "bool"), xp.asarray(s, dtype="int8")),
    "updates": lambda s: (xp.asarray(X).at[0].set(s), xp.asarray(X).at[1].add(s), xp.clip(X, 0, s)),
    "control": lambda s: (cond(s, lambda: X, lambda: -X), scan(lambda c, _: (c * s, c), s, length=3)),
    "loops": lambda s: while_loop(lambda i, v: i < s, lambda i, v: (i + 1, v + s), (0, 0.0)),
    "random": lambda s: random.normal((3,), seed=0, stddev=s),
    "gradients": lambda s: grad(lambda x: xp.sum(x * s))(xp.asarray(X)),
}


@pytest.mark.parametrize("number", [3, 2, 1.25, True], ids=repr)
@pytest.mark.parametrize("use", USES)
def test_data_and_literals_agree(use, number):
    if number is True and use in ("arithmetic", "alone", "chains", "with an array", "control"):
        number = 1  # bools have no arithmetic
    by_data = leaves_of(function(USES[use])(number))
    by_literal = leaves_of(function(lambda: USES[use](number))())
    for data, literal in zip(by_data, by_literal, strict=True):
        literal = xp.asarray(literal)
        assert (data.dtype, data.shape) == (literal.dtype, literal.shape)
        np.testing.assert_allclose(np.asarray(data), np.asarray(literal), rtol=1e-6)


INDICES = [
    lambda x, i: x[i],
    lambda x, i: xp.take(x, i, axis=0),
    lambda x, i: x.at[i].set(0),
    lambda x, i: xp.one_hot(i, 3),
    lambda x, i: xp.dynamic_slice(x, (i,), (1,)),
]


@pytest.mark.parametrize("use", INDICES)
def test_as_indices(use):
    x = xp.asarray(X)
    np.testing.assert_array_equal(function(use)(x, 1), function(lambda x: use(x, 1))(x))
