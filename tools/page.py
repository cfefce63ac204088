"""A self-contained HTML page: the user's source and the stages of a program side by side, lines tied by location.

Hovering a line of any pane marks the lines of all panes that come from the same line of the user's source; a click
keeps the mark and brings them into view. No script, style or font is loaded from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from thalweg.backends.cpu.backend import Lowered
from thalweg.backends.cpu.memory import buffers
from thalweg.dialects.location import Where
from thalweg.dialects.mlir import ir
from thalweg.dialects.printing import lines, located

_KERNEL = re.compile(r"func\.func private @(\w+)\(")


@dataclass(frozen=True)
class PageLine:
    """A line of a pane: its markup, and the lines of the user's files that it comes from, as `file:line`."""

    html: str
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pane:
    """One stage, or a source file."""

    title: str
    lines: tuple[PageLine, ...]


def pane_of_module(title: str, module: ir.Operation) -> Pane:
    """A stage in compact form, in colour."""
    return Pane(
        title,
        tuple(
            PageLine(
                "  " * line.depth + "".join(f'<i class="{t.kind}">{escape(t.text)}</i>' for t in line.tokens),
                _places(line.where),
            )
            for line in lines(module)
        ),
    )


def pane_of_text(title: str, text: str) -> Pane:
    """A stage as text; lines with a `loc(…)` are tied, the others are only shown."""
    return Pane(title, tuple(PageLine(escape(line), _places(where)) for line, where in located(text)))


def pane_of_kernels(title: str, lowered: Lowered) -> Pane:
    """The kernels; the lines of each are tied to the lines that made its results."""
    made: dict[str, list[Where | None]] = {}
    for buffer in buffers(lowered):
        made.setdefault(buffer.made_by, []).append(buffer.where)
    shown: list[PageLine] = []
    places: tuple[str, ...] = ()
    for line in lowered.kernels.splitlines():
        head = _KERNEL.search(line)
        if head:
            places = _places(*made.get(head[1], []))
        shown.append(PageLine(escape(line), places))
        if line == "}":
            places = ()
    return Pane(title, tuple(shown))


def source_panes(panes: Iterable[Pane]) -> list[Pane]:
    """The files that the panes' lines come from, where they can be read: the part that is used, and a little around."""
    wanted: dict[str, set[int]] = {}
    for pane in panes:
        for place in (p for line in pane.lines for p in line.places):
            file, _, number = place.rpartition(":")
            wanted.setdefault(file, set()).add(int(number))
    return [_source(Path(file), numbers) for file, numbers in wanted.items() if Path(file).is_file()]


def render(title: str, panes: Sequence[Pane]) -> str:
    """The whole page."""
    numbers: dict[str, int] = {}  # of places: short, where their names would be long
    body = "\n".join(_section(pane, number, numbers) for number, pane in enumerate(panes))
    tabs = "".join(
        f'<label><input type="checkbox" checked data-pane="{n}">{escape(p.title)}</label>' for n, p in enumerate(panes)
    )
    template = files("thalweg.tools").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("@TITLE@", escape(title)).replace("@TABS@", tabs).replace("@PANES@", body)


def _section(pane: Pane, number: int, numbers: dict[str, int]) -> str:
    rows = []
    for line in pane.lines:
        at = " ".join(str(numbers.setdefault(place, len(numbers))) for place in line.places)
        tie = f' data-at="{at}"' if at else ""
        rows.append(f'<div class="line"{tie}>{line.html or " "}</div>')
    code = "\n".join(rows)
    return f'<section id="pane{number}"><h2>{escape(pane.title)}</h2><div class="code">{code}</div></section>'


def _source(path: Path, numbers: set[int], margin: int = 5) -> Pane:
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    first, last = max(min(numbers) - margin, 1), min(max(numbers) + margin, len(text))
    shown = (
        PageLine(f'<i class="number">{n:4}</i> {escape(text[n - 1])}', (f"{path}:{n}",) if n in numbers else ())
        for n in range(first, last + 1)
    )
    return Pane(path.name, tuple(shown))


def _places(*wheres: Where | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{where.file}:{where.line}" for where in wheres if where))
