"""Convolution and pooling over one to three spatial dimensions, channels last: float[batch, *spatial, channels]."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.extents import is_open
from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import contraction
from thalweg.dialects.ops import window as window_ops
from thalweg.frontend import array as xp
from thalweg.frontend import initializers
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.initializers import Initializer
from thalweg.frontend.nn.module import Module
from thalweg.frontend.tensor import ArrayLike, Tensor
from thalweg.frontend.variable import Variable

Extents = int | Sequence[int]
Padding = Literal["same", "valid"] | Sequence[tuple[int, int]]


@array_function
def conv(
    x: ArrayLike,
    weight: ArrayLike,
    *,
    stride: Extents = 1,
    padding: Padding = "same",
    dilation: Extents = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution (as everywhere in this field, a correlation: the window is not flipped).

    Args:
        x: float[batch, *spatial, inputs].
        weight: float[*window, inputs / groups, outputs].
        stride: of the window, one number or one per spatial dimension.
        padding: "same" (extent / stride, rounded up), "valid" (no padding), or pairs (before, after).
        dilation: distance of the window's elements.
        groups: channels are cut into so many groups that do not see each other.

    Returns:
        float[batch, *spatial', outputs].
    """
    x, weight = xp.asarray(x), xp.asarray(weight)
    spatial = len(x.shape) - 2
    strides, dilations = _per_dimension(stride, spatial, "stride"), _per_dimension(dilation, spatial, "dilation")
    extents = [(n - 1) * d + 1 for n, d in zip(weight.shape[:-2], dilations, strict=False)]
    low, high = _pads(padding, x.type.shape[1:-1], extents, strides)
    channels_last = (0, spatial + 1, *range(1, spatial + 1))
    return emit(
        contraction.conv_general, x, weight, strides=strides, pad_low=low, pad_high=high,
        lhs_dilation=(1,) * spatial, rhs_dilation=dilations, feature_groups=groups,
        lhs_spec=channels_last, rhs_spec=(spatial + 1, spatial, *range(spatial)), out_spec=channels_last,
    )


