"""Where in the user's program: the frame that called into Thalweg, as an MLIR location and as text for errors."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from thalweg.dialects.mlir import ir


@dataclass(frozen=True)
class Where:
    """A place in a user's file."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        inside = "" if self.function == "<module>" else f" in {self.function}():"
        return f"{self.file}:{self.line}:{inside}"

    def location(self) -> ir.Location:
        """As MLIR: the function's name around file and line (needs an entered context)."""
        return ir.Location.name(self.function, childLoc=ir.Location.file(self.file, self.line, 0))


def user_frame() -> Where:
    """The innermost frame that is not ours; the outermost of all where there is none: `Thread(target=tw.tanh)`.

    Ours is decided by the module's name, not by its path, which differs between installs.
    """
    frame = sys._getframe(1)
    while frame.f_globals.get("__name__", "").partition(".")[0] in _PASSED_OVER and frame.f_back is not None:
        frame = frame.f_back
    return Where(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)


# Ourselves, and what may stand between the user and us.
_PASSED_OVER = frozenset({"thalweg", "contextlib", "functools", "threading", "numpy"})

_FILE_LINE = re.compile(r'"([^"]+)":(\d+):\d+')
_NAME = re.compile(r'loc\("([^"]+)"\(')


def where_of(location: ir.Location) -> Where | None:
    """The user's place that an MLIR location carries, None where it carries none."""
    text = str(location)
    place = _FILE_LINE.search(text)
    if place is None:
        return None
    name = _NAME.search(text)
    return Where(place[1], int(place[2]), name[1] if name else "<module>")
