"""Extents as users see them: numbers, and for what is open until a graph is run, something that prints as None."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, NoReturn

from thalweg.dialects.diagnostics import TracingError
from thalweg.dialects.extents import is_open
from thalweg.dialects.location import user_frame


class Extent:
    """An extent that is not known before the graph is run. It equals None, and goes wherever shapes are given.

    Example:
        >>> x.shape, x.shape == (None, 4)
        ((None, 4), True)
        >>> tw.reshape(x, (x.shape[0] * 2, 2))
    """

    __slots__ = ("code",)

    def __init__(self, code: int) -> None:
        self.code = code

    def __add__(self, other: Any) -> Any:
        return shown(self.code + code_of(other))

    def __sub__(self, other: Any) -> Any:
        return shown(self.code - code_of(other))

    def __mul__(self, other: Any) -> Any:
        return shown(self.code * code_of(other))

    def __floordiv__(self, other: Any) -> Any:
        return shown(self.code // code_of(other))

    __radd__, __rmul__ = __add__, __mul__

    def __eq__(self, other: object) -> bool:
        return other is None or (isinstance(other, Extent) and self.code == other.code)

    def __hash__(self) -> int:
        return hash(self.code)

    def _unknown(self, *_: Any) -> NoReturn:
        raise TracingError(
            f"{user_frame()} an extent that is open (None in a placeholder's shape) is no number until the graph is "
            "run. As a tensor it is tw.extent(x, axis)."
        )

    __index__ = __int__ = __float__ = __bool__ = __truediv__ = __rtruediv__ = __mod__ = _unknown
    __lt__ = __le__ = __gt__ = __ge__ = _unknown

    def __repr__(self) -> str:
        return "None"


def shown(number: int) -> Any:
    """An extent as users see it."""
    return Extent(number) if is_open(number) else number


def shown_shape(shape: Iterable[int]) -> tuple[Any, ...]:
    """A shape as users see it."""
    return tuple(map(shown, shape))


def code_of(extent: Any) -> int:
    """What a user gave as an extent, as types hold it.

    Raises:
        TypeError: it is no integer.
    """
    return extent.code if isinstance(extent, Extent) else operator.index(extent)
