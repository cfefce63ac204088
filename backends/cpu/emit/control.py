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
    unroll: int = 1,
) -> list[str]:
    """Loops over `extents`, outermost first; short inner ones that carry values are written out, and long ones do
    `unroll` steps at a time.

    LLVM moves loads up as far as it can, and registers that hold what was loaded early are missing for the sums:
    where there are any, nothing is loaded before the step that needs it.
    """

    def unrolled(indices: list[Index], i: Index, inner: list[str]) -> list[str]:
        for step in range(unroll):
            if step and inner:
                w.emit('llvm.inline_asm has_side_effects "", "~{memory}" : () -> ()')
            inner = level([*indices, w.add(i, step)], inner)
        return inner

    def level(indices: list[Index], inner: list[str]) -> list[str]:
        depth = len(indices)
        if depth == len(extents):
            return body(indices, inner)
        extent = extents[depth]
        if inner and depth and depth == len(extents) - 1 and isinstance(extent, int) and extent * len(inner) <= 64:
            for step in range(extent):
                inner = level([*indices, step], inner)
            return inner
        first: Index = 0
        long = isinstance(extent, str) or bool(inner) or extent >= unroll
        if unroll > 1 and long and depth == len(extents) - 1:
            dynamic = isinstance(extent, str)
            rest = w.op(f"arith.remui {extent}, {w.index(unroll)} : index") if dynamic else extent % unroll
            first = w.sub(extent, rest)
            inner = carry(w, (0, first, unroll), lambda i, following: unrolled(indices, i, following), inner, kind)
            if rest == 0:
                return inner
        return carry(w, (first, extent, 1), lambda i, following: level([*indices, i], following), inner, kind)

    return level([], list(values))


def in_parts(w: ScopedWriter, extents: list[Index], most: int, body: Callable[[Index, list[Index]], None]) -> None:
    """`body` for at most `most` of the innermost of `extents` at a time, given where it begins, and the extents; for
    all at once where they are hardly more.

    A copy of many rows that takes some elements of each before it goes on reads few pages in turn, and the processor
    fetches what follows in them.
    """
    length = extents[-1] if extents else 0
    if isinstance(length, int) and length <= 2 * most:
        body(0, extents)
        return
    even = isinstance(length, int) and length % most == 0
    with w.for_(0, length, most) as first:
        body(first, [*extents[:-1], most if even else w.minimum(w.sub(length, first), most)])
