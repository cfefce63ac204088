"""Every optimiser against its paper's update, transcribed in NumPy, over several steps; dense and sparse."""

import re

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend.optim import Optimizer

STEPS = 4


def sgd(w, g, s, t):
    return w - 0.1 * g


def momentum(w, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + g
    return w - 0.1 * s["v"]


def nesterov(w, g, s, t):
    s["v"] = 0.9 * s.get("v", 0) + g
    return w - 0.1 * (g + 0.9 * s["v"])


def adagrad(w, g, s, t):
    s["n"] = s.get("n", 0.1) + g**2
    return w - 0.1 * g / (np.sqrt(s["n"]) + 1e-10)


def adadelta(w, g, s, t):
    s["n"] = 0.95 * s.get("n", 0) + 0.05 * g**2
    change = np.sqrt(s.get("d", 0) + 1e-6) / np.sqrt(s["n"] + 1e-6) * g
    s["d"] = 0.95 * s.get("d", 0) + 0.05 * change**2
    return w - change


def rmsprop(w, g, s, t):
    s["n"] = 0.9 * s.get("n", 0) + 0.1 * g**2
    s["v"] = 0.5 * s.get("v", 0) + g / (np.sqrt(s["n"]) + 1e-7)
    return w - 0.1 * s["v"]


def rmsprop_plain(w, g, s, t):
    s["n"] = 0.9 * s.get("n", 0) + 0.1 * g**2
    return w - 0.1 * g / (np.sqrt(s["n"]) + 1e-7)


def adam(w, g, s, t):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["n"] = 0.999 * s.get("n", 0) + 0.001 * g**2
    return w - 0.1 * (s["m"] / (1 - 0.9**t)) / (np.sqrt(s["n"] / (1 - 0.999**t)) + 1e-8)


def adamw(w, g, s, t):
    return adam(w, g, s, t) - 0.1 * 0.05 * w


CASES = {
    "SGD": (lambda: tw.optim.SGD(0.1), sgd),
    "Momentum": (lambda: tw.optim.Momentum(0.1, 0.9), momentum),
    "Nesterov": (lambda: tw.optim.Nesterov(0.1, 0.9), nesterov),
    "AdaGrad": (lambda: tw.optim.AdaGrad(0.1), adagrad),
    "AdaDelta": (lambda: tw.optim.AdaDelta(), adadelta),
    "RMSProp": (lambda: tw.optim.RMSProp(0.1), rmsprop_plain),
    "RMSProp+momentum": (lambda: tw.optim.RMSProp(0.1, momentum=0.5), rmsprop),
    "Adam": (lambda: tw.optim.Adam(0.1), adam),
    "AdamW": (lambda: tw.optim.AdamW(0.1, decay=0.05), adamw),
}


@pytest.mark.parametrize("name", CASES)
def test_dense_updates_are_those_of_the_paper(name):
    make, rule = CASES[name]
    rng = np.random.default_rng(0)
    expected = [rng.normal(size=(4, 3)), rng.normal(size=(5,))]
    variables = [tw.Variable(e.astype(np.float32), name=f"v{i}") for i, e in enumerate(expected)]
    optimizer, states = make(), [{}, {}]

    @tw.function
    def step(a, b):
        optimizer.apply(zip((a, b), variables, strict=True))

    for t in range(1, STEPS + 1):
        gradients = [rng.normal(size=e.shape) for e in expected]
        step(*(g.astype(np.float32) for g in gradients))
        expected = [rule(w, g, s, t) for w, g, s in zip(expected, gradients, states, strict=True)]
    for variable, wanted in zip(variables, expected, strict=True):
        np.testing.assert_allclose(np.asarray(variable), wanted, rtol=2e-4, atol=2e-5)
    assert int(np.asarray(optimizer.step)) == STEPS


@pytest.mark.parametrize("name", CASES)
def test_sparse_updates_change_the_rows_that_were_looked_up_as_dense_ones_would(name):
    """Duplicates count as their sum; rows and slots that are not named stay; the rule is the dense one, row by row."""
    make, rule = CASES[name]
    rng = np.random.default_rng(1)
    expected = rng.normal(size=(7, 2))
    table = tw.Variable(expected.astype(np.float32), name="table")
    optimizer = make()
    states = [{} for _ in range(7)]

    @tw.function
    def step(indices, values):
        optimizer.apply([(tw.IndexedSlices(indices, values, (7, 2)), table)])

    for t in range(1, STEPS + 1):
        indices = rng.choice([0, 2, 3, 6], size=6).astype(np.int32)
        values = rng.normal(size=(6, 2))
        step(indices, values.astype(np.float32))
        for row in np.unique(indices):
            expected[row] = rule(expected[row], values[indices == row].sum(axis=0), states[row], t)
    np.testing.assert_allclose(np.asarray(table), expected, rtol=2e-4, atol=2e-5)


def test_a_sparse_step_makes_no_dense_table():
    table = tw.Variable(np.zeros((100_003, 2), np.float32), name="table")
    optimizer = tw.optim.Adam(0.1)

    @tw.function
    def step(ids):
        (gradient,) = tw.grad(lambda: tw.sum(tw.take(table, ids, axis=0) ** 2), wrt=[table])()
        optimizer.apply([(gradient, table)])

    text = step.ir("tw-optimized", np.zeros(4, np.int32))
    makers = re.findall(r'= "(tw\.\w+)"[^\n]*-> tensor<100003x2xf32>', text)
    assert sorted(set(makers)) == ["tw.read", "tw.scatter"]
    assert makers.count("tw.scatter") == 3  # the table, its mean and its squares; each in place


@pytest.mark.parametrize("dtype, tolerance", [(tw.float64, 1e-9), (tw.float16, 2e-3), (tw.bfloat16, 2e-2)])
@pytest.mark.parametrize("name", ["Momentum", "Adam", "AdamW"])
def test_variables_of_other_dtypes_keep_them(name, dtype, tolerance):
    make, rule = CASES[name]
    expected, state = np.array([1.0, -2.0, 0.5]), {}
    variable = tw.Variable(expected, name="w", dtype=dtype)
    optimizer = make()

    @tw.function
    def step(gradient):
        optimizer.apply([(gradient, variable)])

    for t in (1, 2):
        gradient = np.array([0.5, -1.0, 2.0])
        step(tw.asarray(gradient, dtype=dtype))
        expected = rule(expected, gradient, state, t)
    assert variable.dtype == dtype
    assert all(slot.dtype == dtype for slot in optimizer.slots_of(variable).values())
    np.testing.assert_allclose(np.asarray(variable).astype(float), expected, rtol=tolerance, atol=tolerance)


def test_beta_may_be_zero():
    w = tw.Variable(np.ones(2, np.float32), name="w")
    tw.optim.Adam(0.1, beta1=0.0, beta2=0.0).apply([(np.array([3.0, -0.2], np.float32), w)])
    np.testing.assert_allclose(np.asarray(w), [0.9, 1.1], rtol=1e-5)


def test_optimizers_work_eagerly():
    w = tw.Variable(np.ones(3, np.float32), name="w")
    tw.optim.Momentum(0.5).apply([(np.ones(3, np.float32), w)])
    np.testing.assert_allclose(np.asarray(w), 0.5)


def test_the_rate_may_be_a_variable_or_a_schedule():
    rate = tw.Variable(np.float32(1.0), name="rate")
    w = tw.Variable(np.zeros(2, np.float32), name="w")
    by_variable = tw.optim.SGD(rate)
    by_schedule = tw.optim.SGD(tw.optim.piecewise([0], [1.0, 10.0]))

    @tw.function
    def step():
        by_variable.apply([(tw.ones((2,)), w)])

    step()
    rate.assign(np.float32(0.5))
    step()
    np.testing.assert_allclose(np.asarray(w), -1.5)

    @tw.function
    def scheduled():
        by_schedule.apply([(tw.ones((2,)), w)])

    scheduled()
    scheduled()
    np.testing.assert_allclose(np.asarray(w), -12.5)


def test_a_rule_is_all_that_an_optimizer_of_ones_own_needs():
    class SignSGD(Optimizer):
        def rule(self, gradient, value, *, rate, step):
            return (value - rate * tw.sign(gradient),)

    w = tw.Variable(np.zeros(3, np.float32), name="w")
    SignSGD(0.5).apply([(np.array([2.0, -3.0, 0.0], np.float32), w)])
    np.testing.assert_allclose(np.asarray(w), [-0.5, 0.5, 0.0])


def test_slots_are_variables_that_can_be_saved():
    w = tw.Variable(np.zeros(3, np.float32), name="weights")
    optimizer = tw.optim.Adam()
    assert list(optimizer.variables()) == ["step"]
    optimizer.prepare([w])
    assert list(optimizer.variables()) == ["step", "0.mean", "0.squares"]
    assert not any(v.trainable for v in optimizer.variables().values())


def test_misuse_is_told():
    w = tw.Variable(np.zeros(3, np.float32), name="w")
    optimizer = tw.optim.SGD(0.1)
    with pytest.raises(ValueError, match=r"shape \(2,\), the variable \(3,\)"):
        optimizer.apply([(np.zeros(2, np.float32), w)])
    with pytest.raises(ValueError, match="comes twice"):
        optimizer.apply([(np.zeros(3, np.float32), w)] * 2)
    with pytest.raises(TypeError, match="zip"):
        optimizer.apply([(w, np.zeros(3, np.float32))])
