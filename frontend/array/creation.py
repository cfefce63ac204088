"""Functions that make arrays. Names of the Python array API standard.

Default dtypes are float32 and int32. Outside a trace the result is filled in at once, without a program.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import numpy as np

from thalweg.dialects.extents import is_open
from thalweg.dialects.ops import shape as rows
from thalweg.dialects.types import DType, as_dtype
from thalweg.frontend.array.conversion import broadcast_to_shape, cast, fail, operand
from thalweg.frontend.array.elementwise import add, astype, less_equal, multiply, where
from thalweg.frontend.array.manipulation import broadcast_arrays, reshape
from thalweg.frontend.device import asked_here, check_device
from thalweg.frontend.dtypes import DEFAULT_FLOAT, DEFAULT_INT, default_dtype, scalar_kind
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.extent import Extent, code_of
from thalweg.frontend.program import Array
from thalweg.frontend.resident import place_of
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Scalar, Tensor, TracedTensor, as_tensor, from_numpy
from thalweg.frontend.trace import current
from thalweg.runtime.gpu.dlpack import host_array

Shape = int | Sequence[int]


P = ParamSpec("P")


def _placed(function: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Make a function put the array it makes on its `device`, else on the one that `tw.device` asks for. Inside a trace
    programs decide that."""

    @functools.wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        wanted = kwargs.get("device") if kwargs else None
        if wanted is not None:
            check_device(wanted)  # type: ignore[arg-type]
        made = function(*args, **kwargs)
        place = place_of(f"{function.__name__}()", str(wanted or asked_here()), ())
        return made if place is None or current() is not None else made.to_device(place)

    return make


def _shape(name: str, shape: Shape) -> tuple[int, ...]:
    extents = (shape,) if isinstance(shape, int | Extent) else tuple(shape)
    if any(isinstance(n, TracedTensor) for n in extents):
        raise fail(name, "an extent is a traced tensor; shapes must be known while tracing.")
    try:
        extents = tuple(code_of(n) for n in extents)
    except TypeError:
        raise fail(name, f"extents are integers, got {list(extents)}.") from None
    if any(n < 0 for n in extents):
        raise fail(name, f"extents must not be negative, got {list(extents)}.")
    return extents


