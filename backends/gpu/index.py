"""Places in tensors as sums of symbols, simplified so that the printed addresses read as if written by hand.

    i // 32 * 32 + i % 32   ->   i
    (row * 64 + col) // 64  ->   row
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from thalweg.backends.cpu.graph import Affine


@dataclass(frozen=True)
class Symbol:
    """A variable of the kernel that holds 0 <= n < extent: a tile's positions along an axis, a loop's counter.

    `axes` are the axes of the tile that it varies along. A symbol made by `divide` or `remainder` has a `source`; it is
    only defined in the kernel's text once an address that holds it is printed.
    """

    name: str
    extent: int = field(compare=False)
    axes: frozenset[str] = field(default=frozenset(), compare=False)
    source: Index | None = field(default=None, compare=False)
    operator: str = field(default="", compare=False)  # // or %, of the source by the divisor
    divisor: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Index:
    """constant + sum of coefficient * symbol."""

    terms: tuple[tuple[Symbol, int], ...] = ()
    constant: int = 0

    @property
    def axes(self) -> frozenset[str]:
        return frozenset(axis for symbol, _ in self.terms for axis in symbol.axes)

    @property
    def maximum(self) -> int:
        """The largest number that it can be."""
        return self.constant + sum(factor * (symbol.extent - 1) for symbol, factor in self.terms if factor > 0)

    @property
    def minimum(self) -> int:
        """The smallest number that it can be."""
        return self.constant + sum(factor * (symbol.extent - 1) for symbol, factor in self.terms if factor < 0)

    @property
    def symbols(self) -> frozenset[Symbol]:
        """The variables that it is computed from."""
        parts = (s.source.symbols if s.source is not None else frozenset((s,)) for s, _ in self.terms)
        return frozenset().union(*parts)

    def factor(self, symbol: Symbol) -> int:
        return dict(self.terms).get(symbol, 0)

    def __add__(self, other: Index) -> Index:
        return _sum((*self.terms, *other.terms), self.constant + other.constant)

    def __mul__(self, factor: int) -> Index:
        return _sum(((symbol, f * factor) for symbol, f in self.terms), self.constant * factor)


ZERO = Index()


def of(symbol: Symbol) -> Index:
    """A symbol by itself."""
    return Index(((symbol, 1),))


def _sum(terms: Iterable[tuple[Symbol, int]], constant: int) -> Index:
    factors: dict[Symbol, int] = {}
    for symbol, factor in terms:
        factors[symbol] = factors.get(symbol, 0) + factor
    kept = {symbol: factor for symbol, factor in factors.items() if factor}
    for low, factor in kept.items():
        high = next((s for s in kept if _halves(s, low) and kept[s] == factor * low.divisor), None)
        if high is not None:
            assert low.source is not None
            rest = [(s, f) for s, f in kept.items() if s not in (low, high)]
            whole = low.source * factor
            return _sum((*rest, *whole.terms), constant + whole.constant)
    return Index(tuple(kept.items()), constant)


def _halves(high: Symbol, low: Symbol) -> bool:
    """Are two symbols quotient and remainder of one division?"""
    same = high.source == low.source and high.divisor == low.divisor and high.source is not None
    return same and (high.operator, low.operator) == ("//", "%")


def divide(index: Index, divisor: int) -> tuple[Index, Index]:
    """Quotient and remainder of a place that is not negative."""
    if divisor == 1:
        return index, ZERO
    whole = Index(
        tuple((s, f // divisor) for s, f in index.terms if f % divisor == 0), index.constant // divisor
    )
    rest = Index(tuple((s, f) for s, f in index.terms if f % divisor), index.constant % divisor)
    if all(f > 0 for _, f in rest.terms) and rest.maximum < divisor:
        return whole, rest
    if rest.minimum < 0:  # a division of Triton's rounds towards 0
        lift = -(rest.minimum // divisor)
        whole, rest = whole + Index((), -lift), rest + Index((), lift * divisor)
    text = " + ".join([*(f"{s.name} * {f}" for s, f in rest.terms), str(rest.constant)])
    quotient = Symbol(f"({text}) // {divisor}", rest.maximum // divisor + 1, rest.axes, rest, "//", divisor)
    remainder = Symbol(f"({text}) % {divisor}", divisor, rest.axes, rest, "%", divisor)
    return whole + of(quotient), of(remainder)


def linear(place: Sequence[Index], shape: Sequence[int]) -> Index:
    """The row-major position of a place."""
    total = ZERO
    for index, extent in zip(place, shape, strict=True):
        total = total * extent + index
    return total


def coordinates(position: Index, shape: Sequence[int]) -> tuple[Index, ...]:
    """The place at a row-major position."""
    found: list[Index] = []
    for number, extent in reversed(list(enumerate(shape))):
        if extent == 1:
            found.append(ZERO)
        elif all(n == 1 for n in shape[:number]):
            found.append(position)
            position = ZERO
        else:
            position, rest = divide(position, extent)
            found.append(rest)
    return tuple(reversed(found))


def affine(expression: Affine, loops: Sequence[Index]) -> Index:
    """An affine expression at loop indices."""
    total = Index((), expression.constant)
    for dim, factor in expression.terms:
        total = total + loops[dim] * factor
    return total
