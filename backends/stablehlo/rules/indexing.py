"""Indexing. Indices are widened to i32 or i64 first, so that extents can be compared with them."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.stablehlo.expressions import Array, constant, create, elementwise, i64_array, tensor
from thalweg.backends.stablehlo.table import lowers
from thalweg.dialects.mlir import ir, stablehlo
from thalweg.dialects.ops import indexing as rows
from thalweg.dialects.types import TensorType, dtype_from_mlir

COMBINE = {"add": "add", "mul": "multiply", "min": "minimum", "max": "maximum"}


def _wide_indices(indices: Array) -> Array:
    if indices.element == "ui64":  # beyond i64 everything is out of bounds: keep it there
        indices = elementwise("minimum", indices, indices.like(2**63 - 1))
    return indices.convert("i64" if indices.element in ("i64", "ui32", "ui64") else "i32")


@lowers(rows.gather)
def gather(x: Array, indices: Array, slice_sizes: Sequence[int], **dims: Sequence[int] | int) -> Array:
    types = [TensorType(a.shape, dtype_from_mlir(a.element)) for a in (x, indices)]
    (result,) = rows.gather.result_types(types, {**dims, "slice_sizes": slice_sizes})
    assert isinstance(result, TensorType)
    ints = {k: list(v) if isinstance(v, tuple) else v for k, v in dims.items()}
    numbers = stablehlo.GatherDimensionNumbers.get(**ints)
    attributes = {"dimension_numbers": numbers, "slice_sizes": i64_array(slice_sizes)}
    return create("gather", tensor(result.shape, x.element), [x, _wide_indices(indices)], attributes)


@lowers(rows.take_rows)
def take_rows(table: Array, indices: Array) -> Array:
    row = table.shape[1:]
    if 0 in (*indices.shape, *row):  # also of a table without rows, from which no window can be gathered
        return constant(0, table.element, (*indices.shape, *row))
    return gather(
        table,
        indices,
        slice_sizes=(1, *row),
        offset_dims=tuple(range(indices.rank, indices.rank + len(row))),
        collapsed_slice_dims=(0,),
        operand_batching_dims=(),
        start_indices_batching_dims=(),
        start_index_map=(0,),
        index_vector_dim=indices.rank,
    )


@lowers(rows.scatter)
def scatter(x: Array, indices: Array, updates: Array, mode: str, **dims: Sequence[int] | int) -> Array:
    if 0 in updates.shape:
        return x
    ints = {k: list(v) if isinstance(v, tuple) else v for k, v in dims.items()}
    ints["scattered_dims_to_operand_dims"] = ints.pop("scatter_dims_to_operand_dims")
    operation = ir.Operation.create(
        "stablehlo.scatter",
        [x.value.type],
        [x.value, _wide_indices(indices).value, updates.value],
        {"scatter_dimension_numbers": stablehlo.ScatterDimensionNumbers.get(**ints)},
        regions=1,
    )
    scalar = tensor((), x.element)
    block = operation.regions[0].blocks.append(scalar, scalar)
    with ir.InsertionPoint(block):
        old, new = (Array(a) for a in block.arguments)
        combined = new if mode == "set" else elementwise(COMBINE[mode], old, new)
        ir.Operation.create("stablehlo.return", [], [combined.value])
    return Array(operation.results[0])


@lowers(rows.dynamic_slice)
def dynamic_slice(x: Array, *starts: Array, sizes: Sequence[int]) -> Array:
    if tuple(sizes) == x.shape:
        return x
    operands = [x, *map(_wide_indices, starts)]
    return create("dynamic_slice", tensor(sizes, x.element), operands, {"slice_sizes": i64_array(sizes)})


@lowers(rows.dynamic_update_slice)
def dynamic_update_slice(x: Array, update: Array, *starts: Array) -> Array:
    if 0 in update.shape:
        return x
    if update.shape == x.shape:
        return update
    return create("dynamic_update_slice", x.value.type, [x, update, *map(_wide_indices, starts)])
