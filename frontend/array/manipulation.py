"""Functions that move elements: shapes, order, concatenation. Names of the Python array API standard."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from thalweg.dialects.extents import is_open
from thalweg.dialects.ops import shape as rows
from thalweg.frontend.array.conversion import (
    broadcast,
    broadcast_shape,
    broadcast_to_shape,
    cast,
    fail,
    normalize_axes,
    normalize_axis,
    operand,
    promote,
)
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.extent import Extent, code_of
from thalweg.frontend.tensor import ArrayLike, Tensor, as_tensor


@array_function
def reshape(x: ArrayLike, /, shape: int | Sequence[int], *, copy: bool | None = None) -> Tensor:
    """The elements in row-major order under another shape; one extent may be -1."""
    tensor = as_tensor(x)
    wanted = [code_of(shape)] if isinstance(shape, int | Extent) else [code_of(n) for n in shape]
    if wanted.count(-1) > 1:
        raise fail("reshape", f"only one extent may be -1, got {wanted}.")
    if -1 in wanted:
        known = math.prod(n for n in wanted if n != -1)
        if known == 0 or tensor.type.size % known:
            raise fail("reshape", f"{tensor.type} has {tensor.type.size} elements, which {wanted} cannot hold.")
        wanted[wanted.index(-1)] = tensor.type.size // known
    return tensor if tensor.type.shape == tuple(wanted) else emit(rows.reshape, tensor, shape=tuple(wanted))


@array_function
def permute_dims(x: ArrayLike, /, axes: Sequence[int]) -> Tensor:
    """Dimension i of the result is dimension axes[i] of x."""
    tensor = as_tensor(x)
    permutation = tuple(normalize_axis("permute_dims", a, tensor.ndim) for a in axes)
    if permutation == tuple(range(tensor.ndim)):
        return tensor
    return emit(rows.transpose, tensor, permutation=permutation)


@array_function
def transpose(x: ArrayLike, /, axes: Sequence[int] | None = None) -> Tensor:
    """Dimensions reversed, or in the order `axes`."""
    tensor = as_tensor(x)
    return permute_dims(tensor, tuple(reversed(range(tensor.ndim))) if axes is None else axes)


@array_function
def moveaxis(x: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """Dimensions `source` moved to the places `destination`; the others keep their order."""
    tensor = as_tensor(x)
    sources = [source] if isinstance(source, int) else list(source)
    targets = [destination] if isinstance(destination, int) else list(destination)
    sources = [normalize_axis("moveaxis", a, tensor.ndim) for a in sources]
    targets = [normalize_axis("moveaxis", a, tensor.ndim) for a in targets]
    if len(sources) != len(targets) or len(set(sources)) != len(sources) or len(set(targets)) != len(targets):
        raise fail("moveaxis", f"source {sources} and destination {targets} must be as many, each axis once.")
    order = [a for a in range(tensor.ndim) if a not in sources]
    for target, moved in sorted(zip(targets, sources, strict=True)):
        order.insert(target, moved)
    return permute_dims(tensor, order)


@array_function
def swapaxes(x: ArrayLike, axis1: int, axis2: int, /) -> Tensor:
    """Two dimensions exchanged."""
    tensor = as_tensor(x)
    order = list(range(tensor.ndim))
    a, b = normalize_axis("swapaxes", axis1, tensor.ndim), normalize_axis("swapaxes", axis2, tensor.ndim)
    order[a], order[b] = b, a
    return permute_dims(tensor, order)


@array_function
def expand_dims(x: ArrayLike, /, axis: int | Sequence[int] = 0) -> Tensor:
    """New dimensions of extent 1, at the places `axis` of the result."""
    tensor = as_tensor(x)
    count = 1 if isinstance(axis, int) else len(axis)
    places = normalize_axes("expand_dims", axis, tensor.ndim + count)
    shape = list(tensor.type.shape)
    for place in places:
        shape.insert(place, 1)
    return reshape(tensor, tuple(shape))


@array_function
def squeeze(x: ArrayLike, /, axis: int | Sequence[int] | None = None) -> Tensor:
    """Without the dimensions `axis`, which must have extent 1; without all such dimensions if None."""
    tensor = as_tensor(x)
    if axis is None:
        return reshape(tensor, tuple(n for n in tensor.type.shape if n != 1))
    axes = normalize_axes("squeeze", axis, tensor.ndim)
    wrong = [a for a in axes if tensor.type.shape[a] != 1]
    if wrong:
        raise fail("squeeze", f"dimension {wrong[0]} of {tensor.type} has extent {tensor.type.shape[wrong[0]]}, not 1.")
    return reshape(tensor, tuple(n for i, n in enumerate(tensor.type.shape) if i not in axes))


@array_function
def broadcast_to(x: ArrayLike, /, shape: Sequence[int]) -> Tensor:
    """x stretched to `shape`.

    Raises:
        TypeInferenceError: x does not fit.
    """
    tensor = as_tensor(x)
    wanted = (code_of(shape),) if isinstance(shape, int | Extent) else tuple(map(code_of, shape))
    offset = len(wanted) - tensor.ndim
    if offset < 0 or any(n not in (1, w) for n, w in zip(tensor.type.shape, wanted[offset:], strict=True)):
        raise fail("broadcast_to", f"{tensor.type} does not fit the shape {list(wanted)}.")
    return broadcast_to_shape(tensor, wanted)


@array_function
def broadcast_arrays(*arrays: ArrayLike) -> list[Tensor]:
    """All arrays in the shape to which they broadcast, each in its own dtype."""
    return broadcast("broadcast_arrays", *[as_tensor(a) for a in arrays])


def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape to which these shapes broadcast."""
    from thalweg.frontend.array.creation import empty

    return broadcast_shape("broadcast_shapes", *[empty(s) for s in shapes])


