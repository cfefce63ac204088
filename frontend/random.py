"""Random numbers from explicit keys: the same on every backend, eager and compiled.

    key = tw.random.key(0)
    a, b = tw.random.split(key)
    tw.random.normal((2, 3), key=a)

    tw.random.normal((2, 3), seed=0)       # the same as key=tw.random.key(0)
    tw.random.normal((2, 3))               # the process's generator: other numbers at each call, also in a tw.function

A key is two 32-bit words; bits come from threefry2x32 in counter mode, everything else is made of ordinary ops.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.ops import random as rows
from thalweg.dialects.ops import shape as shape_rows
from thalweg.dialects.ops import sort, special
from thalweg.dialects.types import DType, as_dtype, float32, float64, int32, uint32, uint64
from thalweg.frontend.array.conversion import broadcast_to_shape, cast, fail, operand
from thalweg.frontend.array.elementwise import add, astype, clip, less, log, multiply, negative, subtract
from thalweg.frontend.array.indexing import take
from thalweg.frontend.array.manipulation import expand_dims, stack, unstack
from thalweg.frontend.array.searching import argmax
from thalweg.frontend.custom import as_one
from thalweg.frontend.eager import array_function, emit, emit_all
from thalweg.frontend.extent import Extent, code_of
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor, as_tensor
from thalweg.frontend.trace import suspended
from thalweg.frontend.variable import Variable

_GOLDEN = 0x9E3779B9


def key(seed: int) -> Tensor:
    """A key from an integer seed: u32[2]."""
    return EagerTensor(np.array([(seed >> 32) & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32))


@array_function
def split(key: ArrayLike, num: int = 2) -> tuple[Tensor, ...]:
    """`num` independent keys from one, which should not be used again."""
    return unstack(emit(rows.random_bits, _checked("split", key), shape=(num, 2), dtype=uint32))


@array_function
def fold_in(key: ArrayLike, data: ArrayLike) -> Tensor:
    """A key from a key and an integer, a step's number, say."""
    words = unstack(_checked("fold_in", key))
    mixed = stack([words[0] ^ astype(as_tensor(data), uint32), words[1] ^ _GOLDEN])
    return emit(rows.random_bits, mixed, shape=(2,), dtype=uint32)


def _checked(name: str, key: ArrayLike) -> Tensor:
    tensor = as_tensor(key)
    if tensor.type.shape != (2,) or tensor.dtype != uint32:
        raise fail(f"random.{name}", f"a key is u32[2], got {tensor.type}. Make one with tw.random.key(seed).")
    return tensor


class Generator:
    """Keys one after the other, from a seed and a counter that is a variable: also inside traced functions.

    Example:
        >>> generator = tw.random.Generator(0)
        >>> tw.random.normal((2,), key=generator.key())
    """

    def __init__(self, seed: int = 0, name: str = "generator") -> None:
        with suspended():
            self.base = Variable(key(seed), name=f"{name}/key", trainable=False)
            self.counter = Variable(np.zeros((), np.uint32), name=f"{name}/counter", trainable=False)

    def key(self) -> Tensor:
        """The next key."""

        def draw() -> Tensor:
            fresh = fold_in(self.base.value, self.counter.value)
            self.counter.assign_add(1)
            return fresh

        key: Tensor = as_one("key", draw)
        return key

    def reset(self, seed: int) -> None:
        """Begin again, from another seed."""
        self.base.assign(key(seed))
        self.counter.assign(0)


class _Default:
    """The process's generator, made when it is first needed."""

    def __init__(self) -> None:
        self.generator: Generator | None = None

    def get(self) -> Generator:
        if self.generator is None:
            self.generator = Generator(0, name="random")
        return self.generator


_default = _Default()


def seed(value: int) -> None:
    """Begin the process's generator again, from this seed."""
    _default.get().reset(value)


def default_generator() -> Generator:
    """The process's generator: what functions use that get neither key nor seed."""
    return _default.get()


def _key(name: str, given: ArrayLike | None, seed: int | None) -> Tensor:
    if given is not None and seed is not None:
        raise fail(f"random.{name}", "give a key or a seed, not both.")
    if given is not None:
        return _checked(name, given)
    return key(seed) if seed is not None else _default.get().key()


