"""Names within a graph: `y`, `y_1`, and scopes `layer/y`."""

from __future__ import annotations

import re

_UNWANTED = re.compile(r"[^\w.\-/]")


class Names:
    """The names that are taken in a graph. A name is given once; who asks for it again gets `name_1`, `name_2`…

    Example:
        >>> names = Names()
        >>> names.claim("y"), names.claim("y"), names.claim("my sum")
        ('y', 'y_1', 'my_sum')
    """

    def __init__(self) -> None:
        self._next: dict[str, int] = {}  # by name that is taken: the number to try when it is asked for again

    def claim(self, wanted: str) -> str:
        """`wanted`, or the first free name made from it."""
        wanted = cleaned(wanted)
        number = self._next.get(wanted)
        if number is None:
            self._next[wanted] = 1
            return wanted
        while (name := f"{wanted}_{number}") in self._next:
            number += 1
        self._next[wanted] = number + 1
        self._next[name] = 1
        return name


def cleaned(name: str) -> str:
    """A user's name with what cannot stand in one replaced: names are words, joined by '/'."""
    return _UNWANTED.sub("_", name).strip("/") or "op"
