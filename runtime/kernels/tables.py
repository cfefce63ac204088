"""Rows of tables and of variables. Work goes by the rows that are named, never by the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.runtime.kernels import Call, kernel
from thalweg.runtime.kernels.ragged import check_ids
from thalweg.runtime.plan import Array
from thalweg.runtime.resources import Buffer, uninitialised

_UFUNCS: Mapping[str, Any] = {"add": np.add, "mul": np.multiply, "min": np.minimum, "max": np.maximum}


def segments(ids: Array, rows: Array, combine: Callable[..., Any] = np.add) -> tuple[Array, Array]:
    """The distinct ids in ascending order, and for each its rows combined by a ufunc.

    Rows are sorted by id and reduced run by run, those that are alone only moved: several times faster than `ufunc.at`.
    """
    if len(ids) == 0:
        return ids, rows
    order = np.argsort(ids, kind="stable")
    ordered = ids[order]
    starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
    found = rows.take(order[starts], axis=0)
    lengths = np.diff(starts, append=len(ids))
    several = lengths > 1
    if several.any():
        inside = rows.take(order[np.repeat(several, lengths)], axis=0)
        begins = np.cumsum(lengths[several]) - lengths[several]
        found[several] = combine.reduceat(inside, begins, axis=0)  # type: ignore[attr-defined]
    return ordered[starts], found


def combine_into(table: Array, ids: Array, rows: Array, mode: str) -> None:
    """Combine rows into those of a table, in place; rows at ids outside are dropped."""
    ids, rows = ids.reshape(-1), rows.reshape(-1, *table.shape[1:])
    inside = (ids >= 0) & (ids < len(table))
    if not inside.all():
        ids, rows = ids[inside], rows[inside]
    if mode == "set":
        table[ids] = rows  # of an id that comes twice the last row stays
        return
    places, combined = segments(ids, rows, _UFUNCS[mode])
    table[places] = _UFUNCS[mode](table[places], combined)


def _rows(table: Array, ids: Array, call: Call, what: str) -> Array:
    if call.attrs["clamp"]:
        return table.take(ids, axis=0, mode="clip")
    check_ids(ids, len(table), what)
    return table.take(ids, axis=0)


@kernel("lookup_rows")
def lookup_rows(call: Call) -> Sequence[Array]:
    table, ids = call.inputs
    return [_rows(table, ids, call, "the table")]


@kernel("sum_rows")
def sum_rows(call: Call) -> Sequence[Array]:
    like, ids, rows = call.inputs
    if call.attrs["clamp"]:
        ids = ids.clip(0, len(like) - 1)
    else:
        check_ids(ids, len(like), "the table")
    result = np.zeros_like(like)
    places, summed = segments(ids.reshape(-1), rows.reshape(-1, *like.shape[1:]))
    result[places] = summed
    return [result]


@kernel("put_rows")
def put_rows(call: Call) -> Sequence[Array]:
    x, ids, rows = call.inputs
    result = x.copy()
    combine_into(result, ids, rows, call.attrs["mode"])
    return [result]


def bucket(rows: int) -> int:
    """The least power of two that holds `rows`, 8 at least: what is compiled for it serves many numbers of rows."""
    return max(8, 1 << max(rows - 1, 0).bit_length())


@kernel("combine_rows")
def combine_rows(call: Call) -> Sequence[Array]:
    ids, rows = call.inputs
    places, summed = segments(ids, rows)
    size = bucket(len(places))
    found = np.full(size, call.attrs["past"], ids.dtype)
    filled = np.zeros((size, *rows.shape[1:]), rows.dtype)
    found[: len(places)], filled[: len(places)] = places, summed
    return [found, filled]


@kernel("lookup")
def lookup(call: Call) -> Sequence[Array]:
    variable, ids = call.inputs
    _expect_value(variable)
    with variable.lock.reading():
        return [_rows(variable.array, ids, call, f"variable '{variable.name}'")]


@kernel("update_rows")
def update_rows(call: Call) -> Sequence[Array]:
    variable, ids, rows = call.inputs
    _expect_value(variable)
    with variable.lock.writing():
        combine_into(variable.array, ids, rows, call.attrs["mode"])
    return []


def _expect_value(variable: Buffer) -> None:
    if not variable.initialised:
        raise uninitialised(variable.name)
