"""The register tile: rows x vectors of sums held in registers over the whole inner loop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from thalweg.backends.cpu.emit.control import Index, carry, sum_loops
from thalweg.backends.cpu.emit.packing import (
    Source,
    load,
    load_lanes,
    tail_mask,
    transpose,
    widened,
    zero,
)
from thalweg.backends.cpu.emit.scalar import lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter


@dataclass(frozen=True)
class Tile:
    """One register tile.

    Args:
        lhs, rhs: the operands, based at the tile's first summed position; `rhs` at its first column too.
        rows: offset of each row in `lhs`.
        columns: how many columns, at most `vectors * lanes`; the last vector may be masked.
        ahead: what is fetched into the second cache meanwhile: `lines` vectors for each summed element, by default as
            many as are read of `rhs`.
    """

    lhs: Source
    rhs: Source
    rows: tuple[Index, ...]
    columns: int
    lanes: int
    dtype: str  # of the sums
    logical: bool = False  # sums are `or`, products `and`
    unroll: int = 1  # summed elements in each round of the innermost loop
    ahead: Source | None = None
    lines: int = 0

    @property
    def widths(self) -> list[int]:
        """Columns in each vector."""
        return [min(self.lanes, self.columns - first) for first in range(0, self.columns, self.lanes)]


def accumulate(w: ScopedWriter, tile: Tile, extents: list[Index], start: Sequence[str]) -> list[str]:
    """The sums after running the loops over `extents` from `start`: row-major rows x vectors."""
    kind = lanes_type(tile.dtype, tile.lanes)
    masks = [tail_mask(w, tile.lanes, used) for used in tile.widths]

    def body(indices: list[Index], sums: list[str]) -> list[str]:
        left = w.linear(tile.lhs.base, zip(indices, tile.lhs.sums, strict=True))
        right = w.linear(tile.rhs.base, zip(indices, tile.rhs.sums, strict=True))
        shared = []
        for v, mask in enumerate(masks):
            offset = w.linear(right, [(v * tile.lanes, tile.rhs.lane)])
            vector = load_lanes(w, tile.rhs, offset, tile.lanes, mask)
            shared.append(widened(w, tile.rhs, vector, tile.dtype, tile.lanes))
        if tile.ahead is not None:
            _fetch(w, tile.ahead, indices, [v * tile.lanes for v in range(tile.lines or len(masks))])
        result = list(sums)
        for r, row in enumerate(tile.rows):
            factors = _row(w, tile, w.add(left, row), masks)
            for v, vector in enumerate(shared):
                at = r * len(shared) + v
                result[at] = _multiply_add(w, factors[v], vector, result[at], tile)
        return result

    return sum_loops(w, extents, body, list(start), kind, tile.unroll)


def _fetch(w: ScopedWriter, source: Source, indices: list[Index], columns: list[int]) -> None:
    """Ask for the vectors of a summed element: nothing waits for them, and places past the end do no harm."""
    start = w.linear(source.base, zip(indices, source.sums, strict=True))
    for column in columns:
        at = f"{source.name}[{w.ssa(w.linear(start, [(column, source.lane)]))}]"
        w.emit(f"memref.prefetch {at}, read, locality<2>, data : {source.memref}")


def _row(w: ScopedWriter, tile: Tile, offset: Index, masks: list[str | None]) -> list[str]:
    """The factors of one row: one scalar in all lanes, or, where the lanes run through `lhs` too, a vector each."""
    if tile.lhs.lane == 0:
        scalar = load(w, tile.lhs, f"memref.load {tile.lhs.name}[{w.ssa(offset)}] : {tile.lhs.memref}")
        scalar = widened(w, tile.lhs, scalar, tile.dtype, 1)
        return [w.op(f"vector.broadcast {scalar} : {tile.dtype} to {lanes_type(tile.dtype, tile.lanes)}")] * len(masks)
    vectors = []
    for v, mask in enumerate(masks):
        at = w.linear(offset, [(v * tile.lanes, tile.lhs.lane)])
        vector = load_lanes(w, tile.lhs, at, tile.lanes, mask)
        vectors.append(widened(w, tile.lhs, vector, tile.dtype, tile.lanes))
    return vectors


def _multiply_add(w: ScopedWriter, a: str, b: str, c: str, tile: Tile) -> str:
    kind = lanes_type(tile.dtype, tile.lanes)
    if tile.dtype[0] != "i":
        # One fused multiply-add where the processor has it; `vector.fma` would be a library call elsewhere.
        both = w.op(f"arith.mulf {a}, {b} fastmath<contract> : {kind}")
        return w.op(f"arith.addf {c}, {both} fastmath<contract> : {kind}")
    both = w.op(f"arith.{'andi' if tile.logical else 'muli'} {a}, {b} : {kind}")
    return w.op(f"arith.{_sum_op(tile)} {c}, {both} : {kind}")


def _sum_op(tile: Tile) -> str:
    return ("ori" if tile.logical else "addi") if tile.dtype[0] == "i" else "addf"


def accumulate_dot(w: ScopedWriter, tile: Tile, extents: list[Index], start: Sequence[str]) -> list[str]:
    """Like `accumulate` for one row and at most one vector of columns, with lanes along the innermost sum.

    Each column has its own sums; they are added up across lanes at the end, by transposing them.
    """
    (row,), (used,) = tile.rows, tile.widths
    kind, lanes = lanes_type(tile.dtype, tile.lanes), tile.lanes
    unroll = max(1, 8 // used)
    lhs, rhs = replace(tile.lhs, lane=1), replace(tile.rhs, lane=1)

    def step(indices: list[Index], sums: list[str], mask: str | None) -> list[str]:
        left = w.add(w.linear(lhs.base, zip(indices, lhs.sums, strict=True)), row)
        right = w.linear(rhs.base, zip(indices, rhs.sums, strict=True))
        sums = list(sums)
        for u, c in product(range(1 if mask else unroll), range(used)):
            factors = []
            for source, start, step in ((lhs, left, tile.lhs.lane), (rhs, right, tile.rhs.lane)):
                offset = w.linear(start, [(c, step), (u * lanes, 1)])
                vector = load_lanes(w, source, offset, lanes, mask)
                factors.append(widened(w, source, vector, tile.dtype, lanes))
            sums[c * unroll + u] = _multiply_add(w, factors[0], factors[1], sums[c * unroll + u], tile)
        return sums

    def body(outer: list[Index], sums: list[str]) -> list[str]:
        extent, chunk = extents[-1], lanes * unroll
        rest = extent % chunk if isinstance(extent, int) else w.op(f"arith.remui {extent}, {w.index(chunk)} : index")
        full = w.sub(extent, rest)
        sums = carry(w, (0, full, chunk), lambda k, inner: step([*outer, k], inner, None), sums, kind)
        if rest == 0:
            return sums

        def tail(k: Index, inner: list[str]) -> list[str]:
            mask = w.op(f"vector.create_mask {w.ssa(w.sub(extent, k))} : vector<{lanes}xi1>")
            return step([*outer, k], inner, mask)

        return carry(w, (full, extent, lanes), tail, sums, kind)

    nothing = zero(w, lanes, tile.dtype)
    sums = sum_loops(w, extents[:-1], body, [nothing] * (used * unroll), kind)
    columns = [_total(w, sums[c * unroll : (c + 1) * unroll], tile) for c in range(used)]
    across = transpose(w, columns + [nothing] * (lanes - used), kind)
    return [_total(w, [*start, *across], tile)]


def _total(w: ScopedWriter, vectors: list[str], tile: Tile) -> str:
    """The sum of `vectors`, added in pairs."""
    add = f"arith.{_sum_op(tile)}"
    while len(vectors) > 1:
        pairs = [
            w.op(f"{add} {a}, {b} : {lanes_type(tile.dtype, tile.lanes)}")
            for a, b in zip(vectors[::2], vectors[1::2], strict=False)
        ]
        vectors = pairs + vectors[len(vectors) & ~1 :]
    return vectors[0]
