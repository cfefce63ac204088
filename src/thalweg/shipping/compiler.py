"""What an export compiles, each thing once: the check on samples and the library for this machine are the same code."""

from __future__ import annotations

from typing import Any

from thalweg.backends.aot.emit import Emitted, Step, emit, lower_step
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.mlir import ir


class Compiler:
    """Compiles for one export, and remembers. Call with a context entered."""

    def __init__(self) -> None:
        self._steps: dict[tuple[str, str, CpuOptions], Step] = {}
        self._emitted: list[tuple[tuple[Any, ...], Emitted]] = []  # with what they were made from

    def lower(self, name: str, module: ir.Module, options: CpuOptions) -> Step:
        """As `lower_step`."""
        key = (name, str(module), options)
        if key not in self._steps:
            self._steps[key] = lower_step(name, module, options)
        return self._steps[key]

    def emit(self, *given: Any) -> Emitted:
        """As `emit`."""
        for known, emitted in self._emitted:
            if known == given:
                return emitted
        made = emit(*given)
        self._emitted.append((given, made))
        return made
