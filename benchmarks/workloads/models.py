"""Whole networks on images (networks.py): inference at batch 1, and gradients of all parameters ("step")."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.harness import Maker, Step, Workload
from benchmarks.workloads import layers, networks, peers

Network = Callable[[Any, Any], Any]


def _arrays(network: Network, shape: tuple[int, ...]) -> tuple[list[np.ndarray], np.ndarray]:
    """(parameters, images)."""
    traced, rng = layers.Shapes(), np.random.default_rng(0)
    network(traced, shape)
    parameters = [
        (rng.standard_normal(s, np.float32) * np.sqrt(2 / np.prod(s[:-1])) if len(s) > 1 else np.full(s, 0.01)).astype(
            np.float32
        )
        for s in traced.shapes
    ]
    return parameters, rng.standard_normal(shape, np.float32)


def _thalweg(network: Network, shape: tuple[int, ...]) -> Step:
    import thalweg as tw

    arrays, x = _arrays(network, shape)
    parameters = [tw.Variable(p, name=f"{network.__name__}_{i}") for i, p in enumerate(arrays)]
    infer = tw.function(lambda x: network(layers.Thalweg(iter(parameters)), x))
    return lambda: infer(x)


def _thalweg_step(network: Network, shape: tuple[int, ...]) -> Step:
    import thalweg as tw

    arrays, x = _arrays(network, shape)
    parameters = [tw.Variable(p, name=f"{network.__name__}_step_{i}") for i, p in enumerate(arrays)]
    labels = np.ones(shape[0], np.int32)

    @tw.function
    def step(x, y):  # type: ignore[no-untyped-def]
        def loss():  # type: ignore[no-untyped-def]
            return tw.mean(tw.nn.softmax_cross_entropy(network(layers.Thalweg(iter(parameters)), x), y))

        return tw.value_and_grad(loss, wrt=parameters)()

    def run() -> object:
        return step(x, labels)[0]

    return run


def _jax(network: Network, shape: tuple[int, ...]) -> Step:
    import jax
    import jax.numpy as jnp

    arrays, x = _arrays(network, shape)
    infer = jax.jit(lambda p, x: network(layers.Jax(iter(p)), x))
    p, x = [jnp.asarray(a) for a in arrays], jnp.asarray(x)
    return lambda: infer(p, x).block_until_ready()


def _jax_step(network: Network, shape: tuple[int, ...]) -> Step:
    import jax
    import jax.numpy as jnp

    arrays, x = _arrays(network, shape)
    labels = jnp.ones((shape[0], 1), jnp.int32)

    def loss(p, x):  # type: ignore[no-untyped-def]
        logits = network(layers.Jax(iter(p)), x)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(logits), labels, 1))

    step = jax.jit(jax.value_and_grad(loss))
    p, x = [jnp.asarray(a) for a in arrays], jnp.asarray(x)
    return lambda: jax.block_until_ready(step(p, x))[0]


def _torch_arrays(network: Network, shape: tuple[int, ...]) -> tuple[list[Any], Any]:
    import torch

    arrays, x = _arrays(network, shape)
    last = {"memory_format": torch.channels_last}
    parameters = [
        torch.from_numpy(a).permute(3, 2, 0, 1).contiguous(**last) if a.ndim == 4
        else torch.from_numpy(np.ascontiguousarray(a.T))
        for a in arrays
    ]  # fmt: skip
    return parameters, torch.from_numpy(x).permute(0, 3, 1, 2)


def _torch(network: Network, shape: tuple[int, ...]) -> Step:
    import torch

    parameters, x = _torch_arrays(network, shape)

    def run() -> object:
        with torch.inference_mode():
            return network(layers.Torch(iter(parameters)), x)

    return run


def _torch_step(network: Network, shape: tuple[int, ...]) -> Step:
    import torch

    parameters, x = _torch_arrays(network, shape)
    for parameter in parameters:
        parameter.requires_grad_()
    labels = torch.ones(shape[0], dtype=torch.long)

    def run() -> object:
        loss = torch.nn.functional.cross_entropy(network(layers.Torch(iter(parameters)), x), labels)
        torch.autograd.grad(loss, parameters)
        return loss.item()

    return run


def _tensorflow(network: Network, shape: tuple[int, ...], xla: bool = False) -> Step:
    import tensorflow as tf

    arrays, x = _arrays(network, shape)
    parameters, x = [tf.Variable(p) for p in arrays], tf.constant(x)
    infer = tf.function(lambda x: network(layers.TensorFlow(iter(parameters), xla), x), jit_compile=xla)
    return lambda: infer(x).numpy()


def _tensorflow_step(network: Network, shape: tuple[int, ...], xla: bool = False) -> Step:
    import tensorflow as tf

    arrays, x = _arrays(network, shape)
    parameters, x = [tf.Variable(p) for p in arrays], tf.constant(x)
    labels = tf.ones(shape[0], tf.int32)

    @tf.function(jit_compile=xla)
    def step():  # type: ignore[no-untyped-def]
        with tf.GradientTape() as tape:
            logits = network(layers.TensorFlow(iter(parameters), xla), x)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return loss, tape.gradient(loss, parameters)

    return lambda: step()[0].numpy()


def _onnxruntime(network: Network, shape: tuple[int, ...]) -> Step:
    from onnx import TensorProto, helper

    arrays, x = _arrays(network, shape)
    graph = layers.Onnx(iter(arrays))
    result = network(graph, "x")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [shape[k] for k in (0, 3, 1, 2)])
    wanted = helper.make_tensor_value_info(result, TensorProto.FLOAT, (shape[0], 1000))
    model = helper.make_model(
        helper.make_graph(graph.nodes, network.__name__, [given], [wanted], graph.weights),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=10,
    )  # fmt: skip
    return peers.onnxruntime_file(model.SerializeToString(), x)


def _litert(network: Network, shape: tuple[int, ...]) -> Step:
    import tensorflow as tf

    arrays, x = _arrays(network, shape)
    infer = tf.function(lambda x: network(layers.TensorFlow(iter(arrays), True), x), autograph=False)
    traced = infer.get_concrete_function(tf.TensorSpec(shape, tf.float32))
    return peers.litert_file(tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert(), x)


def _inference(name: str, network: Network) -> Workload:
    shape = (1, 224, 224, 3)
    makers = {
        "thalweg": _thalweg, "jax": _jax, "torch": _torch, "tensorflow": _tensorflow,
        "tensorflow-xla": partial(_tensorflow, xla=True), "onnxruntime": _onnxruntime, "litert": _litert,
    }  # fmt: skip
    bound: dict[str, Maker] = {framework: partial(maker, network, shape) for framework, maker in makers.items()}
    bound["torch.compile"] = peers.torch_compile(bound["torch"])
    return Workload(f"{name}-infer-1", f"{name}: inference at batch 1", bound)


def _training(name: str, network: Network, shape: tuple[int, ...]) -> Workload:
    makers = {
        "thalweg": _thalweg_step, "jax": _jax_step, "torch": _torch_step, "tensorflow": _tensorflow_step,
        "tensorflow-xla": partial(_tensorflow_step, xla=True),
    }  # fmt: skip
    bound: dict[str, Maker] = {framework: partial(maker, network, shape) for framework, maker in makers.items()}
    bound["torch.compile"] = peers.torch_compile(bound["torch"])
    return Workload(f"{name}-step", f"{name}, batch {shape[0]}: the gradients of all parameters", bound)


WORKLOADS = [
    _inference("mobilenet", networks.mobilenet),
    _inference("resnet50", networks.resnet50),
    _training("alexnet", networks.alexnet, (16, 227, 227, 3)),
    _training("overfeat", networks.overfeat, (4, 231, 231, 3)),
    _training("vgg-a", networks.vgg_a, (2, 224, 224, 3)),
    _training("googlenet", networks.googlenet, (4, 224, 224, 3)),
    _training("resnet50", networks.resnet50, (2, 224, 224, 3)),
]
