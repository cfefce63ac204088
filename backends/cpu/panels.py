"""A matrix in panels: how products read what they multiply many rows by, or the same rows many times.

A panel is as many columns as a register tile has. In each, what the tile reads one after the other lies one after the
other, whichever way the matrix lay: [panels, summed…, columns of a panel]. The last panel is as wide as the others;
what its columns beyond the matrix hold has no meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Panels:
    """Where the elements of a matrix come from.

    Args:
        shape: of the operand as the program has it.
        offset: its first element that is read.
        lane: elements of it from one column to the next; `columns`: how many there are.
        sums: (extent, elements from one to the next) of each summed loop, outermost first.
        width: columns of a panel.

    Example:
        >>> Panels((784, 512), 0, 1, 512, ((784, 512),), 48).packed
        (11, 784, 48)
    """

    shape: tuple[int, ...]
    offset: int
    lane: int
    columns: int
    sums: tuple[tuple[int, int], ...]
    width: int

    @property
    def count(self) -> int:
        """How many panels hold all columns."""
        return -(-self.columns // self.width)

    @property
    def extents(self) -> tuple[int, ...]:
        """Of the summed loops."""
        return tuple(extent for extent, _ in self.sums)

    @property
    def depth(self) -> int:
        """Summed elements of a column."""
        return math.prod(self.extents)

    @property
    def packed(self) -> tuple[int, ...]:
        """The shape in panels."""
        return (self.count, *self.extents, self.width)

    @property
    def steps(self) -> tuple[int, ...]:
        """Elements from one to the next of each summed loop, in panels."""
        return tuple(math.prod(self.extents[k + 1 :]) * self.width for k in range(len(self.sums)))
