"""Rules of indexing: what gathers scatters back, what scatters gathers back.

Reading moves an index that is outside to the nearest place, writing drops what falls outside; the rules keep to that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops import indexing, shape
from thalweg.dialects.ops.elementwise import div, equal, mul
from thalweg.dialects.types import TensorType, int32
from thalweg.passes.gradients.elementwise import where
from thalweg.passes.gradients.rules import vjp
from thalweg.passes.gradients.shape import zero
from thalweg.passes.rewriting import array, full_like
from thalweg.passes.rows import scatter_rows

V: TypeAlias = ir.Value


def clamped(indices: V, low: Sequence[int], high: Sequence[int], dim: int) -> V:
    """Index vectors, stored along `dim`, moved into low…high for each component."""
    type_ = tensor_type_of(indices)
    if type_.dtype.kind == "u":
        low = [0] * len(low)

    def bound(values: Sequence[int]) -> V:
        # a narrow index dtype cannot point past a wide operand
        limit = np.iinfo(type_.dtype.numpy).max
        numbers = [min(v, int(limit)) for v in values]
        if dim == type_.rank or len(set(numbers)) == 1:
            return array(numbers[0] if numbers else 0, type_.dtype)
        return shape.broadcast(array(numbers, type_.dtype), shape=type_.shape, dims=(dim,))

    below, above = bound(low), bound(high)
    if tensor_type_of(below).shape != tensor_type_of(above).shape:
        below, above = (full if tensor_type_of(full).shape else _filled(full, type_) for full in (below, above))
    return ew.clamp(below, indices, above)


def _filled(scalar: V, type_: TensorType) -> V:
    return shape.broadcast(scalar, shape=type_.shape, dims=()) if type_.shape else scalar


@vjp(indexing.take_rows)
def _(g: V, table: V, indices: V) -> Sequence[Any]:
    return (lambda: add_rows(full_like(table, 0), indices, g)), None


def add_rows(table: V, indices: V, rows: V) -> V:
    """The table with rows added at the indices, those outside at the nearest row; repeated indices add up."""
    type_, index_type = tensor_type_of(table), tensor_type_of(indices)
    if index_type.size == 0:
        return table
    inside = clamped(indices, [0], [type_.shape[0] - 1], index_type.rank)
    return scatter_rows(table, inside, rows, "add")


@vjp(indexing.gather)
def _(
    g: V,
    x: V,
    indices: V,
    *,
    offset_dims: Sequence[int],
    collapsed_slice_dims: Sequence[int],
    operand_batching_dims: Sequence[int],
    start_indices_batching_dims: Sequence[int],
    start_index_map: Sequence[int],
    index_vector_dim: int,
    slice_sizes: Sequence[int],
) -> Sequence[Any]:
    def wrt_x() -> V:
        extents = tensor_type_of(x).shape
        last = [extents[d] - slice_sizes[d] for d in start_index_map]
        inside = clamped(indices, [0] * len(last), last, index_vector_dim)
        return indexing.scatter(
            full_like(x, 0), inside, g, mode="add", update_window_dims=offset_dims,
            inserted_window_dims=collapsed_slice_dims, input_batching_dims=operand_batching_dims,
            scatter_indices_batching_dims=start_indices_batching_dims, scatter_dims_to_operand_dims=start_index_map,
            index_vector_dim=index_vector_dim,
        )

    return wrt_x, None


class _Scatter:
    """A scatter's geometry: reading back at the places that it writes to, zeros where it drops."""

    def __init__(self, x: V, indices: V, updates: V, dims: Mapping[str, Any]) -> None:
        self.indices, self.updates, self.dims = indices, updates, dims
        self.shape = tensor_type_of(x).shape
        lost = {*dims["inserted_window_dims"], *dims["input_batching_dims"]}
        extents = iter(tensor_type_of(updates).shape[d] for d in dims["update_window_dims"])
        self.sizes = [1 if d in lost else next(extents) for d in range(len(self.shape))]
        self.indexed = dims["scatter_dims_to_operand_dims"]
        index_type = tensor_type_of(indices)
        components = index_type.shape[dims["index_vector_dim"]] if dims["index_vector_dim"] < index_type.rank else 1
        self.windows = index_type.size // max(components, 1)

    def write(self, x: V, updates: V, mode: str) -> V:
        return indexing.scatter(x, self.indices, updates, mode=mode, **self.dims)

    def read(self, x: V) -> V:
        """What stands at the places of the updates: x gets a margin of zeros as wide as the window, to read from."""
        margin = [self.sizes[d] if d in self.indexed else 0 for d in range(len(self.shape))]
        padded = shape.pad(x, zero(x), low=margin, high=margin, interior=(0,) * len(margin))
        low = [-self.sizes[d] for d in self.indexed]
        high = [self.shape[d] for d in self.indexed]
        wide = ew.convert(self.indices, dtype=int32)
        moved = clamped(wide, low, high, self.dims["index_vector_dim"])
        shift = [self.sizes[d] for d in self.indexed]
        dim, type_ = self.dims["index_vector_dim"], tensor_type_of(wide)
        if dim == type_.rank:
            offset = _filled(array(shift[0], int32), type_)
        else:
            offset = shape.broadcast(array(shift, int32), shape=type_.shape, dims=(dim,))
        return indexing.gather(
            padded, ew.add(moved, offset), offset_dims=self.dims["update_window_dims"],
            collapsed_slice_dims=self.dims["inserted_window_dims"],
            operand_batching_dims=self.dims["input_batching_dims"],
            start_indices_batching_dims=self.dims["scatter_indices_batching_dims"],
            start_index_map=self.indexed, index_vector_dim=dim, slice_sizes=self.sizes,
        )

    def winners(self) -> V:
        """Which elements of the updates survive a `set`: those whose number is found where they were written."""
        type_ = tensor_type_of(self.updates)
        numbers = shape.reshape(ew.add(shape.iota(shape=(type_.size,), dim=0, dtype=int32),
                                       _filled(array(1, int32), TensorType((type_.size,), int32))), shape=type_.shape)
        blank = _filled(array(0, int32), TensorType(self.shape, int32))
        return equal(self.read(self.write(blank, numbers, "set")), numbers)


