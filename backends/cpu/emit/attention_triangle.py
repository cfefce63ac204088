"""Which scores of a panel count where a causal mask hides the rest: its products are summed over those alone.

What is hidden is zero, so that rounding a range outwards to pairs changes nothing; the inner loop does pairs.
"""

from __future__ import annotations

from thalweg.backends.cpu.emit.attention_tiles import Span
from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.scoped import ScopedWriter


def columns_until(w: ScopedWriter, start: Index, first: Index, count: Index, visible: int) -> Span:
    """How many of the `count` columns from `first` on some row of a tile sees, in a block whose rows begin at `start`.

    Args:
        visible: a row sees columns up to row + visible.
    """

    def span(row: Index, height: int) -> tuple[Index, Index]:
        end = w.sub(w.add(start, w.add(row, height + visible)), first)
        return 0, w.minimum(count, _pairs(w, w.add(end, 1)))

    return span


def rows_since(w: ScopedWriter, start: Index, first: Index, count: Index, visible: int) -> Span:
    """Which of a block's `count` rows see some column of a tile, in a panel whose columns begin at `first`."""

    def span(column: Index, _: int) -> tuple[Index, Index]:
        begin = w.minimum(count, _pairs(w, w.sub(w.add(first, column), w.add(start, visible))))
        return begin, w.sub(count, begin)

    return span


def _pairs(w: ScopedWriter, count: Index) -> str:
    """A number rounded down to an even one, 0 if it is negative."""
    positive = w.op(f"arith.maxsi {w.ssa(count)}, {w.index(0)} : index")
    return w.op(f"arith.andi {positive}, {w.index(-2)} : index")
