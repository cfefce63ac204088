"""Derivatives compared with finite differences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ir_programs import Function, as_list, evaluate, program

from thalweg.backends.reference import run
from thalweg.dialects.attributes import array_type
from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import is_float
from thalweg.dialects.ops import control
from thalweg.dialects.types import float64

EPSILON = 1e-6


def vjp(body: Function, primals: Sequence[ir.Value], aux: int = 0) -> list[ir.Value]:
    """`tw.vjp` of a body: its results, then the handle."""
    types = [type_of(p) for p in primals]
    return list(
        build_with_regions(control.vjp, primals, {"aux": aux}, [types], [lambda *xs: as_list(body(*xs))])
    )


def pulled(body: Function, primals: Sequence[ir.Value], cotangents: Sequence[ir.Value], wrt: Sequence[int]) -> list:
    """Cotangents of the primals `wrt`."""
    *_, tape = vjp(body, primals)
    return as_list(control.pullback(tape, *cotangents, wrt=wrt))


def check(
    body: Function, arrays: Sequence[np.ndarray], orders: int = 1, tolerance: float = 1e-5, epsilon: float = EPSILON
) -> None:
    """The derivative of `body` along random directions agrees with finite differences; also of its gradients.

    The n-th gradient is a function of primals and cotangents, and checked like any other.
    """
    arrays = [np.asarray(a) for a in arrays]
    types = [array_type(a) for a in arrays]
    plain = program(types, body)
    values = evaluate(plain, arrays)
    wrt = [i for i, t in enumerate(types) if t.dtype == float64]  # finite differences need the precision
    floats = [v for v in values if is_float(array_type(v))]
    rng = np.random.default_rng(7)
    cotangents = [np.asarray(rng.uniform(-1, 1, v.shape), v.dtype) for v in floats]
    directions = [rng.uniform(-1, 1, a.shape) if i in wrt else 0 for i, a in enumerate(arrays)]

    def along(step: float) -> float:
        moved = [np.asarray(a + step * d, a.dtype) for a, d in zip(arrays, directions, strict=True)]
        results = [v for v in run(plain, moved) if is_float(array_type(v))]
        return sum(float(np.sum(c * v, where=np.isfinite(v))) for c, v in zip(cotangents, results, strict=True))

    count = len(arrays)

    def derived(*operands: ir.Value) -> list[ir.Value]:
        return pulled(body, operands[:count], operands[count:], wrt)

    gradient_types = [*types, *(array_type(c) for c in cotangents)]
    inputs = [*arrays, *cotangents]
    grads = evaluate(program(gradient_types, derived), inputs)
    found = sum(float(np.sum(g * directions[i])) for g, i in zip(grads, wrt, strict=True))
    wanted = (along(epsilon) - along(-epsilon)) / (2 * epsilon)
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * 10)
    if orders > 1:
        check(derived, inputs, orders - 1, tolerance * 10, epsilon * 3)
