"""Numbers of rows that only the data decides: partition, stitch, masks, and rows of tables by them.

    pieces = tw.dynamic_partition(rows, owners, 3)         # in a graph each of shape (None, …)
    whole = tw.merge_partitions(owners, pieces)            # the same rows in the same order

They run on the host, between what is compiled. What is computed on such a tensor is compiled once for every number of
rows that comes along; look up, partition and merge where you can, and compute on what has a known shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import StepError, TypeInferenceError
from thalweg.dialects.extents import AXES, any_open, decode, is_open, result
from thalweg.dialects.location import user_frame
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import indexing, ragged, tables
from thalweg.dialects.types import int32
from thalweg.frontend.array.conversion import cast
from thalweg.frontend.array.manipulation import reshape
from thalweg.frontend.eager import emit
from thalweg.frontend.extent import code_of
from thalweg.frontend.tensor import ArrayLike, EagerTensor, Tensor, TracedTensor, as_tensor
from thalweg.frontend.trace import current
from thalweg.runtime.direct import perform
from thalweg.runtime.resources import of_process

_COMPARED = 4096  # bytes of arrays that are compared by their elements

__all__ = ["boolean_mask", "dynamic_partition", "dynamic_stitch", "lookup", "merge_partitions", "unique_with_counts"]


def dynamic_partition(data: ArrayLike, partitions: ArrayLike, num_partitions: int) -> list[Tensor]:
    """The rows of `data` in one tensor per partition, in order.

    Args:
        data: its first dimensions are those of `partitions`.
        partitions: integers from 0 to `num_partitions` - 1: where each row goes.

    Raises:
        StepError: a row asks for a partition that there is not.

    Example:
        >>> tw.dynamic_partition([10, 20, 30], [0, 1, 0], 2)
        [Tensor([10, 30], dtype=int32), Tensor([20], dtype=int32)]
    """
    rows, owners = as_tensor(data), as_tensor(partitions)
    if num_partitions < 1:
        raise _misfit("dynamic_partition", f"there must be at least 1 partition, got {num_partitions}.")
    if owners.type.rank != 1:
        rows = _flattened("dynamic_partition", rows, owners)
        owners = reshape(owners, (-1,))
    return list(host_op(ragged.dynamic_partition, [rows, owners], num_partitions, owners))


def merge_partitions(partitions: ArrayLike, pieces: Sequence[ArrayLike]) -> Tensor:
    """What `dynamic_partition` took apart, together again: row i is the next one of piece `partitions[i]`.

    Args:
        partitions: a vector of integers, as for `dynamic_partition`.
        pieces: one per partition, with as many rows as have its number.

    Example:
        >>> tw.merge_partitions([0, 1, 0], [[1.0, 3.0], [2.0]])
        Tensor([1., 2., 3.], dtype=float32)
    """
    given = [as_tensor(p) for p in pieces]
    extents = tuple(t.type.shape[0] if t.type.rank else 0 for t in given)
    return host_op(ragged.merge_partitions, [as_tensor(partitions), *given], extents=extents)[0]


def dynamic_stitch(indices: Sequence[ArrayLike], data: Sequence[ArrayLike], size: Any = None) -> Tensor:
    """Rows of several tensors in one: row j of `data[i]` becomes row `indices[i][j]`.

    Args:
        indices: a vector per piece. Where an index comes twice, the last row wins.
        data: the pieces, as many rows as indices each.
        size: rows of the result; those that no index names are zero. By default as many as the pieces have together.

    Example:
        >>> tw.dynamic_stitch([[0, 2], [1]], [[1.0, 3.0], [2.0]])
        Tensor([1., 2., 3.], dtype=float32)
    """
    if not data or len(indices) != len(data):
        raise _misfit("dynamic_stitch", f"takes a vector of indices per piece, got {len(indices)} for {len(data)}.")
    places = [as_tensor(i) for i in indices]
    pieces = [as_tensor(p) for p in data]
    counts = [p.type.shape[0] for p in places if p.type.rank]
    if size is not None:
        rows = code_of(size)
    elif any_open(counts):
        (rows,) = _fresh(1)
    else:
        rows = sum(counts)
    return host_op(ragged.dynamic_stitch, [*places, *pieces], extents=(rows,))[0]


def boolean_mask(x: ArrayLike, mask: ArrayLike) -> Tensor:
    """The rows of x at which the mask is true, in order; a mask of several dimensions goes over as many of x.

    Example:
        >>> tw.boolean_mask([1, 2, 3], [True, False, True])
        Tensor([1, 3], dtype=int32)
    """
    chosen = as_tensor(mask)
    return host_op(ragged.boolean_mask, [as_tensor(x), chosen], 1, chosen)[0]


def unique_with_counts(x: ArrayLike) -> tuple[Tensor, Tensor, Tensor]:
    """The distinct values of a vector in ascending order, which of them each element is, and how often each comes.

    Example:
        >>> values, inverse, counts = tw.unique_with_counts([5, 2, 5])
    """
    vector = as_tensor(x)
    values, inverse, counts = host_op(ragged.unique, [vector], 1, vector)
    return values, inverse, counts


def lookup(table: ArrayLike, ids: ArrayLike) -> Tensor:
    """Rows of a variable or a tensor, one per id.

    For any number of ids: where only the data decides how many there are, the rows are looked up on the host, where the
    table is; and an id outside is an error. Otherwise this is `tw.take` along axis 0, and takes the nearest row. The
    gradient with respect to a variable is sparse either way.
    """
    rows, places = as_tensor(table), as_tensor(ids)
    if not places.dtype.is_integer:
        raise _misfit("lookup", f"the ids must be integers, got {places.type}.")
    if not from_data(rows) and not from_data(places):
        return emit(indexing.take_rows, rows, places)
    return host_op(tables.lookup_rows, [rows, cast(places, int32)])[0]


def from_data(x: Tensor) -> bool:
    """Whether an extent of a tensor is known only when the ops before it have run."""
    return any(is_open(n) and not _of_feed(n) for n in x.type.shape)


def _of_feed(extent: int) -> bool:
    """Feeds are there before a program is compiled; what their extents are is known by then."""
    try:
        return decode(extent).symbol < AXES
    except ValueError:  # a product of several
        return False


def host_op(
    row: OpDef, operands: Sequence[Tensor], unknown: int = 0, decider: Tensor | None = None, **attrs: Any
) -> tuple[Tensor, ...]:
    """An op on the host: added to the trace, or done at once.

    Args:
        unknown: how many extents of its results the data decides.
        decider: the operand that alone decides them: two masks by one and the same have as many rows.
    """
    trace = current()
    if unknown:
        attrs["extents"] = _fresh(unknown, None if decider is None else (row, _identity(decider), unknown))
    if trace is not None:
        return trace.emit(row, operands, attrs)
    try:
        complete = row.complete(attrs)
        row.result_types([t.type for t in operands], complete)
        results = perform(row.name, [np.asarray(t) for t in operands], complete, of_process())
    except TypeInferenceError as error:
        raise TypeInferenceError(f"{user_frame()} {error}") from None
    except StepError as error:
        raise StepError(f"{user_frame()} {row.name}: {error}") from None
    return tuple(EagerTensor(np.ascontiguousarray(r)) for r in results)


def _fresh(count: int, key: Any = None) -> tuple[int, ...]:
    trace = current()
    return trace.open_extents(count, key) if trace is not None else tuple(result(number) for number in range(count))


def _identity(tensor: Tensor) -> Any:
    """Equal for tensors that are surely the same."""
    if isinstance(tensor, TracedTensor):
        return tensor.value
    data = np.asarray(tensor)
    return data.shape, data.dtype, data.tobytes() if data.nbytes <= _COMPARED else id(tensor)


def _flattened(name: str, rows: Tensor, over: Tensor) -> Tensor:
    """The dimensions of `rows` that it shares with `over` as one."""
    rank = over.type.rank
    if rows.type.shape[:rank] != over.type.shape:
        raise _misfit(name, f"the data {rows.type} must begin with the dimensions of the partitions {over.type}.")
    return reshape(rows, (-1, *rows.shape[rank:]))


def _misfit(name: str, message: str) -> TypeInferenceError:
    return TypeInferenceError(f"{user_frame()} {name}: {message}")
