"""Convnet 28x28, 5x5x32, pool, 5x5x64, pool, 512, 10: a training step (batch 64, Adam) and inference at batch 1."""

from __future__ import annotations

from functools import partial

import numpy as np

from benchmarks.harness import Step, Workload
from benchmarks.workloads import peers

BATCH, RATE, BETA1, BETA2, EPSILON = 64, 1e-3, 0.9, 0.999, 1e-7


def _parameters() -> list[np.ndarray]:
    """Kernels as HWIO, dense weights as (in, out)."""
    rng = np.random.default_rng(0)
    shapes = ((5, 5, 1, 32), (5, 5, 32, 64), (7 * 7 * 64, 512), (512, 10))
    return [
        array.astype(np.float32)
        for shape in shapes
        for array in (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1])), np.zeros(shape[-1]))
    ]


def _data(batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    return rng.standard_normal((batch, 28, 28, 1), np.float32), rng.integers(0, 10, batch).astype(np.int32)


def _thalweg_model():  # type: ignore[no-untyped-def]
    import thalweg as tw

    def model(p, x):  # type: ignore[no-untyped-def]
        x = tw.nn.max_pool(tw.nn.relu(tw.nn.conv(x, p[0], padding="same") + p[1]), 2)
        x = tw.nn.max_pool(tw.nn.relu(tw.nn.conv(x, p[2], padding="same") + p[3]), 2)
        x = tw.nn.relu(tw.reshape(x, (x.shape[0], -1)) @ p[4] + p[5])
        return x @ p[6] + p[7]

    return model


def _thalweg() -> Step:
    import thalweg as tw

    model = _thalweg_model()
    parameters = [tw.Variable(p, name=f"convnet_{i}") for i, p in enumerate(_parameters())]
    optimizer = tw.optim.Adam(RATE, beta1=BETA1, beta2=BETA2, epsilon=EPSILON)

    @tw.function
    def step(x, y):  # type: ignore[no-untyped-def]
        def loss():  # type: ignore[no-untyped-def]
            return tw.mean(tw.nn.softmax_cross_entropy(model(parameters, x), y))

        value, gradients = tw.value_and_grad(loss, wrt=parameters)()
        optimizer.apply(list(zip(gradients, parameters, strict=True)))
        return value

    x, y = _data(BATCH)
    return lambda: step(x, y)


def _jax_model():  # type: ignore[no-untyped-def]
    import jax.numpy as jnp
    from jax import lax

    def conv(x, w):  # type: ignore[no-untyped-def]
        return lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def pool(x):  # type: ignore[no-untyped-def]
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    def model(p, x):  # type: ignore[no-untyped-def]
        x = pool(jnp.maximum(conv(x, p[0]) + p[1], 0))
        x = pool(jnp.maximum(conv(x, p[2]) + p[3], 0))
        x = jnp.maximum(x.reshape(x.shape[0], -1) @ p[4] + p[5], 0)
        return x @ p[6] + p[7]

    return model


def _jax() -> Step:
    import jax
    import jax.numpy as jnp

    model = _jax_model()

    def loss(p, x, y):  # type: ignore[no-untyped-def]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(model(p, x)), y[:, None], 1))

    def update(state, x, y):  # type: ignore[no-untyped-def]
        p, m, v, t = state
        value, g = jax.value_and_grad(loss)(p, x, y)
        t = t + 1
        m = [BETA1 * a + (1 - BETA1) * b for a, b in zip(m, g, strict=True)]
        v = [BETA2 * a + (1 - BETA2) * b * b for a, b in zip(v, g, strict=True)]
        rate = RATE * jnp.sqrt(1 - BETA2**t) / (1 - BETA1**t)
        p = [a - rate * b / (jnp.sqrt(c) + EPSILON) for a, b, c in zip(p, m, v, strict=True)]
        return (p, m, v, t), value

    step = jax.jit(update, donate_argnums=0)
    p = [jnp.asarray(a) for a in _parameters()]
    box = [(p, [jnp.zeros_like(a) for a in p], [jnp.zeros_like(a) for a in p], jnp.float32(0))]
    x, y = map(jnp.asarray, _data(BATCH))

    def run() -> object:
        box[0], value = step(box[0], x, y)
        jax.block_until_ready(box[0])
        return value

    return run


def _torch_model():  # type: ignore[no-untyped-def]
    import torch

    p = [torch.from_numpy(a) for a in _parameters()]
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 32, 5, padding="same"), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(32, 64, 5, padding="same"), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(7 * 7 * 64, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10),
    )
    with torch.no_grad():
        for layer, i in ((model[0], 0), (model[3], 2)):
            layer.weight.copy_(p[i].permute(3, 2, 0, 1))
            layer.bias.copy_(p[i + 1])
        # The flattened features come in channel order here, and in row order in the other versions.
        model[7].weight.copy_(p[4].reshape(7, 7, 64, 512).permute(3, 2, 0, 1).reshape(512, -1))
        model[7].bias.copy_(p[5])
        model[9].weight.copy_(p[6].T)
        model[9].bias.copy_(p[7])
    return model.to(memory_format=torch.channels_last)


