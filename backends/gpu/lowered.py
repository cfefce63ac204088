"""A program as Triton kernels, before they are compiled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thalweg.backends.cpu.program import Program
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.store import save
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType


@dataclass(frozen=True)
class Lowered:
    """A program as Triton kernels. It must be used with the module's context entered.

    Args:
        linalg: whose ops the values of the program refer to.
        aliases: result number -> argument that it overwrites.
    """

    linalg: ir.Operation
    program: Program
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    aliases: dict[int, int]
    options: GpuOptions

    @property
    def kernels(self) -> tuple[TritonKernel, ...]:
        """In the order in which they run; those of loops and branches once. What goes between GPUs is no kernel."""
        return tuple(self._kernels())

    def _kernels(self) -> Iterator[TritonKernel]:
        for kernel in self.program.kernels():
            assert isinstance(kernel, TritonKernel)
            if not kernel.collective:
                yield kernel

    def save(self) -> list[Path]:
        """Write the kernels' modules; the files, in order."""
        return [save(kernel, self.options.folder) for kernel in self.kernels]
