"""Rows of tables for numbers of ids that only the data decides. They run on the host.

Those on tensors are pure, and look up and sum are each other's derivative. `lookup_rows` of what was just read from a
variable, and `put_rows` into it, become `lookup` and `update_rows` of the variable itself by the pass `fuse-lookups`:
no table is copied for a few of its rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Sample, Unsupported, define, fail
from thalweg.dialects.ops.checks import expect_integer
from thalweg.dialects.ops.indexing import SCATTER_MODES, expect_mode
from thalweg.dialects.ops.ragged import expect_extents, expect_rows, expect_vector
from thalweg.dialects.ops.state import expect_variable
from thalweg.dialects.types import FLOATS, INTEGERS, TensorType, Type, int32, int64

Array = np.ndarray
_NEEDS_STATE = Unsupported("reads or writes a variable, which a function of arrays cannot; tested through programs")
_NUMBERS = FLOATS + INTEGERS


def _ids(*values: int) -> Arg:
    return Arg((len(values),), dtype=int32, values=values)


def _expect_table(table: TensorType) -> None:
    if table.rank == 0:
        raise fail(f"{table} has no rows.")


def _infer_lookup_rows(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    table, ids = operands
    _expect_table(table)
    expect_integer(ids, "the ids")
    return [table.with_shape((*ids.shape, *table.shape[1:]))]


lookup_rows = define(
    "lookup_rows",
    "table ids",
    doc="Rows of a table, one per id; an id outside is an error, or takes the nearest row if `clamp`. take_rows is the "
        "same for a number of ids that is known when the program is built.",
    infer=_infer_lookup_rows,
    attrs={"clamp": "bool"},
    defaults={"clamp": False},
    reference=lambda table, ids, clamp: table[np.clip(ids, 0, len(table) - 1) if clamp else ids],
    samples=[
        Sample((Arg((5, 3)), _ids(3, 0, 3, 4))),
        Sample((Arg((5, 3)), _ids(-1, 9)), {"clamp": True}),
        Sample((Arg((4,)), Arg((2, 2), dtype=int64, values=((0, 1), (3, 3))))),
    ],
    runs="host",
)


def _infer_sum_rows(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    like, ids, rows = operands
    _expect_table(like)
    expect_rows(rows, ids, "the rows")
    if rows.dtype.kind == "b" or rows != like.with_shape((*ids.shape, *like.shape[1:])):
        raise fail(f"the rows {rows} at {ids} do not fit into {like}.")
    return [like]


def _sum_rows(like: Array, ids: Array, rows: Array, clamp: bool) -> Array:
    result = np.zeros_like(like)
    ids = np.clip(ids, 0, len(like) - 1) if clamp else ids
    for i, row in zip(ids.reshape(-1), rows.reshape(-1, *like.shape[1:]), strict=True):
        result[i] += row
    return result


sum_rows = define(
    "sum_rows",
    "like ids rows",
    doc="Zeros like `like` with each row added at its id; of ids outside as for lookup_rows.",
    infer=_infer_sum_rows,
    attrs={"clamp": "bool"},
    defaults={"clamp": False},
    reference=_sum_rows,
    samples=[
        Sample((Arg((5, 3)), _ids(3, 0, 3, 4), Arg((4, 3), 1))),
        Sample((Arg((5, 3)), _ids(-1, 9, 4), Arg((3, 3), 1)), {"clamp": True}),
        Sample((Arg((4,)), Arg((2, 2), dtype=int64, values=((0, 1), (3, 3))), Arg((2, 2), 1))),
    ],
    dtypes=_NUMBERS,
    tolerance=4,
    runs="host",
)


def _infer_put_rows(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    x, ids, rows = operands
    _expect_table(x)
    expect_rows(rows, ids, "the rows")
    expect_mode(attrs["mode"], x)
    if rows != x.with_shape((*ids.shape, *x.shape[1:])):
        raise fail(f"the rows {rows} at {ids} do not fit into {x}.")
    return [x]


def _put_rows(x: Array, ids: Array, rows: Array, mode: str) -> Array:
    result, combine = np.array(x), SCATTER_MODES[mode]
    for i, row in zip(ids.reshape(-1), rows.reshape(-1, *x.shape[1:]), strict=True):
        if 0 <= i < len(x):
            result[i] = combine(result[i], row)
    return result


put_rows = define(
    "put_rows",
    "x ids rows",
    doc="x with rows combined into it at the ids: `mode` set, add, mul, min or max. Rows at ids outside are dropped; "
        "with set, the last one wins where an id comes twice.",
    infer=_infer_put_rows,
    attrs={"mode": "str"},
    reference=_put_rows,
    samples=[
        *(Sample((Arg((4, 3), 1), _ids(3, 1, 7, 3, -1), Arg((5, 3), 1)), {"mode": m})
          for m in ("set", "add", "mul", "min", "max")),
    ],
    dtypes=_NUMBERS,
    tolerance=4,
    runs="host",
)


def _infer_combine_rows(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    ids, rows = operands
    expect_vector(ids, "the ids")
    expect_rows(rows, ids, "the rows")
    (count,) = expect_extents(attrs, 1)
    return [ids.with_shape((count,)), rows.with_shape((count, *rows.shape[1:]))]


def bucket(rows: int) -> int:
    """The least power of two that holds `rows`, 8 at least: what is compiled for it serves many numbers of rows."""
    return max(8, 1 << (rows - 1).bit_length())


def _combine_rows(ids: Array, rows: Array, extents: Sequence[int], past: int) -> tuple[Array, Array]:
    found = sorted(set(ids.tolist()))
    size = bucket(len(found))
    summed = np.zeros((size, *rows.shape[1:]), rows.dtype)
    for i, row in zip(ids.tolist(), rows, strict=True):
        summed[found.index(i)] += row
    return np.array(found + [past] * (size - len(found)), ids.dtype), summed


combine_rows = define(
    "combine_rows",
    "ids rows",
    doc="Rows by id, each id once: rows of the same id are summed. The results are filled up to a power of two, 8 at "
        "least, with zeros at the id `past`, so that what follows is compiled for few sizes.",
    infer=_infer_combine_rows,
    attrs={"extents": "ints", "past": "int"},
    reference=_combine_rows,
    samples=[
        Sample((_ids(3, 1, 3, 3), Arg((4, 2), 1)), {"extents": (8,), "past": 9}),
        Sample((Arg((9,), 0, 9, dtype=int32, distinct=True), Arg((9,), 1)), {"extents": (16,), "past": 64}),
        Sample((_ids(), Arg((0, 2))), {"extents": (8,), "past": 9}),
    ],
    tolerance=4,
    runs="host",
)


# Rows of variables


def _infer_lookup(operands: Sequence[Type], attrs: Attrs) -> list[TensorType]:
    variable, ids = operands
    assert isinstance(ids, TensorType)
    return _infer_lookup_rows([expect_variable(variable).tensor, ids], attrs)


lookup = define("lookup", "variable ids", doc="Rows of a variable, one per id, as lookup_rows gives them.",
                infer=_infer_lookup, attrs={"clamp": "bool"}, defaults={"clamp": False}, reference=_NEEDS_STATE,
                effects="read", runs="host")


def _infer_update_rows(operands: Sequence[Type], attrs: Attrs) -> list[TensorType]:
    variable, ids, rows = operands
    assert isinstance(ids, TensorType) and isinstance(rows, TensorType)
    _infer_put_rows([expect_variable(variable).tensor, ids, rows], attrs)
    return []


update_rows = define(
    "update_rows", "variable ids rows",
    doc="Combine rows into those of a variable, in place, as put_rows does.",
    infer=_infer_update_rows, attrs={"mode": "str"}, reference=_NEEDS_STATE, effects="write", runs="host",
)
