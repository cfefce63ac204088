"""`x.at[key].set(value)` and its kin: changed copies of immutable tensors. In a traced program the compiler makes them
in place where x is not used any more."""

from __future__ import annotations

from typing import Any

import numpy as np

from thalweg.dialects.extents import extent, is_open
from thalweg.dialects.ops import elementwise, indexing, shape
from thalweg.dialects.types import int32, int64
from thalweg.frontend.array.conversion import cast, fail, operand
from thalweg.frontend.array.elementwise import apply, subtract
from thalweg.frontend.array.indexing import Basic, apply_basic, fold, gather_arrays, parse_key
from thalweg.frontend.array.manipulation import broadcast_to, moveaxis, permute_dims, reshape
from thalweg.frontend.array.sizes import size_of
from thalweg.frontend.eager import emit, run_traced
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import current

_COMBINE = {
    "add": elementwise.add,
    "mul": elementwise.mul,
    "min": elementwise.min,
    "max": elementwise.max,
}


class At:
    """`x.at`: index it, then say what to do there.

    Example:
        >>> tw.zeros((3,)).at[1].set(5.0)
        Tensor([0., 5., 0.], dtype=float32)
    """

    __slots__ = ("_x",)

    def __init__(self, x: Any) -> None:
        self._x = x

    def __getitem__(self, key: Any) -> Updates:
        return Updates(self._x, key)


class Updates:
    """`x.at[key]`: methods that give a copy of x changed at the key.

    Where index arrays name an element twice, `add`, `mul`, `min` and `max` take all values, `set` one of them. Indices
    outside are dropped in a traced program.
    """

    __slots__ = ("_key", "_x")

    def __init__(self, x: Any, key: Any) -> None:
        self._x = x
        self._key = key

    def set(self, value: ArrayLike) -> Tensor:
        """x with the elements there replaced by value."""
        return self._update("set", value)

    def add(self, value: ArrayLike) -> Tensor:
        """x with value added there."""
        return self._update("add", value)

    def mul(self, value: ArrayLike) -> Tensor:
        """x with the elements there multiplied by value."""
        return self._update("mul", value)

    def min(self, value: ArrayLike) -> Tensor:
        """x with the elements there limited from above by value."""
        return self._update("min", value)

    def max(self, value: ArrayLike) -> Tensor:
        """x with the elements there limited from below by value."""
        return self._update("max", value)

    def get(self) -> Tensor:
        """The elements there: `x[key]`."""
        result: Tensor = self._x[self._key]
        return result

    def _update(self, mode: str, value: ArrayLike) -> Tensor:
        x = as_tensor(self._x)
        if current() is None and not any(isinstance(t, TracedTensor) for t in (x, value)):
            result: Tensor = run_traced("at", lambda: update(x, self._key, mode, value))
            return result
        return update(x, self._key, mode, value)


def update(x: Tensor, key: Any, mode: str, value: ArrayLike) -> Tensor:
    """x changed at the key, in a trace."""
    basic, arrays = parse_key(x, key)
    given = cast(operand(value), x.dtype)
    if not arrays and basic.is_plain:
        return _window(x, basic, mode, given)
    extents = x.type.shape
    untouched = basic.is_plain and basic.limits == extents and not any(basic.starts) and basic.shape == extents
    if arrays and untouched:
        return _rows(x, arrays, mode, given)
    return _elements(x, basic, arrays, mode, given)


def _expect(value: Tensor, wanted: tuple[int, ...], mode: str) -> Tensor:
    try:
        return broadcast_to(value, wanted)
    except ValueError:
        raise fail(f"at[…].{mode}", f"the value {value.type} does not fit the indexed shape {list(wanted)}.") from None


def _window(x: Tensor, basic: Basic, mode: str, value: Tensor) -> Tensor:
    """A window at a known place: read it, combine, write it back."""
    value = _expect(value, basic.shape, mode)
    if 0 in basic.shape:
        return x
    if mode != "set":
        value = apply(_COMBINE[mode], apply_basic(x, basic), value)
    window = reshape(value, tuple(b - a for a, b in zip(basic.starts, basic.limits, strict=True)))
    starts = [_start(x, axis, s) for axis, s in enumerate(basic.starts)]
    return emit(indexing.dynamic_update_slice, x, window, *starts)


def _start(x: Tensor, axis: int, start: int) -> Tensor:
    """Where a window begins, as int32[]; one that is counted from the end of an open extent is not known yet."""
    if not is_open(start):
        return EagerTensor(np.array(start, np.int32))
    from_end = x.type.shape[axis] - extent(start)
    return subtract(size_of(x, axis, int32), from_end)


def _rows(x: Tensor, arrays: dict[int, Tensor], mode: str, value: Tensor) -> Tensor:
    """Index arrays in whole dimensions: rows of x folded to a table."""
    axes = sorted(arrays)
    table, linear = fold(x, arrays)
    rank = linear.ndim
    rest = [a for a in range(x.ndim) if a not in axes]
    neighbours = axes == list(range(axes[0], axes[0] + len(axes)))
    before = axes[0] if neighbours else 0
    wanted = [x.type.shape[a] for a in rest]
    value = _expect(value, (*wanted[:before], *linear.type.shape, *wanted[before:]), mode)
    value = moveaxis(value, tuple(range(before, before + rank)), tuple(range(rank)))
    changed = _scatter_rows(table, linear, value, mode)
    back = np.argsort((*axes, *rest))
    return permute_dims(reshape(changed, tuple(x.type.shape[a] for a in (*axes, *rest))), [int(i) for i in back])


def _scatter_rows(table: Tensor, indices: Tensor, updates: Tensor, mode: str) -> Tensor:
    return emit(
        indexing.scatter,
        table,
        indices,
        updates,
        update_window_dims=tuple(range(indices.ndim, updates.ndim)),
        inserted_window_dims=(0,),
        scatter_dims_to_operand_dims=(0,),
        index_vector_dim=indices.ndim,
        mode=mode,
    )


def _elements(x: Tensor, basic: Basic, arrays: dict[int, Tensor], mode: str, value: Tensor) -> Tensor:
    """Anything else: number all elements, index the numbers by the key, scatter element by element."""
    dtype = int32 if x.type.size < 2**31 else int64
    places: Tensor = reshape(emit(shape.iota, shape=(x.type.size,), dim=0, dtype=dtype), x.type.shape)
    places = apply_basic(places, basic)
    if arrays:
        places = gather_arrays(places, arrays)
    value = _expect(value, places.type.shape, mode)
    flat = _scatter_rows(reshape(x, -1), reshape(places, -1), reshape(value, -1), mode)
    return reshape(flat, x.type.shape)
