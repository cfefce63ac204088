"""Random bits: threefry2x32 in integer arithmetic, the words of the NumPy reference bit for bit."""

from __future__ import annotations

import math
from collections.abc import Sequence

from thalweg.backends.stablehlo.expressions import Array, constant, iota
from thalweg.backends.stablehlo.table import lowers
from thalweg.dialects.ops import random as rows
from thalweg.dialects.types import DType


@lowers(rows.random_bits)
def random_bits(key: Array, shape: Sequence[int], dtype: DType) -> Array:
    size = math.prod(shape)
    high, low = _counter(size)
    words = [key.slice((i, i + 1)).reshape() for i in (0, 1)]
    keys = [*words, words[0] ^ words[1] ^ rows.PARITY]
    x, y = _threefry([k.spread((size,), ()) for k in keys], high, low)
    if dtype.mlir == "ui64":
        bits = (x.convert("ui64") << 32) | y.convert("ui64")
    else:
        bits = (x ^ y).convert(dtype.mlir)
    return bits.reshape(*shape)


def _counter(size: int) -> tuple[Array, Array]:
    """The high and low words of 0, 1, 2…"""
    if size <= 2**32:
        return constant(0, "ui32", (size,)), iota(0, (size,), "ui32")
    wide = iota(0, (size,), "ui64")
    return (wide >> 32).convert("ui32"), wide.convert("ui32")


def _threefry(keys: Sequence[Array], high: Array, low: Array) -> tuple[Array, Array]:
    x, y = high + keys[0], low + keys[1]
    for group in range(5):
        for rotation in rows.ROTATIONS[group % 2]:
            x = x + y
            y = x ^ ((y << rotation) | (y >> (32 - rotation)))
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + (group + 1)
    return x, y
