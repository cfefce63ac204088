"""What gradients are where calculus leaves a choice, or where a careless rule divides by zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
import pytest
from gradient_checks import check, pulled
from ir_programs import evaluate, program

from thalweg.dialects.attributes import array_type
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops import indexing, reduce, shape, window
from thalweg.dialects.ops.contraction import dot_general
from thalweg.dialects.types import float32, float64, int32
from thalweg.passes.rewriting import full_like

V = ir.Value


def gradient(body: Callable[..., V], *arrays: object, wrt: Sequence[int] = (0,)) -> list[np.ndarray]:
    """The cotangents of the sum of a one-result body."""
    inputs = [np.asarray(a, np.float64) if not isinstance(a, np.ndarray) else a for a in arrays]

    def main(*xs: V) -> list[V]:
        return pulled(body, xs, [full_like(body(*xs), 1)], wrt)

    return evaluate(program([array_type(a) for a in inputs], main), inputs)


@pytest.mark.parametrize(
    ("name", "body", "inputs", "wanted"),
    [
        ("max of equals", ew.max, ([1.0, 2, 3], [2.0, 2, 2]), [[0, 0.5, 1], [1, 0.5, 0]]),
        ("min of equals", ew.min, ([1.0, 2, 3], [2.0, 2, 2]), [[1, 0.5, 0], [0, 0.5, 1]]),
        ("relu at 0", lambda x: ew.max(x, full_like(x, 0)), ([-1.0, 0, 1],), [[0, 0, 1]]),
        ("relu the other way round", lambda x: ew.max(full_like(x, 0), x), ([-1.0, 0, 1],), [[0, 0, 1]]),
        ("abs at 0", ew.abs, ([-2.0, 0, 2],), [[-1, 1, 1]]),
        ("largest of equals", lambda x: reduce.reduce_max(x, axes=(0,)), ([3.0, 1, 3],), [[0.5, 0, 0.5]]),
        ("product with a zero", lambda x: reduce.reduce_prod(x, axes=(0,)), ([2.0, 0, 3],), [[0, 6, 0]]),
        ("product with two zeros", lambda x: reduce.reduce_prod(x, axes=(0,)), ([0.0, 0, 3],), [[0, 0, 0]]),
        ("running product with a zero", lambda x: reduce.cumprod(x, axis=0), ([2.0, 0, 3],), [[1, 8, 0]]),
        ("running maximum of equals", lambda x: reduce.cummax(x, axis=0), ([1.0, 1, 0, 2],), [[1, 2, 0, 1]]),
        ("0 to the power 0", ew.pow, ([0.0, 0], [0.0, 2]), [[0, 0], [0, 0]]),
        ("0 squared", lambda x: ew.pow(x, full_like(x, 2)), ([0.0, 3],), [[0, 6]]),
        ("the power 0", lambda x: ew.pow(x, full_like(x, 0)), ([0.0, 3],), [[0, 0]]),
        ("the power 1", lambda x: ew.pow(x, full_like(x, 1)), ([0.0, 3],), [[1, 1]]),
        ("at a bound of clamp", ew.clamp, ([0.0] * 4, [-1.0, 0, 0.5, 1], [1.0] * 4),
         [[1, 0, 0, 0], [0, 0, 1, 0], [0] * 4]),
        ("stopped", lambda x: ew.mul(x, ew.stop_gradient(x)), ([2.0, 3],), [[2, 3]]),
        ("rounded", lambda x: ew.add(ew.floor(x), ew.mul(x, ew.round(x))), ([1.75, 2.25],), [[2, 2]]),
        ("through integers", lambda x: ew.convert(ew.convert(x, dtype=int32), dtype=float64), ([1.5, 2],), [[0, 0]]),
        ("pooled equals", lambda x: window.reduce_window_max(x, window=(2,), strides=(2,), pad_low=(0,), pad_high=(0,)),
         ([5.0, 5, 1, 2],), [[1, 0, 0, 1]]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_choice(name: str, body: Callable[..., V], inputs: tuple[list[float], ...], wanted: list[list[float]]) -> None:
    found = gradient(body, *inputs, wrt=range(len(inputs)))
    np.testing.assert_allclose(np.array(found), np.array(wanted, float), atol=1e-12, err_msg=name)


def test_a_lookup_outside_gives_to_the_row_it_took() -> None:
    indices = np.array([-5, 0, 9], np.int32)
    (found,) = gradient(indexing.take_rows, np.ones((3, 2)), indices)
    np.testing.assert_array_equal(found, [[2, 2], [0, 0], [1, 1]])


def test_what_a_scatter_drops_gets_nothing() -> None:
    dims = {"update_window_dims": (1,), "inserted_window_dims": (0,), "scatter_dims_to_operand_dims": (0,),
            "index_vector_dim": 1}
    indices = np.array([[7], [1], [-1]], np.int32)
    inputs = np.ones((3, 2)), indices, np.ones((3, 2))
    _, found = gradient(lambda x, i, u: indexing.scatter(x, i, u, mode="add", **dims), *inputs, wrt=(0, 2))
    np.testing.assert_array_equal(found, [[0, 0], [1, 1], [0, 0]])


def test_of_updates_that_meet_only_the_one_that_is_kept_gets_the_cotangent() -> None:
    dims = {"update_window_dims": (), "inserted_window_dims": (0,), "scatter_dims_to_operand_dims": (0,),
            "index_vector_dim": 1}
    indices = np.array([[1], [1], [0]], np.int32)
    found_x, found = gradient(lambda x, i, u: indexing.scatter(x, i, u, mode="set", **dims), np.ones(3), indices,
                              np.array([1.0, 2, 3]), wrt=(0, 2))
    np.testing.assert_array_equal(found_x, [0, 0, 1])
    assert found.tolist() in ([0, 1, 1], [1, 0, 1])


def test_logsumexp_with_masked_out_elements_stays_finite() -> None:
    def logsumexp(x: V) -> V:
        top = ew.stop_gradient(reduce.reduce_max(x, axes=(0,)))
        shifted = ew.sub(x, shape.broadcast(top, shape=(3,), dims=()))
        return ew.add(ew.log(reduce.reduce_sum(ew.exp(shifted), axes=(0,))), top)

    (found,) = gradient(logsumexp, [0.0, -np.inf, 0.0])
    np.testing.assert_allclose(found, [0.5, 0, 0.5])


def test_half_precision_cotangents_keep_the_operands_dtype() -> None:
    x = np.ones((2, 3), ml_dtypes.bfloat16)
    w = np.ones((3, 4), ml_dtypes.bfloat16)
    found = gradient(
        lambda a, b: dot_general(a, b, lhs_contract=(1,), rhs_contract=(0,), dtype=float32), x, w, wrt=(0, 1)
    )
    assert [f.dtype for f in found] == [x.dtype, w.dtype]
    np.testing.assert_array_equal(found[0].astype(np.float32), np.full((2, 3), 4))


def test_kinks_have_one_sided_derivatives_next_to_them() -> None:
    check(lambda x: ew.max(x, full_like(x, 0)), [np.array([-0.1, 0.1])])
