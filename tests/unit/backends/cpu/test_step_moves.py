"""Copies that happen at the same time, written one after the other."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from thalweg.backends.cpu.plan import Location
from thalweg.backends.cpu.step import StepWriter

ROOM = Location("arena", 0, 999)


class _Recording(StepWriter):
    """Moves names of places about, instead of writing text."""

    def __init__(self) -> None:
        self.plan: Any = self
        self.memory: dict[Location, str] = {}
        self.copies = 0

    def bounce(self, bytes_: int) -> Location:
        return ROOM

    def _copy(self, source: Location, target: Location, size: int) -> None:
        self.copies += 1
        self.memory[target] = self.memory.get(source, str(source))


@given(st.lists(st.integers(0, 9), min_size=0, max_size=10))
def test_all_values_arrive_whatever_order_that_takes(sources: list[int]) -> None:
    places = [Location("argument", number) for number in range(10)]
    step = _Recording()
    step._move((places[source], places[target], 8) for target, source in enumerate(sources))
    for target, source in enumerate(sources):
        assert step.memory.get(places[target], str(places[target])) == str(places[source])
    moved = sum(source != target for target, source in enumerate(sources))
    assert moved <= step.copies <= moved + moved // 2  # one more for each cycle
