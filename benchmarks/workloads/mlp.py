"""MLP 784-512-256-10: a training step (batch 128, momentum) and inference at batch 1."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np

from benchmarks.harness import Step, Workload
from benchmarks.workloads import peers

SIZES, BATCH, RATE, MOMENTUM = (784, 512, 256, 10), 128, 0.01, 0.9


def _parameters() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        array.astype(np.float32)
        for m, n in pairwise(SIZES)
        for array in (rng.standard_normal((m, n)) / np.sqrt(m), np.zeros(n))
    ]


def _data(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((batch, SIZES[0]), np.float32), rng.integers(0, 10, batch).astype(np.int32)


def _thalweg() -> Step:
    import thalweg as tw

    parameters = [tw.Variable(p, name=f"mlp_{i}") for i, p in enumerate(_parameters())]
    optimizer = tw.optim.Momentum(RATE, MOMENTUM)

    @tw.function
    def step(x, y):  # type: ignore[no-untyped-def]
        def loss():  # type: ignore[no-untyped-def]
            h = x
            for w, b in zip(parameters[::2], parameters[1::2], strict=True):
                h = h @ w + b if w is parameters[-2] else tw.nn.relu(h @ w + b)
            return tw.mean(tw.nn.softmax_cross_entropy(h, y))

        value, gradients = tw.value_and_grad(loss, wrt=parameters)()
        optimizer.apply(list(zip(gradients, parameters, strict=True)))
        return value

    x, y = _data(BATCH)
    return lambda: step(x, y)


def _jax() -> Step:
    import jax
    import jax.numpy as jnp

    def loss(parameters, x, y):  # type: ignore[no-untyped-def]
        h = x
        for i in range(0, len(parameters), 2):
            h = h @ parameters[i] + parameters[i + 1]
            h = jnp.maximum(h, 0) if i < len(parameters) - 2 else h
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), y[:, None], 1))

    def update(state, x, y):  # type: ignore[no-untyped-def]
        parameters, moments = state
        value, gradients = jax.value_and_grad(loss)(parameters, x, y)
        moments = [MOMENTUM * m + g for m, g in zip(moments, gradients, strict=True)]
        return ([p - RATE * m for p, m in zip(parameters, moments, strict=True)], moments), value

    step = jax.jit(update, donate_argnums=0)
    parameters = [jnp.asarray(p) for p in _parameters()]
    box = [(parameters, [jnp.zeros_like(p) for p in parameters])]
    x, y = map(jnp.asarray, _data(BATCH))

    def run() -> object:
        box[0], value = step(box[0], x, y)
        jax.block_until_ready(box[0])
        return value

    return run


def _torch_model():  # type: ignore[no-untyped-def]
    import torch

    layers: list[torch.nn.Module] = []
    arrays = _parameters()
    for i in range(0, len(arrays), 2):
        layer = torch.nn.Linear(*arrays[i].shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(arrays[i].T.copy()))
            layer.bias.copy_(torch.from_numpy(arrays[i + 1]))
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def _torch() -> Step:
    import torch

    model = _torch_model()
    optimizer = torch.optim.SGD(model.parameters(), RATE, MOMENTUM)
    x, y = (torch.from_numpy(a) for a in _data(BATCH))
    y = y.long()

    def run() -> object:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def _tensorflow(xla: bool = False) -> Step:
    import tensorflow as tf

    parameters = [tf.Variable(p) for p in _parameters()]
    moments = [tf.Variable(tf.zeros_like(p)) for p in parameters]
    x, y = map(tf.constant, _data(BATCH))

    @tf.function(jit_compile=xla)
    def step():  # type: ignore[no-untyped-def]
        with tf.GradientTape() as tape:
            h = x
            for i in range(0, len(parameters), 2):
                h = h @ parameters[i] + parameters[i + 1]
                h = tf.nn.relu(h) if i < len(parameters) - 2 else h
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, h))
        for p, m, g in zip(parameters, moments, tape.gradient(loss, parameters), strict=True):
            m.assign(MOMENTUM * m + g)
            p.assign_sub(RATE * m)
        return loss

    return lambda: step().numpy()


def _thalweg_inference() -> Step:
    import thalweg as tw

    parameters = [tw.Variable(p, name=f"mlp_infer_{i}") for i, p in enumerate(_parameters())]

    @tw.function
    def infer(x):  # type: ignore[no-untyped-def]
        for w, b in zip(parameters[::2], parameters[1::2], strict=True):
            x = x @ w + b if w is parameters[-2] else tw.nn.relu(x @ w + b)
        return x

    x = _data(1)[0]
    return lambda: infer(x)


def _jax_inference() -> Step:
    import jax
    import jax.numpy as jnp

    @jax.jit
    def infer(parameters, h):  # type: ignore[no-untyped-def]
        for i in range(0, len(parameters), 2):
            h = h @ parameters[i] + parameters[i + 1]
            h = jnp.maximum(h, 0) if i < len(parameters) - 2 else h
        return h

    parameters, x = [jnp.asarray(p) for p in _parameters()], jnp.asarray(_data(1)[0])
    return lambda: infer(parameters, x).block_until_ready()


def _torch_inference() -> Step:
    import torch

    model, x = _torch_model().eval(), torch.from_numpy(_data(1)[0])

    def run() -> object:
        with torch.inference_mode():
            return model(x)

    return run


def _layers():  # type: ignore[no-untyped-def]
    from benchmarks.export.models import Dense, Model

    arrays = _parameters()
    pairs = list(zip(arrays[::2], arrays[1::2], strict=True))
    layers = [Dense(w, b, "relu" if k < len(pairs) - 1 else "") for k, (w, b) in enumerate(pairs)]
    return Model("mlp", (1, SIZES[0]), tuple(layers))


WORKLOADS = [
    Workload(
        "mlp-step", "MLP 784-512-256-10, batch 128, momentum: one training step",
        {
            "thalweg": _thalweg, "jax": _jax, "torch": _torch, "torch.compile": peers.torch_compile(_torch),
            "tensorflow": _tensorflow, "tensorflow-xla": partial(_tensorflow, xla=True),
        },
    ),
    Workload(
        "mlp-infer-1", "the same MLP, inference at batch 1",
        {
            "thalweg": _thalweg_inference, "jax": _jax_inference, "torch": _torch_inference,
            "torch.compile": peers.torch_compile(_torch_inference),
            "onnxruntime": lambda: peers.onnxruntime(_layers(), _data(1)[0]),
            "litert": lambda: peers.litert(_layers(), _data(1)[0]),
        },
        unit="us",
    ),
]
