"""What the command line names: modules in files or on stdin, and functions in Python files."""

from __future__ import annotations

import sys
from pathlib import Path


def read_text(source: str) -> str:
    """The text of a file, or of stdin for `-`."""
    return sys.stdin.read() if source == "-" else Path(source).read_text()
