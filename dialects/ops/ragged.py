"""Numbers of rows that only the data decides: partition and merge, stitch, masks, distinct values.

They run on the host. Where the number of rows of a result is not known when a program is built, the attribute
`extents` holds open extents (see `dialects.extents`) and the result's type shows `?`. Each row that moves rows has a
partner that moves them back, and that is its derivative: partition and merge, stitch and unstitch, mask and fill,
join and split.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Sample, define, fail
from thalweg.dialects.ops.checks import expect_equal_dtypes, expect_integer
from thalweg.dialects.types import TensorType, bool_, int32, int64

Array = np.ndarray


def expect_vector(x: TensorType, name: str) -> None:
    if x.rank != 1:
        raise fail(f"{name} must be a vector, got {x}. Flatten it first.")


def expect_rows(rows: TensorType, indices: TensorType, name: str) -> None:
    """`rows` has one row per entry of `indices`."""
    expect_integer(indices, "the indices")
    if rows.shape[: indices.rank] != indices.shape:
        raise fail(f"{name} {rows} must have one row per index of {indices}.")


def expect_extents(attrs: Attrs, count: int) -> tuple[int, ...]:
    extents = tuple(attrs["extents"])
    if len(extents) != count:
        raise fail(f"takes {count} extents, got {list(extents)}.")
    return extents


# Partition and merge


def _infer_dynamic_partition(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    data, partitions = operands
    expect_vector(partitions, "the partitions")
    expect_rows(data, partitions, "the data")
    if not attrs["extents"]:
        raise fail("takes at least one partition.")
    return [data.with_shape((n, *data.shape[1:])) for n in attrs["extents"]]


def _dynamic_partition(data: Array, partitions: Array, extents: Sequence[int]) -> tuple[Array, ...]:
    return tuple(data[partitions == k] for k in range(len(extents)))


_PARTITIONS = Arg((6,), dtype=int32, values=(1, 0, 2, 1, 1, 0))

dynamic_partition = define(
    "dynamic_partition",
    "data partitions",
    doc="The rows of data in one tensor per partition: row i goes to number `partitions[i]`, in order. `extents` has "
        "the number of rows of each; a partition outside is an error.",
    infer=_infer_dynamic_partition,
    attrs={"extents": "ints"},
    reference=_dynamic_partition,
    samples=[
        Sample((Arg((6, 2)), _PARTITIONS), {"extents": (2, 3, 1)}),
        Sample((Arg((3,)), Arg((3,), dtype=int64, values=(0, 0, 0))), {"extents": (3, 0)}),
        Sample((Arg((0, 4)), Arg((0,), dtype=int32)), {"extents": (0,)}),
    ],
    runs="host",
)


def _which(attrs: Attrs, count: int) -> tuple[int, ...]:
    return tuple(attrs["which"]) or tuple(range(count))


def _infer_merge_partitions(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    partitions, *pieces = operands
    expect_vector(partitions, "the partitions")
    expect_integer(partitions, "the partitions")
    which = _which(attrs, len(attrs["extents"]))
    if not pieces or len(pieces) != len(which):
        raise fail(f"takes a piece for each of the partitions {list(which)}, got {len(pieces)}.")
    expect_equal_dtypes(pieces)
    for number, piece in zip(which, pieces, strict=True):
        if piece.rank == 0 or piece.shape[0] != attrs["extents"][number] or piece.shape[1:] != pieces[0].shape[1:]:
            raise fail(f"piece {number} is {piece}, expected {attrs['extents'][number]} rows like {pieces[0]}.")
    return [pieces[0].with_shape((*partitions.shape, *pieces[0].shape[1:]))]


def _merge_partitions(
    partitions: Array, *pieces: Array, extents: Sequence[int], which: Sequence[int]
) -> Array:
    result = np.zeros((*partitions.shape, *pieces[0].shape[1:]), pieces[0].dtype)
    for number, piece in zip(which or range(len(extents)), pieces, strict=True):
        result[partitions == number] = piece
    return result


merge_partitions = define(
    "merge_partitions",
    "partitions *pieces",
    doc="What dynamic_partition took apart, put together again: row i is the next one of piece `partitions[i]`. Pieces "
        "may be given for some partitions only (`which`); rows of the others are zero.",
    infer=_infer_merge_partitions,
    attrs={"extents": "ints", "which": "ints"},
    defaults={"which": ()},
    reference=_merge_partitions,
    samples=[
        Sample((_PARTITIONS, Arg((2, 2)), Arg((3, 2)), Arg((1, 2))), {"extents": (2, 3, 1)}),
        Sample((_PARTITIONS, Arg((1,)), Arg((2,))), {"extents": (2, 3, 1), "which": (2, 0)}),
    ],
    runs="host",
)


# Stitch and unstitch


def _expect_stitch(indices: Sequence[TensorType], pieces: Sequence[TensorType]) -> None:
    expect_equal_dtypes(pieces)
    for index, piece in zip(indices, pieces, strict=True):
        expect_vector(index, "the indices")
        expect_rows(piece, index, "the piece")
        if piece.shape[1:] != pieces[0].shape[1:]:
            raise fail(f"the rows of {piece} and of {pieces[0]} differ.")


def _infer_dynamic_stitch(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    count = len(operands) // 2
    if not count or len(operands) % 2:
        raise fail(f"takes vectors of indices and as many pieces, got {len(operands)} operands.")
    indices, pieces = operands[:count], operands[count:]
    _expect_stitch(indices, pieces)
    (rows,) = expect_extents(attrs, 1)
    return [pieces[0].with_shape((rows, *pieces[0].shape[1:]))]


def _dynamic_stitch(*operands: Array, extents: Sequence[int]) -> Array:
    count = len(operands) // 2
    indices, pieces = operands[:count], operands[count:]
    result = np.zeros((extents[0], *pieces[0].shape[1:]), pieces[0].dtype)
    for index, piece in zip(indices, pieces, strict=True):
        for i, row in zip(index, piece, strict=True):
            result[i] = row
    return result


def _ids(*values: int) -> Arg:
    return Arg((len(values),), dtype=int32, values=values)


dynamic_stitch = define(
    "dynamic_stitch",
    "*indices_and_pieces",
    doc="Rows of several pieces in one tensor: row j of piece i becomes row `indices[i][j]`. The last one wins where "
        "an index comes twice, and rows that no index names are zero. `extents` is the number of rows; where that is "
        "open, the pieces fill the result exactly: it has as many rows as they have together.",
    infer=_infer_dynamic_stitch,
    attrs={"extents": "ints"},
    reference=_dynamic_stitch,
    samples=[
        Sample((_ids(3, 0), _ids(1, 2, 4), Arg((2, 2)), Arg((3, 2))), {"extents": (5,)}),
        Sample((_ids(1, 1), _ids(1, 3), Arg((2,)), Arg((2,))), {"extents": (5,)}),
        Sample((_ids(), Arg((0, 3))), {"extents": (0,)}),
    ],
    runs="host",
)


def _infer_unstitch(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    whole, *indices = operands
    if not indices or whole.rank == 0:
        raise fail("takes a tensor with rows and at least one vector of indices.")
    for index in indices:
        expect_vector(index, "the indices")
        expect_integer(index, "the indices")
    return [whole.with_shape((*index.shape, *whole.shape[1:])) for index in indices]


def _unstitch(whole: Array, *indices: Array) -> tuple[Array, ...]:
    last = {int(i): n for n, i in enumerate(np.concatenate(indices))}
    number, results = 0, []
    for index in indices:
        piece = np.zeros((len(index), *whole.shape[1:]), whole.dtype)
        for j, i in enumerate(index):
            if last[int(i)] == number:
                piece[j] = whole[i]
            number += 1
        results.append(piece)
    return tuple(results)


unstitch = define(
    "unstitch",
    "whole *indices",
    doc="What dynamic_stitch put together, taken apart again; rows that others replaced are zero.",
    infer=_infer_unstitch,
    reference=_unstitch,
    samples=[
        Sample((Arg((5, 2)), _ids(3, 0), _ids(1, 2, 4))),
        Sample((Arg((5,)), _ids(1, 1), _ids(1, 3))),
    ],
    runs="host",
)


# Mask and fill


def _infer_boolean_mask(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    x, mask = operands
    if mask.dtype.kind != "b" or mask.rank == 0 or x.shape[: mask.rank] != mask.shape:
        raise fail(f"the mask must be a bool tensor over the first dimensions of {x}, got {mask}.")
    (rows,) = expect_extents(attrs, 1)
    return [x.with_shape((rows, *x.shape[mask.rank :]))]


def _mask(*values: int) -> Arg:
    return Arg((len(values),), dtype=bool_, values=values)


boolean_mask = define(
    "boolean_mask",
    "x mask",
    doc="The rows of x at which the mask is true, in order; a mask of several dimensions goes over as many of x.",
    infer=_infer_boolean_mask,
    attrs={"extents": "ints"},
    reference=lambda x, mask, extents: x[mask],
    samples=[
        Sample((Arg((4, 2)), _mask(1, 0, 1, 1)), {"extents": (3,)}),
        Sample((Arg((2, 2, 3)), Arg((2, 2), dtype=bool_, values=((1, 0), (1, 1)))), {"extents": (3,)}),
        Sample((Arg((2,)), _mask(0, 0)), {"extents": (0,)}),
    ],
    runs="host",
)


def _infer_fill_mask(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    mask, rows = operands
    if mask.dtype.kind != "b" or mask.rank == 0 or rows.rank == 0:
        raise fail(f"takes a bool mask and rows, got {mask} and {rows}.")
    return [rows.with_shape((*mask.shape, *rows.shape[1:]))]


def _fill_mask(mask: Array, rows: Array) -> Array:
    result = np.zeros((*mask.shape, *rows.shape[1:]), rows.dtype)
    result[mask] = rows
    return result


fill_mask = define(
    "fill_mask",
    "mask rows",
    doc="What boolean_mask took out, back in its places; zeros where the mask is false.",
    infer=_infer_fill_mask,
    reference=_fill_mask,
    samples=[
        Sample((_mask(1, 0, 1, 1), Arg((3, 2)))),
        Sample((Arg((2, 2), dtype=bool_, values=((1, 0), (1, 1))), Arg((3,)))),
    ],
    runs="host",
)


# Distinct values


def _infer_unique(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x,) = operands
    expect_vector(x, "x")
    found = expect_extents(attrs, 1)
    return [x.with_shape(found), x.with_dtype(int32), TensorType(found, int32)]


def _unique(x: Array, extents: Sequence[int]) -> tuple[Array, ...]:
    values, inverse, counts = np.unique(x, return_inverse=True, return_counts=True, equal_nan=False)
    return values, inverse.reshape(-1).astype(np.int32), counts.astype(np.int32)


unique = define(
    "unique",
    "x",
    doc="The distinct values of a vector in ascending order, which of them each element is, and how often each comes.",
    infer=_infer_unique,
    attrs={"extents": "ints"},
    reference=_unique,
    samples=[
        Sample((Arg((7,), -9, 9, distinct=True, dtype=int64),), {"extents": (7,)}),
        Sample((_ids(5, 2, 5, -1, 2, 5),), {"extents": (3,)}),
        Sample((Arg((0,)),), {"extents": (0,)}),
    ],
    runs="host",
)


# Join and split


def _infer_join_rows(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    if not operands:
        raise fail("takes at least one operand.")
    expect_equal_dtypes(operands)
    for x in operands:
        if x.rank == 0 or x.shape[1:] != operands[0].shape[1:]:
            raise fail(f"the rows of {x} and of {operands[0]} differ.")
    (rows,) = expect_extents(attrs, 1)
    return [operands[0].with_shape((rows, *operands[0].shape[1:]))]


join_rows = define(
    "join_rows",
    "*xs",
    doc="The rows of several tensors, one after the other; concatenate is the same for known numbers of rows.",
    infer=_infer_join_rows,
    attrs={"extents": "ints"},
    reference=lambda *xs, extents: np.concatenate(xs),
    samples=[Sample((Arg((2, 3)), Arg((0, 3)), Arg((1, 3))), {"extents": (3,)})],
    runs="host",
)


def _infer_split_rows(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    x, *like = operands
    if not like or x.rank == 0 or any(t.rank == 0 for t in like):
        raise fail("takes a tensor with rows, and tensors that have as many together.")
    return [x.with_shape((t.shape[0], *x.shape[1:])) for t in like]


def _split_rows(x: Array, *like: Array) -> tuple[Array, ...]:
    return tuple(np.split(x, np.cumsum([len(t) for t in like])[:-1]))


split_rows = define(
    "split_rows",
    "x *like",
    doc="What join_rows joined, taken apart: as many rows as each of the tensors `like` has.",
    infer=_infer_split_rows,
    reference=_split_rows,
    samples=[Sample((Arg((3, 3)), Arg((2, 1)), Arg((0, 2)), Arg((1,))))],
    runs="host",
)
