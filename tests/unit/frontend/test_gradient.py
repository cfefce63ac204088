"""Gradients: against finite differences and by hand, eager and traced, nested, through control flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TracingError, TypeInferenceError
from thalweg.dialects.verify import verify
from thalweg.frontend import array as xp
from thalweg.frontend.control import cond, scan, while_loop
from thalweg.frontend.function import function
from thalweg.frontend.gradient import IndexedSlices, grad, stop_gradient, value_and_grad, vjp
from thalweg.frontend.variable import Variable


def numeric(f, x, step=1e-6):
    """The gradient of f: float64 array -> number, by central differences."""
    result = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        moved = x.copy()
        moved[place] += step
        above = float(f(xp.asarray(moved)))
        moved[place] -= 2 * step
        result[place] = (above - float(f(xp.asarray(moved)))) / (2 * step)
    return result


X = np.random.default_rng(0).uniform(0.2, 1.5, (2, 3))

FUNCTIONS = {
    "tanh": lambda x: xp.sum(xp.tanh(x) ** 2),
    "matmul": lambda x: xp.sum((x @ x.T) ** 3),
    "softmax": lambda x: xp.sum(xp.softmax(x) * xp.exp(x)),
    "logsumexp": lambda x: xp.sum(xp.logsumexp(x, axis=0)),
    "statistics": lambda x: xp.std(x) + xp.var(x, axis=0)[0] + xp.mean(x),
    "indexing": lambda x: xp.sum(x[:, ::-2] ** 2) + xp.sum(x[np.array([0, 0, 1]), 1:] ** 3),
    "updates": lambda x: xp.sum(x.at[0].set(x[1] ** 2) * x.at[:, np.array([0, 2])].add(x[:, 1:] * 3.0)),
    "pieces": lambda x: xp.sum(xp.concat([x, xp.pad(x, 1)[1:-1, 1:-1] * 2]) ** 2 * xp.arange(4.0)[:, None]),
    "division": lambda x: xp.sum(x / xp.flip(x) + 1 / x + xp.sqrt(x) + x**1.5 + xp.log1p(x)),
    "where": lambda x: xp.sum(xp.where(x > 0.7, x**2, xp.sin(x))) + xp.sum(xp.clip(x, 0.3, 1.2) * x),
    "einsum": lambda x: xp.sum(xp.einsum("ij,kj,kl->il", x, x, x)),
    "running": lambda x: xp.sum(xp.cumulative_sum(x, axis=1) ** 2) + xp.sum(xp.cumulative_prod(x, axis=0)),
    "sorting": lambda x: xp.sum(xp.sort(x, axis=1) * xp.arange(3.0)) + xp.sum(xp.top_k(x, 2)[0] ** 2),
    "largest": lambda x: xp.max(x) * xp.sum(xp.min(x, axis=0)) + xp.prod(x),
    "cond": lambda x: cond(xp.sum(x) > 0, lambda v: xp.sum(v**3), lambda v: xp.sum(v), x),
    "while": lambda x: xp.sum(while_loop(lambda i, v: i < 3, lambda i, v: (i + 1, xp.sin(v) * v), (0, x))[1]),
    "scan": lambda x: xp.sum(scan(lambda c, r: (c * r, c + r**2), xp.ones((3,), dtype="float64"), x)[1]),
    "logaddexp": lambda x: xp.sum(xp.logaddexp(x, xp.flip(x)) + xp.hypot(x, 2 * xp.flip(x))),
    "norms": lambda x: xp.vector_norm(x) + xp.sum(xp.vector_norm(x, axis=0, ord=3)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_against_finite_differences(name):
    f = FUNCTIONS[name]
    expected = numeric(f, X)
    np.testing.assert_allclose(grad(f)(xp.asarray(X)), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(function(grad(f))(xp.asarray(X)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["tanh", "matmul", "softmax", "division", "scan", "while", "cond", "indexing"])
def test_second_derivatives(name):
    f = FUNCTIONS[name]
    slope = grad(f)

    def second(x):
        return xp.sum(slope(x) * xp.cos(x))

    np.testing.assert_allclose(grad(second)(xp.asarray(X)), numeric(second, X), rtol=1e-4, atol=1e-5)


def test_traced_gradients_verify():
    f = function(grad(lambda x: xp.sum(scan(lambda c, r: (c * r, None), x[0], x)[0])))
    verify(f.program(xp.ones((2, 3))).module)


@dataclass
class Layer:
    w: Any
    b: Any


def test_structures_and_argnums():
    def loss(layers, x):
        for layer in layers:
            x = xp.tanh(x @ layer.w + layer.b)
        return xp.sum(x)

    layers = [Layer(xp.ones((2, 2)), xp.zeros((2,))), Layer(xp.ones((2, 1)), xp.zeros((1,)))]
    x = xp.ones((3, 2))
    grads = grad(loss)(layers, x)
    assert isinstance(grads[1], Layer) and grads[1].w.shape == (2, 1)
    value, (by_layers, by_x) = value_and_grad(loss, argnums=(0, 1))(layers, x)
    assert value.shape == () and by_x.shape == (3, 2)
    np.testing.assert_array_equal(by_layers[0].b, grads[0].b)
    np.testing.assert_array_equal(grad(loss, argnums=-1)(layers, x), by_x)
    np.testing.assert_array_equal(grad(loss, argnums=[1])(layers, x)[0], by_x)


def test_auxiliary_results():
    def f(x):
        return (xp.sum(x**2), {"twice": 2 * x, "name": "aux"})

    (value, aux), slope = value_and_grad(f, has_aux=True)(xp.ones((2,)))
    assert (float(value), aux["twice"].tolist(), aux["name"], slope.tolist()) == (2, [2, 2], "aux", [2, 2])
    slope, aux = function(grad(f, has_aux=True))(xp.ones((2,)))
    assert aux["twice"].tolist() == [2, 2] and slope.tolist() == [2, 2]


def test_variables():
    w, b = Variable([1.0, 2.0], name="gw"), Variable(3.0, name="gb")
    x = xp.asarray([4.0, 5.0])

    def loss():
        return xp.sum(w * w * x) * b

    for both in (value_and_grad(loss, wrt={"w": w, "b": b}), function(value_and_grad(loss, wrt={"w": w, "b": b}))):
        value, grads = both()
        assert (float(value), grads["w"].tolist(), float(grads["b"])) == (72, [24, 60], 24)
    assert grad(loss, wrt=w)().tolist() == [24, 60]
    assert [g.tolist() for g in grad(loss, wrt=[w, w])()] == [[24, 60]] * 2
    by_x, by_w = grad(lambda x: xp.sum(w * x), argnums=0, wrt=[w])(x)
    assert (by_x.tolist(), by_w[0].tolist()) == ([1, 2], [4, 5])


def test_unused_variable_and_argument_have_zero_gradients():
    w = Variable([1.0, 2.0], name="unused")
    slope, (dw,) = grad(lambda x, y: xp.sum(x), argnums=(0, 1), wrt=[w])(xp.ones((2,)), xp.ones((3,)))
    assert (slope[0].tolist(), slope[1].tolist(), dw.tolist()) == ([1, 1], [0, 0, 0], [0, 0])


def test_a_variable_assigned_inside_is_no_longer_the_one_differentiated():
    w = Variable(2.0, name="inside")

    @function
    def step():
        def loss():
            y = w * w
            w.assign(10.0)
            return y * w

        return value_and_grad(loss, wrt=w)()

    value, slope = step()
    assert (float(value), float(slope), float(w)) == (40, 40, 10)


def test_assigning_in_a_branch_is_refused():
    w = Variable(2.0, name="branch")

    @function
    def step():
        return grad(lambda: cond(w > 0, lambda: w.assign(1.0).value, lambda: w.value), wrt=w)()

    with pytest.raises(TracingError, match="branch is assigned in the true branch"):
        step()


def test_state_changes_under_an_eager_gradient_happen_once():
    w = Variable(1.0, name="once")
    value, slope = value_and_grad(lambda x: xp.sum(x * w.assign_add(1.0).value))(xp.ones((2,)))
    assert (float(value), slope.tolist(), float(w)) == (4, [2, 2], 2)


def test_tables_have_sparse_gradients():
    table = Variable(np.ones((5, 2), np.float32), name="table")
    ids = np.array([1, 1, 3], np.int32)
    slices = grad(lambda: xp.sum(xp.take(table, ids, axis=0) ** 2), wrt=table)()
    assert isinstance(slices, IndexedSlices)
    assert (slices.indices.tolist(), slices.values.shape, slices.dense_shape) == ([1, 1, 3], (3, 2), (5, 2))
    assert np.asarray(slices).tolist() == [[0, 0], [4, 4], [0, 0], [2, 2], [0, 0]]
    twice = grad(lambda: xp.sum(table[ids]) + xp.sum(table[np.array([0], np.int32)]), wrt=table)()
    assert sorted(twice.indices.tolist()) == [0, 1, 1, 3]
    dense = grad(lambda: xp.sum(table[ids]) + xp.sum(table), wrt=table)()
    assert dense.tolist() == [[1, 1], [3, 3], [1, 1], [2, 2], [1, 1]]


def test_a_table_looked_up_in_a_loop_has_a_dense_gradient():
    table = Variable(np.ones((3, 2), np.float32), name="loop_table")
    ids = np.array([[0, 1], [1, 1]], np.int32)

    def loss():
        return scan(lambda c, i: (c + xp.sum(xp.take(table, i, axis=0)), None), 0.0, ids)[0]

    assert grad(loss, wrt=table)().tolist() == [[1, 1], [3, 3], [0, 0]]


def test_lookups_inside_a_nested_function_stay_sparse():
    table = Variable(np.ones((3, 2), np.float32), name="nested_table")
    embed = function(lambda i: xp.take(table, i, axis=0))
    slices = function(lambda i: grad(lambda: xp.sum(embed(i)), wrt=table)())(np.array([2, 0], np.int32))
    assert isinstance(slices, IndexedSlices) and slices.indices.tolist() == [2, 0]


def test_gradient_of_an_argument_is_dense():
    slope = grad(lambda t: xp.sum(t[np.array([0, 0])]))(xp.ones((3,)))
    assert slope.tolist() == [2, 0, 0]


def test_vjp():
    a, b = xp.asarray([1.0, 2.0]), xp.asarray([3.0, 4.0])

    def f(a, b):
        return {"product": a * b, "count": xp.sum(xp.astype(a, "int32"))}

    def both(a, b, ct):
        value, pullback = vjp(f, a, b)
        return value, pullback({"product": ct, "count": 0})

    for run in (both, function(both)):
        value, (da, db) = run(a, b, xp.asarray([1.0, 10.0]))
        assert value["product"].tolist() == [3, 8] and int(value["count"]) == 3
        assert (da.tolist(), db.tolist()) == ([3, 40], [1, 20])


def test_vjp_of_integers_and_scalars():
    value, pullback = vjp(lambda x, n: x * n, xp.asarray(2.0), xp.asarray(3))
    assert [float(value), pullback(1.0)[1]] == [6, None]
    assert float(pullback(2.0)[0]) == 6


def test_eager_vjp_remembers_the_variables():
    w = Variable(2.0, name="remembered")
    _, pullback = vjp(lambda x: x * w, xp.asarray(1.0))
    w.assign(100.0)
    assert float(pullback(1.0)[0]) == 2
    with pytest.raises(TracingError, match="assigned under an eager"):
        vjp(lambda x: w.assign(x).value, xp.asarray(1.0))


def test_stop_gradient():
    assert grad(lambda x: xp.sum(x * stop_gradient(x)))(xp.asarray([3.0])).tolist() == [3]


def test_gradient_of_a_compiled_function_and_its_options():
    f = function(lambda x, power=2: xp.sum(x**power))
    assert grad(f)(xp.asarray([3.0])).tolist() == [6]
    assert grad(f)(xp.asarray([3.0]), power=3).tolist() == [27]


@pytest.mark.parametrize(("call", "problem"), [
    (lambda: grad(lambda x: x)(xp.ones((2,))), "it returns f32[2]"),
    (lambda: grad(lambda x: xp.sum(x))(xp.arange(2)), "argument 0 is i32[2]"),
    (lambda: grad(lambda t: xp.sum(t["a"]))({"a": xp.arange(2)}), "argument 0['a'] is i32[2]"),
    (lambda: grad(lambda x: xp.argmax(x))(xp.ones((2,))), "it returns i32[]"),
    (lambda: grad(lambda x: x)(), "argnums 0 needs that positional argument"),
    (lambda: vjp(lambda x: x, xp.ones((2,)))[1](xp.ones((3,))), "its cotangent f32[3]"),
    (lambda: vjp(lambda x: (x, x), xp.ones((2,)))[1](xp.ones((2,))), "structure (*, *)"),
])  # fmt: skip
def test_misuse(call, problem):
    with pytest.raises(TypeInferenceError) as caught:
        call()
    assert problem in str(caught.value) and "test_gradient.py:" in str(caught.value)
