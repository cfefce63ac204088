"""Four models train as the same models written in JAX do: same weights, same batches, the same loss at every step."""

import numpy as np
import pytest

import thalweg as tw
from thalweg.frontend import nn

jax = pytest.importorskip("jax")
jnp = jax.numpy


def rng():
    return np.random.default_rng(0)


def curve(model, loss_of, opt, batches):
    """Losses of a model trained with the optimiser, and the weights it began with."""
    weights = model.variables()
    initial = {path: v.numpy() for path, v in weights.items()}
    trained = model.trainable

    @tw.function
    def step(x, y):
        value, gradients = tw.value_and_grad(lambda: loss_of(model(x, training=True), y), wrt=trained)()
        opt.apply(zip(gradients, trained, strict=True))
        return value

    return [float(step(x, y)) for x, y in batches], initial


def jax_curve(apply, weights, update, batches):
    """The same in JAX. `update(weights, gradients, state, t)` gives weights and state."""
    weights = {k: jnp.asarray(v) for k, v in weights.items()}

    def loss(w, x, y):
        logp = jax.nn.log_softmax(apply(w, x))
        return -jnp.mean(jnp.take_along_axis(logp, y[..., None], axis=-1))

    both = jax.jit(jax.value_and_grad(loss))
    state, losses = {}, []
    for t, (x, y) in enumerate(batches, 1):
        value, gradients = both(weights, x, y)
        losses.append(float(value))
        weights, state = update(weights, gradients, state, t)
    return losses


def momentum(rate):
    def update(w, g, s, t):
        s = {k: 0.9 * s.get(k, 0.0) + g[k] for k in w}
        return {k: w[k] - rate * s[k] for k in w}, s

    return update


def adam(rate):
    def update(w, g, s, t):
        m = {k: 0.9 * s.get(("m", k), 0.0) + 0.1 * g[k] for k in w}
        v = {k: 0.999 * s.get(("v", k), 0.0) + 0.001 * g[k] ** 2 for k in w}
        new = {k: w[k] - rate * (m[k] / (1 - 0.9**t)) / (jnp.sqrt(v[k] / (1 - 0.999**t)) + 1e-8) for k in w}
        return new, {**{("m", k): x for k, x in m.items()}, **{("v", k): x for k, x in v.items()}}

    return update


def cross_entropy(logits, labels):
    return tw.mean(nn.softmax_cross_entropy(logits, labels))


def compare(model, apply, opt, update, batches):
    batches = list(batches)
    ours, initial = curve(model, cross_entropy, opt, batches)
    theirs = jax_curve(apply, initial, update, batches)
    assert theirs[-1] < 0.8 * theirs[0], "the model does not learn: nothing is compared"
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-4)


def images(count, seed=0):
    """Blurred patterns of ten kinds: something that can be learnt in a few steps."""
    generator = np.random.default_rng(seed)
    patterns = generator.normal(size=(10, 8 * 8))
    labels = generator.integers(0, 10, count).astype(np.int32)
    x = patterns[labels] + 0.5 * generator.normal(size=(count, 64))
    return x.astype(np.float32), labels


def tokens(steps, batch, time, vocabulary, seed=0):
    """Sequences in which each token follows from the one before, mostly."""
    generator = np.random.default_rng(seed)
    following = generator.permutation(vocabulary)
    for _ in range(steps):
        x = np.empty((batch, time + 1), np.int32)
        x[:, 0] = generator.integers(0, vocabulary, batch)
        for t in range(time):
            noise = generator.random(batch) < 0.1
            x[:, t + 1] = np.where(noise, generator.integers(0, vocabulary, batch), following[x[:, t]])
        yield x[:, :-1], x[:, 1:]


def test_a_multilayer_perceptron():
    model = nn.Sequential(nn.Dense(64, 48, rng(), activation=nn.relu), nn.Dense(48, 32, rng(), activation=nn.tanh),
                          nn.Dense(32, 10, rng()))

    def apply(w, x):
        x = jax.nn.relu(x @ w["layers.0.weight"] + w["layers.0.bias"])
        x = jnp.tanh(x @ w["layers.1.weight"] + w["layers.1.bias"])
        return x @ w["layers.2.weight"] + w["layers.2.bias"]

    batches = tw.data.batches(images(640), 32, shuffle=True, epochs=2)
    compare(model, apply, tw.optim.Momentum(0.05, 0.9), momentum(0.05), batches)


