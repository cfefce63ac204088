"""One Triton kernel: a Python module, and what is needed to compile and launch it."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.backends.cpu.kernel import Kernel


@dataclass(frozen=True)
class TritonKernel(Kernel):
    """`source` is a whole Python module with one function of the kernel's name.

    The function takes a pointer for each operand and result, in that order, and then the sizes of its tile as constants
    by name.

    Args:
        grid: how many programs run.
        constants: names and values of the trailing `tl.constexpr` parameters.
        warps: of 32 threads (64 on AMD), for each program.
        stages: how many iterations of a loop are in flight.
    """

    grid: int = 1
    constants: tuple[tuple[str, int], ...] = ()
    warps: int = 4
    stages: int = 2

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the pointers."""
        return (*(f"x{k}" for k in range(len(self.operands))), *(f"out{k}" for k in range(len(self.results))))
