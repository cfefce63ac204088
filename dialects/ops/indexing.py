"""Indexing: reading and writing at places that are computed.

Out of bounds: what reads (gather, take_rows, dynamic_slice, and dynamic_update_slice for its place) moves the window
until it lies inside; what scatters drops each element that falls outside. Dimension numbers are those of StableHLO:
an index vector, stored along `index_vector_dim` of the indices, says where in the operand a window begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Sample, define, fail
from thalweg.dialects.ops.checks import expect_axes, expect_axis, expect_equal_dtypes, expect_integer
from thalweg.dialects.types import TensorType, bfloat16, float32, int32, int64, uint8

SCATTER_MODES: Mapping[str, Callable[[Any, Any], Any]] = {
    "set": lambda old, new: new,
    "add": np.add,
    "mul": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
}


def expect_mode(mode: str, x: TensorType) -> None:
    """`mode` is a way to scatter that makes sense for the dtype of `x`."""
    if mode not in SCATTER_MODES:
        raise fail(f"unknown mode '{mode}'; the modes are {', '.join(SCATTER_MODES)}.")
    if mode in ("add", "mul") and x.dtype.kind == "b":
        raise fail(f"mode '{mode}' is not defined for bool. Use max for or, min for and.")


def _index_batch(indices: TensorType, vector_dim: int, components: int) -> tuple[int, ...]:
    """Extents of the indices without the dimension of the index vectors, which must have `components` entries."""
    expect_integer(indices, "the indices")
    if not 0 <= vector_dim <= indices.rank:
        raise fail(f"index_vector_dim {vector_dim} is outside the indices {indices}; their rank means one component.")
    found = indices.shape[vector_dim] if vector_dim < indices.rank else 1
    if found != components:
        raise fail(f"index vectors of {indices} along dimension {vector_dim} have {found} components, expected "
                   f"{components}, one per indexed dimension.")
    return tuple(n for i, n in enumerate(indices.shape) if i != vector_dim)


def _expect_window(
    x: TensorType, indices: TensorType, sizes: Sequence[int], dropped: Sequence[int], indexed: Sequence[int],
    batching: tuple[Sequence[int], Sequence[int]],
) -> tuple[int, ...]:
    """Extents of the window's dimensions that are kept; checks what gather and scatter have in common."""
    inside, outside = batching
    expect_axes((*dropped, *inside), x, "collapsed and batching dimensions")
    expect_axes((*indexed, *inside), x, "indexed and batching dimensions")
    if list(dropped) != sorted(dropped) or list(inside) != sorted(inside):
        raise fail(f"collapsed dimensions {list(dropped)} and batching dimensions {list(inside)} must be sorted.")
    if len(inside) != len(outside):
        raise fail(f"batching dimensions must come in pairs, got {list(inside)} and {list(outside)} of the indices.")
    for i, j in zip(inside, outside, strict=True):
        expect_axis(j, indices, "batching dimension of the indices")
        if x.shape[i] != indices.shape[j]:
            raise fail(f"batching dimensions differ: {x} has {x.shape[i]}, the indices {indices} have "
                       f"{indices.shape[j]}.")
    if len(sizes) != x.rank or any(not 0 <= s <= n for s, n in zip(sizes, x.shape, strict=True)):
        raise fail(f"a window of {list(sizes)} does not fit into {x}.")
    if any(sizes[d] != 1 for d in (*dropped, *inside)):
        raise fail(f"the window {list(sizes)} must have extent 1 in the dimensions it loses, {[*dropped, *inside]}.")
    return tuple(s for i, s in enumerate(sizes) if i not in dropped and i not in inside)


