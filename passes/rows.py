"""Small idioms over rows: tensors seen as a list of rows along their first dimension."""

from __future__ import annotations

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import indexing, shape
from thalweg.dialects.types import int32
from thalweg.passes.rewriting import array


def row(x: ir.Value, index: ir.Value) -> ir.Value:
    """Row `index` (an i32 scalar) of x."""
    type_ = tensor_type_of(x)
    zeros = [array(0, int32)] * (type_.rank - 1)
    cut = indexing.dynamic_slice(x, index, *zeros, sizes=(1, *type_.shape[1:]))
    return shape.reshape(cut, shape=type_.shape[1:])


def with_row(x: ir.Value, value: ir.Value, index: ir.Value) -> ir.Value:
    """x with `value` as row `index` (an i32 scalar)."""
    type_ = tensor_type_of(x)
    zeros = [array(0, int32)] * (type_.rank - 1)
    update = shape.reshape(value, shape=(1, *type_.shape[1:]))
    return indexing.dynamic_update_slice(x, update, index, *zeros)


def scatter_rows(table: ir.Value, indices: ir.Value, rows: ir.Value, mode: str) -> ir.Value:
    """The table with rows, one per index, combined into those at the indices; rows at indices outside are dropped."""
    index_rank, rank = tensor_type_of(indices).rank, tensor_type_of(table).rank
    return indexing.scatter(
        table, indices, rows, mode=mode, update_window_dims=range(index_rank, index_rank + rank - 1),
        inserted_window_dims=(0,), scatter_dims_to_operand_dims=(0,), index_vector_dim=index_rank,
    )