@vjp(indexing.scatter)
def _(
    g: V,
    x: V,
    indices: V,
    updates: V,
    *,
    y: V,
    update_window_dims: Sequence[int],
    inserted_window_dims: Sequence[int],
    input_batching_dims: Sequence[int],
    scatter_indices_batching_dims: Sequence[int],
    scatter_dims_to_operand_dims: Sequence[int],
    index_vector_dim: int,
    mode: str,
) -> Sequence[Any]:
    """min and max share a cotangent evenly among equals; mul divides by an update where several meet."""
    if tensor_type_of(updates).size == 0:
        return g, None, None
    at = _Scatter(x, indices, updates, {
        "update_window_dims": update_window_dims, "inserted_window_dims": inserted_window_dims,
        "input_batching_dims": input_batching_dims, "scatter_indices_batching_dims": scatter_indices_batching_dims,
        "scatter_dims_to_operand_dims": scatter_dims_to_operand_dims, "index_vector_dim": index_vector_dim,
    })
    if mode == "add":
        return g, None, lambda: at.read(g)
    if mode == "mul":
        alone = at.windows == 1
        return (
            lambda: at.write(g, updates, "mul"),
            None,
            lambda: at.read(mul(g, x)) if alone else div(at.read(mul(g, y)), updates),
        )
    if mode == "set":
        return (
            lambda: at.write(g, full_like(updates, 0), "set"),
            None,
            lambda: at.read(g) if at.windows == 1 else where(at.winners(), at.read(g)),
        )
    dtype = tensor_type_of(x).dtype
    kept, taken = equal(x, y), equal(updates, at.read(y))
    count = at.write(ew.convert(kept, dtype=dtype), ew.convert(taken, dtype=dtype), "add")
    share = div(g, count)
    return (lambda: where(kept, share)), None, lambda: where(taken, at.read(share))


@vjp(indexing.dynamic_slice)
def _(g: V, x: V, *starts: V) -> Sequence[Any]:
    def wrt_x() -> V:
        return indexing.dynamic_update_slice(full_like(x, 0), g, *starts)

    return wrt_x, *(None for _ in starts)


@vjp(indexing.dynamic_update_slice)
def _(g: V, x: V, update: V, *starts: V) -> Sequence[Any]:
    def wrt_x() -> V:
        return indexing.dynamic_update_slice(g, full_like(update, 0), *starts)

    def wrt_update() -> V:
        return indexing.dynamic_slice(g, *starts, sizes=tensor_type_of(update).shape)

    return wrt_x, wrt_update, *(None for _ in starts)