def _shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (code_of(shape),) if isinstance(shape, int | Extent) else tuple(map(code_of, shape))


def bits(shape: int | Sequence[int], *, key: ArrayLike = None, seed: int | None = None, dtype: Any = uint32) -> Tensor:
    """Uniform random bits as an unsigned integer dtype."""
    return _bits(_key("bits", key, seed), _shape(shape), as_dtype(dtype))


@array_function
def _bits(key: ArrayLike, shape: tuple[int, ...], dtype: DType) -> Tensor:
    return emit(rows.random_bits, as_tensor(key), shape=shape, dtype=dtype)


def uniform(
    shape: int | Sequence[int],
    *,
    key: ArrayLike = None,
    seed: int | None = None,
    low: ArrayLike = 0.0,
    high: ArrayLike = 1.0,
    dtype: Any = float32,
) -> Tensor:
    """Uniform numbers in [low, high)."""
    return _uniform(_key("uniform", key, seed), low, high, _shape(shape), _float("uniform", dtype))


def _float(name: str, dtype: Any) -> DType:
    wanted = as_dtype(dtype)
    if not wanted.is_floating:
        raise fail(f"random.{name}", f"makes floating-point numbers, not {wanted.name}.")
    return wanted


def _unit(key: ArrayLike, shape: tuple[int, ...], dtype: DType) -> Tensor:
    """Uniform multiples of 2**-digits in [0, 1), so that 1 is never reached by rounding."""
    wide, width = (uint64, 64) if dtype == float64 else (uint32, 32)
    drawn = emit(rows.random_bits, as_tensor(key), shape=shape, dtype=wide)
    return multiply(astype(drawn >> (width - dtype.digits), dtype), 2.0**-dtype.digits)


@array_function
def _uniform(key: ArrayLike, low: ArrayLike, high: ArrayLike, shape: tuple[int, ...], dtype: DType) -> Tensor:
    start, stop = cast(operand(low), dtype), cast(operand(high), dtype)
    return add(multiply(_unit(key, shape, dtype), subtract(stop, start)), start)


def normal(
    shape: int | Sequence[int],
    *,
    key: ArrayLike = None,
    seed: int | None = None,
    mean: ArrayLike = 0.0,
    stddev: ArrayLike = 1.0,
    dtype: Any = float32,
) -> Tensor:
    """Normal numbers with the given mean and standard deviation."""
    return _normal(_key("normal", key, seed), mean, stddev, _shape(shape), _float("normal", dtype))


@array_function
def _normal(key: ArrayLike, mean: ArrayLike, stddev: ArrayLike, shape: tuple[int, ...], dtype: DType) -> Tensor:
    plain = _between(key, -1.0, 1.0, shape, dtype)
    return add(multiply(plain, cast(operand(stddev), dtype)), cast(operand(mean), dtype))


def _between(key: ArrayLike, low: float, high: float, shape: tuple[int, ...], dtype: DType) -> Tensor:
    """sqrt(2) erf_inv(u), u uniform strictly between low and high; half types are computed in float32."""
    wide = dtype.computed
    half_step = 2.0 ** -(wide.digits + 1)  # in the middle of the steps, so that neither end is reached
    u = multiply(add(_unit(key, shape, wide), half_step), high - low)
    limit = 1 - 2.0 ** -wide.digits
    u = clip(add(u, low), -limit, limit)
    return astype(multiply(emit(special.erf_inv, u), math.sqrt(2)), dtype)


def truncated_normal(
    shape: int | Sequence[int],
    *,
    key: ArrayLike = None,
    seed: int | None = None,
    low: float = -2.0,
    high: float = 2.0,
    mean: ArrayLike = 0.0,
    stddev: ArrayLike = 1.0,
    dtype: Any = float32,
) -> Tensor:
    """Normal numbers of which only those between `low` and `high` standard deviations from the mean are kept."""
    wanted = _float("truncated_normal", dtype)
    plain = _truncated(_key("truncated_normal", key, seed), float(low), float(high), _shape(shape), wanted)
    return add(multiply(plain, cast(operand(stddev), wanted)), cast(operand(mean), wanted))


