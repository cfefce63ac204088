"""What can be asked of the CPU backend, in one frozen value."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CpuOptions:
    """Options of `compile_stablehlo`.

    Args:
        opt_level: 0 (fastest compilation) to 3. The kernels are explicit vectors, which LLVM only has to put into
            registers: 1 runs nearly as fast as 3. At 2 LLVM's own pipelines run over kernels that are loops over
            scalars, at 3 over everything.
        threads: how many threads a call may use; 0 means all cores that the process may run on.
        cpu: the processor to generate code for, as LLVM names it; empty for this machine's.
        features: LLVM's feature string ("+avx2,+fma"); empty for the features of this machine, or of `cpu` where it
        is given.
        deterministic: sums are cut into the same pieces whatever the number of threads.
        pack_weights: matrices that a program does not change are packed once (weights.py).
        flush_subnormals: numbers below the smallest normal one are zero while a program runs (subnormals.py).
        matmul_precision: of products of f32: "highest" is f32's; "high" multiplies them in three products of bfloat16,
            "medium" rounded to bfloat16, where the processor has tiles (emit/tile_numbers.py).

    Example:
        >>> CpuOptions(threads=1).key() == CpuOptions(threads=1).key()
        True
    """

    opt_level: int = 1
    threads: int = 0
    cpu: str = ""
    features: str = ""
    deterministic: bool = True
    pack_weights: bool = True
    flush_subnormals: bool = False
    matmul_precision: str = "highest"

    def __post_init__(self) -> None:
        if self.opt_level not in range(4):
            raise ValueError(f"CpuOptions: opt_level is {self.opt_level}, but must be 0, 1, 2 or 3.")
        if self.matmul_precision not in ("highest", "high", "medium"):
            raise ValueError(
                f"CpuOptions: matmul_precision is {self.matmul_precision!r}, but must be 'highest', 'high' or 'medium'."
            )
        if self.threads < 0:
            raise ValueError(f"CpuOptions: threads is {self.threads}, but must be 0 (all cores) or more.")

    def to_json(self) -> dict[str, Any]:
        """The fields, as `CpuOptions(**fields)` takes them."""
        return dataclasses.asdict(self)

    def key(self) -> str:
        """A short digest for cache keys; equal for equal options on equal machines."""
        text = repr(dataclasses.astuple(self)) + repr(self.worker_count())
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def worker_count(self) -> int:
        """The number of threads that a call may use, with 0 resolved."""
        if self.threads:
            return self.threads
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
