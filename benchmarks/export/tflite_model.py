"""The models as TensorFlow Lite files, written down in TensorFlow and converted.

    python -m benchmarks.export.tflite_model MODEL FILE [f32|bf16|int8-dynamic|int8-static]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from benchmarks.export.models import EPSILON, MODELS, Conv, Dense, Encoder, Flatten, Layer, Lstm, MaxPool, Mean, Model

ACTIVATIONS = {"": lambda x: x, "relu": tf.nn.relu, "relu6": tf.nn.relu6}


def _apply(layer: Layer, x: Any) -> Any:
    match layer:
        case Dense():
            return ACTIVATIONS[layer.activation](tf.matmul(x, layer.weight) + layer.bias)
        case Conv():
            if layer.groups > 1:
                weight = layer.weight.transpose(0, 1, 3, 2)
                y = tf.nn.depthwise_conv2d(x, weight, [1, layer.stride, layer.stride, 1], "SAME")
            else:
                y = tf.nn.conv2d(x, layer.weight, layer.stride, "SAME")
            return ACTIVATIONS[layer.activation](y + layer.bias)
        case MaxPool():
            return tf.nn.max_pool2d(x, 2, 2, "VALID")
        case Mean():
            return tf.reduce_mean(x, [1, 2])
        case Flatten():
            return tf.reshape(x, (1, -1))
        case Lstm():
            return _lstm(layer, x)
        case Encoder():
            return _encoder(layer, x)
    return tf.nn.softmax(x)


def _lstm(layer: Lstm, x: Any) -> Any:
    c = h = tf.zeros((1, layer.units))
    for row in tf.unstack(x, axis=1):  # the converter's own loops are slower than the steps one by one
        i, f, g, o = tf.split(tf.matmul(tf.concat([row, h], 1), layer.weight) + layer.bias, 4, axis=1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
    return h


def _norm(x: Any) -> Any:
    mean = tf.reduce_mean(x, -1, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), -1, keepdims=True)
    return (x - mean) * tf.math.rsqrt(variance + EPSILON)


def _encoder(layer: Encoder, x: Any) -> Any:
    _, steps, width = x.shape

    def dense(part: Dense, rows: Any) -> Any:
        return _apply(part, tf.reshape(rows, (steps, -1)))

    heads = (1, steps, layer.heads, width // layer.heads)
    q, k, v = (
        tf.transpose(tf.reshape(p, heads), (0, 2, 1, 3)) for p in tf.split(dense(layer.qkv, _norm(x)), 3, axis=-1)
    )
    scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / heads[3] ** 0.5)
    mixed = tf.reshape(tf.transpose(tf.matmul(scores, v), (0, 2, 1, 3)), (steps, width))
    x = x + tf.reshape(dense(layer.out, mixed), x.shape)
    return x + tf.reshape(dense(layer.narrow, dense(layer.wide, _norm(x))), x.shape)


def build(model: Model, weights: str = "f32") -> bytes:
    """The model as a TensorFlow Lite file, a batch of one.

    Args:
        weights: "f32", "bf16" (float16 here), or int8: "int8-dynamic" quantises what they multiply as it comes,
            "int8-static" by what a sample has shown, inside the model as a whole.
    """

    @tf.function(input_signature=[tf.TensorSpec(model.shape, tf.float32)], autograph=False)
    def infer(x: Any) -> Any:
        for layer in model.layers:
            x = _apply(layer, x)
        return x

    converter = tf.lite.TFLiteConverter.from_concrete_functions([infer.get_concrete_function()])
    if weights != "f32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == "int8-static":
        converter.representative_dataset = lambda: iter([[model.sample()]])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if weights == "bf16":
        converter.target_spec.supported_types = [tf.float16]
    converted: bytes = converter.convert()
    return converted


def main(name: str, path: str, weights: str = "f32") -> None:
    Path(path).write_bytes(build(MODELS[name](), weights))


if __name__ == "__main__":
    main(*sys.argv[1:])
