"""2-layer LSTM-512 language model, 20 steps, batch 20, vocabulary 10,000: a step with full or sampled softmax."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.harness import Step, Workload
from benchmarks.workloads import peers

WIDTH, LAYERS, STEPS, BATCH, VOCABULARY, SAMPLES, RATE = 512, 2, 20, 20, 10_000, 512, 0.1


def _parameters() -> list[np.ndarray]:
    """Embedding, then (weights of [input, state] to 4 gates, bias) per layer, then output weights by row and bias."""
    rng = np.random.default_rng(0)

    def normal(*shape: int, scale: float) -> np.ndarray:
        return (rng.standard_normal(shape) * scale).astype(np.float32)

    cells: list[np.ndarray] = []
    for _ in range(LAYERS):
        cells += [normal(2 * WIDTH, 4 * WIDTH, scale=0.03), np.zeros(4 * WIDTH, np.float32)]
    return [
        normal(VOCABULARY, WIDTH, scale=0.1), *cells, normal(VOCABULARY, WIDTH, scale=0.05),
        np.zeros(VOCABULARY, np.float32),
    ]


def _data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    tokens = rng.integers(0, VOCABULARY, (STEPS + 1, BATCH)).astype(np.int32)
    return tokens[:-1], tokens[1:], rng.choice(VOCABULARY, SAMPLES, replace=False).astype(np.int32)


def _thalweg(sampled: bool) -> Step:
    import thalweg as tw

    names = f"lstm_{'sampled' if sampled else 'full'}"
    variables = [tw.Variable(p, name=f"{names}_{i}") for i, p in enumerate(_parameters())]
    optimizer = tw.optim.SGD(RATE)

    def layer(xs, w, b):  # type: ignore[no-untyped-def]
        def cell(state, x):  # type: ignore[no-untyped-def]
            h, c = state
            i, f, g, o = tw.split(tw.concat([x, h], axis=1) @ w + b, 4, axis=1)
            c = tw.nn.sigmoid(f) * c + tw.nn.sigmoid(i) * tw.tanh(g)
            h = tw.nn.sigmoid(o) * tw.tanh(c)
            return (h, c), h

        zeros = tw.zeros((BATCH, WIDTH))
        return tw.scan(cell, (zeros, zeros), xs)[1]

    @tw.function
    def step(inputs, targets, samples):  # type: ignore[no-untyped-def]
        def loss():  # type: ignore[no-untyped-def]
            embedding, w1, b1, w2, b2, out, bias = variables
            h = layer(layer(tw.take(embedding, inputs, axis=0), w1, b1), w2, b2)
            h, wanted = tw.reshape(h, (-1, WIDTH)), tw.reshape(targets, (-1,))
            if not sampled:
                return tw.mean(tw.nn.softmax_cross_entropy(h @ tw.matrix_transpose(out) + bias, wanted))
            true = tw.sum(h * tw.take(out, wanted, axis=0), axis=1) + tw.take(bias, wanted, axis=0)
            noise = h @ tw.matrix_transpose(tw.take(out, samples, axis=0)) + tw.take(bias, samples, axis=0)
            return tw.mean(tw.logsumexp(tw.concat([true[:, None], noise], axis=1), axis=1) - true)

        value, gradients = tw.value_and_grad(loss, wrt=variables)()
        optimizer.apply(list(zip(gradients, variables, strict=True)))
        return value

    data = _data()
    return lambda: step(*data)


def _jax(sampled: bool) -> Step:
    import jax
    import jax.numpy as jnp

    def layer(xs, w, b):  # type: ignore[no-untyped-def]
        def cell(state, x):  # type: ignore[no-untyped-def]
            h, c = state
            i, f, g, o = jnp.split(jnp.concatenate([x, h], 1) @ w + b, 4, 1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zeros = jnp.zeros((BATCH, WIDTH))
        return jax.lax.scan(cell, (zeros, zeros), xs)[1]

    def loss(p, inputs, targets, samples):  # type: ignore[no-untyped-def]
        embedding, w1, b1, w2, b2, out, bias = p
        h = layer(layer(embedding[inputs], w1, b1), w2, b2).reshape(-1, WIDTH)
        wanted = targets.reshape(-1)
        if not sampled:
            scores = jax.nn.log_softmax(h @ out.T + bias)
            return -jnp.mean(jnp.take_along_axis(scores, wanted[:, None], 1))
        true = jnp.sum(h * out[wanted], 1) + bias[wanted]
        noise = h @ out[samples].T + bias[samples]
        return jnp.mean(jax.nn.logsumexp(jnp.concatenate([true[:, None], noise], 1), 1) - true)

    def update(p, *data):  # type: ignore[no-untyped-def]
        value, gradients = jax.value_and_grad(loss)(p, *data)
        return [a - RATE * g for a, g in zip(p, gradients, strict=True)], value

    step = jax.jit(update, donate_argnums=0)
    box, data = [[jnp.asarray(p) for p in _parameters()]], [jnp.asarray(a) for a in _data()]

    def run() -> object:
        box[0], value = step(box[0], *data)
        jax.block_until_ready(box[0])
        return value

    return run


def _torch(sampled: bool) -> Step:
    import torch

    arrays = [torch.from_numpy(p) for p in _parameters()]
    lstm = torch.nn.LSTM(WIDTH, WIDTH, LAYERS)
    with torch.no_grad():
        for i in range(LAYERS):
            weights = arrays[1 + 2 * i]
            getattr(lstm, f"weight_ih_l{i}").copy_(weights[:WIDTH].T)
            getattr(lstm, f"weight_hh_l{i}").copy_(weights[WIDTH:].T)
            getattr(lstm, f"bias_ih_l{i}").zero_()
            getattr(lstm, f"bias_hh_l{i}").zero_()
    embedding, out, bias = (arrays[i].requires_grad_() for i in (0, -2, -1))
    optimizer = torch.optim.SGD([embedding, *lstm.parameters(), out, bias], RATE)
    inputs, targets, samples = (torch.from_numpy(a).long() for a in _data())

    def run() -> object:
        optimizer.zero_grad()
        h = lstm(torch.nn.functional.embedding(inputs, embedding))[0].reshape(-1, WIDTH)
        wanted = targets.reshape(-1)
        if sampled:
            true = (h * out[wanted]).sum(1) + bias[wanted]
            noise = h @ out[samples].T + bias[samples]
            loss = (torch.logsumexp(torch.cat([true[:, None], noise], 1), 1) - true).mean()
        else:
            loss = torch.nn.functional.cross_entropy(h @ out.T + bias, wanted)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def _torch_compiled(sampled: bool) -> Step:
    return peers.torch_compile(partial(_torch, sampled))()


WORKLOADS = [
    Workload(
        f"lstm-{kind}-softmax", f"2-layer LSTM-{WIDTH}, {STEPS} steps, batch {BATCH}: SGD step, {kind} softmax",
        {name: partial(make, kind == "sampled") for name, make in
         (("thalweg", _thalweg), ("jax", _jax), ("torch", _torch), ("torch.compile", _torch_compiled))},
    )
    for kind in ("full", "sampled")
]
