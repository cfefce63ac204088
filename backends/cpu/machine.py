"""What code generators must know of the processor: how wide its vectors are, and how many it has."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

from thalweg.backends.cpu.options import CpuOptions

_BITS = {"f64": 64, "i64": 64, "index": 64, "f32": 32, "i32": 32, "f16": 16, "bf16": 16, "i16": 16, "i8": 8, "i1": 8}


@dataclass(frozen=True)
class Machine:
    """Vector width in bits, and number of vector registers.

    Example:
        >>> Machine(512, 32).lanes("f32")
        16
    """

    vector_bits: int = 128
    registers: int = 16

    def lanes(self, element: str) -> int:
        """How many numbers of an MLIR element type fill one register."""
        return self.vector_bits // _BITS[element]

    @property
    def accumulators(self) -> int:
        """How many registers may hold sums; the rest hold operands. One more and they spill."""
        return 24 if self.registers >= 32 else 12


def machine(options: CpuOptions) -> Machine:
    """The machine that `options` generate code for."""
    if not options.cpu and not options.features:
        return _host()
    features = {f[1:] for f in options.features.split(",") if f.startswith("+")}
    if not features and options.cpu == llvm.get_host_cpu_name():
        return _host()
    return _from_features(features)


@cache
def _host() -> Machine:
    return _from_features({name for name, present in llvm.get_host_cpu_features().items() if present})


def _from_features(features: set[str]) -> Machine:
    if "avx512f" in features and "avx512bw" in features and "avx512vl" in features:
        return Machine(512, 32)
    if "avx2" in features and "fma" in features:
        return Machine(256, 16)
    return Machine(128, 32 if features & {"neon", "asimd", "sve"} else 16)
