"""Factorisations as StableHLO loops, through the interpreter, against NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from thalweg.backends.stablehlo import factorize, jacobi
from thalweg.backends.stablehlo.expressions import Array, tensor
from thalweg.backends.stablehlo.interpreter import evaluate
from thalweg.dialects import context
from thalweg.dialects.mlir import func_dialect, ir

RANDOM = np.random.default_rng(0)


def run(function: Callable[[Array], Sequence[Array]], a: np.ndarray) -> list[np.ndarray]:
    """Build a function of one f64 array, and run it in StableHLO's interpreter."""
    with context.entered():
        module = ir.Module.create()
        with ir.InsertionPoint(module.body):
            main = func_dialect.FuncOp("main", ([tensor(a.shape, "f64")], []))
            block = main.add_entry_block()
            with ir.InsertionPoint(block):
                results = [array.value for array in function(Array(block.arguments[0]))]
                ir.Operation.create("func.return", [], results)
        kind = ir.FunctionType.get([block.arguments[0].type], [value.type for value in results])
        main.operation.attributes["function_type"] = ir.TypeAttr.get(kind)
        return evaluate(module, [a])


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 4), (1, 5, 3), (1, 3, 5)])
def test_lu(shape: tuple[int, ...]) -> None:
    a = RANDOM.standard_normal(shape)
    packed, pivots = run(factorize.lu, a)
    for matrix, factors, swaps in zip(a, packed, pivots, strict=True):
        rows, columns = matrix.shape
        steps = min(rows, columns)
        lower = np.tril(factors[:, :steps], -1) + np.eye(rows, steps)
        permuted = matrix.copy()
        for k, p in enumerate(swaps):
            permuted[[k, p]] = permuted[[p, k]]
        np.testing.assert_allclose(lower @ np.triu(factors[:steps]), permuted, atol=1e-12)
        assert np.abs(lower).max() <= 1 + 1e-12, "partial pivoting keeps multipliers at most 1"


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 4), (1, 5, 3)])
def test_qr(shape: tuple[int, ...]) -> None:
    a = RANDOM.standard_normal(shape)
    r, q = run(
        lambda x: (factorize.householder_qr(x)[0], factorize.householder_product(*factorize.householder_qr(x))), a
    )
    for matrix, upper, basis in zip(a, r, q, strict=True):
        columns = matrix.shape[1]
        np.testing.assert_allclose(basis @ np.triu(upper[:columns]), matrix, atol=1e-12)
        np.testing.assert_allclose(basis.T @ basis, np.eye(columns), atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_symmetric_eigenvalues(n: int) -> None:
    a = RANDOM.standard_normal((2, n, n))
    a = a + a.transpose(0, 2, 1)
    values, vectors = run(jacobi.eigh, a)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(a), atol=1e-12)
    np.testing.assert_allclose(vectors @ (values[..., None] * vectors.transpose(0, 2, 1)), a, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 4, 3), (1, 3, 5)])
@pytest.mark.parametrize("full", [False, True])
def test_singular_values(shape: tuple[int, ...], full: bool) -> None:
    a = RANDOM.standard_normal(shape)
    values, u, v = run(lambda x: jacobi.svd(x, full), a)
    steps = min(shape[1:])
    np.testing.assert_allclose(values, np.linalg.svd(a, compute_uv=False), atol=1e-12)
    np.testing.assert_allclose(u[:, :, :steps] @ (values[..., None] * v[:, :steps]), a, atol=1e-12)
    np.testing.assert_allclose(
        u.transpose(0, 2, 1) @ u, np.broadcast_to(np.eye(u.shape[2]), (shape[0], *[u.shape[2]] * 2)), atol=1e-12
    )


def test_singular_vectors_of_a_singular_matrix_are_orthonormal() -> None:
    a = RANDOM.standard_normal((1, 4, 1)) @ RANDOM.standard_normal((1, 1, 3))
    values, u, _ = run(lambda x: jacobi.svd(x, False), a)
    assert values[0, 1] < 1e-12
    np.testing.assert_allclose(u[0].T @ u[0], np.eye(3), atol=1e-9)