def _infer_gather(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    x, indices = operands
    batching = attrs["operand_batching_dims"], attrs["start_indices_batching_dims"]
    batch = _index_batch(indices, attrs["index_vector_dim"], len(attrs["start_index_map"]))
    window = _expect_window(
        x, indices, attrs["slice_sizes"], attrs["collapsed_slice_dims"], attrs["start_index_map"], batching
    )
    offsets, rank = attrs["offset_dims"], len(batch) + len(window)
    if len(offsets) != len(window) or list(offsets) != sorted(set(offsets)) or any(not 0 <= d < rank for d in offsets):
        raise fail(f"offset_dims {list(offsets)} must be {len(window)} increasing dimensions of a rank {rank} result.")
    extents, others = iter(window), iter(batch)
    return [x.with_shape(tuple(next(extents if i in offsets else others) for i in range(rank)))]


def _places(
    indices: np.ndarray, vector_dim: int, indexed: Sequence[int], batching: tuple[Sequence[int], Sequence[int]],
    rank: int,
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Every batch index with where its window begins in an operand of `rank` dimensions, not clamped."""
    vectors = np.moveaxis(indices, vector_dim, -1) if vector_dim < indices.ndim else indices[..., None]
    for place in np.ndindex(*vectors.shape[:-1]):
        start = [0] * rank
        for dim, component in zip(indexed, vectors[place], strict=True):
            start[dim] = int(component)
        for inside, outside in zip(*batching, strict=True):
            start[inside] = place[outside - (outside > vector_dim)]
        yield place, start


def _spread(place: Sequence[int], rank: int, window_dims: Sequence[int]) -> tuple[Any, ...]:
    """An index with `place` in the dimensions that are not the window's, and everything in those."""
    rest = iter(place)
    return tuple(np.s_[:] if i in window_dims else next(rest) for i in range(rank))


def _gather(x: np.ndarray, indices: np.ndarray, **attrs: Any) -> np.ndarray:
    types = [TensorType(x.shape, int32), TensorType(indices.shape, int32)]
    shape = _infer_gather(types, attrs)[0].shape
    sizes, offsets = attrs["slice_sizes"], attrs["offset_dims"]
    batching = attrs["operand_batching_dims"], attrs["start_indices_batching_dims"]
    lost = (*attrs["collapsed_slice_dims"], *attrs["operand_batching_dims"])
    result = np.empty(shape, x.dtype)
    for place, start in _places(indices, attrs["index_vector_dim"], attrs["start_index_map"], batching, x.ndim):
        begin = [min(max(b, 0), n - s) for b, n, s in zip(start, x.shape, sizes, strict=True)]
        window = x[tuple(np.s_[b : b + s] for b, s in zip(begin, sizes, strict=True))]
        result[_spread(place, result.ndim, offsets)] = np.squeeze(window, lost)
    return result


_GATHER_DEFAULTS = {"operand_batching_dims": (), "start_indices_batching_dims": ()}


def _indices(shape: tuple[int, ...], high: int, low: int = 0) -> Arg:
    return Arg(shape, low, high, dtype=int32)


gather = define(
    "gather",
    "x indices",
    doc="Windows of x of slice_sizes, beginning where the index vectors say (moved inside where they stick out). "
        "The result has the window's dimensions, without those collapsed, at offset_dims, the indices' elsewhere.",
    infer=_infer_gather,
    attrs={"offset_dims": "ints", "collapsed_slice_dims": "ints", "operand_batching_dims": "ints",
           "start_indices_batching_dims": "ints", "start_index_map": "ints", "index_vector_dim": "int",
           "slice_sizes": "ints"},
    defaults=_GATHER_DEFAULTS,
    reference=_gather,
    samples=[
        Sample((Arg((5, 3)), _indices((4,), 5)), {"offset_dims": (1,), "collapsed_slice_dims": (0,),
               "start_index_map": (0,), "index_vector_dim": 1, "slice_sizes": (1, 3)}),
        Sample((Arg((5, 3)), _indices((4, 2), 9, -4)), {"offset_dims": (), "collapsed_slice_dims": (0, 1),
               "start_index_map": (1, 0), "index_vector_dim": 1, "slice_sizes": (1, 1)}),
        Sample((Arg((5, 4, 3)), _indices((2, 2, 2), 5)), {"offset_dims": (0, 3), "collapsed_slice_dims": (1,),
               "start_index_map": (0, 1), "index_vector_dim": 0, "slice_sizes": (2, 1, 3)}),
        Sample((Arg((2, 5, 3)), _indices((2, 4), 5)), {"offset_dims": (2,), "collapsed_slice_dims": (1,),
               "operand_batching_dims": (0,), "start_indices_batching_dims": (0,), "start_index_map": (1,),
               "index_vector_dim": 2, "slice_sizes": (1, 1, 3)}),
        Sample((Arg((4,)), _indices((1,), 4)), {"offset_dims": (0,), "collapsed_slice_dims": (),
               "start_index_map": (0,), "index_vector_dim": 0, "slice_sizes": (2,)}),
        Sample((Arg((4, 2)), _indices((0,), 4)), {"offset_dims": (1,), "collapsed_slice_dims": (0,),
               "start_index_map": (0,), "index_vector_dim": 1, "slice_sizes": (1, 2)}),
    ],
)


def _infer_scatter(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    x, indices, updates = operands
    expect_mode(attrs["mode"], x)
    expect_equal_dtypes((x, updates))
    indexed = attrs["scatter_dims_to_operand_dims"]
    lost = (*attrs["inserted_window_dims"], *attrs["input_batching_dims"])
    batch = _index_batch(indices, attrs["index_vector_dim"], len(indexed))
    dims = attrs["update_window_dims"]
    expect_axes(dims, updates, "update_window_dims")
    if len(dims) + len(lost) != x.rank or list(dims) != sorted(dims):
        raise fail(f"update_window_dims {list(dims)} must be {x.rank - len(lost)} increasing dimensions of {updates}.")
    extents = iter(updates.shape[d] for d in dims)
    sizes = [1 if i in lost else next(extents) for i in range(x.rank)]
    batching = attrs["input_batching_dims"], attrs["scatter_indices_batching_dims"]
    _expect_window(x, indices, sizes, attrs["inserted_window_dims"], indexed, batching)
    found = tuple(n for i, n in enumerate(updates.shape) if i not in dims)
    if found != batch:
        raise fail(f"the updates {updates} have {list(found)} outside their windows, the indices {list(batch)}.")
    return [x]


def _scatter(x: np.ndarray, indices: np.ndarray, updates: np.ndarray, **attrs: Any) -> np.ndarray:
    lost = (*attrs["inserted_window_dims"], *attrs["input_batching_dims"])
    batching = attrs["input_batching_dims"], attrs["scatter_indices_batching_dims"]
    indexed, combine = attrs["scatter_dims_to_operand_dims"], SCATTER_MODES[attrs["mode"]]
    result = np.array(x)
    for place, start in _places(indices, attrs["index_vector_dim"], indexed, batching, x.ndim):
        window = np.asarray(updates[_spread(place, updates.ndim, attrs["update_window_dims"])])
        window = np.expand_dims(window, sorted(lost))
        low = [max(-b, 0) for b in start]
        high = [min(s, n - b) for b, s, n in zip(start, window.shape, x.shape, strict=True)]
        if all(a < b for a, b in zip(low, high, strict=True)):
            cut = tuple(np.s_[b + lo : b + hi] for b, lo, hi in zip(start, low, high, strict=True))
            inside = window[tuple(np.s_[lo:hi] for lo, hi in zip(low, high, strict=True))]
            result[cut] = combine(result[cut], inside)
    return result


_ROWS = {"update_window_dims": (1,), "inserted_window_dims": (0,), "scatter_dims_to_operand_dims": (0,),
         "index_vector_dim": 1}

scatter = define(
    "scatter",
    "x indices updates",
    doc="x with windows of updates combined into it where the index vectors say: `mode` set, add, mul, min or max "
        "(of bool: and, or). Elements that fall outside are dropped. Where windows meet, add, mul, min and max take "
        "all of them, in any order; set keeps any one of them.",
    infer=_infer_scatter,
    attrs={"update_window_dims": "ints", "inserted_window_dims": "ints", "input_batching_dims": "ints",
           "scatter_indices_batching_dims": "ints", "scatter_dims_to_operand_dims": "ints",
           "index_vector_dim": "int", "mode": "str"},
    defaults={"input_batching_dims": (), "scatter_indices_batching_dims": (), "mode": "set"},
    reference=_scatter,
    samples=[
        *(Sample((Arg((4, 3), 1), Arg((5,), -1, 6, dtype=int32, distinct=m == "set"), Arg((5, 3), 1)),
                 {**_ROWS, "mode": m}) for m in ("set", "min", "max")),
        *(Sample((Arg((4, 3), 1, dtype=d), _indices((2, 3), 4), Arg((2, 3, 3), 1, dtype=d)),
                 {**_ROWS, "update_window_dims": (2,), "index_vector_dim": 2, "mode": m})
          for m, d in (("add", float32), ("mul", float32), ("add", bfloat16), ("add", uint8), ("mul", int64))),
        Sample((Arg((5, 6)), _indices((3, 2), 8, -2), Arg((3, 2, 2))), {"update_window_dims": (1, 2),
               "inserted_window_dims": (), "scatter_dims_to_operand_dims": (0, 1), "index_vector_dim": 1,
               "mode": "max"}),
        Sample((Arg((2, 5, 3)), _indices((2, 4), 5), Arg((2, 4, 3))), {"update_window_dims": (2,),
               "inserted_window_dims": (1,), "input_batching_dims": (0,), "scatter_indices_batching_dims": (0,),
               "scatter_dims_to_operand_dims": (1,), "index_vector_dim": 2, "mode": "min"}),
        Sample((Arg((4,)), _indices((1,), 4), Arg(())), {"update_window_dims": (), "inserted_window_dims": (0,),
               "scatter_dims_to_operand_dims": (0,), "index_vector_dim": 0, "mode": "set"}),
    ],
    tolerance=4,
)


def _infer_take_rows(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    table, indices = operands
    expect_integer(indices, "the indices")
    if table.rank == 0 or (table.shape[0] == 0 and indices.size):
        raise fail(f"{table} has no rows to take.")
    return [table.with_shape((*indices.shape, *table.shape[1:]))]


take_rows = define(
    "take_rows",
    "table indices",
    doc="Rows of a table, one per index; an index outside takes the nearest row. Its gradient may be sparse.",
    infer=_infer_take_rows,
    reference=lambda table, indices: table[np.clip(indices, 0, len(table) - 1)] if indices.size else np.zeros(
        (*indices.shape, *table.shape[1:]), table.dtype),
    samples=[
        Sample((Arg((5, 3)), _indices((4,), 5))),
        Sample((Arg((5, 3)), Arg((2, 2), -3, 8, dtype=int64))),
        Sample((Arg((5,)), _indices((), 5))),
        Sample((Arg((3, 2, 2)), _indices((0,), 3))),
    ],
)


def _expect_starts(starts: Sequence[TensorType], x: TensorType) -> None:
    if len(starts) != x.rank:
        raise fail(f"takes one start per dimension of {x}, {x.rank}, got {len(starts)}.")
    for start in starts:
        expect_integer(start, "the starts")
        if start.shape != () or start.dtype != starts[0].dtype:
            raise fail(f"the starts must be scalars of one dtype, got {', '.join(map(str, starts))}.")


def _clamped(starts: Sequence[np.ndarray], shape: Sequence[int], sizes: Sequence[int]) -> tuple[slice, ...]:
    begin = [min(max(int(b), 0), n - s) for b, n, s in zip(starts, shape, sizes, strict=True)]
    return tuple(slice(b, b + s) for b, s in zip(begin, sizes, strict=True))


def _infer_dynamic_slice(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    (x, *starts), sizes = operands, attrs["sizes"]
    _expect_starts(starts, x)
    if len(sizes) != x.rank or any(not 0 <= s <= n for s, n in zip(sizes, x.shape, strict=True)):
        raise fail(f"a window of {list(sizes)} does not fit into {x}.")
    return [x.with_shape(tuple(sizes))]


def _start(low: int, high: int) -> Arg:
    return Arg((), low, high, dtype=int32)


dynamic_slice = define(
    "dynamic_slice",
    "x *starts",
    doc="The window of `sizes` that begins at the starts, moved inside where it sticks out.",
    infer=_infer_dynamic_slice,
    attrs={"sizes": "ints"},
    reference=lambda x, *starts, sizes: x[_clamped(starts, x.shape, sizes)],
    samples=[
        Sample((Arg((4, 5)), _start(0, 3), _start(0, 3)), {"sizes": (2, 3)}),
        Sample((Arg((4, 5)), _start(-9, -8), _start(7, 8)), {"sizes": (2, 3)}),
        Sample((Arg((4,)), Arg((), 1, 2, dtype=int64)), {"sizes": (0,)}),
        Sample((Arg(()),), {"sizes": ()}),
    ],
)


def _infer_dynamic_update_slice(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    x, update, *starts = operands
    expect_equal_dtypes((x, update))
    _expect_starts(starts, x)
    if update.rank != x.rank or any(s > n for s, n in zip(update.shape, x.shape, strict=True)):
        raise fail(f"the update {update} does not fit into {x}.")
    return [x]


def _dynamic_update_slice(x: np.ndarray, update: np.ndarray, *starts: np.ndarray) -> np.ndarray:
    result = np.array(x)
    result[_clamped(starts, x.shape, update.shape)] = update
    return result


dynamic_update_slice = define(
    "dynamic_update_slice",
    "x update *starts",
    doc="x with the window that begins at the starts replaced by update; moved inside where it sticks out.",
    infer=_infer_dynamic_update_slice,
    reference=_dynamic_update_slice,
    samples=[
        Sample((Arg((4, 5)), Arg((2, 3)), _start(0, 3), _start(0, 3))),
        Sample((Arg((4, 5)), Arg((2, 3)), _start(-9, -8), _start(7, 8))),
        Sample((Arg((4,)), Arg((0,)), Arg((), 1, 2, dtype=int64))),
        Sample((Arg(()), Arg(()))),
    ],
)
