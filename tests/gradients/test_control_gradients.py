"""Gradients through control: branches, scans, loops, checkpoints, custom gradients, and these in each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from gradient_checks import check, pulled, vjp
from ir_programs import evaluate, program

from thalweg.dialects.attributes import array_type
from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import control, shape
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops.contraction import dot_general
from thalweg.dialects.ops.reduce import reduce_sum
from thalweg.dialects.types import TensorType, float64, int32
from thalweg.passes.rewriting import array, full, full_like

V = ir.Value
RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (3,))
W = RNG.uniform(-0.7, 0.7, (3, 3))
ROWS = RNG.uniform(-1, 1, (5, 3))


def total(x: V) -> V:
    return reduce_sum(x, axes=range(tensor_type_of(x).rank))


def matvec(w: V, x: V) -> V:
    return dot_general(w, x, lhs_contract=(1,), rhs_contract=(0,))


def cond(pred: V, on_true: Callable, on_false: Callable) -> list[V]:
    return list(build_with_regions(control.cond, [pred], {}, [[], []], [on_true, on_false]))


def while_(init: list[V], condition: Callable, body: Callable) -> list[V]:
    types = [type_of(v) for v in init]
    return list(build_with_regions(control.while_, init, {}, [types, types], [condition, body]))


def scan(init: list[V], rows: list[V], body: Callable, reverse: bool = False) -> list[V]:
    row_types = [tensor_type_of(r) for r in rows]
    types = [*(type_of(v) for v in init), *(t.with_shape(t.shape[1:]) for t in row_types)]
    attrs = {"carried": len(init), "length": row_types[0].shape[0], "reverse": reverse}
    return list(build_with_regions(control.scan, [*init, *rows], attrs, [types], [body]))


def checkpoint(body: Callable) -> list[V]:
    return list(build_with_regions(control.checkpoint, [], {}, [[]], [body]))


def counted(times: int, init: list[V], body: Callable) -> list[V]:
    """body(i, values…) `times` times."""
    start = [array(0, int32), *init]
    return while_(
        start,
        lambda i, *_: [ew.less(i, array(times, int32))],
        lambda i, *values: [ew.add(i, array(1, int32)), *body(i, *values)],
    )[1:]


@pytest.mark.parametrize("offset", [5.0, -5.0])
def test_cond_differentiates_the_branch_taken(offset: float) -> None:
    def f(x: V, w: V) -> list[V]:
        pred = ew.greater(ew.add(total(x), array(offset, float64)), array(0, float64))

        def on_true() -> list[V]:
            h = ew.tanh(matvec(w, x))
            return [ew.mul(h, h), total(x)]

        def on_false() -> list[V]:
            return [ew.exp(ew.sin(x)), array(1, float64)]

        return cond(pred, on_true, on_false)

    check(f, [X, W], orders=2)


def test_cond_whose_branches_use_different_values() -> None:
    def f(x: V, w: V) -> list[V]:
        pred = ew.greater(total(x), array(0, float64))
        return cond(pred, lambda: [ew.mul(total(x), total(x))], lambda: [ew.exp(total(w))])

    check(f, [X, W], orders=2)


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_with_carry_rows_and_captured_weights(reverse: bool) -> None:
    def f(x: V, w: V, rows: V) -> list[V]:
        def body(h: V, row: V) -> list[V]:
            a = ew.tanh(ew.add(matvec(w, h), row))
            return [a, ew.mul(a, ew.exp(row))]

        return scan([x], [rows], body, reverse)

    check(f, [X, W, ROWS], orders=2)


def test_scan_stacks_only_what_its_derivative_needs() -> None:
    def f(x: V, rows: V) -> list[V]:
        def body(h: V, row: V) -> list[V]:
            return [ew.add(ew.tanh(h), ew.exp(ew.neg(row)))]

        return scan([x], [rows], body)

    module = program(
        [TensorType((3,), float64), TensorType((5, 3), float64), TensorType((3,), float64)],
        lambda x, rows, g: pulled(f, [x, rows], [g], [0]),
    )
    evaluate(module, [X, ROWS, X])
    forward = next(line for line in str(module).splitlines() if "tw.scan" in line)
    assert forward.strip().startswith("%0:2 = "), f"the final carry and tanh(h), nothing else: {forward}"


@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradient_of_a_scans_weights_is_one_contraction(reverse: bool) -> None:
    batch, size = 2, 5

    def f(x: V, w: V, b: V, rows: V) -> list[V]:
        def body(h: V, row: V) -> list[V]:
            z = dot_general(ew.add(h, row), w, lhs_contract=(1,), rhs_contract=(0,))
            a = ew.tanh(ew.add(z, shape.broadcast(b, shape=(batch, size), dims=(1,))))
            return [ew.mul(a, dot_general(h, w, lhs_contract=(1,), rhs_contract=(0,))), a]

        return scan([x], [rows], body, reverse)

    arrays = [RNG.uniform(-1, 1, s) for s in ((batch, size), (size, size), (size,), (4, batch, size))]
    check(f, arrays, orders=2)
    types = [array_type(a) for a in arrays]

    def main(x: V, w: V, b: V, rows: V, g: V, gs: V) -> list[V]:
        return pulled(f, [x, w, b, rows], [g, gs], [1, 2])

    module = program([*types, types[0], types[3]], main)
    evaluate(module, [*arrays, arrays[0], arrays[3]])
    last = str(module).rpartition('"tw.scan"')[2]
    outside = last[last.index("reverse = ") :]
    assert outside.count('"tw.dot_general"') == 2 and outside.count('"tw.reduce_sum"') == 1, str(module)
    assert "lhs_contract = array<i64: 0, 1>" in outside


def test_scan_over_no_rows_and_one_row() -> None:
    def f(x: V, rows: V) -> list[V]:
        return scan([x], [rows], lambda h, row: [ew.mul(h, ew.cos(row)), ew.sin(h)])

    for length in (0, 1):
        check(f, [X, ROWS[:length]], orders=2)


@pytest.fixture
def uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loops are differentiated as loops even where their number of iterations is known."""
    import thalweg.passes.gradients.counted as counted_loops

    monkeypatch.setattr(counted_loops, "MOST_BYTES", -1)