def _several(name: str, arrays: Sequence[ArrayLike]) -> list[Tensor]:
    arrays = list(arrays)
    if not arrays:
        raise fail(name, "got no arrays. Give at least one.")
    return promote(*arrays)


@array_function
def concat(arrays: Sequence[ArrayLike], /, *, axis: int | None = 0) -> Tensor:
    """The arrays one after the other along `axis`; flattened first if None."""
    tensors = _several("concat", arrays)
    if axis is None:
        tensors, axis = [reshape(t, -1) for t in tensors], 0
    if not all(t.ndim for t in tensors):
        raise fail("concat", "a scalar has no dimension to join along. Use tw.stack, or reshape it to (1,).")
    place = normalize_axis("concat", axis, tensors[0].ndim)
    return emit(rows.concatenate, *tensors, axis=place)


concatenate = concat


@array_function
def stack(arrays: Sequence[ArrayLike], /, *, axis: int = 0) -> Tensor:
    """The arrays, of one shape, along a new dimension."""
    tensors = _several("stack", arrays)
    different = [t for t in tensors if t.type.shape != tensors[0].type.shape]
    if different:
        raise fail("stack", f"shapes differ: {tensors[0].type} and {different[0].type}.")
    place = normalize_axis("stack", axis, tensors[0].ndim + 1)
    return concat([expand_dims(t, axis=place) for t in tensors], axis=place)


@array_function
def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The sub-arrays along `axis`, which disappears."""
    tensor = as_tensor(x)
    place = normalize_axis("unstack", axis, tensor.ndim)
    count = tensor.type.shape[place]
    if is_open(count):
        raise fail("unstack", f"{tensor.type} has an open extent there. Go along it with tw.scan or tw.map.")
    return tuple(squeeze(cut(tensor, place, i, i + 1), axis=place) for i in range(count))


@array_function
def split(x: ArrayLike, parts: int | Sequence[int], /, *, axis: int = 0) -> list[Tensor]:
    """x cut along `axis`: into `parts` equal pieces, or before each of the given indices."""
    tensor = as_tensor(x)
    place = normalize_axis("split", axis, tensor.ndim)
    extent = tensor.type.shape[place]
    if isinstance(parts, int):
        if parts < 1 or extent % parts:
            raise fail("split", f"{parts} equal parts of an extent of {extent} are not possible; give indices.")
        parts = list(range(extent // parts, extent, extent // parts)) if extent else [0] * (parts - 1)
    cuts = [0, *(min(max(p if p >= 0 else p + extent, 0), extent) for p in parts), extent]
    return [cut(tensor, place, a, max(a, b)) for a, b in itertools.pairwise(cuts)]


def cut(x: Tensor, axis: int, start: int, limit: int) -> Tensor:
    """The elements start to limit along one axis."""
    starts, limits = [0] * x.ndim, list(x.type.shape)
    starts[axis], limits[axis] = start, limit
    return emit(rows.slice, x, start=starts, limit=limits, strides=[1] * x.ndim)


@array_function
def flip(x: ArrayLike, /, *, axis: int | Sequence[int] | None = None) -> Tensor:
    """The elements in opposite order along `axis`, along all if None."""
    tensor = as_tensor(x)
    axes = normalize_axes("flip", axis, tensor.ndim)
    return emit(rows.reverse, tensor, axes=axes) if axes else tensor


@array_function
def roll(x: ArrayLike, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements shifted along `axis`, those that fall off the end coming in at the start; flattened if None."""
    tensor = as_tensor(x)
    if axis is None:
        total = shift if isinstance(shift, int) else sum(shift)
        return reshape(roll(reshape(tensor, -1), total, axis=0), tensor.type.shape)
    axes = [axis] if isinstance(axis, int) else list(axis)
    shifts = [shift] * len(axes) if isinstance(shift, int) else list(shift)
    for one, amount in zip(axes, shifts, strict=True):
        place = normalize_axis("roll", one, tensor.ndim)
        extent = tensor.type.shape[place]
        if extent and amount % extent:
            middle = extent - amount % extent
            tensor = concat([cut(tensor, place, middle, extent), cut(tensor, place, 0, middle)], axis=place)
    return tensor


