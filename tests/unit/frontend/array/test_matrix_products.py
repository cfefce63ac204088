"""Matrix products, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from against_numpy import check, draw

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.frontend import array as xp


@pytest.mark.parametrize(("left", "right"), [
    ((2, 3), (3, 4)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3,)), ((5, 2, 3), (3, 4)), ((5, 2, 3), (5, 3, 4)),
    ((5, 1, 2, 3), (6, 3, 4)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((2, 0), (0, 3)),
])  # fmt: skip
def test_matmul(left, right):
    check(lambda a, b: a @ b, np.matmul, draw(left, "float32"), draw(right, "float32", seed=1))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "int8"])
def test_matmul_of_other_dtypes(dtype):
    a, b = draw((2, 3), dtype), draw((3, 4), dtype, seed=1)
    check(xp.matmul, lambda a, b: (a.astype(np.float64) @ b.astype(np.float64)).astype(a.dtype), a, b)


def test_matmul_promotes():
    check(xp.matmul, lambda a, b: a @ b.astype(np.float32), draw((2, 3), "float32"), draw((3, 4), "int32"))


@pytest.mark.parametrize(("left", "right", "problem"), [
    ((8, 16), (32, 4), r"inner dimensions differ: lhs f32\[8,16\] has 16, rhs f32\[32,4\] has 32. Transpose rhs"),
    ((), (2, 2), "at least one dimension"),
    ((2, 2, 3), (3, 3, 2), "shapes do not broadcast"),
])  # fmt: skip
def test_matmul_errors(left, right, problem):
    with pytest.raises(TypeInferenceError, match=rf"test_matrix_products.py:\d+: .*matmul: .*{problem}"):
        xp.matmul(xp.ones(left), xp.ones(right))


def test_tensordot_and_vecdot():
    a, b = draw((2, 3, 4), "float32"), draw((3, 4, 5), "float32", seed=1)
    check(xp.tensordot, np.tensordot, a, b)
    check(lambda a, b: xp.tensordot(a, b, axes=0), lambda a, b: np.tensordot(a, b, 0), a[0, 0], b[0, 0])
    check(lambda a, b: xp.tensordot(a, b, axes=([1], [0])), lambda a, b: np.tensordot(a, b, ([1], [0])), a, b)
    check(xp.vecdot, lambda a, b: (a * b).sum(-1), a, a)
    check(lambda a, b: xp.vecdot(a, b, axis=0), lambda a, b: (a * b).sum(0), a, a)
    with pytest.raises(TypeInferenceError, match="contracted dimensions differ"):
        xp.tensordot(xp.ones((2, 3)), xp.ones((2, 3)), axes=1)


@pytest.mark.parametrize("subscripts", [
    "ij,jk->ik", "ij,kj->ik", "ij,jk", "ij->ji", "ij->", "ii->i", "ii->", "i,i->", "i,j->ij", "bij,bjk->bik",
    "bij,bjk->ik", "...ij,...jk->...ik", "ij,jk,kl->il", "ijk->kj", "ij,ij->i", "...i->...", "bhqd,bhkd->bhqk",
])  # fmt: skip
def test_einsum(subscripts):
    extents = {"i": 3, "j": 3, "k": 4, "l": 2, "b": 2, "h": 3, "q": 4, "d": 5}
    parts = subscripts.partition("->")[0].split(",")
    shapes = [(2,) * ("..." in p) + tuple(extents[c] for c in p if c.isalpha()) for p in parts]
    arrays = [draw(s, "float32", seed=n) for n, s in enumerate(shapes)]
    check(lambda *xs: xp.einsum(subscripts, *xs), lambda *xs: np.einsum(subscripts, *xs), *arrays)


@pytest.mark.parametrize(("subscripts", "problem"), [
    ("ij,jk->ik", "names 2 operands"), ("ijk->k", "does not fit"), ("ij->k", "no operand has"), ("ij->ii", "or twice"),
])  # fmt: skip
def test_einsum_errors(subscripts, problem):
    with pytest.raises(TypeInferenceError, match=problem):
        xp.einsum(subscripts, xp.ones((2, 3)))


@pytest.mark.parametrize("offset", [-1, 0, 2, 5])
def test_diagonal_and_trace(offset):
    x = draw((2, 3, 4), "float32")
    check(lambda x: xp.diagonal(x, offset=offset), lambda x: np.diagonal(x, offset, -2, -1), x)
    check(lambda x: xp.trace(x, offset=offset), lambda x: np.trace(x, offset, -2, -1), x)


def test_small_products():
    a, b = draw((3,), "float32"), draw((4,), "float32", seed=1)
    check(xp.outer, np.outer, a, b)
    check(xp.kron, np.kron, draw((2, 3), "float32"), draw((3, 2), "float32", seed=1))


@pytest.mark.parametrize("order", [0, 1, 2, 3, np.inf, -np.inf])
def test_vector_norm(order):
    check(
        lambda x: xp.vector_norm(x, axis=1, ord=order),
        lambda x: np.linalg.norm(x, order, axis=1),
        draw((3, 4), "float32"),
    )
