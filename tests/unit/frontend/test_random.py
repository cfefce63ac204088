"""Random numbers: reproducible, in range, of the right distribution, the same eager and traced."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend import random
from thalweg.frontend.function import function

MAKERS = {
    "uniform": lambda **k: random.uniform((50,), **k), "normal": lambda **k: random.normal((50,), **k),
    "truncated_normal": lambda **k: random.truncated_normal((50,), **k), "bits": lambda **k: random.bits((50,), **k),
    "randint": lambda **k: random.randint(-3, 7, (50,), **k),
    "bernoulli": lambda **k: random.bernoulli(0.3, (50,), **k),
    "categorical": lambda **k: random.categorical(xp.zeros((5,)), num=50, **k),
    "exponential": lambda **k: random.exponential((50,), **k), "permutation": lambda **k: random.permutation(50, **k),
}  # fmt: skip


@pytest.mark.parametrize("name", MAKERS)
def test_a_key_decides(name):
    make = MAKERS[name]
    first = make(key=random.key(1)).tolist()
    assert first == make(seed=1).tolist() == function(lambda k: make(key=k))(random.key(1)).tolist()
    assert first != make(seed=2).tolist()


@pytest.mark.parametrize("name", MAKERS)
def test_without_a_key_each_call_gives_others(name):
    make = MAKERS[name]
    random.seed(7)
    eager = [make().tolist(), make().tolist()]
    assert eager[0] != eager[1]
    random.seed(7)
    traced = function(lambda: make())
    assert [traced().tolist(), traced().tolist()] == eager


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_ranges(dtype):
    u = np.asarray(random.uniform((20000,), seed=3, dtype=dtype)).astype(np.float64)
    assert u.min() >= 0 and u.max() < 1
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.005
    n = np.asarray(random.normal((20000,), seed=3, dtype=dtype)).astype(np.float64)
    assert np.isfinite(n).all() and abs(n.mean()) < 0.03 and abs(n.std() - 1) < 0.03
    t = np.asarray(random.truncated_normal((20000,), seed=3, dtype=dtype)).astype(np.float64)
    assert abs(t).max() <= 2 and abs(t.std() - 0.8796) < 0.02


def test_parameters():
    x = np.asarray(random.uniform((5000,), seed=0, low=-2, high=6))
    assert -2 <= x.min() < -1.9 and 5.9 < x.max() <= 6
    x = np.asarray(random.normal((5000,), seed=0, mean=10.0, stddev=0.1))
    assert abs(x.mean() - 10) < 0.01 and abs(x.std() - 0.1) < 0.01
    assert abs(np.asarray(random.exponential((20000,), seed=0)).mean() - 1) < 0.03
    assert (
        abs(np.asarray(random.bernoulli(xp.asarray([0.1, 0.9]), (20000, 2), seed=0)).mean(0) - [0.1, 0.9]).max() < 0.02
    )


def test_randint_covers_its_range():
    x = random.randint(-3, 7, (2000,), seed=0)
    assert x.dtype.name == "int32" and sorted(set(x.tolist())) == list(range(-3, 7))


def test_categorical_follows_its_probabilities():
    logits = np.log(np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-9]], np.float32))
    drawn = np.asarray(random.categorical(logits, seed=0, num=5000))
    assert drawn.shape == (2, 5000)
    share = [[(row == i).mean() for i in range(3)] for row in drawn]
    assert np.abs(np.array(share) - np.exp(logits)).max() < 0.03
    assert random.categorical(logits, seed=0, axis=0).shape == (3,)


def test_permutations():
    assert sorted(random.permutation(100, seed=0).tolist()) == list(range(100))
    x = xp.asarray(np.arange(12).reshape(6, 2))
    rows = random.permutation(x, seed=0).tolist()
    assert sorted(rows) == x.tolist() and rows != x.tolist()


def test_keys_split_and_fold():
    keys = [tuple(k.tolist()) for k in random.split(random.key(0), 100)]
    assert len(set(keys)) == 100
    folded = {tuple(random.fold_in(random.key(0), i).tolist()) for i in range(100)}
    assert len(folded) == 100 and not folded & set(keys)
    assert random.key(2**40 + 5).tolist() == [2**8, 5]


def test_generators_are_independent():
    a, b = random.Generator(1), random.Generator(1)
    assert a.key().tolist() == b.key().tolist() != a.key().tolist()
    a.reset(1)
    assert a.key().tolist() == random.Generator(1).key().tolist()


def test_misuse():
    with pytest.raises(TypeInferenceError, match="a key is u32"):
        random.normal((2,), key=xp.ones((2,)))
    with pytest.raises(TypeInferenceError, match="not both"):
        random.normal((2,), key=random.key(0), seed=0)
    with pytest.raises(TypeInferenceError, match="not int32"):
        random.normal((2,), seed=0, dtype="int32")
    with pytest.raises(TypeInferenceError, match="low < high"):
        random.randint(3, 3, (2,))
