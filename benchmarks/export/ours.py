"""The models in Thalweg: written down, exported; the function's own result is what every runtime is checked against.

    python -m benchmarks.export.ours MODEL FOLDER f32|bf16|int8|int8-dynamic|int8-static

`int8` stores weights in int8 and computes in float32, the other two compute in int8.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np

import thalweg as tw
from benchmarks.export.models import EPSILON, MODELS, Conv, Dense, Encoder, Flatten, Layer, Lstm, MaxPool, Mean

ARITHMETIC: dict[str, Any] = {"int8-dynamic": "int8-dynamic", "int8-static": "int8"}
ACTIVATIONS = {"": lambda x: x, "relu": tw.nn.relu, "relu6": tw.nn.relu6}


def apply(layer: Layer, x: Any) -> Any:
    """A layer on a traced tensor."""
    match layer:
        case Dense():
            return ACTIVATIONS[layer.activation](x @ layer.weight + layer.bias)
        case Conv():
            y = tw.nn.conv(x, layer.weight, stride=layer.stride, groups=layer.groups)
            return ACTIVATIONS[layer.activation](y + layer.bias)
        case MaxPool():
            return tw.nn.max_pool(x, 2, stride=2)
        case Mean():
            return tw.mean(x, axis=(1, 2))
        case Flatten():
            return tw.reshape(x, (x.shape[0], -1))
        case Lstm():
            return _lstm(layer, x)
        case Encoder():
            return _encoder(layer, x)
    return tw.nn.softmax(x)


def _lstm(layer: Lstm, x: Any) -> Any:
    zeros = tw.zeros((x.shape[0], layer.units))

    def step(carry: Any, row: Any) -> Any:
        c, h = carry
        i, f, g, o = tw.split(tw.concat([row, h], axis=1) @ layer.weight + layer.bias, 4, axis=1)
        c = tw.nn.sigmoid(f) * c + tw.nn.sigmoid(i) * tw.tanh(g)
        return (c, tw.nn.sigmoid(o) * tw.tanh(c)), None

    (_, last), _ = tw.scan(step, (zeros, zeros), tw.permute_dims(x, (1, 0, 2)))
    return last


def _encoder(layer: Encoder, x: Any) -> Any:
    batch, steps, width = x.shape
    q, k, v = (
        tw.permute_dims(tw.reshape(part, (batch, steps, layer.heads, width // layer.heads)), (0, 2, 1, 3))
        for part in tw.split(apply(layer.qkv, tw.nn.layer_norm(x, epsilon=EPSILON)), 3, axis=-1)
    )
    scores = tw.nn.softmax(q @ tw.permute_dims(k, (0, 1, 3, 2)) / (width // layer.heads) ** 0.5)
    mixed = tw.reshape(tw.permute_dims(scores @ v, (0, 2, 1, 3)), (batch, steps, width))
    x = x + apply(layer.out, mixed)
    return x + apply(layer.narrow, apply(layer.wide, tw.nn.layer_norm(x, epsilon=EPSILON)))


def main(name: str, folder: Path, weights: str) -> None:
    model = MODELS[name]()

    def infer(x: Any) -> Any:
        for layer in model.layers:
            x = apply(layer, x)
        return x

    function = tw.function(infer)
    start = time.perf_counter()
    report = tw.export({"infer": (function, [tw.spec(model.shape)])}, folder / f"thalweg-{weights}",
                       targets=["host", "wasm32"], weights=cast(Any, weights.partition("-")[0]),
                       arithmetic=ARITHMETIC.get(weights, "f32"), samples=model.sample())  # fmt: skip
    np.save(folder / "expected.npy", np.asarray(function(model.sample())))
    print(f"{name} {weights}: exported in {time.perf_counter() - start:.1f} s; {report.errors[0]}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
