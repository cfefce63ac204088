"""Loops of a contraction, written through callbacks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thalweg.backends.cpu.emit.scoped import ScopedWriter

Index = str | int


def walk(w: ScopedWriter, extent: Index, step: int, body: Callable[[Index], None]) -> None:
    """A loop from 0 to `extent`; written out if it is known to run at most once."""
    if isinstance(extent, int) and extent <= step:
        if extent > 0:
            body(0)
        return
    with w.for_(0, extent, step) as i:
        body(i)


def carry(
    w: ScopedWriter,
    bounds: tuple[Index, Index, int],
    body: Callable[[Index, list[str]], list[str]],
    values: Sequence[str],
    kind: str,
) -> list[str]:
    """A loop over (lower, upper, step) that carries values of one type; the final ones."""
    lower, upper, step = bounds
    if not values:
        with w.for_(lower, upper, step) as i:
            body(i, [])
        return []
    with w.reduction(lower, upper, step, values, [kind] * len(values)) as state:
        state.next = body(state.index, state.carried)
    return state.results


def sum_loops(
    w: ScopedWriter,
    extents: Sequence[Index],
    body: Callable[[list[Index], list[str]], list[str]],
    values: Sequence[str] = (),
    kind: str = "",
) -> list[str]:
    """Loops over `extents`, outermost first; short inner ones that carry values are written out."""

    def level(indices: list[Index], inner: list[str]) -> list[str]:
        depth = len(indices)
        if depth == len(extents):
            return body(indices, inner)
        extent = extents[depth]
        if inner and depth and depth == len(extents) - 1 and isinstance(extent, int) and extent * len(inner) <= 64:
            for step in range(extent):
                inner = level([*indices, step], inner)
            return inner
        return carry(w, (0, extent, 1), lambda i, following: level([*indices, i], following), inner, kind)

    return level([], list(values))
