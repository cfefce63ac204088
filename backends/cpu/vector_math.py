"""Elementary functions as vector code, for f32 and f64: no library calls, a few units in the last place."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.cpu.emit.writer import Writer


def call(w: Writer, name: str, operands: Sequence[str], element: str, lanes: int) -> str | None:
    """The SSA name of `math.<name>` on operands of type `element` x lanes, or None where LLVM has an instruction for it."""
    return None
