"""Triton kernels to machine code, without a GPU: the chip is named, no driver is asked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import MEMORY
from thalweg.backends.gpu.store import load, triton

_WARP = {"cuda": 32, "hip": 64}
_BINARY = {"cuda": "cubin", "hip": "hsaco"}
_ASSEMBLY = {"cuda": "ptx", "hip": "amdgcn"}
_SHORT = {"tl.float64": "fp64", "tl.float32": "fp32", "tl.float16": "fp16", "tl.bfloat16": "bf16"}


@dataclass(frozen=True)
class Compiled:
    """What a launcher needs of a kernel, and nothing of Triton's.

    Args:
        binary: cubin or hsaco.
        threads: of a program.
        shared: bytes of shared memory of a program.
        scratch: bytes of global memory of a program.
    """

    name: str
    chip: str
    binary: bytes
    assembly: str
    grid: int
    threads: int
    shared: int
    scratch: int


def compile_kernel(kernel: TritonKernel, path: Path, options: GpuOptions) -> Compiled:
    """Compile a kernel whose module is at `path`. All buffers must be aligned to 16 bytes when it is launched.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    triton()
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    function = getattr(load(path), kernel.name)
    pointers = {
        name: f"*{_pointer(value.element)}"
        for name, value in zip(kernel.parameters, (*kernel.operands, *kernel.results), strict=True)
    }
    constants = dict(kernel.constants)
    source = ASTSource(
        fn=function,
        signature={**pointers, **dict.fromkeys(constants, "constexpr")},
        constexprs=constants,
        attrs={(position,): [["tt.divisibility", 16]] for position in range(len(pointers))},
    )
    vendor = options.vendor
    chip: int | str = int(options.chip[3:]) if vendor == "cuda" else options.chip
    compiled = compile(
        source,
        target=GPUTarget(vendor, chip, _WARP[vendor]),
        options={"num_warps": kernel.warps, "num_stages": kernel.stages, "enable_fp_fusion": True},
    )
    data = compiled.metadata
    threads, scratch = data.num_warps * _WARP[vendor], getattr(data, "global_scratch_size", 0) or 0
    return Compiled(
        kernel.name, options.chip, compiled.asm[_BINARY[vendor]], str(compiled.asm[_ASSEMBLY[vendor]]), kernel.grid,
        threads, data.shared, scratch,
    )  # fmt: skip


def _pointer(element: str) -> str:
    """Triton's short name of an element type in memory."""
    name = MEMORY[element]
    return _SHORT.get(name) or f"i{name.removeprefix('tl.int')}"
