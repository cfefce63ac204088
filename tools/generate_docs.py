"""Writes the generated pages of docs/: `python -m thalweg.tools.generate_docs`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from thalweg.tools import ops_doc, passes_doc

PAGES: Mapping[str, Callable[[], str]] = {"ops.md": ops_doc.render, "passes.md": passes_doc.render}


def main(folder: Path = Path("docs")) -> None:
    """Write every generated page into `folder`."""
    for name, render in PAGES.items():
        (folder / name).write_text(render(), encoding="utf-8")


if __name__ == "__main__":
    main()
