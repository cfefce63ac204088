"""Indexing: `x[key]`, take and its kin.

Integers, slices, None and `...` are known while tracing and become slices and reshapes. Arrays of integers pick rows of
x folded to a table, so their gradient is a scatter of rows. Negative indices count from the end; an index outside takes
the nearest element in a traced program (programs cannot raise), and is an IndexError where it is known.
Boolean masks make shapes that depend on data: eager tensors and masks that are known while tracing only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import TracingError
from thalweg.dialects.extents import is_open
from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import indexing as rows
from thalweg.dialects.ops import shape as shape_rows
from thalweg.dialects.types import int32, int64
from thalweg.frontend.array.conversion import broadcast, fail, normalize_axis, promote
from thalweg.frontend.array.elementwise import add, astype, less, multiply, where
from thalweg.frontend.array.manipulation import broadcast_to, permute_dims, reshape
from thalweg.frontend.array.sizes import size_of
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.operators import Operators
from thalweg.frontend.resident import ResidentTensor, moved
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import current


def getitem(x: ArrayLike, key: Any) -> Tensor:
    """`x[key]`. On eager tensors this is NumPy's indexing of the buffer, no program is run; what is on a GPU stays."""
    if current() is None and not _mentions_traced(key):
        data = x.buffer if not isinstance(x, Tensor) and hasattr(x, "buffer") else as_tensor(x)
        array = data.data if isinstance(data, EagerTensor) else data
        if isinstance(array, np.ndarray):
            try:
                found = EagerTensor(np.array(array[_numpy_key(key)], order="C"))
                return found if type(data) is not ResidentTensor else moved(found, data.device)
            except IndexError as error:
                raise IndexError(f"{user_frame()} x[…] of {as_tensor(x).type}: {error}") from None
    tensor = as_tensor(x)
    basic, arrays = parse_key(tensor, key)
    result = apply_basic(tensor, basic)
    return gather_arrays(result, arrays) if arrays else result


def _mentions_traced(key: Any) -> bool:
    return any(isinstance(k, TracedTensor) for k in (key if isinstance(key, tuple) else (key,)))


def _numpy_key(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_numpy_key(k) for k in key)
    return np.asarray(key) if isinstance(key, Operators) else key


@dataclass(frozen=True)
class Basic:
    """The part of a key that is known: one slice per dimension of x, then which dimensions to keep or add."""

    starts: tuple[int, ...]
    limits: tuple[int, ...]
    strides: tuple[int, ...]
    reversed: tuple[int, ...]
    shape: tuple[int, ...]  # of the result

    @property
    def is_plain(self) -> bool:
        """True if it is a window: no steps, nothing reversed."""
        return not self.reversed and all(s == 1 for s in self.strides)