@pytest.mark.parametrize(
    ("start", "bound", "step", "test", "times"),
    [(0, 5, 1, ew.less, 5), (0, 5, 2, ew.less_equal, 3), (9, 0, -4, ew.greater, 3), (3, 3, -1, ew.greater_equal, 1),
     (4, 2, 1, ew.less, 0)],
)
def test_a_loop_that_counts_by_constants_is_differentiated_as_a_scan(
    start: int, bound: int, step: int, test: OpDef, times: int
) -> None:
    def f(x: V) -> list[V]:
        return while_(
            [array(start, int32), x],
            lambda i, _: [test(i, array(bound, int32))],
            lambda i, h: [ew.add(i, array(step, int32)), ew.sin(ew.mul(h, x))],
        )[1:]

    check(f, [X], orders=2)
    one = TensorType((3,), float64)
    module = program([one, one], lambda x, g: pulled(f, [x], [g], [0]))
    evaluate(module, [X, X], "inline,differentiate")
    assert f"length = {times} :" in str(module) and "tw.while" not in str(module)


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("times", [0, 1, 7, 300])
def test_while_differentiates_through_any_number_of_iterations(times: int) -> None:
    def f(x: V, w: V) -> list[V]:
        return counted(times, [x], lambda i, h: [ew.sin(ew.add(matvec(w, h), x))])

    check(f, [X, W], orders=1, tolerance=1e-4)


