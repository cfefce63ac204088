"""Partition and merge, stitch, masks, distinct values: the ops whose results' shapes depend on data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.dialects.diagnostics import StepError
from thalweg.dialects.extents import is_open
from thalweg.runtime.kernels import Call, kernel
from thalweg.runtime.plan import Array


def by_partition(partitions: Array, count: int) -> tuple[Array, Array]:
    """Places of the partitions' entries, partition by partition and in order within each, and how many each has.

    Raises:
        StepError: an entry is no partition.
    """
    if partitions.size and not (partitions.min() >= 0 and partitions.max() < count):
        worst = int(partitions.min()) if partitions.min() < 0 else int(partitions.max())
        raise StepError(f"row {int(np.argmax(partitions == worst))} asks for partition {worst} of {count}.")
    # Keys of 8 or 16 bits are sorted by radix, in linear time.
    narrow = partitions.astype(np.uint8 if count <= 256 else np.uint16 if count <= 65536 else np.int64)
    return np.argsort(narrow, kind="stable"), np.bincount(narrow, minlength=count)


@kernel("dynamic_partition")
def dynamic_partition(call: Call) -> Sequence[Array]:
    data, partitions = call.inputs
    order, counts = by_partition(partitions, len(call.attrs["extents"]))
    return np.split(data.take(order, axis=0), np.cumsum(counts[:-1]))


@kernel("merge_partitions")
def merge_partitions(call: Call) -> Sequence[Array]:
    partitions, *pieces = call.inputs
    count = len(call.attrs["extents"])
    which = call.attrs["which"] or range(count)
    order, counts = by_partition(partitions, count)
    result = np.zeros((*partitions.shape, *pieces[0].shape[1:]), pieces[0].dtype)
    places = np.split(order, np.cumsum(counts[:-1]))
    for number, piece in zip(which, pieces, strict=True):
        if len(piece) != counts[number]:
            raise StepError(f"partition {number} has {counts[number]} rows, its piece {len(piece)}.")
        result[places[number]] = piece
    return [result]


@kernel("dynamic_stitch")
def dynamic_stitch(call: Call) -> Sequence[Array]:
    count = len(call.inputs) // 2
    indices, pieces = call.inputs[:count], call.inputs[count:]
    places = np.concatenate(indices)
    (wanted,) = call.attrs["extents"]
    rows = len(places) if is_open(wanted) else wanted
    check_ids(places, rows, "the result")
    if is_open(wanted) and np.bincount(places, minlength=rows).max(initial=1) > 1:
        raise StepError(
            f"the {len(places)} indices do not fill {rows} rows, one each. Give the number of rows of the result."
        )
    result = np.zeros((rows, *pieces[0].shape[1:]), pieces[0].dtype)
    result[places] = np.concatenate(pieces)
    return [result]


@kernel("unstitch")
def unstitch(call: Call) -> Sequence[Array]:
    whole, *indices = call.inputs
    places = np.concatenate(indices)
    check_ids(places, len(whole), "the tensor")
    last = np.zeros(len(whole), np.int64)
    last[places] = np.arange(len(places))
    rows = whole.take(places, axis=0)
    rows[last[places] != np.arange(len(places))] = 0
    return np.split(rows, np.cumsum([len(i) for i in indices])[:-1])


@kernel("boolean_mask")
def boolean_mask(call: Call) -> Sequence[Array]:
    x, mask = call.inputs
    rows = x.reshape(mask.size, *x.shape[mask.ndim :])
    return [rows.take(np.flatnonzero(mask), axis=0)]


@kernel("fill_mask")
def fill_mask(call: Call) -> Sequence[Array]:
    mask, rows = call.inputs
    result = np.zeros((mask.size, *rows.shape[1:]), rows.dtype)
    places = np.flatnonzero(mask)
    if len(places) != len(rows):
        raise StepError(f"the mask is true at {len(places)} places, but there are {len(rows)} rows.")
    result[places] = rows
    return [result.reshape(*mask.shape, *rows.shape[1:])]


@kernel("unique")
def unique(call: Call) -> Sequence[Array]:
    values, inverse, counts = np.unique(call.inputs[0], return_inverse=True, return_counts=True, equal_nan=False)
    return [values, inverse.reshape(-1).astype(np.int32), counts.astype(np.int32)]


@kernel("join_rows")
def join_rows(call: Call) -> Sequence[Array]:
    return [np.concatenate(call.inputs)]


@kernel("split_rows")
def split_rows(call: Call) -> Sequence[Array]:
    x, *like = call.inputs
    counts = [len(t) for t in like]
    if sum(counts) != len(x):
        raise StepError(f"{len(x)} rows cannot be split into {' + '.join(map(str, counts))}.")
    return np.split(x, np.cumsum(counts)[:-1])


def check_ids(ids: Array, rows: int, what: str) -> None:
    """Every id is a row.

    Raises:
        StepError: names the first that is not.
    """
    if ids.size and not (ids.min() >= 0 and ids.max() < rows):
        wrong = ids.reshape(-1)[np.argmax((ids < 0) | (ids >= rows))]
        raise StepError(f"id {int(wrong)} is outside {what}, which has {rows} rows.")
