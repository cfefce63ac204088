"""Elements as rows of arrays: what `dequeue_many` gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.dialects.types import VARIES, TensorType
from thalweg.runtime.plan import Array


def describe(type_: TensorType) -> str:
    """A component's type for people: `float32[4,?]`."""
    return f"{type_.dtype.name}[{','.join('?' if n == VARIES else str(n) for n in type_.shape)}]"


def seen(array: Array) -> str:
    """An array's type for people: `float32[4,2]`."""
    return f"{'string' if array.dtype == object else array.dtype.name}[{','.join(map(str, array.shape))}]"


def fits(array: Array, type_: TensorType) -> bool:
    """Whether an element's component has its declared type."""
    return (
        array.dtype == type_.dtype.numpy
        and array.ndim == type_.rank
        and all(want in (VARIES, have) for want, have in zip(type_.shape, array.shape, strict=True))
    )


def stacked(elements: Sequence[Sequence[Array]], components: Sequence[TensorType], pad: bool) -> tuple[Array, ...]:
    """Elements along a new first dimension, component by component.

    Args:
        pad: extents that vary become the largest of them, filled up with zeros (empty strings, False).

    Raises:
        ValueError: extents differ and `pad` is False.
    """
    if not elements:
        return tuple(
            np.empty((0, *(0 if n == VARIES else n for n in t.shape)), t.dtype.numpy) for t in components
        )
    columns = zip(*elements, strict=True)
    return tuple(
        _padded(column, type_) if pad and VARIES in type_.shape else np.stack(column)
        for column, type_ in zip(columns, components, strict=True)
    )


def _padded(column: Sequence[Array], type_: TensorType) -> Array:
    shape = tuple(map(max, zip(*(a.shape for a in column), strict=True)))
    filling = b"" if type_.dtype.kind == "s" else 0
    rows = np.full((len(column), *shape), filling, type_.dtype.numpy)
    for row, array in zip(rows, column, strict=True):
        row[tuple(slice(n) for n in array.shape)] = array
    return rows