def parse_key(x: Tensor, key: Any) -> tuple[Basic, dict[int, Tensor]]:
    """A key as its known part and the index arrays, by dimension of what the known part leaves.

    Raises:
        TypeInferenceError: more indices than dimensions.
        IndexError: a known index outside the extent.
    """
    parts = _expand(x, key)
    starts, limits, strides, turned, shape = [], [], [], [], []
    arrays: dict[int, Tensor] = {}
    axis = 0
    for part in parts:
        if part is None:
            shape.append(1)
            continue
        extent = x.type.shape[axis]
        if isinstance(part, slice):
            start, limit, stride, backwards = _slice(part, extent)
            shape.append(max(0, -(-(limit - start) // stride)))
            if backwards:
                turned.append(axis)
        elif isinstance(part, int):
            start, limit, stride = _known_index(x, part, axis), 0, 1
            limit = start + 1
        else:
            arrays[len(shape)] = part
            start, limit, stride = 0, extent, 1
            shape.append(extent)
        starts.append(start)
        limits.append(max(start, limit))
        strides.append(stride)
        axis += 1
    return Basic(tuple(starts), tuple(limits), tuple(strides), tuple(turned), tuple(shape)), arrays


def _known_index(x: Tensor, index: int, axis: int) -> int:
    extent = x.type.shape[axis]
    if not -extent <= index < extent:
        raise IndexError(f"{user_frame()} index {index} is out of range for dimension {axis} of {x.type}")
    return index % extent


def _slice(part: slice, extent: int) -> tuple[int, int, int, bool]:
    """Start, limit, stride of the elements in ascending order, and whether they are to be reversed."""
    for bound in (part.start, part.stop, part.step):
        if isinstance(bound, TracedTensor):
            raise TracingError(
                f"{user_frame()} a slice's bound is a traced tensor: the shape would depend on data. Use "
                "tw.dynamic_slice(x, starts, sizes), whose sizes are known."
            )
    start, stop, step = part.indices(extent)
    if step > 0:
        return start, stop, step, False
    count = len(range(start, stop, step))
    last = start + (count - 1) * step
    return (last, start + 1, -step, True) if count else (0, 0, 1, False)


def _expand(x: Tensor, key: Any) -> list[Any]:
    """The key as one part per dimension: slices for `...` and what is left out, masks as index arrays."""
    given = list(key) if isinstance(key, tuple) else [key]
    parts: list[Any] = []
    for part in given:
        parts += _part(x, part)
    used = sum(p is not None and p is not Ellipsis for p in parts)
    if used > x.ndim:
        raise fail("indexing", f"{used} indices are too many for {x.type}.")
    if sum(p is Ellipsis for p in parts) > 1:
        raise fail("indexing", "'...' may appear only once.")
    place = next((i for i, p in enumerate(parts) if p is Ellipsis), None)
    if place is None:
        place = len(parts)
        parts.append(Ellipsis)
    return parts[:place] + [slice(None)] * (x.ndim - used) + parts[place + 1 :]


def _part(x: Tensor, part: Any) -> list[Any]:
    if part is None or part is Ellipsis or isinstance(part, slice):
        return [part]
    if isinstance(part, bool | np.bool_):
        raise fail("indexing", "a bool is no index. Use x[None] to add a dimension.")
    if isinstance(part, int | np.integer):
        return [int(part)]
    tensor = as_tensor(part)
    if tensor.dtype.kind == "b":
        return list(_mask(x, tensor))
    if not tensor.dtype.is_integer:
        raise fail("indexing", f"an index must be of integers, slices, None, ... or masks, got {tensor.type}.")
    if isinstance(tensor, EagerTensor) and not tensor.ndim:
        return [int(tensor.data)]
    return [tensor]


def _mask(x: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    if isinstance(mask, TracedTensor):
        raise TracingError(
            f"{user_frame()} a traced mask {mask.type} as an index: the shape of the result would depend on data. Use "
            "tw.where(mask, x, 0), or select outside the traced function."
        )
    return tuple(EagerTensor(a) for a in np.nonzero(np.asarray(mask)))


def apply_basic(x: Tensor, basic: Basic) -> Tensor:
    """The known part of a key as slice, reverse and reshape, those of them that do something."""
    result = x
    if basic.limits != x.type.shape or any(basic.starts) or any(s != 1 for s in basic.strides):
        result = emit(shape_rows.slice, result, start=basic.starts, limit=basic.limits, strides=basic.strides)
    if basic.reversed:
        result = emit(shape_rows.reverse, result, axes=basic.reversed)
    return reshape(result, basic.shape)


def wrapped(indices: Tensor, x: Tensor, axis: int) -> Tensor:
    """Indices along an axis of x with negative ones counted from the end."""
    extent = x.type.shape[axis]
    if isinstance(indices, EagerTensor) and not is_open(extent):
        data = indices.data.astype(np.int64) if indices.dtype.kind == "u" else indices.data
        outside = data[(data < -extent) | (data >= extent)]
        if outside.size:
            raise IndexError(f"{user_frame()} index {outside.flat[0]} is out of range for an extent of {extent}")
        kind = np.int32 if extent < 2**31 else np.int64
        return EagerTensor(np.asarray(np.where(data < 0, data + extent, data), kind))
    (indices,) = promote(indices)
    if indices.dtype.itemsize < 4:
        indices = astype(indices, int32)
    if indices.dtype.kind == "u" or (isinstance(indices, EagerTensor) and (indices.data >= 0).all()):
        return indices
    return where(less(indices, 0), add(indices, size_of(x, axis, indices.dtype)), indices)


def gather_arrays(x: Tensor, arrays: dict[int, Tensor]) -> Tensor:
    """x indexed by integer arrays in some of its dimensions, as NumPy does: they broadcast against each other, and
    their dimensions stand where the first was if they are neighbours, in front otherwise."""
    axes = sorted(arrays)
    table, linear = fold(x, arrays)
    taken: Tensor = emit(rows.take_rows, table, linear)
    if axes != list(range(axes[0], axes[0] + len(axes))):
        return taken
    rank, before = linear.ndim, axes[0]
    order = (*range(rank, rank + before), *range(rank), *range(rank + before, taken.ndim))
    return permute_dims(taken, order)


def fold(x: Tensor, arrays: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
    """x with the indexed dimensions moved to the front and folded into one, and the index of the row in it."""
    axes = sorted(arrays)
    extents = [x.type.shape[a] for a in axes]
    rest = [a for a in range(x.ndim) if a not in axes]
    table = permute_dims(x, (*axes, *rest))
    if len(axes) > 1:
        table = reshape(table, (math.prod(extents), *(x.type.shape[a] for a in rest)))
    dtype = int32 if math.prod(extents) < 2**31 else int64
    places = [wrapped(arrays[a], x, a) for a in axes]
    if len(places) == 1:
        return table, places[0]
    spread = broadcast("indexing", *[astype(p, dtype) for p in places])
    linear = spread[0]
    for place, axis in zip(spread[1:], axes[1:], strict=True):
        linear = add(multiply(linear, size_of(x, axis, dtype)), place)
    return table, linear


@array_function
def take(x: ArrayLike, indices: ArrayLike, /, *, axis: int | None = None) -> Tensor:
    """Elements of x along `axis` at the indices, whose dimensions replace that one. Rows of a table (axis 0) have a
    sparse gradient."""
    tensor, places = as_tensor(x), as_tensor(indices)
    if axis is None:
        if tensor.ndim != 1:
            raise fail("take", f"an axis must be given for {tensor.type}: only one dimension needs none.")
        axis = 0
    if not places.dtype.is_integer:
        raise fail("take", f"indices must be integers, got {places.type}.")
    return gather_arrays(tensor, {normalize_axis("take", axis, tensor.ndim): places})


@array_function
def take_along_axis(x: ArrayLike, indices: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """For each place of `indices` the element of x at that place, with the index in place of the one along `axis`."""
    tensor, places = as_tensor(x), as_tensor(indices)
    if tensor.ndim != places.ndim:
        raise fail("take_along_axis", f"ranks differ: {tensor.type} and indices {places.type}.")
    place = normalize_axis("take_along_axis", axis, tensor.ndim)
    shape = tuple(max(a, b) for a, b in zip(tensor.type.shape, places.type.shape, strict=True))
    tensor = broadcast_to(tensor, (*shape[:place], tensor.type.shape[place], *shape[place + 1 :]))
    places = broadcast_to(places, (*shape[:place], places.type.shape[place], *shape[place + 1 :]))
    arrays = {}
    for dim in range(tensor.ndim):
        arrays[dim] = places if dim == place else emit(shape_rows.iota, shape=places.type.shape, dim=dim, dtype=int32)
    return gather_arrays(tensor, arrays)


@array_function
def dynamic_slice(x: ArrayLike, starts: Sequence[ArrayLike], sizes: Sequence[int], /) -> Tensor:
    """The window of `sizes` that begins at `starts`, one scalar per dimension; moved inside where it sticks out."""
    tensor = as_tensor(x)
    return emit(rows.dynamic_slice, tensor, *_starts(starts), sizes=tuple(sizes))


@array_function
def dynamic_update_slice(x: ArrayLike, update: ArrayLike, starts: Sequence[ArrayLike], /) -> Tensor:
    """x with the window that begins at `starts` replaced by `update`; moved inside where it sticks out."""
    tensor = as_tensor(x)
    return emit(rows.dynamic_update_slice, tensor, astype(update, tensor.dtype), *_starts(starts))


def _starts(starts: Sequence[ArrayLike]) -> list[Tensor]:
    return [astype(s, int32) for s in starts]
