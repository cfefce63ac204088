"""Rules of rows that move by what the data says: each op's partner moves the cotangents back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import ragged
from thalweg.passes.gradients.rules import no_vjp, vjp
from thalweg.passes.rewriting import full_like

V: TypeAlias = ir.Value


@vjp(ragged.dynamic_partition)
def _(g: Any, data: V, partitions: V, *, extents: Sequence[int]) -> Sequence[Any]:
    given = {i: piece for i, piece in enumerate(_results(g)) if piece is not None}

    def wrt_data() -> V:
        which = () if len(given) == len(extents) else tuple(given)
        return ragged.merge_partitions(partitions, *given.values(), extents=extents, which=which)

    return wrt_data, None


@vjp(ragged.merge_partitions)
def _(g: V, partitions: V, *pieces: V, extents: Sequence[int], which: Sequence[int]) -> Sequence[Any]:
    found = _results(ragged.dynamic_partition(g, partitions, extents=extents))
    return None, *(found[number] for number in which or range(len(extents)))


@vjp(ragged.dynamic_stitch)
def _(g: V, *operands: V) -> Sequence[Any]:
    count = len(operands) // 2
    return *(None for _ in range(count)), *_results(ragged.unstitch(g, *operands[:count]))


@vjp(ragged.unstitch)
def _(g: Any, whole: V, *indices: V, y: Any) -> Sequence[Any]:
    # A piece without a cotangent is zeros and not left out: its rows keep those that they replaced from counting.
    pieces = [p if p is not None else full_like(r, 0) for p, r in zip(_results(g), _results(y), strict=True)]

    def wrt_whole() -> V:
        rows = tensor_type_of(whole).shape[0]
        return ragged.dynamic_stitch(*indices, *pieces, extents=(rows,))

    return wrt_whole, *(None for _ in indices)


@vjp(ragged.boolean_mask)
def _(g: V, x: V, mask: V) -> Sequence[Any]:
    return (lambda: ragged.fill_mask(mask, g)), None


@vjp(ragged.fill_mask)
def _(g: V, mask: V, rows: V) -> Sequence[Any]:
    return None, lambda: ragged.boolean_mask(g, mask, extents=tensor_type_of(rows).shape[:1])


@vjp(ragged.join_rows)
def _(g: V, *xs: V) -> Sequence[Any]:
    return _results(ragged.split_rows(g, *xs))


@vjp(ragged.split_rows)
def _(g: Any, x: V, *like: V, y: Any) -> Sequence[Any]:
    pieces = [p if p is not None else full_like(r, 0) for p, r in zip(_results(g), _results(y), strict=True)]
    joined = ragged.join_rows(*pieces, extents=tensor_type_of(x).shape[:1])
    return joined, *(None for _ in like)


no_vjp("which elements are equal does not change smoothly. Look rows up by its inverse", ragged.unique, error=True)


def _results(values: Any) -> list[Any]:
    """The results of an op as a list, however many there are."""
    return list(values) if isinstance(values, tuple | list) else [values]
