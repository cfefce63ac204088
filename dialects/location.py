"""Where in the user's program: the frame that called into Thalweg, as an MLIR location and as text for errors.

A location also carries the device that an op was asked to run on, as a name around the rest: `loc("@/job:ps"(...))`.
Since every pass keeps locations, what is made for an op (its gradient, say) asks for the same device.
"""

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
_NAME = re.compile(r'loc\((?:"@[^"]*"\()?"([^"@][^"]*)"\(')
_SCOPED = re.compile(r'loc\("@[^"]*"\((#loc\d*)\)\)')
_DEVICE = re.compile(r'loc\("@([^"]*)"\(')


def where_of(location: ir.Location) -> Where | None:
    """The user's place that an MLIR location carries, None where it carries none."""
    text = str(location)
    place = _FILE_LINE.search(text)
    if place is None:
        return None
    name = _NAME.search(text)
    return Where(place[1], int(place[2]), name[1] if name else "<module>")


def on_device(location: ir.Location, scope: str) -> ir.Location:
    """The location with a request for a device around it; the empty scope asks for nothing."""
    return ir.Location.name(f"@{scope}", childLoc=location) if scope else location


def moved(location: ir.Location, scope: str) -> ir.Location:
    """The location with this request for a device instead of its own."""
    if isinstance(location, ir.NameLoc) and location.name_str.startswith("@"):
        location = location.child_loc
    return on_device(location, scope)


def without_scopes(module: ir.Module) -> ir.Module:
    """A copy of a module in which nothing asks for a device. Call with a context entered."""
    text = module.operation.get_asm(binary=False, enable_debug_info=True)
    return ir.Module.parse(_SCOPED.sub(r"loc(\1)", text))


def scope_of(location: ir.Location) -> str:
    """The device that a location asks for, the empty string where it asks for none."""
    if isinstance(location, ir.NameLoc):
        name: str = location.name_str
        return name[1:] if name.startswith("@") else ""
    found = _DEVICE.search(str(location)) if "@" in str(location) else None
    return found[1] if found else ""
