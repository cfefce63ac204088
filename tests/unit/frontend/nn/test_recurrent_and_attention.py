"""LSTM, GRU and attention against step-by-step NumPy."""

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend import nn

RNG = np.random.default_rng(0)


def rng():
    return np.random.default_rng(1)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(x, w, u, b, h, c):
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = np.split(x[:, t] @ w + h @ u + b, 4, axis=1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs, axis=1), h, c


def gru(x, w, u, b, nb, h):
    outputs = []
    for t in range(x.shape[1]):
        r, z, n = np.split(x[:, t] @ w + b, 3, axis=1)
        hr, hz, hn = np.split(h @ u, 3, axis=1)
        r, z = sigmoid(r + hr), sigmoid(z + hz)
        h = (1 - z) * np.tanh(n + r * (hn + nb)) + z * h
        outputs.append(h)
    return np.stack(outputs, axis=1), h


def test_lstm_and_its_state_across_calls():
    layer = nn.LSTM(3, 4, rng())
    x = normal(2, 6, 3)
    weights = [v.numpy() for v in layer.variables().values()]
    np.testing.assert_array_equal(weights[2][4:8], 1)
    outputs, h, c = lstm(x, *weights, np.zeros((2, 4)), np.zeros((2, 4)))
    np.testing.assert_allclose(layer(x), outputs, rtol=1e-4, atol=1e-6)
    _, state = layer.unroll(x[:, :2])
    rest, (last, cell) = layer.unroll(x[:, 2:], state)
    np.testing.assert_allclose(rest, outputs[:, 2:], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(last, h, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(cell, c, rtol=1e-4, atol=1e-6)


def test_gru():
    layer = nn.GRU(3, 4, rng())
    layer.new_bias.assign(normal(4))
    layer.bias.assign(normal(12))
    x = normal(2, 5, 3)
    outputs, last = gru(x, *(v.numpy() for v in layer.variables().values()), np.zeros((2, 4)))
    got, state = layer.unroll(x)
    np.testing.assert_allclose(got, outputs, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(state, last, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("make", [nn.LSTM, nn.GRU])
def test_gradients_through_time_are_finite_differences(make):
    layer = make(2, 3, rng())
    x = normal(2, 4, 2)
    recurrent = layer.recurrent.numpy()

    def loss():
        return tw.sum(layer(x) ** 2)

    gradient = np.asarray(tw.function(lambda: tw.grad(loss, wrt=[layer.recurrent])()[0])())
    compiled = tw.function(loss)
    for place in [(0, 0), (1, 5), (2, 8)]:
        slopes = []
        for sign in (1, -1):
            moved = recurrent.copy()
            moved[place] += sign * 1e-2
            layer.recurrent.assign(moved)
            slopes.append(float(compiled()))
        assert gradient[place] == pytest.approx((slopes[0] - slopes[1]) / 2e-2, rel=2e-2, abs=1e-3)


def attend(q, k, v, mask=None):
    scores = q.astype(float) @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if mask is not None:
        scores = np.where(mask, scores, -1e30)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def test_attention():
    q, k, v = normal(2, 3, 5, 4), normal(2, 3, 7, 4), normal(2, 3, 7, 6)
    np.testing.assert_allclose(nn.attention(q, k, v), attend(q, k, v), rtol=1e-4, atol=1e-5)
    mask = RNG.random((2, 1, 5, 7)) < 0.7
    np.testing.assert_allclose(nn.attention(q, k, v, mask=mask), attend(q, k, v, mask), rtol=1e-4, atol=1e-5)
    seen = np.tril(np.ones((5, 7), bool), 2)
    np.testing.assert_allclose(nn.attention(q, k, v, causal=True), attend(q, k, v, seen), rtol=1e-4, atol=1e-5)
    both = nn.attention(q, k, v, causal=True, mask=mask)
    np.testing.assert_allclose(both, attend(q, k, v, mask & seen), rtol=1e-4, atol=1e-5)


def test_attention_with_bias_and_scale():
    q, k, v, bias = normal(2, 3, 5, 4), normal(2, 3, 7, 4), normal(2, 3, 7, 6), normal(3, 5, 7)
    scores = 0.3 * q.astype(float) @ np.swapaxes(k, -1, -2) + bias
    weights = np.exp(scores)
    expected = weights / weights.sum(axis=-1, keepdims=True) @ v
    np.testing.assert_allclose(nn.attention(q, k, v, bias=bias, scale=0.3), expected, rtol=1e-4, atol=1e-5)


def test_a_query_that_sees_nothing_gets_a_number():
    q, k, v = normal(1, 2), normal(3, 2), normal(3, 2)
    got = nn.attention(q, k, v, mask=np.zeros((1, 3), bool))
    np.testing.assert_allclose(got, v.mean(axis=0, keepdims=True), rtol=1e-5)


def test_multi_head_attention_is_attention_per_head():
    layer = nn.MultiHeadAttention(6, 2, rng(), causal=True)
    x = normal(2, 4, 6)

    def heads(dense):
        y = x @ dense.weight.numpy() + dense.bias.numpy()
        return y.reshape(2, 4, 2, 3).transpose(0, 2, 1, 3)

    seen = attend(heads(layer.query), heads(layer.key), heads(layer.value), np.tril(np.ones((4, 4), bool)))
    expected = seen.transpose(0, 2, 1, 3).reshape(2, 4, 6) @ layer.output.weight.numpy()
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_no_position_sees_a_later_one():
    layer = nn.MultiHeadAttention(4, 2, rng(), causal=True)
    x = normal(1, 5, 4)
    changed = x.copy()
    changed[:, 3:] += 1
    before, after = np.asarray(layer(x)), np.asarray(layer(changed))
    np.testing.assert_array_equal(before[:, :3], after[:, :3])
    assert np.abs(before[:, 3:] - after[:, 3:]).min() > 0


def test_keys_and_values_may_come_from_elsewhere():
    layer = nn.MultiHeadAttention(4, 2, rng())
    assert np.asarray(layer(normal(1, 3, 4), context=normal(1, 7, 4))).shape == (1, 3, 4)


def test_heads_must_divide_the_features():
    with pytest.raises(ValueError, match="3 heads do not divide 4 features"):
        nn.MultiHeadAttention(4, 3, rng())
