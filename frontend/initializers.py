"""Initial values of variables.

An initializer is a function `(shape, rng) -> array`, with `rng` a NumPy generator that the caller owns, so that a model
is a function of one seed and nothing else:

    >>> rng = np.random.default_rng(0)
    >>> w = tw.Variable(tw.initializers.glorot_uniform((784, 10), rng))

An initial value is data and not a computation: it is made on the host, costs no compilation, and is the same whatever
the program is compiled for. Values are float32 unless `dtype` says otherwise.

Fans: the last extent of a shape is the outputs, the one before it the inputs, and the extents before these (the window
of a convolution, laid out `(*window, inputs, outputs)`) multiply both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np

from thalweg.dialects.types import DType, as_dtype, float32

Array = np.ndarray[Any, Any]
Initializer = Callable[[Sequence[int], np.random.Generator], Array]
Fan = Literal["in", "out", "average"]

# A normal distribution cut at two deviations has this deviation: truncated initializers divide by it.
_TRUNCATED_DEVIATION = 0.87962566103423978


def zeros(shape: Sequence[int], rng: np.random.Generator | None = None, *, dtype: DType = float32) -> Array:
    """All zero."""
    return np.zeros(shape, as_dtype(dtype).numpy)


def ones(shape: Sequence[int], rng: np.random.Generator | None = None, *, dtype: DType = float32) -> Array:
    """All one."""
    return np.ones(shape, as_dtype(dtype).numpy)


def constant(value: float) -> Initializer:
    """All `value`."""
    return lambda shape, rng: np.full(shape, value, np.float32)


def uniform(low: float = -0.05, high: float = 0.05) -> Initializer:
    """Uniform in [low, high)."""
    return lambda shape, rng: rng.uniform(low, high, shape).astype(np.float32)


def normal(deviation: float = 0.05, mean: float = 0.0) -> Initializer:
    """Normal with this mean and standard deviation."""
    return lambda shape, rng: rng.normal(mean, deviation, shape).astype(np.float32)


def truncated_normal(deviation: float = 0.05, mean: float = 0.0) -> Initializer:
    """Normal with values further than two deviations from the mean drawn again."""

    def make(shape: Sequence[int], rng: np.random.Generator) -> Array:
        return (mean + deviation * _truncated(shape, rng)).astype(np.float32)

    return make


def variance_scaling(
    scale: float, fan: Fan, kind: Literal["uniform", "normal", "truncated_normal"]
) -> Initializer:
    """Values with mean zero and variance `scale / fan`: what glorot, he and lecun are cases of.

    Raises:
        ValueError: when called with a shape of fewer than two extents, which has no fans.
    """

    def make(shape: Sequence[int], rng: np.random.Generator) -> Array:
        inputs, outputs = fans(shape)
        deviation = math.sqrt(scale / {"in": inputs, "out": outputs, "average": (inputs + outputs) / 2}[fan])
        if kind == "uniform":
            limit = math.sqrt(3.0) * deviation
            return rng.uniform(-limit, limit, shape).astype(np.float32)
        if kind == "normal":
            return rng.normal(0.0, deviation, shape).astype(np.float32)
        return (deviation / _TRUNCATED_DEVIATION * _truncated(shape, rng)).astype(np.float32)

    return make


# Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010).
glorot_uniform = variance_scaling(1.0, "average", "uniform")
glorot_normal = variance_scaling(1.0, "average", "truncated_normal")
xavier_uniform, xavier_normal = glorot_uniform, glorot_normal
# He et al., "Delving deep into rectifiers" (2015).
he_uniform = variance_scaling(2.0, "in", "uniform")
he_normal = variance_scaling(2.0, "in", "truncated_normal")
# LeCun et al., "Efficient BackProp" (1998).
lecun_uniform = variance_scaling(1.0, "in", "uniform")
lecun_normal = variance_scaling(1.0, "in", "truncated_normal")


def orthogonal(gain: float = 1.0) -> Initializer:
    """Orthonormal rows or columns, whichever are fewer, times `gain`; further extents are flattened into rows.

    Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural
    networks" (2014).
    """

    def make(shape: Sequence[int], rng: np.random.Generator) -> Array:
        if len(shape) < 2:
            raise ValueError(f"orthogonal: needs a shape of two or more extents, got {tuple(shape)}.")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        q, r = np.linalg.qr(rng.normal(size=(max(rows, columns), min(rows, columns))))
        q *= np.sign(np.diag(r))  # makes the factorisation unique, and the matrix uniform over all orthogonal ones
        return (gain * (q if rows >= columns else q.T)).reshape(shape).astype(np.float32)

    return make


def fans(shape: Sequence[int]) -> tuple[int, int]:
    """Inputs and outputs of one unit of a weight of this shape."""
    if len(shape) < 2:
        raise ValueError(
            f"a shape of {len(shape)} extents, {tuple(shape)}, has no number of inputs and outputs. "
            "Use zeros, constant, uniform or normal for it."
        )
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


def _truncated(shape: Sequence[int], rng: np.random.Generator) -> Array:
    values = rng.standard_normal(tuple(shape))
    while (outside := np.abs(values) > 2.0).any():
        values[outside] = rng.standard_normal(int(outside.sum()))
    return np.asarray(values)
