"""Activations: functions of one tensor, element by element.

Sigmoid, tanh and the softmax family are array functions, which `tw.nn` gives again.
"""

from __future__ import annotations

import math

from thalweg.frontend import array as xp
from thalweg.frontend.eager import array_function
from thalweg.frontend.tensor import ArrayLike, Tensor


@array_function
def relu(x: ArrayLike) -> Tensor:
    """max(x, 0)."""
    return xp.maximum(x, 0)


@array_function
def relu6(x: ArrayLike) -> Tensor:
    """min(max(x, 0), 6)."""
    return xp.clip(x, 0, 6)


@array_function
def leaky_relu(x: ArrayLike, slope: float = 0.01) -> Tensor:
    """x where positive, else slope * x."""
    t = xp.asarray(x)
    return xp.where(t > 0, t, slope * t)


@array_function
def elu(x: ArrayLike, alpha: float = 1.0) -> Tensor:
    """x where positive, else alpha * (exp(x) - 1). Clevert et al. (2016)."""
    t = xp.asarray(x)
    return xp.where(t > 0, t, alpha * xp.expm1(xp.minimum(t, 0)))  # the minimum keeps exp, and its gradient, finite


@array_function
def selu(x: ArrayLike) -> Tensor:
    """The ELU that keeps mean and variance. Klambauer et al. (2017)."""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


@array_function
def log_sigmoid(x: ArrayLike) -> Tensor:
    """log(sigmoid(x)), exact for large negative x."""
    return -softplus(-x)


@array_function
def softplus(x: ArrayLike) -> Tensor:
    """log(1 + exp(x)), without overflow."""
    t = xp.asarray(x)
    return xp.maximum(t, 0) + xp.log1p(xp.exp(-xp.abs(t)))


@array_function
def softsign(x: ArrayLike) -> Tensor:
    """x / (1 + |x|)."""
    t = xp.asarray(x)
    return xp.divide(t, 1 + xp.abs(t))


@array_function
def silu(x: ArrayLike) -> Tensor:
    """x * sigmoid(x), also called swish. Elfwing et al. (2017)."""
    t = xp.asarray(x)
    return t * xp.sigmoid(t)


@array_function
def mish(x: ArrayLike) -> Tensor:
    """x * tanh(softplus(x)). Misra (2019)."""
    t = xp.asarray(x)
    return t * xp.tanh(softplus(t))


@array_function
def gelu(x: ArrayLike, *, approximate: bool = False) -> Tensor:
    """x * Φ(x), with Φ the normal distribution function: through erf, or a tanh that is within 1e-3 of it.

    Hendrycks and Gimpel (2016).
    """
    t = xp.asarray(x)
    if approximate:
        return 0.5 * t * (1 + xp.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t * t * t)))
    return 0.5 * t * (1 + xp.erf(t * math.sqrt(0.5)))


@array_function
def hard_sigmoid(x: ArrayLike) -> Tensor:
    """clip(x / 6 + 1/2, 0, 1)."""
    t = xp.asarray(x)
    return xp.clip(t / 6 + 0.5, 0, 1)
