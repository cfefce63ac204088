"""Extents that are not known when a graph is built: open extents.

An open extent is a number too big to be real, so that every rule and pass works on it unchanged: what is multiplied,
divided or shifted on the way is read off the number at the end. There are few of them: one per position of an axis, so
that the batches of two placeholders agree, and some for results whose size only the data decides. A real program never
holds one: `specialise` puts the real sizes in their place.

    n = axis(0)                      # the first extent of a placeholder of shape (None, 4)
    decode(n * 4 + 2)                # Affine(symbol=0, factor=4, offset=2)

How: the symbol s is UNIT + s * STEP. In v = factor * (UNIT + s * STEP) + offset the leading part gives the factor, a
multiple of 1/16 up to 2**19; of what remains, the multiple of factor * STEP gives the symbol, and the rest the offset,
which may be up to half of factor * STEP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from thalweg.dialects.diagnostics import TypeInferenceError

AXES = 8  # symbols 0 to 7 are positions of axes
SYMBOLS = 64  # the others are for results
_STEP = 1 << 12
_PART = 16  # factors are multiples of 1/16
_UNIT = 16 * 331_982_147_573  # above 2**42, and no round number that somebody might write
_LARGEST_FACTOR = 1 << 19
LARGEST = (1 << 63) - 1  # what an extent may be at all
SMALLEST = _UNIT // _PART // 2  # numbers from here on are open extents


@dataclass(frozen=True)
class Affine:
    """What a number stands for: factor * (the size of the symbol) + offset."""

    symbol: int
    factor: Fraction
    offset: int

    def size(self, value: int) -> int:
        """Its size where the symbol has this one.

        Raises:
            ValueError: it would be no whole number, or negative.
        """
        exact = self.factor * value + self.offset
        if exact.denominator != 1 or exact < 0:
            raise ValueError(f"an extent of {self} cannot be where {_name(self.symbol)} is {value}")
        return int(exact)

    def solve(self, size: int) -> Fraction:
        """What the symbol must be, where this is `size`."""
        return (size - self.offset) / self.factor

    def __str__(self) -> str:
        times = "" if self.factor.numerator == 1 else f"{self.factor.numerator}*"
        parts = "" if self.factor.denominator == 1 else f"/{self.factor.denominator}"
        return f"{times}{_name(self.symbol)}{parts}{f'{self.offset:+d}' if self.offset else ''}"


class Open(int):
    """An open extent in a tensor's type: a number that cannot become part of a computation by mistake.

    Extents are made of extents: sums, products with numbers and whole quotients of one are open as well. What would
    make it a number like others (1 / n, float(n)) is an error.
    """

    def __add__(self, other: int) -> int:
        if isinstance(other, Open):
            _comparable(self, other, "sum")
        return extent(int.__add__(self, other))

    def __sub__(self, other: int) -> int:
        if isinstance(other, Open):
            _comparable(self, other, "difference")
        return extent(int.__sub__(self, other))

    def __rsub__(self, other: Any) -> int:
        raise _no_number()

    def __mul__(self, other: int) -> int:
        return extent(int.__mul__(self, other))

    def __floordiv__(self, other: int) -> int:
        if isinstance(other, Open) and int.__mod__(self, other):
            raise _no_number()
        return extent(int.__floordiv__(self, other))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> float:
        raise _no_number()

    def __rtruediv__(self, other: Any) -> float:
        raise _no_number()

    def __pow__(self, other: Any, modulo: Any = None) -> Any:
        raise _no_number()

    def __float__(self) -> float:
        raise _no_number()

    def __repr__(self) -> str:
        return "?"

    __str__ = __repr__


def _comparable(one: Open, other: Open, what: str) -> None:
    """Two open extents are multiples of the same one, so that their sum or difference is one, too, or a number."""
    try:
        same = decode(one).symbol == decode(other).symbol
    except ValueError:
        same = False
    if not same:
        raise TypeInferenceError(
            f"the {what} of two different open extents is not known before the graph is run. Where they are the same, "
            "give them one name: tw.placeholder(dtype, ('rows', 4))."
        )


def _no_number() -> TypeInferenceError:
    return TypeInferenceError(
        "an extent that is open (None in a placeholder's shape) is no number until the graph is run. Use tw.extent(x, "
        "axis), a tensor, instead."
    )


def extent(number: int) -> int:
    """A number as a tensor's type holds it."""
    return Open(number) if number >= SMALLEST else number


def axis(position: int) -> int:
    """The open extent of an axis: None in a placeholder's shape.

    Raises:
        ValueError: there are only so many.
    """
    if not 0 <= position < AXES:
        raise ValueError(f"only the first {AXES} extents of a shape can be open, got number {position}")
    return Open(_UNIT + position * _STEP)


def result(number: int) -> int:
    """An open extent for a result whose size only the data decides. They are used in turn."""
    return Open(_UNIT + (AXES + number % (SYMBOLS - AXES)) * _STEP)


def is_open(number: float) -> bool:
    """Whether a number stands for an extent that is not known yet."""
    return number >= SMALLEST


def any_open(extents: Iterable[int]) -> bool:
    """Whether one of these does."""
    return any(n >= SMALLEST for n in extents)


def decode(number: int) -> Affine:
    """What an open extent stands for.

    Raises:
        ValueError: it is none, or the product or sum of several.
    """
    code = int.__int__(number)
    parts = (code + _UNIT // _PART // 2) // (_UNIT // _PART)
    factor = Fraction(parts, _PART)
    rest = code - parts * (_UNIT // _PART)
    if parts >= 1 and factor <= _LARGEST_FACTOR:
        step = factor * _STEP
        symbol = round(rest / step)
        offset = rest - symbol * step
        if 0 <= symbol < SYMBOLS and abs(offset) < step / 2:
            return Affine(symbol, factor, int(offset))
    raise ValueError(
        f"{code} stands for no extent that can be told: those of a program are multiples of one open extent each, plus "
        "a number"
    )


def hides_open(values: Iterable[int]) -> bool:
    """Whether one of these numbers, which should be numbers of a computation, stands for an open extent."""
    return any(n >= SMALLEST and is_written(n) for n in values)


def is_written(number: int) -> bool:
    """Whether an extent can stand in a program: a number, or what `decode` reads."""
    try:
        return not is_open(number) or bool(decode(number))
    except ValueError:
        return False


def show(number: int) -> str:
    """An extent as people read it: a number, or ?."""
    return "?" if is_open(number) else str(number)


def size_of(number: int, sizes: Mapping[int, int]) -> int:
    """An extent where the symbols have these sizes; numbers are themselves.

    Raises:
        KeyError: a symbol has no size.
        ValueError: the extent would be no whole number.
    """
    if not is_open(number):
        return number
    affine = decode(number)
    return affine.size(sizes[affine.symbol])


def _name(symbol: int) -> str:
    return f"n{symbol}" if symbol < AXES else f"r{symbol - AXES}"
