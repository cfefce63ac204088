"""What a code generator may do in several ways: as its model says, or as it is told by whoever has timed them.

A generator takes its decision through `Group.decision`. Left alone, that gives back what the model says. For tuning
(tuning.py), the group is emitted once more for every way that is tried, with a decision that tells which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Decision:
    """One decision of a generator; afterwards, what it was about.

    Args:
        told: what to take instead of what the model says: a choice of the same class.

    Example:
        >>> decision = Decision()
        >>> decision.take(4, lambda rows: (rows - 1, rows + 1))
        4
        >>> [Decision(rows).take(4, lambda rows: ()) for rows in decision.near(decision.usual)]
        [3, 5]
    """

    told: Any = None
    usual: Any = None  # what the model says; None where there was nothing to decide
    _near: Callable[[Any], Iterable[Any]] | None = None

    def take(self, usual: T, near: Callable[[T], Iterable[T]]) -> T:
        """The choice to go by.

        Args:
            usual: what the model says.
            near: the choices that differ little from one, that work, and that the model does not rule out. Whichever is
                taken, the numbers are added up in the same order.
        """
        self.usual, self._near = usual, near
        return usual if self.told is None else self.told

    def near(self, choice: Any) -> list[Any]:
        """The choices that differ little from one."""
        return [] if self._near is None else list(self._near(choice))
