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
    """The innermost frame that is not ours.

    Ours is decided by the module's name, not by its path, which differs between installs.
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.partition(".")[0] not in _PASSED_OVER:
            code = frame.f_code
            return Where(code.co_filename, frame.f_lineno, code.co_name)
        assert frame.f_back is not None, "called from outside any user's frame"
        frame = frame.f_back
    raise AssertionError("unreachable")


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
