"""What a row kernel can absorb: values with the same leading dimensions as its reductions' results."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from thalweg.backends.cpu.graph import Value


@dataclass(frozen=True)
class RowSpace:
    """The rows of a kernel: the non-unit extents of the reductions' result."""

    rows: tuple[int, ...]

    def accepts_reduction(self, other: RowSpace, value: Value, members: Collection[Value]) -> bool:
        return False

    def accepts(self, value: Value, members: Collection[Value], floating: Collection[Value]) -> bool:
        return False


def row_space(value: Value) -> RowSpace | None:
    """The rows of a reduction, or None where it cannot be the root of a row kernel."""
    return None