@pytest.mark.usefixtures("uncounted")
@pytest.mark.parametrize("times", [0, 3, 70])
def test_while_with_few_slots_replays_from_checkpoints(times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import thalweg.passes.gradients.loop as loop

    monkeypatch.setattr(loop, "MOST_SLOTS", 4)
    monkeypatch.setattr(loop, "FEWEST_SLOTS", 4)

    def f(x: V, w: V) -> list[V]:
        return counted(times, [x, w], lambda i, h, u: [ew.sin(ew.add(matvec(u, h), x)), u])

    check(f, [X, W], orders=1, tolerance=1e-4)


def test_while_whose_end_depends_on_the_data_to_second_order() -> None:
    def f(x: V, y: V) -> list[V]:
        return while_(
            [x, y],
            lambda a, b: [ew.less(total(ew.mul(a, a)), array(9, float64))],
            lambda a, b: [ew.add(ew.mul(a, array_like(a, 1.3)), ew.sin(b)), ew.mul(ew.cos(a), b)],
        )

    check(f, [X, X[::-1].copy()], orders=2, tolerance=1e-4)


def array_like(x: V, number: float) -> V:
    return full_like(x, number)


def test_checkpoint_recomputes_and_agrees() -> None:
    def f(x: V, w: V) -> list[V]:
        (h,) = checkpoint(lambda: [ew.tanh(matvec(w, ew.sin(x)))])
        return [ew.mul(h, x)]

    check(f, [X, W], orders=2)


def test_what_a_checkpoint_recomputes_stands_behind_a_barrier() -> None:
    def f(x: V) -> list[V]:
        return checkpoint(lambda: [ew.sin(ew.exp(x))])

    one = TensorType((3,), float64)
    module = program([one, one], lambda x, g: [*vjp(f, [x])[:1], *pulled(f, [x], [g], [0])])
    evaluate(module, [X, X], "inline,differentiate,cse,lower-checkpoint,cse")
    text = str(module)
    assert text.count("tw.barrier") == 1
    assert text.count("tw.exp") == 2, "the forward one and the one computed again; cse may not merge them"


def test_nested_control() -> None:
    def f(x: V, w: V, rows: V) -> list[V]:
        def body(h: V, row: V) -> list[V]:
            pred = ew.greater(total(row), array(0, float64))
            (a,) = cond(pred, lambda: [ew.tanh(matvec(w, h))], lambda: [ew.sin(ew.add(h, row))])
            (b,) = checkpoint(lambda: [ew.mul(a, ew.exp(row))])
            (c,) = counted(2, [b], lambda i, v: [ew.mul(ew.cos(v), h)])
            return [c, ew.mul(a, b)]

        return scan([x], [rows], body)

    check(f, [X, W, ROWS], orders=1, tolerance=1e-4)
    check(f, [X, W, ROWS[:2]], orders=2, tolerance=1e-4)


def test_a_scan_in_a_loop() -> None:
    def f(x: V, rows: V) -> list[V]:
        def body(i: V, h: V) -> list[V]:
            final, stacked = scan([h], [rows], lambda c, row: [ew.sin(ew.mul(c, row)), ew.exp(c)])
            return [ew.add(final, reduce_sum(stacked, axes=(0,)))]

        return counted(3, [x], body)

    check(f, [X * 0.1, ROWS], orders=1, tolerance=1e-4)


def test_integer_carries_and_rows_take_no_part() -> None:
    def f(x: V, numbers: V) -> list[V]:
        def body(n: V, h: V, number: V) -> list[V]:
            scale = ew.convert(ew.add(n, number), dtype=float64)
            return [ew.add(n, number), ew.mul(h, shape.broadcast(scale, shape=(3,), dims=())), number]

        return scan([array(1, int32), x], [numbers], body)[1:2]

    check(f, [X, np.array([1, 2, 0], np.int32)], orders=2)


def test_custom_gradient_stands_for_the_derivative() -> None:
    def f(x: V) -> list[V]:
        y = ew.exp(x)
        backward = [lambda g: [ew.mul(g, full_like(g, 3))]]
        return list(build_with_regions(control.custom_gradient, [x, y], {"inputs": 1}, [[type_of(y)]], backward))

    one = TensorType((3,), float64)
    module = program([one, one], lambda x, g: [*vjp(f, [x])[:1], *pulled(f, [x], [g], [0])])
    value, grad = evaluate(module, [X, X])
    np.testing.assert_allclose(value, np.exp(X))
    np.testing.assert_allclose(grad, 3 * X)
    assert "tw.custom_gradient" not in str(module)


def test_stop_gradient_stops() -> None:
    one = TensorType((3,), float64)
    module = program([one, one], lambda x, g: pulled(lambda v: ew.mul(v, ew.stop_gradient(v)), [x], [g], [0]))
    np.testing.assert_allclose(evaluate(module, [X, X])[0], X * X)


def test_gradient_of_a_gradient_written_as_nested_vjps() -> None:
    """d/dx of x * (d/dy x y^3 at y = x): the captured x is not the primal y, though both are one value."""

    def f(x: V) -> V:
        (inner,) = pulled(lambda y: ew.mul(x, ew.mul(y, ew.mul(y, y))), [x], [full_like(x, 1)], [0])
        return ew.mul(x, inner)  # x * x * 3 x^2

    one = TensorType((3,), float64)
    module = program([one], lambda x: pulled(f, [x], [full_like(x, 1)], [0]))
    np.testing.assert_allclose(evaluate(module, [X])[0], 12 * X**3)


@pytest.mark.usefixtures("uncounted")
def test_several_pullbacks_of_one_vjp_one_of_them_in_a_loop() -> None:
    def loops(x: V, w: V) -> list[V]:
        (h,) = scan([x], [w], lambda c, row: [ew.sin(ew.mul(c, row))])
        return counted(3, [h], lambda i, v: [ew.mul(ew.cos(v), x)])

    def main(x: V, w: V, g: V) -> list[V]:
        *_, tape = vjp(loops, [x, w])
        dx = control.pullback(tape, g, wrt=(0,))
        dx_again, dw = control.pullback(tape, ew.add(g, g), wrt=(0, 1))
        (inside,) = counted(2, [full(TensorType((3,), float64), 0)],
                            lambda i, v: [ew.add(v, control.pullback(tape, g, wrt=(0,)))])
        return [dx, dx_again, dw, inside]

    types = [TensorType((3,), float64), TensorType((3, 3), float64), TensorType((3,), float64)]
    dx, dx_again, dw, inside = evaluate(program(types, main), [X, W, X])
    np.testing.assert_allclose(dx_again, 2 * dx)
    np.testing.assert_allclose(inside, 2 * dx)
    assert dw.shape == (3, 3) and np.abs(dw).max() > 0
    check(loops, [X, W], tolerance=1e-4)


def test_aux_results_have_no_cotangent() -> None:
    one = TensorType((3,), float64)

    def main(x: V, g: V) -> list[V]:
        y, extra, tape = vjp(lambda v: [ew.sin(v), ew.exp(v)], [x], aux=1)
        return [y, extra, control.pullback(tape, g, wrt=(0,))]

    _, extra, dx = evaluate(program([one, one], main), [X, X])
    np.testing.assert_allclose(extra, np.exp(X))
    np.testing.assert_allclose(dx, X * np.cos(X))
