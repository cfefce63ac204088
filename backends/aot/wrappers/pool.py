"""A pool of POSIX threads in a C header, for programs that have none of their own to give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thalweg.backends.aot.abi import Function


def header(model: str, functions: Sequence[Function]) -> str:
    """MODEL_threads.h: the template beside this file, filled in."""
    text = (Path(__file__).parent / "pool.h").read_text()
    first = functions[0].name if functions else "run"
    for hole, value in (("FIRST", first), ("UPPER", model.upper()), ("MODEL", model)):
        text = text.replace(f"__{hole}__", value)
    return text