def _torch_images(batch: int):  # type: ignore[no-untyped-def]
    import torch

    x, y = _data(batch)
    return torch.from_numpy(x).permute(0, 3, 1, 2), torch.from_numpy(y).long()


def _torch() -> Step:
    import torch

    model, (x, y) = _torch_model(), _torch_images(BATCH)
    optimizer = torch.optim.Adam(model.parameters(), RATE, (BETA1, BETA2), EPSILON)

    def run() -> object:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()

    return run


def _tensorflow(xla: bool = False) -> Step:
    import tensorflow as tf

    p = [tf.Variable(a) for a in _parameters()]
    m, v = ([tf.Variable(tf.zeros_like(a)) for a in p] for _ in range(2))
    t = tf.Variable(0.0)
    x, y = map(tf.constant, _data(BATCH))

    @tf.function(jit_compile=xla)
    def step():  # type: ignore[no-untyped-def]
        with tf.GradientTape() as tape:
            h = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(x, p[0], 1, "SAME") + p[1]), 2, 2, "VALID")
            h = tf.nn.max_pool2d(tf.nn.relu(tf.nn.conv2d(h, p[2], 1, "SAME") + p[3]), 2, 2, "VALID")
            h = tf.nn.relu(tf.reshape(h, (BATCH, -1)) @ p[4] + p[5])
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, h @ p[6] + p[7]))
        t.assign_add(1.0)
        rate = RATE * tf.sqrt(1 - BETA2**t) / (1 - BETA1**t)
        for a, b, c, g in zip(p, m, v, tape.gradient(loss, p), strict=True):
            b.assign(BETA1 * b + (1 - BETA1) * g)
            c.assign(BETA2 * c + (1 - BETA2) * g * g)
            a.assign_sub(rate * b / (tf.sqrt(c) + EPSILON))
        return loss

    return lambda: step().numpy()


def _thalweg_inference() -> Step:
    import thalweg as tw

    model, x = _thalweg_model(), _data(1)[0]
    parameters = [tw.Variable(p, name=f"convnet_infer_{i}") for i, p in enumerate(_parameters())]
    infer = tw.function(lambda x: model(parameters, x))
    return lambda: infer(x)


def _jax_inference() -> Step:
    import jax
    import jax.numpy as jnp

    infer, x = jax.jit(_jax_model()), jnp.asarray(_data(1)[0])
    parameters = [jnp.asarray(p) for p in _parameters()]
    return lambda: infer(parameters, x).block_until_ready()


def _torch_inference() -> Step:
    import torch

    model, (x, _) = _torch_model().eval(), _torch_images(1)

    def run() -> object:
        with torch.inference_mode():
            return model(x)

    return run


def _layers():  # type: ignore[no-untyped-def]
    from benchmarks.export.models import Conv, Dense, Flatten, MaxPool, Model

    p = _parameters()
    convolved = (Conv(p[0], p[1], 1, "relu"), MaxPool(), Conv(p[2], p[3], 1, "relu"), MaxPool(), Flatten())
    return Model("convnet", (1, 28, 28, 1), (*convolved, Dense(p[4], p[5], "relu"), Dense(p[6], p[7])))


WORKLOADS = [
    Workload(
        "convnet-step", "the convnet, batch 64, Adam: one training step",
        {
            "thalweg": _thalweg, "jax": _jax, "torch": _torch, "torch.compile": peers.torch_compile(_torch),
            "tensorflow": _tensorflow, "tensorflow-xla": partial(_tensorflow, xla=True),
        },
    ),
    Workload(
        "convnet-infer-1", "the same convnet, inference at batch 1",
        {
            "thalweg": _thalweg_inference, "jax": _jax_inference, "torch": _torch_inference,
            "torch.compile": peers.torch_compile(_torch_inference),
            "onnxruntime": lambda: peers.onnxruntime(_layers(), _data(1)[0]),
            "litert": lambda: peers.litert(_layers(), _data(1)[0]),
        },
    ),
]
