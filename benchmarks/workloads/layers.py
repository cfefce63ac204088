"""`networks.Layers` for each framework. Arrays of weights are [height, width, inputs / groups, outputs]."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Shape = tuple[int, ...]


class Shapes:
    """Layers on shapes alone: `shapes` are those of the parameters, in the order in which they are taken."""

    def __init__(self) -> None:
        self.shapes: list[Shape] = []

    def conv(self, x: Shape, outputs: int, window: int, stride: int = 1, pad: int = 0, groups: int = 1) -> Shape:
        outputs = outputs or x[3]
        self.shapes += [(window, window, x[3] // (groups or x[3]), outputs), (outputs,)]
        return (*self._slid(x, window, stride, pad), outputs)

    def relu(self, x: Shape) -> Shape:
        return x

    relu6 = relu

    def add(self, x: Shape, y: Shape) -> Shape:
        return x

    def max_pool(self, x: Shape, window: int, stride: int, pad: int = 0) -> Shape:
        return (*self._slid(x, window, stride, pad), x[3])

    def concat(self, xs: list[Shape]) -> Shape:
        return (*xs[0][:3], sum(x[3] for x in xs))

    def mean(self, x: Shape) -> Shape:
        return (x[0], x[3])

    def flatten(self, x: Shape) -> Shape:
        return (x[0], int(np.prod(x[1:])))

    def affine(self, x: Shape, outputs: int) -> Shape:
        self.shapes += [(x[1], outputs), (outputs,)]
        return (x[0], outputs)

    @staticmethod
    def _slid(x: Shape, window: int, stride: int, pad: int) -> Shape:
        return (x[0], *((n + 2 * pad - window) // stride + 1 for n in x[1:3]))


class Thalweg:
    """NHWC."""

    def __init__(self, parameters: Iterator[Any]) -> None:
        self.parameters = parameters

    def conv(self, x: Any, outputs: int, window: int, stride: int = 1, pad: int = 0, groups: int = 1) -> Any:
        import thalweg as tw

        weight, bias = next(self.parameters), next(self.parameters)
        groups, pads = groups or x.shape[3], [(pad, pad)] * 2
        return tw.nn.conv(x, weight, stride=stride, padding=pads, groups=groups) + bias

    def relu(self, x: Any) -> Any:
        import thalweg as tw

        return tw.nn.relu(x)

    def relu6(self, x: Any) -> Any:
        import thalweg as tw

        return tw.nn.relu6(x)

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def max_pool(self, x: Any, window: int, stride: int, pad: int = 0) -> Any:
        import thalweg as tw

        return tw.nn.max_pool(x, window, stride=stride, padding=[(pad, pad)] * 2)

    def concat(self, xs: list[Any]) -> Any:
        import thalweg as tw

        return tw.concat(xs, axis=3)

    def mean(self, x: Any) -> Any:
        import thalweg as tw

        return tw.mean(x, axis=(1, 2))

    def flatten(self, x: Any) -> Any:
        import thalweg as tw

        return tw.reshape(x, (x.shape[0], -1))

    def affine(self, x: Any, outputs: int) -> Any:
        return x @ next(self.parameters) + next(self.parameters)


class Jax(Thalweg):
    """NHWC."""

    def conv(self, x: Any, outputs: int, window: int, stride: int = 1, pad: int = 0, groups: int = 1) -> Any:
        from jax import lax

        weight, bias = next(self.parameters), next(self.parameters)
        y = lax.conv_general_dilated(
            x, weight, (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups or x.shape[3],
        )  # fmt: skip
        return y + bias

    def relu(self, x: Any) -> Any:
        import jax

        return jax.nn.relu(x)

    def relu6(self, x: Any) -> Any:
        import jax

        return jax.nn.relu6(x)

    def max_pool(self, x: Any, window: int, stride: int, pad: int = 0) -> Any:
        import jax.numpy as jnp
        from jax import lax

        pads = ((0, 0), (pad, pad), (pad, pad), (0, 0))
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, window, window, 1), (1, stride, stride, 1), pads)

    def concat(self, xs: list[Any]) -> Any:
        import jax.numpy as jnp

        return jnp.concatenate(xs, 3)

    def mean(self, x: Any) -> Any:
        return x.mean((1, 2))

    def flatten(self, x: Any) -> Any:
        return x.reshape(x.shape[0], -1)


class TensorFlow(Thalweg):
    """NHWC. XLA and LiteRT know no pooling with padding at both ends: those get a `padded` copy.

    What is pooled comes from a ReLU everywhere, so that the copy's zeros never win.
    """

    def __init__(self, parameters: Iterator[Any], padded: bool) -> None:
        super().__init__(parameters)
        self.padded = padded

    def conv(self, x: Any, outputs: int, window: int, stride: int = 1, pad: int = 0, groups: int = 1) -> Any:
        import tensorflow as tf

        weight, bias = next(self.parameters), next(self.parameters)
        pads = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
        if groups == 0:  # its cost model, which runs first, aborts the process for depthwise ones that pad themselves
            weight = tf.transpose(weight, (0, 1, 3, 2))
            return tf.nn.depthwise_conv2d(tf.pad(x, pads), weight, [1, stride, stride, 1], "VALID") + bias
        return tf.nn.conv2d(x, weight, stride, pads if pad else "VALID") + bias

    def relu(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.nn.relu(x)

    def relu6(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.nn.relu6(x)

    def max_pool(self, x: Any, window: int, stride: int, pad: int = 0) -> Any:
        import tensorflow as tf

        pads = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
        if pad and self.padded:
            x, pad = tf.pad(x, pads), 0
        return tf.nn.max_pool2d(x, window, stride, pads if pad else "VALID")

    def concat(self, xs: list[Any]) -> Any:
        import tensorflow as tf

        return tf.concat(xs, 3)

    def mean(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.reduce_mean(x, (1, 2))

    def flatten(self, x: Any) -> Any:
        import tensorflow as tf

        return tf.reshape(x, (x.shape[0], -1))


class Torch(Thalweg):
    """NCHW in shape, channels last in memory; weights are [outputs, inputs, height, width] and [outputs, inputs]."""

    def conv(self, x: Any, outputs: int, window: int, stride: int = 1, pad: int = 0, groups: int = 1) -> Any:
        import torch

        weight, bias = next(self.parameters), next(self.parameters)
        return torch.nn.functional.conv2d(x, weight, bias, stride, pad, 1, groups or x.shape[1])

    def relu(self, x: Any) -> Any:
        import torch

        return torch.nn.functional.relu(x)

    def relu6(self, x: Any) -> Any:
        import torch

        return torch.nn.functional.relu6(x)

    def max_pool(self, x: Any, window: int, stride: int, pad: int = 0) -> Any:
        import torch

        return torch.nn.functional.max_pool2d(x, window, stride, pad)

    def concat(self, xs: list[Any]) -> Any:
        import torch

        return torch.cat(xs, 1)

    def mean(self, x: Any) -> Any:
        return x.mean((2, 3))

    def flatten(self, x: Any) -> Any:
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)  # in the order of the other versions

    def affine(self, x: Any, outputs: int) -> Any:
        import torch

        return torch.nn.functional.linear(x, next(self.parameters), next(self.parameters))


class Onnx:
    """A graph for ONNX Runtime: NCHW, values are names. `nodes` and `weights` make the model."""

    def __init__(self, parameters: Iterator[np.ndarray]) -> None:
        self.parameters = parameters
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.channels: dict[str, int] = {"x": 3}

    def conv(self, x: str, outputs: int, window: int, stride: int = 1, pad: int = 0, groups: int = 1) -> str:
        outputs, groups = outputs or self.channels[x], groups or self.channels[x]
        weight = self._weight(next(self.parameters).transpose(3, 2, 0, 1))
        made = self._node(
            "Conv", x, weight, self._weight(next(self.parameters)),
            strides=[stride] * 2, pads=[pad] * 4, group=groups, kernel_shape=[window] * 2,
        )  # fmt: skip
        self.channels[made] = outputs
        return made

    def relu(self, x: str) -> str:
        return self._node("Relu", x)

    def relu6(self, x: str) -> str:
        return self._node("Clip", x, self._weight(np.float32(0)), self._weight(np.float32(6)))

    def add(self, x: str, y: str) -> str:
        return self._node("Add", x, y)

    def max_pool(self, x: str, window: int, stride: int, pad: int = 0) -> str:
        return self._node("MaxPool", x, kernel_shape=[window] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def concat(self, xs: list[str]) -> str:
        made = self._node("Concat", *xs, axis=1)
        self.channels[made] = sum(self.channels[x] for x in xs)
        return made

    def mean(self, x: str) -> str:
        return self._node("Flatten", self._node("GlobalAveragePool", x), axis=1)

    def flatten(self, x: str) -> str:
        return self._node("Flatten", self._node("Transpose", x, perm=[0, 2, 3, 1]), axis=1)

    def affine(self, x: str, outputs: int) -> str:
        return self._node("Gemm", x, self._weight(next(self.parameters)), self._weight(next(self.parameters)))

    def _weight(self, array: Any) -> str:
        from onnx import numpy_helper

        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        self.channels[name] = self.channels[inputs[0]]
        return name
