"""What can be asked of the GPU backend, in one frozen value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

VIRTUAL = "virtual"  # a chip whose machine code is the kernels' text: programs for it run in Triton's interpreter


@dataclass(frozen=True)
class GpuOptions:
    """Options of the GPU backend.

    Args:
        chip: `sm_80` to `sm_100` for NVIDIA, `gfx942` for AMD; `virtual` for Triton's interpreter.
        tf32: products of f32 may be rounded to 10 bits of fraction, which tensor cores multiply many times faster.
        deterministic: no sum depends on the order in which programs run; otherwise scatters and products in parts may
            be added atomically.
        descriptors: matrix products of 16 bits fetch their operands by the chip's copy engine, where it has one (sm_90
            on), in programs that stay; None leaves it to those large enough.
        folder: where the kernels' modules are saved, each in a folder named by its contents.

    Example:
        >>> GpuOptions(chip="sm_90").vendor
        'cuda'
    """

    chip: str = "sm_90"
    tf32: bool = False
    deterministic: bool = True
    descriptors: bool | None = None
    folder: Path = Path("kernels")

    def __post_init__(self) -> None:
        known = self.chip == VIRTUAL or self.chip.startswith("gfx")
        if not known and not (self.chip.startswith("sm_") and self.chip[3:].isdigit()):
            raise ValueError(f"GpuOptions: chip is '{self.chip}', but must be like sm_90 (NVIDIA) or gfx942 (AMD).")

    @property
    def vendor(self) -> str:
        return "hip" if self.chip.startswith("gfx") else "cuda"

    @property
    def multiplies_float8(self) -> bool:
        """Do the chip's tensor cores multiply e4m3fn and e5m2 (gfx942's have other formats of 8 bits)?"""
        if self.vendor == "hip":
            return self.chip.startswith("gfx95")
        return self.chip == VIRTUAL or int(self.chip[3:]) >= 89

    @property
    def precision(self) -> str:
        """How `tl.dot` multiplies f32."""
        return "tf32" if self.tf32 else "ieee"
