"""Tests of errors in the manner of mlir-opt: `// expected-error@+1 {{part of the message}}`.

A comment names the line it expects the error on: `@+1` the next line, `@-2` two lines up, `@above`, `@below`, none this
line; `@unknown` where the op carries a location of its own. `expected-error-re` takes a regular expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from thalweg.dialects.diagnostics import ThalwegError
from thalweg.tools.console import err

_SEPARATOR = re.compile(r"^// -----.*\n?", re.MULTILINE)
_COMMENT = re.compile(
    r"expected-error(?P<regex>-re)?(?:@(?P<place>[+-]\d+|above|below|unknown))?\s*\{\{(?P<text>.*?)\}\}"
)
_SHIFTS = {"above": -1, "below": 1}


@dataclass(frozen=True)
class Expected:
    """An error that is to come: on a line (None: unknown), with this in its message."""

    line: int | None
    pattern: str
    written_at: int

    def matches(self, line: int | None, message: str) -> bool:
        return self.line == line and re.search(self.pattern, message) is not None


@dataclass(frozen=True)
class Part:
    """A module's worth of the input, padded with empty lines so that its line numbers are those of the file."""

    text: str
    source: str
    whole: bool

    @property
    def expected(self) -> list[Expected]:
        """What the comments of this part expect."""
        found = []
        for number, line in enumerate(self.text.splitlines(), 1):
            for m in _COMMENT.finditer(line):
                pattern = m["text"] if m["regex"] else re.escape(m["text"])
                place = m["place"] or "+0"
                target = None if place == "unknown" else number + _SHIFTS.get(place, 0)
                if target is not None and place not in _SHIFTS:
                    target += int(place)
                found.append(Expected(target, pattern, number))
        return found

    def check(self, run: Callable[[], Any]) -> bool:
        """Run, and compare the error (the verifier stops at the first) with what is expected; tells each misfit."""
        wanted = self.expected
        try:
            run()
        except ThalwegError as error:
            line, message = _line_of(str(error), self.source), str(error)
            met = next((e for e in wanted if e.matches(line, message)), None)
            if met is None:
                err().print(f"{self.source}:{line or '?'}: unexpected error: {message}")
                return False
            wanted.remove(met)
        for missing in wanted:
            err().print(f"{self.source}:{missing.written_at}: expected error {{{{{missing.pattern}}}}} did not come")
        return not wanted


def parts_of(text: str, source: str, split: bool) -> Iterator[Part]:
    """The parts of the input between lines `// -----`, or all of it as one."""
    if not split:
        yield Part(text, source, whole=True)
        return
    start = 0
    for separator in [*_SEPARATOR.finditer(text), None]:
        end = separator.start() if separator else len(text)
        yield Part("\n" * text.count("\n", 0, start) + text[start:end], source, whole=False)
        start = separator.end() if separator else end


def _line_of(message: str, source: str) -> int | None:
    found = re.search(rf"(?<!\S){re.escape(source)}:(\d+)\b", message)
    return int(found[1]) if found else None