@array_function
def _truncated(key: ArrayLike, low: float, high: float, shape: tuple[int, ...], dtype: DType) -> Tensor:
    below, above = math.erf(low / math.sqrt(2)), math.erf(high / math.sqrt(2))
    return clip(_between(key, below, above, shape, dtype), low, high)


def randint(
    low: int,
    high: int,
    shape: int | Sequence[int],
    *,
    key: ArrayLike = None,
    seed: int | None = None,
    dtype: Any = int32,
) -> Tensor:
    """Uniform integers in [low, high)."""
    if not 0 < high - low <= 2**32:
        raise fail("random.randint", f"needs low < high, at most 2**32 apart, got {low} and {high}.")
    return _randint(_key("randint", key, seed), low, high - low, _shape(shape), as_dtype(dtype))


@array_function
def _randint(key: ArrayLike, low: int, span: int, shape: tuple[int, ...], dtype: DType) -> Tensor:
    drawn = astype(emit(rows.random_bits, as_tensor(key), shape=shape, dtype=uint32), uint64)
    scaled = multiply(drawn, EagerTensor(np.array(span, np.uint64))) >> 32
    return add(astype(scaled, dtype), low)


def bernoulli(
    p: ArrayLike = 0.5, shape: int | Sequence[int] | None = None, *, key: ArrayLike = None, seed: int | None = None
) -> Tensor:
    """True with probability p; the shape is p's by default."""
    probability = as_tensor(p)
    extents = probability.type.shape if shape is None else _shape(shape)
    return _bernoulli(_key("bernoulli", key, seed), astype(probability, float32), extents)


@array_function
def _bernoulli(key: ArrayLike, p: ArrayLike, shape: tuple[int, ...]) -> Tensor:
    return less(_unit(key, shape, float32), p)


def categorical(
    logits: ArrayLike, *, key: ArrayLike = None, seed: int | None = None, axis: int = -1, num: int | None = None
) -> Tensor:
    """Indices along `axis` drawn with probabilities softmax(logits), int32; `num` of them in a new last dimension."""
    return _categorical(_key("categorical", key, seed), as_tensor(logits), axis, num)


@array_function
def _categorical(key: ArrayLike, logits: ArrayLike, axis: int, num: int | None) -> Tensor:
    scores = astype(logits, float32)
    place = axis % scores.ndim
    shape = scores.type.shape
    if num is not None:
        scores, shape = expand_dims(scores, axis=-1), (*shape, num)
    u = add(_unit(key, shape, float32), 2.0**-25)
    gumbel = negative(log(negative(log(u))))
    return argmax(add(gumbel, broadcast_to_shape(scores, shape)), axis=place)


def exponential(
    shape: int | Sequence[int], *, key: ArrayLike = None, seed: int | None = None, dtype: Any = float32
) -> Tensor:
    """Exponential numbers with mean 1."""
    return _exponential(_key("exponential", key, seed), _shape(shape), _float("exponential", dtype))


@array_function
def _exponential(key: ArrayLike, shape: tuple[int, ...], dtype: DType) -> Tensor:
    return negative(log(subtract(1.0, _unit(key, shape, dtype))))


def permutation(x: ArrayLike, *, key: ArrayLike = None, seed: int | None = None) -> Tensor:
    """The rows of x in random order; of an integer n, the numbers 0 to n - 1."""
    drawn = _key("permutation", key, seed)
    if isinstance(x, int):
        return _permutation(drawn, x)
    tensor = as_tensor(x)
    if not tensor.ndim:
        raise fail("random.permutation", f"takes an integer or an array with rows, got {tensor.type}.")
    return take(tensor, _permutation(drawn, tensor.type.shape[0]), axis=0)


@array_function
def _permutation(key: ArrayLike, count: int) -> Tensor:
    places = emit(shape_rows.iota, shape=(count,), dim=0, dtype=int32)
    keys = emit(rows.random_bits, as_tensor(key), shape=(count,), dtype=uint64)
    return emit_all(sort.sort, keys, places, axis=0)[1]
