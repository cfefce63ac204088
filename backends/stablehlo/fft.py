"""Fourier transforms as matrix products: `stablehlo.fft` in ordinary StableHLO on pairs of real arrays.

A transform of n = p·q points is p-point transforms, multiplications by roots of unity, and q-point transforms (Cooley
and Tukey); up to `_DIRECT` points a transform is one product with the matrix of roots, which is what backends are
fastest at. Lengths with a large prime factor become a convolution of a power of two points (Bluestein).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thalweg.backends.stablehlo.expressions import Array, concatenate, constant, dense

Pair = tuple[Array, Array]
NDArray = np.ndarray[Any, Any]

_DIRECT = 64


def fft(kind: str, lengths: Sequence[int], re: Array, im: Array | None) -> Pair:
    """The transform of the last dimensions.

    Args:
        kind: 'FFT', 'IFFT', 'RFFT' (real input: `im` is None, the last dimension shrinks to n//2 + 1) or 'IRFFT' (its
            inverse: the imaginary part of the result is to be ignored).
        lengths: the lengths of the transformed dimensions, of the real array for RFFT and IRFFT.
    """
    inverse = kind in ("IFFT", "IRFFT")
    rank, n = re.rank, lengths[-1]
    zero = constant(0, re.element, re.shape)
    pair = (re, zero if im is None else im)
    others = range(rank - len(lengths), rank - 1)
    if 0 in (*re.shape, n):
        return pair if not kind.endswith("RFFT") else _empty(pair, n if inverse else n // 2 + 1)
    if kind == "IRFFT":
        for dim in others:
            pair = _along(pair, dim, inverse)
        return _along(_hermitian(pair, n), rank - 1, inverse)
    pair = _along(pair, rank - 1, inverse)
    if kind == "RFFT":
        pair = _each(pair, lambda a: a.narrow(rank - 1, 0, n // 2 + 1))
    for dim in others:
        pair = _along(pair, dim, inverse)
    return pair


def _each(pair: Pair, function: Callable[[Array], Array]) -> Pair:
    return function(pair[0]), function(pair[1])


def _empty(pair: Pair, last: int) -> Pair:
    return _each(pair, lambda a: constant(0, a.element, (*a.shape[:-1], last)))


def _hermitian(pair: Pair, n: int) -> Pair:
    """All n values along the last dimension, from the n//2 + 1 that a real array's transform has."""
    last = pair[0].rank - 1
    if n - n // 2 == 1:  # one or two values mirror nothing
        return pair
    re, im = _each(pair, lambda a: a.narrow(last, 1, n - n // 2).reverse(last))
    return concatenate([pair[0], re], last), concatenate([pair[1], -im], last)


def _along(pair: Pair, dim: int, inverse: bool) -> Pair:
    """Transform one dimension."""
    shape, n = pair[0].shape, pair[0].shape[dim]
    order = [d for d in range(len(shape)) if d != dim] + [dim]
    back = [order.index(d) for d in range(len(shape))]
    moved = [shape[d] for d in order]
    flat = _each(pair, lambda a: a.transpose(*order).reshape(-(-math.prod(shape) // n), n))
    re, im = _transform(flat, n, 1 if inverse else -1)
    if inverse:
        re, im = re / n, im / n
    return _each((re, im), lambda a: a.reshape(*moved).transpose(*back))


def _transform(pair: Pair, n: int, sign: int) -> Pair:
    """The n-point transforms of the rows of [batch, n] arrays, with roots exp(sign·2πi·jk/n)."""
    if n == 1:
        return pair
    if n <= _DIRECT:
        return _times_roots(pair, 1, n, sign)
    p = max((d for d in range(2, _DIRECT + 1) if n % d == 0), default=1)
    if p == 1:
        return _bluestein(pair, n, sign)
    q = n // p
    batch = pair[0].shape[0]
    # j = j1·q + j2 and k = k1 + p·k2: sum over j1, then roots of n for j2·k1, then sum over j2.
    partial = _times_roots(_each(pair, lambda a: a.reshape(batch, p, q)), 1, p, sign)  # [batch, j2, k1]
    twiddle = _roots(np.outer(np.arange(q), np.arange(p)), n, sign)
    partial = _multiply(partial, _each(_constants(twiddle, pair[0].element), lambda a: a.spread((batch, q, p))))
    rows = _each(partial, lambda a: a.transpose(0, 2, 1).reshape(batch * p, q))
    done = _transform(rows, q, sign)
    return _each(done, lambda a: a.reshape(batch, p, q).transpose(0, 2, 1).reshape(batch, n))


def _roots(exponents: NDArray, n: int, sign: int) -> NDArray:
    """exp(sign·2πi·exponent/n), the exponents reduced first so that large ones lose nothing."""
    return np.exp(sign * 2j * np.pi * (exponents % n) / n)


def _constants(values: NDArray, element: str) -> Pair:
    return dense(values.real, element), dense(values.imag, element)


def _times_roots(pair: Pair, dim: int, n: int, sign: int) -> Pair:
    """Contract dimension `dim` with the matrix of n-th roots; the new dimension is the last."""
    re, im = pair
    cosines, sines = _constants(_roots(np.outer(np.arange(n), np.arange(n)), n, sign), re.element)

    def times(a: Array, b: Array) -> Array:
        return a.dot(b, (dim, 0))

    return times(re, cosines) - times(im, sines), times(re, sines) + times(im, cosines)


def _multiply(a: Pair, b: Pair) -> Pair:
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def _bluestein(pair: Pair, n: int, sign: int) -> Pair:
    """jk = (j² + k² - (k-j)²)/2 turns the transform into a convolution with a chirp."""
    batch, element = pair[0].shape[0], pair[0].element
    m = 1 << (2 * n - 1).bit_length()
    chirp = _roots(np.arange(n) ** 2, 2 * n, sign)
    kernel = np.zeros(m, complex)
    kernel[:n] = chirp.conj()
    kernel[m - n + 1 :] = chirp[1:][::-1].conj()
    spectrum = np.fft.fft(kernel) / m

    def spread(values: NDArray) -> Pair:
        return _each(_constants(values, element), lambda a: a.spread((batch, len(values))))

    padding = constant(0, element, (batch, m - n))
    padded = _each(_multiply(pair, spread(chirp)), lambda a: concatenate([a, padding], 1))
    product = _multiply(_transform(padded, m, -1), spread(spectrum))
    convolved = _each(_transform(product, m, 1), lambda a: a.narrow(1, 0, n))
    return _multiply(convolved, spread(chirp))
