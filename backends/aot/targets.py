"""What a program can be exported for: one row a target."""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal

from thalweg.backends.aot.dispatch import LEVELS, LEVELS_IN_BYTES
from thalweg.dialects.diagnostics import ExportError, did_you_mean

Format = Literal["elf", "macho", "coff", "wasm"]


@dataclass(frozen=True)
class Target:
    """A processor and an operating system's file format.

    Args:
        cpu, features: the least that the code needs, as LLVM writes it.
        dispatches: whether the library holds code for better processors, too, and chooses when it runs (dispatch.py).
        better: further features, of a second library that has `suffix` in its name: fused multiply-add in a browser.
        threads: that a call may use, of a pool that it is given (tasks.py).
        in_bytes: whether products are made in int8, for which the best processors have instructions.
        page: bytes; segments of shared libraries begin on such a boundary (16 KiB: Android's new devices).
    """

    name: str
    triple: str
    cpu: str
    features: str = ""
    pointer_bits: int = 64
    format: Format = "elf"
    page: int = 0x1000
    dispatches: bool = False
    better: str = ""
    suffix: str = ""
    threads: int = 1
    in_bytes: bool = False

    @property
    def cpus(self) -> tuple[str, ...]:
        """The processors to generate code for, best first."""
        if not self.dispatches:
            return (self.cpu,)
        return LEVELS_IN_BYTES if self.in_bytes else LEVELS

    @property
    def builds(self) -> tuple[Target, ...]:
        """The target, and itself with the better features, if there are any."""
        better = replace(self, features=f"{self.features},{self.better}", suffix=".relaxed", better="")
        return (self, better) if self.better else (self,)

    @property
    def is_wasm(self) -> bool:
        return self.format == "wasm"


_ROWS = (
    Target("linux-x86_64", "x86_64-unknown-linux-gnu", "x86-64-v2", dispatches=True),
    Target("linux-arm64", "aarch64-unknown-linux-gnu", "generic", "+neon", page=0x10000),
    Target("linux-armv7", "armv7a-unknown-linux-gnueabihf", "generic", "+neon,+vfp4", pointer_bits=32),
    Target("android-arm64", "aarch64-unknown-linux-android24", "generic", "+neon", page=0x4000),
    Target("android-armv7", "armv7a-unknown-linux-androideabi24", "generic", "+neon,+vfp3", pointer_bits=32),
    Target("android-x86_64", "x86_64-unknown-linux-android24", "x86-64-v2", page=0x4000, dispatches=True),
    Target("ios-arm64", "arm64-apple-ios14.0", "apple-a12", format="macho"),
    Target("ios-simulator", "arm64-apple-ios14.0-simulator", "apple-a12", format="macho"),
    Target("macos-arm64", "arm64-apple-macosx12.0", "apple-m1", format="macho"),
    Target("windows-x86_64", "x86_64-pc-windows-msvc", "x86-64-v2", format="coff", dispatches=True),
    Target("wasm32", "wasm32-unknown-unknown", "generic", "+simd128,+bulk-memory", 32, "wasm", better="+relaxed-simd"),
    Target("wasm32-nosimd", "wasm32-unknown-unknown", "generic", "+bulk-memory", 32, "wasm"),
)
TARGETS = MappingProxyType({target.name: target for target in _ROWS})


def find(name: str) -> Target:
    """The target called `name`; "host" is this machine's.

    Raises:
        ExportError: there is none; the message lists them.
    """
    if name == "host":
        system, processor = platform.system().lower(), platform.machine().lower()
        system = {"darwin": "macos"}.get(system, system)
        name = f"{system}-{ {'amd64': 'x86_64', 'aarch64': 'arm64'}.get(processor, processor)}"
    if name not in TARGETS:
        raise ExportError(
            f"unknown target '{name}'{did_you_mean(name, TARGETS) or '.'} The targets are: {', '.join(TARGETS)}."
        )
    return TARGETS[name]
