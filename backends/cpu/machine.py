"""What code generators must know of the processor: how wide its vectors are, how many it has, its caches."""

from __future__ import annotations

import ctypes
import platform
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm

from thalweg.backends.cpu.graph import BYTES
from thalweg.backends.cpu.options import CpuOptions


@dataclass(frozen=True)
class Machine:
    """Vector width in bits, and number of vector registers.

    Args:
        first_cache, second_cache: bytes of a processor's own data caches.
        unroll: summed elements that a product's innermost loop does at a time, where code may be long.
        widest: vectors of a register tile, at most.
        apart: cycles that each row of a tile takes beyond its products where the rows do not lie at one stride, and
            each has an address of its own.

    Example:
        >>> Machine(512, 32).lanes("f32")
        16
    """

    vector_bits: int = 128
    registers: int = 16
    widest: int = 6
    apart: float = 0.0
    first_cache: int = 48 << 10
    second_cache: int = 1 << 20
    unroll: int = 1

    @property
    def has_avx512(self) -> bool:
        return self.vector_bits == 512

    @property
    def has_fma(self) -> bool:
        """Products and sums in one, rounded once. Elsewhere they may be a function of a library that is not there."""
        return self.vector_bits >= 256

    def lanes(self, element: str) -> int:
        """How many numbers of an MLIR element type fill one register."""
        return self.vector_bits // (8 * BYTES[element])

    def tallest(self, vectors: int, spare: int = 0) -> int:
        """Rows of the largest register tile of so many vectors: beside the sums there are those vectors, two for the
        rows, and `spare` more. One row more, and they spill.

        Example:
            >>> Machine(512, 32).tallest(3)
            9
        """
        return max(1, (self.registers - 2 - spare - vectors) // vectors)


def machine(options: CpuOptions) -> Machine:
    """The machine that `options` generate code for."""
    found = _from_features(features_of(options))
    return _with_caches(found) if _is_host(options) else found


def _is_host(options: CpuOptions) -> bool:
    return not options.features and options.cpu in ("", llvm.get_host_cpu_name())


def features_of(options: CpuOptions) -> frozenset[str]:
    """What the processor can do, as LLVM calls it."""
    if _is_host(options):
        return _host()
    named = {name for pattern, features in _PROCESSORS if re.fullmatch(pattern, options.cpu) for name in features}
    switches = [feature for feature in options.features.split(",") if feature]
    removed = {feature[1:] for feature in switches if feature.startswith("-")}
    return frozenset({*named, *(feature.lstrip("+") for feature in switches)} - removed)


_AVX2 = ("sse2", "avx2", "fma")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512vl")
# What LLVM's names of processors imply; of any other name, `features` must say it.
_PROCESSORS = [
    (r"x86-64-v4|skylake-avx512|cascadelake|cooperlake|icelake.*|tigerlake|rocketlake|.*rapids.*|znver[456]", _AVX512),
    (r"x86-64-v3|haswell|broadwell|skylake|znver[123]|alderlake|raptorlake|meteorlake|arrowlake.*|lunarlake", _AVX2),
    (r"x86-64(-v2)?|nehalem|westmere|sandybridge|ivybridge", ("sse2",)),
    (r"apple-.*|cortex-[ax]\d.*|neoverse-.*|oryon.*|ampere.*|thunderx.*|carmel|a64fx", ("neon",)),
    # Instructions for products of bytes, and of bfloat16.
    (r"cascadelake|cooperlake|icelake.*|tigerlake|rocketlake|.*rapids.*|znver[456]", ("avx512vnni",)),
    (r"cooperlake|.*rapids.*|znver[456]", ("avx512bf16",)),
    (r"alderlake|raptorlake|meteorlake|arrowlake.*|lunarlake", ("avxvnni",)),
    (r"apple-(a1[3-9]|m\d).*|cortex-a(55|7[5-8]|510|7[12]0).*|cortex-x\d.*|neoverse-.*|oryon.*|ampere.*", ("dotprod",)),
]


@cache
def tiles_allowed() -> bool:
    """Whether the kernel lets this process use the tiles of the processor (AMX), which it must be asked for."""
    if not {"amx-tile", "amx-bf16", "amx-int8"} <= _host() or platform.system() != "Linux":
        return False
    return bool(ctypes.CDLL(None).syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) == 0)


_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18  # of Linux on x86-64


@cache
def _host() -> frozenset[str]:
    return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)


@cache
def _with_caches(found: Machine) -> Machine:
    """This machine, as Linux describes its first processor; what it does not tell stays as it is."""
    sizes: dict[str, int] = {}
    for folder in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        except OSError:
            continue
        if kind != "Instruction" and size.endswith("K"):
            sizes[level] = int(size[:-1]) << 10
    first, second = sizes.get("1", found.first_cache), sizes.get("2", found.second_cache)
    return replace(found, first_cache=first, second_cache=second, unroll=2)


@cache
def _from_features(features: frozenset[str]) -> Machine:
    if "avx512f" in features and "avx512bw" in features and "avx512vl" in features:
        return Machine(512, 32, unroll=2)  # 8% of MobileNet, for 12% more code; with narrower vectors it is 1%
    if "avx2" in features and "fma" in features:
        return Machine(256, 16)
    if "simd128" in features:
        # Of x86-64's 16 engines keep one for themselves, and spill where they have no two to spare: 4 rows of 2 vectors
        # take three quarters of the time that 5 take.
        return Machine(128, 13, widest=2, apart=0.5)
    return Machine(128, 32 if features & {"neon", "asimd", "sve"} else 16)
