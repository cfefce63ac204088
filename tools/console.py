"""What commands print with: errors, tables, and the compact form in colour."""

from __future__ import annotations

import sys
import traceback as tracebacks
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from thalweg.dialects.printing import Line, TokenKind

STYLES: dict[TokenKind, str] = {
    "keyword": "magenta",
    "op": "bold cyan",
    "value": "yellow",
    "attribute": "green",
    "type": "blue",
    "place": "dim",
}


def out() -> Console:
    """The console of stdout; lines are never broken, and plain text is not decorated."""
    return _console(sys.stdout)


def err() -> Console:
    """The console of stderr."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    width = None if stream.isatty() else 240  # a file or a pipe has room for whole tables
    return Console(file=stream, width=width, soft_wrap=True, highlight=False, markup=False)


def complain(error: BaseException, traceback: bool = False) -> None:
    """Tell an error on stderr, in one line (or after its traceback)."""
    from thalweg.dialects.diagnostics import ThalwegError

    if traceback:
        tracebacks.print_exception(error, file=sys.stderr)
    err().print("error: ", style="bold red", end="")
    err().print(_words(error, isinstance(error, ThalwegError)))


def _words(error: BaseException, ours: bool) -> str:
    if isinstance(error, OSError) and not ours and error.filename:
        return f"{error.filename}: {error.strerror}."
    if ours:
        # MLIR appends the whole operation to some messages; --traceback has it.
        return " ".join(str(error).partition("\n note:")[0].split("\n"))
    return f"{type(error).__name__}: {error} (--traceback shows where)"


def write(text: str, output: str = "-") -> None:
    """Text to a file, or to stdout for `-`; it ends in a newline."""
    text = text if text.endswith("\n") or not text else f"{text}\n"
    if output == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        Path(output).write_text(text)


def write_bytes(data: bytes, output: str = "-") -> None:
    """Bytes to a file, or to stdout for `-`."""
    if output == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        Path(output).write_bytes(data)


def print_lines(lines: Iterable[Line], column: int = 64) -> None:
    """The compact form, coloured where the terminal can."""
    from rich.text import Text

    console = out()
    for line in lines:
        text = Text("  " * line.depth)
        for token in line.tokens:
            text.append(token.text, STYLES.get(token.kind, ""))
        if line.place:
            text.append(" " * max(column - len(text), 1))
            text.append(f"# {line.place}", STYLES["place"])
        console.print(text)


def table(title: str, *columns: str, right: Iterable[str] = ()) -> Table:
    """An empty table; the columns named in `right` are aligned to the right."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    aligned = set(right)
    for column in columns:
        made.add_column(column, justify="right" if column in aligned else "left")
    return made
