"""The models as ONNX graphs, images as [batch, channels, height, width], which is what ONNX Runtime wants.

    python -m benchmarks.export.onnx_model MODEL FILE [f32|int8-dynamic|int8-static]
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.export.models import EPSILON, MODELS, Conv, Dense, Encoder, Flatten, Layer, Lstm, MaxPool, Mean, Model


class _Graph:
    """Nodes and weights so far."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def keep(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def ints(self, *values: int) -> str:
        return self.keep(np.asarray(values, np.int64))

    def activated(self, x: str, activation: str) -> str:
        if activation == "relu6":
            return self.op("Clip", x, self.keep(np.float32(0)), self.keep(np.float32(6)))
        return self.op("Relu", x) if activation else x

    def dense(self, layer: Dense, x: str, flat: bool) -> str:
        weight, bias = self.keep(layer.weight), self.keep(layer.bias)
        y = self.op("Gemm", x, weight, bias) if flat else self.op("Add", self.op("MatMul", x, weight), bias)
        return self.activated(y, layer.activation)

    def norm(self, x: str, width: int) -> str:
        ones, zeros = np.ones(width, np.float32), np.zeros(width, np.float32)
        return self.op("LayerNormalization", x, self.keep(ones), self.keep(zeros), epsilon=EPSILON)


def _apply(g: _Graph, layer: Layer, x: str, model: Model) -> str:
    match layer:
        case Dense():
            return g.dense(layer, x, flat=True)
        case Conv():
            weight = g.keep(layer.weight.transpose(3, 2, 0, 1))
            y = g.op("Conv", x, weight, g.keep(layer.bias), auto_pad="SAME_UPPER", strides=[layer.stride] * 2,
                     group=layer.groups)  # fmt: skip
            return g.activated(y, layer.activation)
        case MaxPool():
            return g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
        case Mean():
            return g.op("Flatten", g.op("GlobalAveragePool", x))
        case Flatten():
            # Images have their channels last in the weights of the layer that follows.
            last = g.op("Transpose", x, perm=[0, 2, 3, 1]) if len(model.shape) == 4 else x
            return g.op("Flatten", last)
        case Lstm():
            return _lstm(g, layer, x)
        case Encoder():
            return _encoder(g, layer, x, model)
    return g.op("Softmax", x)


def _lstm(g: _Graph, layer: Lstm, x: str) -> str:
    n = layer.units
    order = np.concatenate([np.arange(k * n, k * n + n) for k in (0, 3, 1, 2)])  # input, output, forget, cell
    weight = layer.weight[:, order].T[None]
    inputs = weight.shape[2] - n
    bias = np.concatenate([layer.bias[order], np.zeros(4 * n, np.float32)])[None]
    steps_first = g.op("Transpose", x, perm=[1, 0, 2])
    name = f"v{len(g.nodes)}"
    parts = [g.keep(weight[:, :, :inputs]), g.keep(weight[:, :, inputs:]), g.keep(bias)]
    g.nodes.append(helper.make_node("LSTM", [steps_first, *parts], ["", name], hidden_size=n))
    return g.op("Squeeze", name, g.ints(0))


def _encoder(g: _Graph, layer: Encoder, x: str, model: Model) -> str:
    _, steps, width = model.shape
    each = width // layer.heads
    qkv = g.dense(layer.qkv, g.norm(x, width), flat=False)
    parts = []
    for k in range(3):
        part = g.op("Slice", qkv, g.ints(k * width), g.ints(k * width + width), g.ints(2))
        heads = g.op("Reshape", part, g.ints(1, steps, layer.heads, each))
        parts.append(g.op("Transpose", heads, perm=[0, 2, 3, 1] if k == 1 else [0, 2, 1, 3]))
    scores = g.op("Div", g.op("MatMul", parts[0], parts[1]), g.keep(np.float32(each**0.5)))
    mixed = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores), parts[2]), perm=[0, 2, 1, 3])
    x = g.op("Add", x, g.dense(layer.out, g.op("Reshape", mixed, g.ints(1, steps, width)), flat=False))
    wide = g.dense(layer.wide, g.norm(x, width), flat=False)
    return g.op("Add", x, g.dense(layer.narrow, wide, flat=False))


def build(model: Model) -> onnx.ModelProto:
    """The model as a graph with one input "x", a batch of one."""
    g = _Graph()
    shape = [model.shape[k] for k in ((0, 3, 1, 2) if len(model.shape) == 4 else range(len(model.shape)))]
    x = "x"
    for layer in model.layers:
        x = _apply(g, layer, x, model)
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    made = helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, model.classes])
    graph = helper.make_graph(g.nodes, model.name, [given], [made], g.weights)
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(whole)
    return whole


class _Sample(CalibrationDataReader):  # type: ignore[misc]  # the package has no types
    """The model's sample, once."""

    def __init__(self, model: Model) -> None:
        x = model.sample()
        self._rest = iter([{"x": x.transpose(0, 3, 1, 2) if x.ndim == 4 else x}])

    def get_next(self) -> dict[str, np.ndarray[Any, Any]] | None:
        return next(self._rest, None)


def main(name: str, path: str, weights: str = "f32") -> None:
    model = MODELS[name]()
    onnx.save(build(model), path)
    if weights == "int8-dynamic":
        quantize_dynamic(path, path, weight_type=QuantType.QInt8, per_channel=True)
    elif weights == "int8-static":
        prepared = f"{path}.prepared"
        quant_pre_process(path, prepared)  # puts activations into the products before them
        quantize_static(prepared, path, _Sample(model), per_channel=True)
        Path(prepared).unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