@array_function
def tile(x: ArrayLike, repetitions: Sequence[int], /) -> Tensor:
    """x repeated as a whole, `repetitions[i]` times along dimension i."""
    tensor = as_tensor(x)
    counts = [repetitions] if isinstance(repetitions, int) else list(repetitions)
    rank = max(tensor.ndim, len(counts))
    counts = [1] * (rank - len(counts)) + counts
    shape = [1] * (rank - tensor.ndim) + list(tensor.type.shape)
    paired = reshape(tensor, tuple(n for extent in shape for n in (1, extent)))
    wide = broadcast_to_shape(paired, tuple(n for c, extent in zip(counts, shape, strict=True) for n in (c, extent)))
    return reshape(wide, tuple(c * n for c, n in zip(counts, shape, strict=True)))


@array_function
def repeat(x: ArrayLike, repeats: int, /, *, axis: int | None = None) -> Tensor:
    """Each element `repeats` times along `axis`; flattened first if None."""
    tensor = as_tensor(x)
    if not isinstance(repeats, int):
        raise fail("repeat", "repeats must be a Python integer: the shape of the result depends on it.")
    if axis is None:
        tensor, axis = reshape(tensor, -1), 0
    place = normalize_axis("repeat", axis, tensor.ndim)
    shape = tensor.type.shape
    wide = expand_dims(tensor, axis=place + 1)
    wide = broadcast_to_shape(wide, (*shape[: place + 1], repeats, *shape[place + 1 :]))
    return reshape(wide, (*shape[:place], shape[place] * repeats, *shape[place + 1 :]))


@array_function
def pad(
    x: ArrayLike,
    padding: int | Sequence[int] | Sequence[Sequence[int]],
    /,
    *,
    mode: str = "constant",
    value: ArrayLike = 0,
) -> Tensor:
    """x with more elements around it.

    Args:
        padding: a count for all sides, a pair (before, after) for all dimensions, or a pair per dimension.
        mode: 'constant', 'edge' (the border repeated), 'reflect' (mirrored without the border), 'symmetric' or 'wrap'.
        value: what constant padding is filled with.
    """
    tensor = as_tensor(x)
    pairs = _padding(tensor, padding)
    if mode == "constant":
        low, high = [p[0] for p in pairs], [p[1] for p in pairs]
        filler = cast(operand(value), tensor.dtype)
        return emit(rows.pad, tensor, filler, low=low, high=high, interior=[0] * tensor.ndim)
    if mode not in ("edge", "reflect", "symmetric", "wrap"):
        raise fail("pad", f"unknown mode '{mode}'; it is constant, edge, reflect, symmetric or wrap.")
    for axis, (before, after) in enumerate(pairs):
        if before or after:
            tensor = _pad_from_inside(tensor, axis, before, after, mode)
    return tensor


def _padding(x: Tensor, padding: int | Sequence[int] | Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    if isinstance(padding, int):
        return [(padding, padding)] * x.ndim
    pairs = [p if isinstance(p, int) else tuple(p) for p in padding]
    if len(pairs) == 2 and all(isinstance(p, int) for p in pairs):
        return [(pairs[0], pairs[1])] * x.ndim  # type: ignore[list-item]
    if len(pairs) == 1 and x.ndim != 1:
        pairs = pairs * x.ndim
    if len(pairs) != x.ndim or any(isinstance(p, int) or len(p) != 2 for p in pairs):
        raise fail("pad", f"padding {padding!r} must give a pair (before, after) per dimension of {x.type}.")
    return [(p[0], p[1]) for p in pairs]  # type: ignore[index]


def _pad_from_inside(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    extent = x.type.shape[axis]
    limit = {"edge": 0, "reflect": extent - 1, "symmetric": extent, "wrap": extent}[mode]
    if mode != "edge" and max(before, after) > limit:
        raise fail(
            "pad",
            f"mode '{mode}' can add up to {limit} to dimension {axis} of {x.type}, asked for {max(before, after)}.",
        )

    def side(start: int, stop: int, turn: bool) -> Tensor:
        part = cut(x, axis, start, stop)
        return flip(part, axis=axis) if turn else part

    parts = []
    if mode == "edge":
        parts = [*[side(0, 1, False)] * before, x, *[side(extent - 1, extent, False)] * after]
        return concat(parts, axis=axis)
    skip = mode == "reflect"
    first = side(skip, before + skip, True) if mode != "wrap" else side(extent - before, extent, False)
    last = side(extent - after - skip, extent - skip, True) if mode != "wrap" else side(0, after, False)
    return concat([*([first] if before else []), x, *([last] if after else [])], axis=axis)


@array_function
def flatten(x: ArrayLike, /) -> Tensor:
    """All elements in row-major order, in one dimension."""
    return reshape(x, -1)