@array_function
def conv_transpose(x: ArrayLike, weight: ArrayLike, *, stride: Extents = 1, padding: Padding = "same") -> Tensor:
    """Transposed convolution: every element is multiplied by the whole window, `stride` apart from the next one's, and
    the products are added up. It undoes the change of extents that `conv` makes, and is the gradient of one.

    Args:
        x: float[batch, *spatial, inputs].
        weight: float[*window, inputs, outputs].
        stride: between windows, one number or one per spatial dimension.
        padding: results that are left out: "valid" (none: extent is (n - 1) * stride + window), "same" (extent is
            n * stride), or pairs (before, after).

    Returns:
        float[batch, *spatial', outputs].

    Example:
        >>> conv_transpose(ones((1, 4, 4, 8)), ones((2, 2, 8, 3)), stride=2).shape
        (1, 8, 8, 3)
    """
    x, weight = xp.asarray(x), xp.asarray(weight)
    spatial = len(x.shape) - 2
    strides, window = _per_dimension(stride, spatial, "stride"), weight.shape[:-2]
    if padding == "same":
        surplus = [k - s for k, s in zip(window, strides, strict=True)]
        padding = [(n // 2, n - n // 2) for n in surplus]
    low, high = _pads(padding, x.type.shape[1:-1], window, strides)
    channels_last = (0, spatial + 1, *range(1, spatial + 1))
    return emit(
        contraction.conv_general, x, xp.flip(weight, axis=tuple(range(spatial))), strides=(1,) * spatial,
        pad_low=tuple(k - 1 - n for k, n in zip(window, low, strict=True)),
        pad_high=tuple(k - 1 - n for k, n in zip(window, high, strict=True)),
        lhs_dilation=strides, rhs_dilation=(1,) * spatial, feature_groups=1,
        lhs_spec=channels_last, rhs_spec=(spatial + 1, spatial, *range(spatial)), out_spec=channels_last,
    )


@array_function
def max_pool(x: ArrayLike, window: Extents, *, stride: Extents | None = None, padding: Padding = "valid") -> Tensor:
    """The largest element of each window: float[batch, *spatial, channels] -> float[batch, *spatial', channels].

    `stride` is that of the window unless given, so that windows tile the image.
    """
    return _pool(window_ops.reduce_window_max, xp.asarray(x), window, stride, padding)


@array_function
def avg_pool(x: ArrayLike, window: Extents, *, stride: Extents | None = None, padding: Padding = "valid") -> Tensor:
    """The mean of each window; padding does not count. Shapes as in `max_pool`."""
    x = xp.asarray(x)
    total = _pool(window_ops.reduce_window_sum, x, window, stride, padding)
    if padding == "valid":
        return total / math.prod(_per_dimension(window, len(x.shape) - 2, "window"))
    ones = xp.ones((1, *x.shape[1:-1], 1), dtype=x.dtype)
    return total / _pool(window_ops.reduce_window_sum, ones, window, stride, padding)


class Conv(Module):
    """`conv` with a weight and a bias, then the activation: float[batch, *spatial, inputs] -> float[…, outputs].

    Args:
        window: extents of the window, one per spatial dimension; a number means a square.

    Example:
        >>> layer = Conv(1, 32, (5, 5), np.random.default_rng(0), activation=tw.nn.relu)
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        window: Extents,
        rng: np.random.Generator,
        *,
        stride: Extents = 1,
        padding: Padding = "same",
        dilation: Extents = 1,
        groups: int = 1,
        activation: Callable[[Any], Tensor] | None = None,
        bias: bool = True,
        init: Initializer = initializers.he_normal,
        name: str = "conv",
    ) -> None:
        extents = (window, window) if isinstance(window, int) else tuple(window)
        if inputs % groups or outputs % groups:
            raise ValueError(
                f"{user_frame()} Conv: {groups} groups do not divide {inputs} inputs and {outputs} outputs."
            )
        self.weight = Variable(init((*extents, inputs // groups, outputs), rng), name=f"{name}/weight")
        self.bias = Variable(initializers.zeros((outputs,)), name=f"{name}/bias") if bias else None
        self.stride, self.padding, self.dilation, self.groups = stride, padding, dilation, groups
        self.activation = activation

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        y = conv(x, self.weight, stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)
        if self.bias is not None:
            y = y + self.bias
        return y if self.activation is None else self.activation(y)

    def describe(self) -> str:
        *extents, inputs, outputs = self.weight.shape
        return f"{inputs * self.groups} -> {outputs}, {'x'.join(map(str, extents))}"


def _pool(row: Any, x: Tensor, window: Extents, stride: Extents | None, padding: Padding) -> Tensor:
    spatial = len(x.shape) - 2
    extents = _per_dimension(window, spatial, "window")
    strides = extents if stride is None else _per_dimension(stride, spatial, "stride")
    low, high = _pads(padding, x.type.shape[1:-1], extents, strides)
    return emit(
        row, x, window=(1, *extents, 1), strides=(1, *strides, 1), pad_low=(0, *low, 0), pad_high=(0, *high, 0)
    )


def _per_dimension(value: Extents, spatial: int, what: str) -> tuple[int, ...]:
    values = (value,) * spatial if isinstance(value, int) else tuple(value)
    if spatial < 1 or len(values) != spatial:
        raise ValueError(
            f"{user_frame()} {what} {value} does not fit {spatial} spatial dimensions: the first dimension "
            "is the batch, "
            "the last the channels, those between are spatial."
        )
    return values


def _pads(
    padding: Padding, spatial: Sequence[int], window: Sequence[int], strides: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Elements before and after each spatial dimension."""
    if padding == "valid":
        return (0,) * len(spatial), (0,) * len(spatial)
    if padding == "same":
        # As many windows as strides fit, with an odd element of padding at the end: TensorFlow's rule.
        if any(is_open(n) and s != 1 for n, s in zip(spatial, strides, strict=False)):
            raise TypeInferenceError(
                f"{user_frame()} how much 'same' pads depends on an extent that is open until the graph is "
                "run. Give pairs (before, after) as padding."
            )
        spatial = [0 if is_open(n) else n for n in spatial]  # with a stride of one it does not depend on it
        total = [max((-(-n // s) - 1) * s + w - n, 0) for n, w, s in zip(spatial, window, strides, strict=False)]
        return tuple(t // 2 for t in total), tuple(t - t // 2 for t in total)
    if isinstance(padding, str) or len(padding) != len(spatial):
        raise ValueError(
            f"{user_frame()} padding must be 'same', 'valid' or one pair (before, after) for each of "
            f"{len(spatial)} spatial "
            f"dimensions, got {padding!r}."
        )
    return tuple(p[0] for p in padding), tuple(p[1] for p in padding)
