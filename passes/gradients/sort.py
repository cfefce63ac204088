"""Rules of sorting: cotangents go back where the elements came from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import indexing, shape, sort
from thalweg.dialects.types import int32
from thalweg.passes.gradients.rules import vjp
from thalweg.passes.rewriting import full_like

V: TypeAlias = ir.Value


@vjp(sort.sort)
def _(g: Any, *xs: V, axis: int, keys: int, descending: bool, stable: bool) -> Sequence[Any]:
    """Sorting places along with the elements tells where each came from; sorting by those places undoes it."""
    cotangents = (g,) if len(xs) == 1 else g
    places = shape.iota(shape=tensor_type_of(xs[0]).shape, dim=axis, dtype=int32)
    came_from = sort.sort(*xs, places, axis=axis, keys=keys, descending=descending, stable=stable)[-1]

    def back(cotangent: V) -> Callable[[], V]:
        return lambda: sort.sort(came_from, cotangent, axis=axis, keys=1, stable=False)[1]

    return [None if c is None else back(c) for c in cotangents]


@vjp(sort.top_k)
def _(g: tuple[V | None, None], x: V, *, y: tuple[V, V]) -> Sequence[Any]:
    values = g[0]
    if values is None or tensor_type_of(values).size == 0:
        return (None,)
    batch = range(tensor_type_of(x).rank - 1)

    def wrt_x() -> V:
        return indexing.scatter(
            full_like(x, 0), y[1], values, mode="add", update_window_dims=(), inserted_window_dims=(len(batch),),
            input_batching_dims=batch, scatter_indices_batching_dims=batch,
            scatter_dims_to_operand_dims=(len(batch),), index_vector_dim=len(batch) + 1,
        )

    return (wrt_x,)
