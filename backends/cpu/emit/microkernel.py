"""The register tile: rows x vectors of sums held in registers over the whole inner loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.packing import (
    Index,
    Source,
    convert,
    load_lanes,
    sum_loops,
    tail_mask,
    transpose,
    vector_type,
    zero,
)
from thalweg.backends.cpu.emit.writer import Writer


@dataclass(frozen=True)
class Tile:
    """One register tile.

    Args:
        lhs, rhs: the operands, based at the tile's first summed position; `rhs` at its first column too.
        rows: offset of each row in `lhs`.
        columns: how many columns, at most `vectors * lanes`; the last vector may be masked.
    """

    lhs: Source
    rhs: Source
    rows: tuple[Index, ...]
    columns: int
    lanes: int
    dtype: str  # of the sums
    signed: bool

    @property
    def widths(self) -> list[int]:
        """Columns in each vector."""
        return [min(self.lanes, self.columns - first) for first in range(0, self.columns, self.lanes)]


def accumulate(w: Writer, tile: Tile, extents: list[Index], start: Sequence[str]) -> list[str]:
    """The sums after running the loops over `extents` from `start`: row-major rows x vectors."""
    kind = vector_type(tile.lanes, tile.dtype)
    masks = [tail_mask(w, tile.lanes, used) for used in tile.widths]

    def body(indices: list[str | int], sums: list[str]) -> list[str]:
        left = w.linear(tile.lhs.base, zip(indices, tile.lhs.sums, strict=True))
        right = w.linear(tile.rhs.base, zip(indices, tile.rhs.sums, strict=True))
        shared = []
        for v, mask in enumerate(masks):
            offset = w.linear(right, [(v * tile.lanes, tile.rhs.lane)])
            vector = load_lanes(w, tile.rhs, offset, tile.lanes, mask)
            shared.append(convert(w, vector, tile.rhs.dtype, tile.dtype, tile.lanes, tile.signed))
        result = list(sums)
        for r, row in enumerate(tile.rows):
            factors = _row(w, tile, w.add(left, row), masks)
            for v, vector in enumerate(shared):
                at = r * len(shared) + v
                result[at] = _multiply_add(w, factors[v], vector, result[at], tile.dtype, kind)
        return result

    return sum_loops(w, extents, body, list(start), kind)


def _row(w: Writer, tile: Tile, offset: Index, masks: list[str | None]) -> list[str]:
    """The factors of one row: one scalar in all lanes, or, where the lanes run through `lhs` too, a vector each."""
    if tile.lhs.lane == 0:
        scalar = w.op(f"memref.load {tile.lhs.name}[{w.ssa(offset)}] : {tile.lhs.memref}")
        scalar = convert(w, scalar, tile.lhs.dtype, tile.dtype, 0, tile.signed)
        return [w.op(f"vector.broadcast {scalar} : {tile.dtype} to {vector_type(tile.lanes, tile.dtype)}")] * len(masks)
    vectors = []
    for v, mask in enumerate(masks):
        at = w.linear(offset, [(v * tile.lanes, tile.lhs.lane)])
        vector = load_lanes(w, tile.lhs, at, tile.lanes, mask)
        vectors.append(convert(w, vector, tile.lhs.dtype, tile.dtype, tile.lanes, tile.signed))
    return vectors


def _multiply_add(w: Writer, a: str, b: str, c: str, dtype: str, kind: str) -> str:
    if dtype[0] == "i":
        product = w.op(f"arith.muli {a}, {b} : {kind}")
        return w.op(f"arith.addi {c}, {product} : {kind}")
    return w.op(f"vector.fma {a}, {b}, {c} : {kind}")


def accumulate_dot(w: Writer, tile: Tile, extents: list[Index], start: Sequence[str]) -> list[str]:
    """Like `accumulate` for one row and at most one vector of columns, with lanes along the innermost sum.

    Each column has its own sums; they are added up across lanes at the end, by transposing them.
    """
    (row,), (used,) = tile.rows, tile.widths
    kind, lanes = vector_type(tile.lanes, tile.dtype), tile.lanes
    unroll = max(1, 8 // used)
    lhs, rhs = replace(tile.lhs, lane=1), replace(tile.rhs, lane=1)

    def step(indices: list[Index], sums: list[str], mask: str | None) -> list[str]:
        left = w.add(w.linear(lhs.base, zip(indices, lhs.sums, strict=True)), row)
        right = w.linear(rhs.base, zip(indices, rhs.sums, strict=True))
        sums = list(sums)
        for u in range(1 if mask else unroll):
            a = convert(w, load_lanes(w, lhs, w.add(left, u * lanes), lanes, mask), lhs.dtype, tile.dtype, lanes, tile.signed)
            for c in range(used):
                offset = w.linear(right, [(c, tile.rhs.lane), (u * lanes, 1)])
                b = convert(w, load_lanes(w, rhs, offset, lanes, mask), rhs.dtype, tile.dtype, lanes, tile.signed)
                sums[c * unroll + u] = _multiply_add(w, a, b, sums[c * unroll + u], tile.dtype, kind)
        return sums

    def body(outer: list[Index], sums: list[str]) -> list[str]:
        extent, chunk = extents[-1], lanes * unroll
        rest = extent % chunk if isinstance(extent, int) else w.op(f"arith.remui {extent}, {w.index(chunk)} : index")
        full = w.sub(extent, rest)
        sums = w.loop(0, full, chunk, lambda k, inner: step([*outer, k], inner, None), sums, kind)
        if rest == 0:
            return sums

        def tail(k: str, inner: list[str]) -> list[str]:
            mask = w.op(f"vector.create_mask {w.ssa(w.sub(extent, k))} : vector<{lanes}xi1>")
            return step([*outer, k], inner, mask)

        return w.loop(full, extent, lanes, tail, sums, kind)

    nothing = zero(w, lanes, tile.dtype)
    sums = sum_loops(w, extents[:-1], body, [nothing] * (used * unroll), kind)
    columns = [_total(w, sums[c * unroll : (c + 1) * unroll], tile.dtype, kind) for c in range(used)]
    across = transpose(w, columns + [nothing] * (lanes - used), kind)
    return [_total(w, [*start, *across], tile.dtype, kind)]


def _total(w: Writer, vectors: list[str], dtype: str, kind: str) -> str:
    """The sum of `vectors`, added in pairs."""
    add = "arith.addi" if dtype[0] == "i" else "arith.addf"
    while len(vectors) > 1:
        pairs = [w.op(f"{add} {a}, {b} : {kind}") for a, b in zip(vectors[::2], vectors[1::2], strict=False)]
        vectors = pairs + vectors[len(vectors) & ~1 :]
    return vectors[0]