def test_a_convolutional_network():
    model = nn.Sequential(
        lambda x: tw.reshape(x, (-1, 8, 8, 1)),
        nn.Conv(1, 8, 3, rng(), activation=nn.relu),
        lambda x: nn.max_pool(x, 2),
        nn.Conv(8, 16, 3, rng(), stride=2, padding="valid"),
        nn.BatchNorm(16),
        nn.relu,
        lambda x: nn.avg_pool(x, 1),
        lambda x: tw.reshape(x, (-1, 16)),
        nn.Dense(16, 10, rng()),
    )

    def convolve(x, w, stride, padding):
        return jax.lax.conv_general_dilated(x, w, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def apply(w, x):
        x = x.reshape(-1, 8, 8, 1)
        x = jax.nn.relu(convolve(x, w["layers.1.weight"], 1, "SAME") + w["layers.1.bias"])
        x = jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
        x = convolve(x, w["layers.3.weight"], 2, "VALID") + w["layers.3.bias"]
        mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        x = (x - mean) / jnp.sqrt(variance + 1e-5) * w["layers.4.scale"] + w["layers.4.offset"]
        return jax.nn.relu(x).reshape(-1, 16) @ w["layers.8.weight"] + w["layers.8.bias"]

    batches = tw.data.batches(images(640), 32, shuffle=True, epochs=2)
    compare(model, apply, tw.optim.Adam(0.01), adam(0.01), batches)


class Lstm(nn.Module):
    def __init__(self, vocabulary, features):
        self.embed = nn.Embedding(vocabulary, features, rng())
        self.lstm = nn.LSTM(features, 24, rng())
        self.gru = nn.GRU(24, 16, rng())
        self.head = nn.Dense(16, vocabulary, rng())

    def __call__(self, x, *, training=False):
        return self.head(self.gru(self.lstm(self.embed(x))))


def test_a_recurrent_network():
    def lstm(w, x):
        def step(state, row):
            h, c = state
            i, f, g, o = jnp.split(row + h @ w["lstm.recurrent"], 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((x.shape[0], 24))
        rows = jnp.swapaxes(x @ w["lstm.weight"] + w["lstm.bias"], 0, 1)
        return jnp.swapaxes(jax.lax.scan(step, (zeros, zeros), rows)[1], 0, 1)

    def gru(w, x):
        def step(h, row):
            r, z, n = jnp.split(row, 3, axis=1)
            hr, hz, hn = jnp.split(h @ w["gru.recurrent"], 3, axis=1)
            r, z = jax.nn.sigmoid(r + hr), jax.nn.sigmoid(z + hz)
            h = (1 - z) * jnp.tanh(n + r * (hn + w["gru.new_bias"])) + z * h
            return h, h

        rows = jnp.swapaxes(x @ w["gru.weight"] + w["gru.bias"], 0, 1)
        return jnp.swapaxes(jax.lax.scan(step, jnp.zeros((x.shape[0], 16)), rows)[1], 0, 1)

    def apply(w, x):
        return gru(w, lstm(w, w["embed.table"][x])) @ w["head.weight"] + w["head.bias"]

    batches = tokens(40, 16, 6, 12)
    compare(Lstm(12, 10), apply, tw.optim.Adam(0.02), adam(0.02), batches)


class Transformer(nn.Module):
    def __init__(self, vocabulary, features, time):
        self.embed = nn.Embedding(vocabulary, features, rng())
        self.place = nn.Embedding(time, features, rng())
        self.norm1, self.norm2 = nn.LayerNorm(features), nn.LayerNorm(features)
        self.attention = nn.MultiHeadAttention(features, 2, rng(), causal=True)
        self.wide = nn.Dense(features, 4 * features, rng(), activation=nn.gelu)
        self.narrow = nn.Dense(4 * features, features, rng())
        self.head = nn.Dense(features, vocabulary, rng())

    def __call__(self, x, *, training=False):
        x = self.embed(x) + self.place(tw.arange(x.shape[1]))
        x = x + self.attention(self.norm1(x))
        return self.head(x + self.narrow(self.wide(self.norm2(x))))


def test_a_transformer():
    def dense(w, name, x):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def norm(w, name, x):
        y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return y * w[f"{name}.scale"] + w[f"{name}.offset"]

    def attention(w, x):
        batch, time, features = x.shape
        q, k, v = (
            dense(w, f"attention.{part}", x).reshape(batch, time, 2, features // 2).transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = q @ k.swapaxes(-1, -2) / np.sqrt(features // 2)
        scores = jnp.where(jnp.tril(jnp.ones((time, time), bool)), scores, -jnp.inf)
        seen = (jax.nn.softmax(scores) @ v).transpose(0, 2, 1, 3).reshape(batch, time, features)
        return dense(w, "attention.output", seen)

    def apply(w, x):
        x = w["embed.table"][x] + w["place.table"][: x.shape[1]]
        x = x + attention(w, norm(w, "norm1", x))
        y = jax.nn.gelu(dense(w, "wide", norm(w, "norm2", x)), approximate=False)
        return dense(w, "head", x + dense(w, "narrow", y))

    batches = tokens(40, 16, 8, 12)
    compare(Transformer(12, 16, 8), apply, tw.optim.Adam(0.005), adam(0.005), batches)
