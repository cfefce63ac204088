"""Special functions, elementwise."""

from __future__ import annotations

import math

import numpy as np

from thalweg.dialects.ops.elementwise import unary


def _lgamma(x: np.ndarray) -> np.ndarray:
    def scalar(v: float) -> float:
        try:
            return math.lgamma(v)
        except (ValueError, OverflowError):  # a pole, or too large
            return math.inf

    return np.asarray([scalar(v) for v in x.reshape(-1).tolist()], x.dtype).reshape(x.shape)


def _digamma(x: np.ndarray) -> np.ndarray:
    """Reflection below 1/2, recurrence up to 20, then the asymptotic series; in float64."""
    wide = x.astype(np.float64)
    turned = wide < 0.5
    y = np.where(turned, 1 - wide, wide)
    result = np.zeros_like(y)
    for _ in range(20):
        small = y < 20
        result = np.where(small, result - 1 / y, result)
        y = np.where(small, y + 1, y)
    square = 1 / (y * y)
    series = square * (1 / 12 - square * (1 / 120 - square * (1 / 252 - square * (1 / 240 - square / 132))))
    result = result + np.log(y) - 0.5 / y - series
    reflected = result - np.pi / np.tan(np.pi * np.where(turned, wide, 0.25))
    pole = (wide <= 0) & (wide == np.floor(wide))
    return np.asarray(np.where(pole, np.nan, np.where(turned, reflected, result)), x.dtype)


def _erf_inv(x: np.ndarray) -> np.ndarray:
    """Winitzki's approximation and four steps of Newton; in float64."""
    wide = x.astype(np.float64)
    log = np.log1p(-wide * wide)
    half = 2 / (np.pi * 0.147) + log / 2
    y = np.sign(wide) * np.sqrt(np.sqrt(half * half - log / 0.147) - half)
    for _ in range(4):
        error = np.asarray([math.erf(v) for v in y.reshape(-1).tolist()]).reshape(y.shape) - wide
        y = y - error * np.sqrt(np.pi) / 2 * np.exp(y * y)
    return np.asarray(np.where(np.abs(wide) == 1, np.copysign(np.inf, wide), y), x.dtype)


lgamma = unary("lgamma", _lgamma, "Logarithm of the absolute value of the gamma function; inf at its poles.",
               low=2.5, high=20, tolerance=64)
digamma = unary("digamma", _digamma, "Derivative of lgamma; NaN at its poles.", low=2, high=20, tolerance=64)
erf_inv = unary("erf_inv", _erf_inv, "Inverse of erf in [-1, 1]; NaN outside.", low=-0.95, high=0.95, tolerance=64)
