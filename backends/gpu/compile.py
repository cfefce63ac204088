"""Triton kernels to machine code, without a GPU: the chip is named, no driver is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import VIRTUAL, GpuOptions
from thalweg.backends.gpu.scalar import MEMORY
from thalweg.backends.gpu.store import load, save, triton
from thalweg.runtime.gpu.artefact import KernelImage

_WARP = {"cuda": 32, "hip": 64}
_BINARY = {"cuda": "cubin", "hip": "hsaco"}
_ASSEMBLY = {"cuda": "ptx", "hip": "amdgcn"}
_SHORT = {"tl.float64": "fp64", "tl.float32": "fp32", "tl.float16": "fp16", "tl.bfloat16": "bf16"}


@dataclass(frozen=True)
class Compiled:
    """A kernel's machine code, and what people read of it."""

    image: KernelImage
    assembly: str


def compile_kernel(kernel: TritonKernel, path: Path, options: GpuOptions) -> Compiled:
    """Compile a kernel whose module is at `path`. All buffers must be aligned to 16 bytes when it is launched.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    triton()
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    function = getattr(load(path), kernel.name)
    pointers = {name: f"*{_pointer(element)}" for name, element in kernel.parameters}
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
    image = KernelImage(
        kernel.name,
        options.chip,
        compiled.asm[_BINARY[vendor]],
        data.num_warps,
        _WARP[vendor],
        data.shared,
        getattr(data, "global_scratch_size", 0) or 0,
        getattr(data, "global_scratch_align", 1) or 1,
        getattr(data, "num_ctas", 1) or 1,
    )
    return Compiled(image, str(compiled.asm[_ASSEMBLY[vendor]]))


def compile_all(kernels: Sequence[TritonKernel], options: GpuOptions) -> dict[str, KernelImage]:
    """The images of kernels by their names; kernels of equal text but for the name share one.

    Raises:
        MissingExtraError: Triton is not installed; the chip `virtual` needs none.
    """
    known: dict[str, KernelImage] = {}
    images: dict[str, KernelImage] = {}
    for kernel in kernels:
        text = kernel.source.replace(kernel.name, "kernel")
        if text not in known:
            known[text] = _image(kernel, options)
        images[kernel.name] = known[text]
    return images


def _image(kernel: TritonKernel, options: GpuOptions) -> KernelImage:
    if options.chip == VIRTUAL:
        return KernelImage(kernel.name, VIRTUAL, kernel.source.encode(), kernel.warps)
    return compile_kernel(kernel, save(kernel, options.folder), options).image


def _pointer(element: str) -> str:
    """Triton's short name of an element type in memory."""
    name = MEMORY[element]
    return _SHORT.get(name) or f"i{name.removeprefix('tl.int')}"