@_placed
def asarray(obj: ArrayLike, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor from a NumPy array, a DLPack object, a Python number or nested lists of numbers.

    NumPy arrays keep their dtype and are copied, because they may change later; `copy=False` shares the memory. Python
    floats (a np.float64 scalar is one) become float32, Python integers int32 (int64 if they do not fit).

    Raises:
        TypeError: obj is nothing of the kind, or its dtype is none of ours.
    """
    if isinstance(obj, Scalar) and dtype is not None:
        return full((), obj, dtype=dtype)
    if isinstance(obj, np.ndarray) and copy is not False:
        tensor: Tensor = from_numpy(obj, copy=True)
    elif copy and isinstance(obj, EagerTensor):
        tensor = EagerTensor(obj.data.copy())
    else:
        tensor = as_tensor(obj)
    if dtype is None or tensor.dtype == as_dtype(dtype):
        return tensor
    if isinstance(tensor, EagerTensor) and not isinstance(obj, Tensor):
        return EagerTensor(_converted(tensor.data, as_dtype(dtype), checked=isinstance(obj, list | tuple)))
    return astype(tensor, dtype)


def _converted(array: Array, dtype: DType, checked: bool) -> Array:
    """An array in another dtype; `checked` integers must fit."""
    converted: Array = array.astype(dtype.numpy)
    if checked and array.dtype.kind in "iu" and dtype.kind in "iu" and not np.array_equal(array, converted):
        raise fail("asarray", f"numbers from {array.min()} to {array.max()} are outside the range of {dtype.name}.")
    return converted


def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of any object with `__dlpack__`, shared unless `copy`. What is on a GPU stays there."""
    from thalweg.frontend.resident import adopted  # which needs the functions of arrays

    on_gpu = adopted(x)
    if on_gpu is not None:
        return on_gpu if device is None else on_gpu.to_device(device)
    check_device(device)
    return from_numpy(x if isinstance(x, np.ndarray) else host_array(x), copy=bool(copy))


@_placed
def full(shape: Shape, fill_value: ArrayLike, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array filled with one value, whose default dtype is that of the value."""
    return _filled("full", shape, fill_value, dtype)


def _filled(name: str, shape: Shape, fill_value: ArrayLike, dtype: Any) -> Tensor:
    extents = _shape(name, shape)
    value = operand(fill_value)
    if dtype is not None:
        wanted = as_dtype(dtype)
    else:
        wanted = default_dtype(scalar_kind(value)) if isinstance(value, Scalar) else value.dtype
    if current() is None:
        try:
            one = value if isinstance(value, Scalar) else np.asarray(value)
            return EagerTensor(np.full(extents, one, wanted.numpy))
        except OverflowError:
            raise fail(name, f"{fill_value} is outside the range of {wanted.name}.") from None
    return broadcast_to_shape(cast(value, wanted), extents)


@_placed
def zeros(shape: Shape, *, dtype: Any = DEFAULT_FLOAT, device: Any = None) -> Tensor:
    """An array of zeros."""
    return _filled("zeros", shape, 0, dtype)


@_placed
def ones(shape: Shape, *, dtype: Any = DEFAULT_FLOAT, device: Any = None) -> Tensor:
    """An array of ones."""
    return _filled("ones", shape, 1, dtype)


@_placed
def empty(shape: Shape, *, dtype: Any = DEFAULT_FLOAT, device: Any = None) -> Tensor:
    """An array whose values do not matter; they are zeros."""
    return _filled("empty", shape, 0, dtype)


def _like(x: ArrayLike, dtype: Any) -> tuple[tuple[int, ...], DType]:
    shaped = x if hasattr(x, "shape") and hasattr(x, "dtype") else as_tensor(x)
    return tuple(map(code_of, shaped.shape)), as_dtype(shaped.dtype if dtype is None else dtype)


@_placed
def full_like(x: ArrayLike, /, fill_value: ArrayLike, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of x's shape and dtype filled with one value."""
    shape, wanted = _like(x, dtype)
    return full(shape, fill_value, dtype=wanted)


@_placed
def zeros_like(x: ArrayLike, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Zeros of x's shape and dtype."""
    return full_like(x, 0, dtype=dtype)


@_placed
def ones_like(x: ArrayLike, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """Ones of x's shape and dtype."""
    return full_like(x, 1, dtype=dtype)


@_placed
def empty_like(x: ArrayLike, /, *, dtype: Any = None, device: Any = None) -> Tensor:
    """An array of x's shape and dtype whose values do not matter; they are zeros."""
    return full_like(x, 0, dtype=dtype)


@_placed
def arange(
    start: int | float,
    /,
    stop: int | float | None = None,
    step: int | float = 1,
    *,
    dtype: Any = None,
    device: Any = None,
) -> Tensor:
    """start, start + step… below stop; `arange(n)` is 0 to n - 1. Python numbers only: they decide the shape."""
    if stop is None:
        start, stop = 0, start
    start, stop, step = (v.code if isinstance(v, Extent) else v for v in (start, stop, step))
    if any(isinstance(v, TracedTensor) for v in (start, stop, step)):
        raise fail("arange", "a bound is a traced tensor; shapes must be known while tracing.")
    if dtype is None:
        whole = all((is_open(v) or float(v).is_integer()) and not isinstance(v, float) for v in (start, stop, step))
        dtype = DEFAULT_INT if whole else DEFAULT_FLOAT
    wanted = as_dtype(dtype)
    if step == 0:
        raise fail("arange", "step must not be 0.")
    if is_open(stop):
        if step != 1:
            raise fail("arange", "up to an extent that is open until the graph is run it can only count by one.")
        count = stop - start
    else:
        count = max(0, math.ceil((stop - start) / step))
    if current() is None or count == 0:
        return EagerTensor((start + step * np.arange(count)).astype(wanted.numpy))
    places: Tensor = emit(rows.iota, shape=(count,), dim=0, dtype=wanted)
    return add(multiply(places, _number(step, wanted)), _number(start, wanted))


def _number(value: int | float, dtype: DType) -> int | float:
    return float(value) if dtype.is_floating else int(value)


@_placed
def linspace(
    start: float, stop: float, /, num: int, *, dtype: Any = DEFAULT_FLOAT, device: Any = None, endpoint: bool = True
) -> Tensor:
    """`num` evenly spaced values from start to stop, which is left out if not `endpoint`."""
    return _known(np.linspace(start, stop, num, endpoint=endpoint).astype(as_dtype(dtype).numpy))


def _known(array: Any) -> Tensor:
    """A tensor of known numbers: small ones an op of the current trace, as any captured tensor."""
    return EagerTensor(np.asarray(array, order="C"))


@_placed
def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = DEFAULT_FLOAT, device: Any = None
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    shape = (n_rows, n_rows if n_cols is None else n_cols)
    if current() is None or 0 in shape:
        return EagerTensor(np.eye(*shape, k=k, dtype=as_dtype(dtype).numpy))
    return astype(_diagonals(shape, k, equal_only=True), dtype)


def _diagonals(shape: Sequence[int], k: int, equal_only: bool = False) -> Tensor:
    """True where column - row is <= k (or == k) in the last two dimensions of `shape`."""
    last = tuple(shape[-2:])
    row = emit(rows.iota, shape=last, dim=0, dtype=DEFAULT_INT)
    column = emit(rows.iota, shape=last, dim=1, dtype=DEFAULT_INT)
    edge = add(row, k)
    return (column == edge) if equal_only else less_equal(column, edge)


@array_function
def tril(x: ArrayLike, /, *, k: int = 0) -> Tensor:
    """The lower triangle of matrices, up to the k-th diagonal; zeros above."""
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise fail("tril", f"needs at least 2 dimensions, got {tensor.type}.")
    return where(_diagonals(tensor.type.shape, k), tensor, zeros_like(tensor)) if tensor.type.size else tensor


@array_function
def triu(x: ArrayLike, /, *, k: int = 0) -> Tensor:
    """The upper triangle of matrices, from the k-th diagonal; zeros below."""
    tensor = as_tensor(x)
    if tensor.ndim < 2:
        raise fail("triu", f"needs at least 2 dimensions, got {tensor.type}.")
    return where(_diagonals(tensor.type.shape, k - 1), zeros_like(tensor), tensor) if tensor.type.size else tensor


@array_function
def meshgrid(*arrays: ArrayLike, indexing: str = "xy") -> list[Tensor]:
    """Coordinate arrays of a grid from one-dimensional coordinates."""
    if indexing not in ("xy", "ij"):
        raise fail("meshgrid", f"indexing must be 'xy' or 'ij', got {indexing!r}.")
    tensors = [reshape(a, -1) for a in arrays]
    places = list(range(len(tensors)))
    if indexing == "xy" and len(places) > 1:
        places[0], places[1] = 1, 0
    spread = [
        reshape(t, tuple(t.type.size if p == place else 1 for p in range(len(tensors))))
        for t, place in zip(tensors, places, strict=True)
    ]
    return broadcast_arrays(*spread)


@array_function
def one_hot(x: ArrayLike, num_classes: int, /, *, dtype: Any = DEFAULT_FLOAT, axis: int = -1) -> Tensor:
    """1 at the index that each element of x names along a new `axis`, 0 elsewhere; all 0 for an index outside."""
    tensor = as_tensor(x)
    if not tensor.dtype.is_integer:
        raise fail("one_hot", f"takes integers, got {tensor.type}.")
    rank = tensor.ndim + 1
    place = axis % rank
    shape = (*tensor.type.shape[:place], num_classes, *tensor.type.shape[place:])
    spread = reshape(tensor, (*tensor.type.shape[:place], 1, *tensor.type.shape[place:]))
    classes = emit(rows.iota, shape=shape, dim=place, dtype=tensor.dtype)
    return astype(classes == broadcast_to_shape(spread, shape), dtype)
