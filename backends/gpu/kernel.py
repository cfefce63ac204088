"""One Triton kernel: a Python module, and what is needed to compile and launch it."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.backends.cpu.kernel import Kernel


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
    """

    grid: int = 1
    constants: tuple[tuple[str, int], ...] = ()
    warps: int = 4
    stages: int = 2
    workspace: int = 0
    where: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Names and element types of the pointers."""
        operands = [(f"x{k}", value.element) for k, value in enumerate(self.operands)]
        results = [(f"out{k}", value.element) for k, value in enumerate(self.results)]
        return (*operands, *results, *([("workspace", "i8")] if self.workspace else []))
