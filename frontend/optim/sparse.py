"""Rows of variables: what sparse gradients need. Work and memory go by the rows that are named, never by the table."""

from __future__ import annotations

import dataclasses
from typing import Any

from thalweg.dialects.ops import tables
from thalweg.dialects.ops.indexing import take_rows
from thalweg.frontend import array as xp
from thalweg.frontend.eager import emit
from thalweg.frontend.gradient import IndexedSlices
from thalweg.frontend.ragged import from_data, host_op
from thalweg.frontend.tensor import Tensor, as_tensor
from thalweg.frontend.variable import Variable


def combine(slices: IndexedSlices) -> IndexedSlices:
    """The same gradient with every row named once: duplicates are summed.

    The number of rows is fixed when the program is traced, so the places that become free hold the index one past the
    table, which reads some row and writes none, and rows of zeros. Where only the data decides how many rows there are,
    they are filled up to a power of two in that way, so that what computes on them is compiled for few sizes.
    """
    indices, values = slices.indices, slices.values
    if from_data(indices):
        found, summed = host_op(tables.combine_rows, [indices, values], 1, past=slices.dense_shape[0])
        return dataclasses.replace(slices, indices=found, values=summed)
    count, past = indices.type.shape[0], slices.dense_shape[0]
    if count < 2:
        return slices
    order = xp.argsort(indices)
    ordered = xp.take(indices, order, axis=0)
    begins = xp.concat([xp.ones((1,), dtype="bool"), ordered[1:] != ordered[:-1]])
    segment = xp.cumulative_sum(xp.astype(begins, "int32")) - 1
    summed = xp.zeros_like(values).at[segment].add(xp.take(values, order, axis=0))
    unique = xp.full((count,), past, dtype=indices.dtype).at[segment].set(ordered)
    return dataclasses.replace(slices, indices=unique, values=summed)


def read_rows(variable: Variable, indices: Tensor) -> Tensor:
    """Rows of a variable; an index outside reads the nearest row."""
    if from_data(indices):
        return host_op(tables.lookup_rows, [as_tensor(variable), indices], clamp=True)[0]
    return emit(take_rows, as_tensor(variable), as_tensor(indices))


def write_rows(variable: Variable, indices: Tensor, rows: Tensor) -> Any:
    """Assign rows of a variable, in place; those at an index outside are dropped. Returns what `assign` does."""
    if from_data(indices):
        return variable.assign(host_op(tables.put_rows, [as_tensor(variable), indices, rows], mode="set")[0])
    return variable.assign(variable.at[indices].set(rows))


def add_rows(variable: Variable, indices: Tensor, rows: Any) -> Any:
    """Add to rows of a variable, in place; a row that is named twice gets both. Returns what `assign` does."""
    if from_data(indices):
        return variable.assign(host_op(tables.put_rows, [as_tensor(variable), indices, rows], mode="add")[0])
    return variable.assign(variable.at[indices].add(rows))
