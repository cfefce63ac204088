"""One Triton kernel: a Python module, and what is needed to compile and launch it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thalweg.backends.cpu.kernel import Kernel


@dataclass(frozen=True)
class KernelText:
    """What the machine code of a kernel depends on: plain data, which other processes can compile.

    Args:
        parameters: names and element types of the pointers.
        constants, warps, stages: as in TritonKernel.
    """

    name: str
    source: str
    parameters: tuple[tuple[str, str], ...]
    constants: tuple[tuple[str, int], ...]
    warps: int
    stages: int

    @property
    def anonymous(self) -> str:
        """The code without the kernel's name, comments and what is said about it: kernels of equal code share it."""
        code = self.source[self.source.index("import triton") :].replace(self.name, "kernel")
        return re.sub(r"^ *#.*\n", "", code, flags=re.MULTILINE)

    @property
    def digest(self) -> str:
        """Names the folder that the kernel is saved in."""
        return hashlib.sha256(self.source.encode()).hexdigest()[:12]

    @staticmethod
    def of(data: Mapping[str, Any]) -> KernelText:
        """From what `dataclasses.asdict` and JSON make of one."""
        pairs = {key: tuple((name, value) for name, value in data[key]) for key in ("parameters", "constants")}
        return KernelText(**{**data, **pairs})


@dataclass(frozen=True)
class TritonKernel(Kernel):
    """`source` is a whole Python module with one function of the kernel's name.

    The function takes a pointer for each operand and result, in that order, one for its workspace if it has any, and
    then the sizes of its tile as constants by name.

    Args:
        grid: how many programs run.
        constants: names and values of the trailing `tl.constexpr` parameters.
        warps: of 32 threads (64 on AMD), for each program.
        stages: how many iterations of a loop are in flight.
        workspace: bytes that its programs use among themselves.
        where: the user's lines that it computes.
        collective: no kernel at all, but data that goes between GPUs, each operand to the result of its number: which
            way (backends/shards/collectives.py).
    """

    grid: int = 1
    constants: tuple[tuple[str, int], ...] = ()
    warps: int = 4
    stages: int = 2
    workspace: int = 0
    where: tuple[str, ...] = ()
    collective: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Names and element types of the pointers."""
        operands = [(f"x{k}", value.element) for k, value in enumerate(self.operands)]
        results = [(f"out{k}", value.element) for k, value in enumerate(self.results)]
        return (*operands, *results, *([("workspace", "i8")] if self.workspace else []))

    @property
    def text(self) -> KernelText:
        return KernelText(self.name, self.source, self.parameters, self.constants, self.warps, self.stages)
