"""Sorting. NaN comes last in ascending order."""

from __future__ import annotations

from thalweg.dialects.ops import shape as shape_rows
from thalweg.dialects.ops import sort as rows
from thalweg.dialects.types import int32
from thalweg.frontend.array.conversion import fail, normalize_axis
from thalweg.frontend.array.manipulation import moveaxis
from thalweg.frontend.eager import array_function, emit, emit_all
from thalweg.frontend.tensor import ArrayLike, Tensor, as_tensor


@array_function
def sort(x: ArrayLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements in order along `axis`."""
    tensor = as_tensor(x)
    place = normalize_axis("sort", axis, tensor.ndim)
    return emit(rows.sort, tensor, axis=place, descending=descending, stable=stable)


@array_function
def argsort(x: ArrayLike, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort x along `axis`, as int32."""
    tensor = as_tensor(x)
    place = normalize_axis("argsort", axis, tensor.ndim)
    indices = emit(shape_rows.iota, shape=tensor.type.shape, dim=place, dtype=int32)
    _, order = emit_all(rows.sort, tensor, indices, axis=place, descending=descending, stable=stable)
    return order


@array_function
def top_k(x: ArrayLike, k: int, /, *, axis: int = -1) -> tuple[Tensor, Tensor]:
    """The k largest elements along `axis`, largest first, and their indices."""
    tensor = as_tensor(x)
    place = normalize_axis("top_k", axis, tensor.ndim)
    if not isinstance(k, int):
        raise fail("top_k", "k must be a Python integer: the shape of the result depends on it.")
    values, indices = emit_all(rows.top_k, moveaxis(tensor, place, -1), k=k)
    return moveaxis(values, -1, place), moveaxis(indices, -1, place)
