"""Random bits from a counter: threefry2x32 with 20 rounds (Salmon et al., 2011), the same on every backend.

The counter of an element is its row-major index, so its bits do not depend on how a size is factored into a shape,
nor on how many elements follow it. These are the numbers that JAX draws with `jax_threefry_partitionable`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Sample, define, fail
from thalweg.dialects.types import UNSIGNED, DType, TensorType, uint8, uint16, uint32, uint64

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = 0x1BD11BDA


def threefry2x32(key: np.ndarray, high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two 32-bit words per counter (high, low) under the two words of `key`; all uint32.

    >>> [hex(w[0]) for w in threefry2x32(*np.zeros((3, 2), np.uint32))]
    ['0x6b200159', '0x6b200159']
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(PARITY))
    x, y = high + keys[0], low + keys[1]
    for group in range(5):
        for rotation in ROTATIONS[group % 2]:
            x = x + y
            y = (y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation))
            y = x ^ y
        x = x + keys[(group + 1) % 3]
        y = y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _infer_random_bits(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (key,), dtype = operands, attrs["dtype"]
    if key != TensorType((2,), uint32):
        raise fail(f"the key must be u32[2], got {key}.")
    if dtype not in UNSIGNED:
        raise fail(f"makes {', '.join(d.short for d in UNSIGNED)}, not {dtype.short}. Convert or bitcast the bits.")
    return [TensorType(tuple(attrs["shape"]), dtype)]


def _random_bits(key: np.ndarray, shape: Sequence[int], dtype: DType) -> np.ndarray:
    counter = np.arange(int(np.prod(shape, dtype=np.int64)), dtype=np.uint64)
    with np.errstate(over="ignore"):
        x, y = threefry2x32(key, (counter >> np.uint64(32)).astype(np.uint32), counter.astype(np.uint32))
    bits = x.astype(np.uint64) << np.uint64(32) | y.astype(np.uint64) if dtype == uint64 else x ^ y
    return bits.astype(dtype.numpy).reshape(shape)


random_bits = define(
    "random_bits",
    "key",
    doc="Uniform bits of an unsigned dtype from a u32[2] key and each element's row-major index: 64 bits are both "
        "words of threefry2x32, 32 their exclusive or, 16 and 8 the low bits of that.",
    infer=_infer_random_bits,
    attrs={"shape": "ints", "dtype": "dtype"},
    defaults={"dtype": uint32},
    reference=_random_bits,
    samples=[Sample((Arg((2,), 0, 2**32),), {"shape": (2, 3), "dtype": d}) for d in (uint32, uint64, uint16, uint8)]
    + [Sample((Arg((2,), 0, 9),), {"shape": s}) for s in ((), (65,), (0, 3))],
    dtypes=(uint32,),
)
