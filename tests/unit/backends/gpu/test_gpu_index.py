"""Places as sums of symbols: what simplifies, and what they evaluate to."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from thalweg.backends.gpu.index import Index, Symbol, coordinates, divide, linear, of
from thalweg.backends.gpu.writer import Writer

I = Symbol("i", 24, frozenset("i"))


def test_coordinates_put_together_are_the_position() -> None:
    place = coordinates(of(I), (2, 3, 4))
    assert linear(place, (2, 3, 4)) == of(I)
    assert len(place) == 3


def test_whole_multiples_divide_without_a_division() -> None:
    row, col = Symbol("row", 5), Symbol("col", 64)
    assert divide(of(row) * 64 + of(col), 64) == (of(row), of(col))


def test_units_are_at_zero() -> None:
    assert coordinates(of(I), (1, 24, 1)) == (Index(), of(I), Index())


def test_divisions_are_written_once_and_only_if_read() -> None:
    w = Writer()
    first, second = coordinates(of(I), (6, 4))
    assert w.index(linear((first, second), (6, 4))) == "i" and w.lines == []
    assert w.index(second * 6 + first) == "at * 6 + at_2"
    assert w.index(second) == "at" and [line.strip() for line in w.lines] == ["at = i % 4", "at_2 = i // 4"]


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.data())
def test_coordinates_evaluate_to_the_place(shape: list[int], data: st.DataObject) -> None:
    size = 1
    for extent in shape:
        size *= extent
    position = data.draw(st.integers(0, size - 1))
    wanted, rest = [], position
    for extent in reversed(shape):
        wanted.insert(0, rest % extent)
        rest //= extent
    place = coordinates(of(Symbol("i", size)), shape)
    w = Writer()
    texts = [w.index(index) for index in place]
    names = {"i": position}
    for line in w.lines:
        name, text = re.fullmatch(r"\s*(\w+) = (.*)", line).groups()  # type: ignore[union-attr]
        names[name] = eval(text, {}, names)
    assert [eval(text, {}, names) for text in texts] == wanted
