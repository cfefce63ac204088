"""What can be asked of the GPU backend, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class GpuOptions:
    """Options of the GPU backend.

    Args:
        chip: `sm_80` to `sm_100` for NVIDIA, `gfx942` for AMD.
        tf32: products of f32 may be rounded to 10 bits of fraction, which tensor cores multiply many times faster.
        folder: where the kernels' modules are saved, each in a folder named by its contents.

    Example:
        >>> GpuOptions(chip="sm_90").vendor
        'cuda'
    """

    chip: str = "sm_90"
    tf32: bool = False
    folder: Path = Path("kernels")

    def __post_init__(self) -> None:
        if not (self.chip.startswith("sm_") and self.chip[3:].isdigit()) and not self.chip.startswith("gfx"):
            raise ValueError(f"GpuOptions: chip is '{self.chip}', but must be like sm_90 (NVIDIA) or gfx942 (AMD).")

    @property
    def vendor(self) -> str:
        return "cuda" if self.chip.startswith("sm_") else "hip"

    @property
    def precision(self) -> str:
        """How `tl.dot` multiplies f32."""
        return "tf32" if self.tf32 else "ieee"
