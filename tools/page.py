"""A self-contained HTML page: the user's source and the stages of a program side by side, lines tied by location.

Hovering a line of any pane marks the lines of all panes that come from the same line of the user's source; a click
keeps the mark and brings them into view. No script, style or font is loaded from elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from thalweg.dialects.location import Where
from thalweg.dialects.mlir import ir
from thalweg.dialects.printing import lines, located


@dataclass(frozen=True)
class PageLine:
    """A line of a pane: its markup, and the key of the user's line that it comes from."""

    html: str
    key: str = ""


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
                _key(line.where),
            )
            for line in lines(module)
        ),
    )


def pane_of_text(title: str, text: str) -> Pane:
    """A stage as text; lines with a `loc(…)` are tied, the others are only shown."""
    return Pane(title, tuple(PageLine(escape(line), _key(where)) for line, where in located(text)))


def source_panes(panes: Iterable[Pane]) -> list[Pane]:
    """The files that the panes' lines come from, where they can be read: the part that is used, and a little around."""
    wanted: dict[str, set[int]] = {}
    for pane in panes:
        for line in pane.lines:
            file, _, number = line.key.rpartition(":")
            if file:
                wanted.setdefault(file, set()).add(int(number))
    return [_source(Path(file), numbers) for file, numbers in wanted.items() if Path(file).is_file()]


def render(title: str, panes: Sequence[Pane]) -> str:
    """The whole page."""
    body = "\n".join(_section(pane, number) for number, pane in enumerate(panes))
    tabs = "".join(
        f'<label><input type="checkbox" checked data-pane="{n}">{escape(p.title)}</label>' for n, p in enumerate(panes)
    )
    template = files("thalweg.tools").joinpath("page.html").read_text(encoding="utf-8")
    return template.replace("@TITLE@", escape(title)).replace("@TABS@", tabs).replace("@PANES@", body)


def _section(pane: Pane, number: int) -> str:
    rows = "\n".join(
        f'<div class="line" data-at="{escape(line.key, quote=True)}">{line.html or " "}</div>'
        if line.key
        else f'<div class="line">{line.html or " "}</div>'
        for line in pane.lines
    )
    return f'<section id="pane{number}"><h2>{escape(pane.title)}</h2><div class="code">{rows}</div></section>'


def _source(path: Path, numbers: set[int], margin: int = 5) -> Pane:
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    first, last = max(min(numbers) - margin, 1), min(max(numbers) + margin, len(text))
    shown = (
        PageLine(f'<i class="number">{n:4}</i> {escape(text[n - 1])}', f"{path}:{n}" if n in numbers else "")
        for n in range(first, last + 1)
    )
    return Pane(path.name, tuple(shown))


def _key(where: Where | None) -> str:
    return f"{where.file}:{where.line}" if where else ""
