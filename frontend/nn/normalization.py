"""Normalisation: by the statistics of the batch, and of each example."""

from __future__ import annotations

from typing import Any

from thalweg.frontend import array as xp
from thalweg.frontend import initializers
from thalweg.frontend.array.sizes import number_of
from thalweg.frontend.custom import as_one
from thalweg.frontend.eager import array_function
from thalweg.frontend.nn.module import Module
from thalweg.frontend.tensor import ArrayLike, Tensor
from thalweg.frontend.variable import Variable


@array_function
def layer_norm(x: ArrayLike, scale: ArrayLike = None, offset: ArrayLike = None, *, epsilon: float = 1e-5) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, over the last dimension: float[…, features].

    Ba, Kiros and Hinton, "Layer normalization" (2016).
    """
    mean, variance = _moments(x, (-1,))
    return _normalize(x, mean, variance, scale, offset, epsilon)


@array_function
def batch_norm(
    x: ArrayLike,
    mean: ArrayLike,
    variance: ArrayLike,
    scale: ArrayLike = None,
    offset: ArrayLike = None,
    *,
    epsilon: float = 1e-5,
) -> Tensor:
    """The same with given statistics of each feature, float[features]."""
    return _normalize(x, mean, variance, scale, offset, epsilon)


class LayerNorm(Module):
    """`layer_norm` with a trained scale (from one) and offset (from zero), float[features] each."""

    def __init__(self, features: int, *, epsilon: float = 1e-5, name: str = "layer_norm") -> None:
        self.scale = Variable(initializers.ones((features,)), name=f"{name}/scale")
        self.offset = Variable(initializers.zeros((features,)), name=f"{name}/offset")
        self.epsilon = epsilon

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        return layer_norm(x, self.scale, self.offset, epsilon=self.epsilon)

    def describe(self) -> str:
        return str(self.scale.shape[0])


class BatchNorm(Module):
    """Batch normalisation of the last dimension: in training by the batch's own statistics, else by moving ones.

    A call with `training=True` also assigns the moving statistics, `momentum` of the old and the rest of the batch's,
    inside the compiled program. Their variance is the unbiased one, as in the paper's Algorithm 2.

    Ioffe and Szegedy, "Batch normalization" (2015).
    """

    def __init__(
        self, features: int, *, momentum: float = 0.9, epsilon: float = 1e-5, name: str = "batch_norm"
    ) -> None:
        self.scale = Variable(initializers.ones((features,)), name=f"{name}/scale")
        self.offset = Variable(initializers.zeros((features,)), name=f"{name}/offset")
        self.mean = Variable(initializers.zeros((features,)), name=f"{name}/mean", trainable=False)
        self.variance = Variable(initializers.ones((features,)), name=f"{name}/variance", trainable=False)
        self.momentum, self.epsilon = momentum, epsilon

    def __call__(self, x: Any, *, training: bool = False) -> Tensor:
        if not training:
            return batch_norm(x, self.mean, self.variance, self.scale, self.offset, epsilon=self.epsilon)
        y: Tensor = as_one("batch_norm", lambda: self._in_training(xp.asarray(x)))
        return y

    def _in_training(self, x: Tensor) -> Tensor:
        """Normalize by the batch's own statistics, and let the moving ones follow."""
        mean, variance = _moments(x, tuple(range(len(x.shape) - 1)))
        features = x.type.shape[-1]
        count = number_of(x, range(x.ndim - 1))
        correction: Tensor | float
        if isinstance(count, Tensor):
            correction = xp.astype(count / xp.maximum(count - 1, 1), x.dtype)
        else:
            correction = count / max(count - 1, 1)
        unbiased = variance * correction
        for moving, batch in ((self.mean, mean), (self.variance, unbiased)):
            batch = xp.stop_gradient(xp.reshape(batch, (features,)))
            moving.assign(self.momentum * moving + (1 - self.momentum) * batch)
        return batch_norm(x, mean, variance, self.scale, self.offset, epsilon=self.epsilon)

    def describe(self) -> str:
        return str(self.scale.shape[0])


def _moments(x: Any, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance over `axes`, which stay as extents of one."""
    mean = xp.mean(x, axis=axes, keepdims=True)
    # Two passes: the mean of squares minus the square of the mean cancels where the mean is large.
    return mean, xp.mean(xp.square(x - mean), axis=axes, keepdims=True)


def _normalize(x: Any, mean: Any, variance: Any, scale: Any, offset: Any, epsilon: float) -> Tensor:
    y = xp.multiply(x - mean, xp.rsqrt(variance + epsilon))
    if scale is not None:
        y = y * scale
    return y if offset is None else y + offset
