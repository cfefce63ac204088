"""Where a tile of a product lies, and its rows in the operand that is read row by row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from thalweg.backends.cpu.emit.blocking import whole_lines
from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.nest import Nest
from thalweg.backends.cpu.emit.packing import Source
from thalweg.backends.cpu.emit.scoped import ScopedWriter


@dataclass(frozen=True)
class Spot:
    """Where a tile is.

    Args:
        batch: its coordinates on the batch axes; `corner`: the result's offset there; `lhs`, `rhs`: based there.
        extents: of the summed axes.
        following: where in `rhs` the panel begins that will be read after this one, where it is fetched.
    """

    batch: tuple[Index, ...]
    corner: Index
    lhs: Source
    rhs: Source
    extents: list[Index]
    following: Index | None = None


@dataclass(frozen=True)
class RowPlaces:
    """The rows of a nest, in tiles of `rows`; the last tile may have fewer."""

    w: ScopedWriter
    nest: Nest
    rows: int

    @property
    def straight(self) -> bool:
        """Do the rows of each tile lie at one stride?"""
        return len(self.nest.rows) <= 1 or self.nest.row_run % self.rows == 0

    @property
    def straight_out(self) -> bool:
        """Do they in the result?"""
        return self.straight or all(a.out == b.extent * b.out for a, b in pairwise(self.nest.rows))

    @property
    def adjacent(self) -> bool:
        """Do they lie side by side?"""
        return bool(self.nest.rows) and self.nest.rows[-1].lhs == 1 and self.straight

    def offsets(self, row: Index, count: int) -> list[Index]:
        """Offset in `lhs` of each of `count` rows from `row` on."""
        w, axes = self.w, self.nest.rows
        places = [w.delinearize(w.add(row, r), [a.extent for a in axes]) for r in range(count)]
        return [w.linear(0, [(p, a.lhs) for p, a in zip(at, axes, strict=True)]) for at in places]

    def based(self, lhs: Source, row: Index, count: int) -> tuple[Source, tuple[Index, ...]]:
        """The operand based at the tile at `row`, and the offset of each row from there, constant if possible."""
        w, rows, run = self.w, self.nest.rows, self.nest.row_run
        if not (self.straight or whole_lines(self.nest, self.rows)):
            return lhs, tuple(self.offsets(row, count))
        places = w.delinearize(row, [a.extent for a in rows])
        base = w.linear(lhs.base, [(p, a.lhs) for p, a in zip(places, rows, strict=True)])
        step = rows[-1].lhs if rows else 0
        line = rows[-2].lhs if len(rows) > 1 else 0
        return replace(lhs, base=base), tuple(r // run * line + r % run * step for r in range(count))
