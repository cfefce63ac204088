"""Sorting: the comparator puts NaN after every number."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.stablehlo.expressions import Array, concatenate, iota, tensor
from thalweg.backends.stablehlo.table import lowers
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import sort as rows
from thalweg.dialects.types import dtype_from_mlir


@lowers(rows.sort)
def sort(*xs: Array, axis: int, keys: int, descending: bool, stable: bool) -> list[Array]:
    if xs[0].shape[axis] < 2 or 0 in xs[0].shape:
        return list(xs)
    operation = ir.Operation.create(
        "stablehlo.sort",
        [x.value.type for x in xs],
        [x.value for x in xs],
        {
            "dimension": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), axis),
            "is_stable": ir.BoolAttr.get(stable),
        },
        regions=1,
    )
    scalars = [tensor((), x.element) for x in xs for _ in range(2)]
    block = operation.regions[0].blocks.append(*scalars)
    with ir.InsertionPoint(block):
        arguments = [Array(a) for a in block.arguments[: 2 * keys]]
        pairs = list(zip(arguments[::2], arguments[1::2], strict=True))
        before = _before([(b, a) for a, b in pairs] if descending else pairs)
        ir.Operation.create("stablehlo.return", [], [before.value])
    return [Array(r) for r in operation.results]


def _before(pairs: Sequence[tuple[Array, Array]]) -> Array:
    """Whether the first elements of the pairs come before the second ones, pair by pair."""
    (a, b), *rest = pairs
    floating = dtype_from_mlir(a.element).is_floating
    less = a < b
    if floating:
        less = less | (a.equals(a) & b.compare("NE", b))
    if not rest:
        return less
    same = a.equals(b)
    if floating:
        same = same | (a.compare("NE", a) & b.compare("NE", b))
    return less | (same & _before(rest))


_FEW = 8  # up to here it is faster to look for the largest again and again than to sort


def _largest_few(x: Array, k: int) -> list[Array]:
    """k times the first of the largest elements that are left; NaN is larger than all."""
    axis, outer = x.rank - 1, list(range(x.rank - 1))
    places, is_nan = iota(axis, x.shape), x.compare("NE", x)
    left: Array | None = None
    least = -dtype_from_mlir(x.element).largest
    values, indices = [], []
    for _ in range(k):
        rest = x if left is None else left.select(x, least)
        value = rest.reduce("maximum", least, [axis])
        hit = x.equals(value.spread(x.shape, outer)) | is_nan
        hit = hit if left is None else hit & left
        index = hit.select(places, x.shape[axis]).reduce("minimum", x.shape[axis], [axis])
        others = places.compare("NE", index.spread(x.shape, outer))
        left = others if left is None else left & others
        values.append(value.reshape(*x.shape[:-1], 1))
        indices.append(index.reshape(*x.shape[:-1], 1))
    return [parts[0] if k == 1 else concatenate(parts, axis) for parts in (values, indices)]


@lowers(rows.top_k)
def top_k(x: Array, k: int) -> list[Array]:
    axis = x.rank - 1
    if 0 < k <= _FEW and k < x.shape[-1] and dtype_from_mlir(x.element).is_floating:
        return _largest_few(x, k)
    both = sort(x, iota(axis, x.shape), axis=axis, keys=1, descending=True, stable=True)
    bounds = [*((0, n) for n in x.shape[:-1]), (0, k)]
    return [a if k == x.shape[-1] else a.slice(*bounds) for a in both]
