"""The register tile: rows x vectors of sums held in registers over the whole inner loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.emit.packing import (
    Index,
    Source,
    convert,
    load_lanes,
    sum_loops,
    tail_mask,
    vector_type,
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
