"""Control flow compiled to native code, with gradients: what a user of the public names gets."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg as tw

RNG = np.random.default_rng(3)


def slope(f, x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The gradient of f at x by central differences."""
    flat = [(f(x + step * e.reshape(x.shape)) - f(x - step * e.reshape(x.shape))) / (2 * step)
            for e in np.eye(x.size)]  # fmt: skip
    return np.array(flat, float).reshape(x.shape)


def lstm_like(x, w):
    """A recurrence with everything in it: an array written and read, a branch, a fold over what came out."""

    def body(i, state, outs):
        new = tw.tanh(state @ w + x[i])
        new = tw.cond(tw.sum(new) > 0, lambda: new, lambda: new * 0.5)
        return i + 1, new, outs.write(i, new)

    start = 0, tw.zeros((3,), dtype=tw.float64), tw.TensorArray(tw.float64, 6, (3,))
    outs = tw.while_loop(lambda i, s, o: i < 6, body, start)[2]
    mapped = tw.map(lambda row: row**2, outs.stack())
    return tw.sum(tw.fold(lambda total, row: total * 0.9 + row, mapped))


def choices(x, w):
    """Branches by number in a loop."""

    def body(carry, row):
        index, values = row
        step = tw.switch_case(index, [lambda v: v @ w, lambda v: tw.sin(v), lambda v: v * values], carry)
        return tw.case([(tw.sum(step) > 2, lambda: step / 2)], lambda: step), None

    start = tw.ones((3,), dtype=tw.float64)
    return tw.sum(tw.scan(body, start, (tw.asarray([0, 1, 2, 5, 0, -1]), x))[0])


@pytest.mark.parametrize("f", [lstm_like, choices])
def test_gradients_of_native_control_flow(f) -> None:
    x, w = RNG.uniform(-1, 1, (6, 3)), RNG.uniform(-1, 1, (3, 3))
    compiled = tw.function(f)
    dx, dw = tw.function(tw.grad(f, argnums=(0, 1)))(tw.asarray(x), tw.asarray(w))
    np.testing.assert_allclose(dx.numpy(), slope(lambda x: float(compiled(tw.asarray(x), tw.asarray(w))), x), atol=1e-7)
    np.testing.assert_allclose(dw.numpy(), slope(lambda w: float(compiled(tw.asarray(x), tw.asarray(w))), w), atol=1e-7)
