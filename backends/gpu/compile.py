"""Triton kernels to machine code, without a GPU: the chip is named, no driver is asked.

Machine code is kept in files (store.py), so that a program that was compiled before needs no Triton.
Many kernels are compiled by several processes, each of which writes what it has made into those.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from thalweg.backends.gpu.kernel import KernelText, TritonKernel
from thalweg.backends.gpu.options import VIRTUAL, GpuOptions
from thalweg.backends.gpu.scalar import MEMORY
from thalweg.backends.gpu.store import load, load_image, save, save_image, triton
from thalweg.dialects.diagnostics import LoweringError
from thalweg.runtime.gpu.artefact import KernelImage

MANY = 8  # kernels from which on it is worth starting processes, which takes each of them a second
_WARP = {"cuda": 32, "hip": 64}
_BINARY = {"cuda": "cubin", "hip": "hsaco"}
_ASSEMBLY = {"cuda": "ptx", "hip": "amdgcn"}
_SHORT = {"tl.float64": "fp64", "tl.float32": "fp32", "tl.float16": "fp16", "tl.bfloat16": "bf16"}


@dataclass(frozen=True)
class Compiled:
    """A kernel's machine code, and what people read of it."""

    image: KernelImage
    assembly: str


def compile_kernel(kernel: KernelText, options: GpuOptions) -> Compiled:
    """Compile a kernel. All buffers must be aligned to 16 bytes when it is launched.

    Raises:
        MissingExtraError: Triton is not installed.
    """
    triton()
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    function = getattr(load(save(kernel, options.folder)), kernel.name)
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
        MissingExtraError: Triton is not installed, and a kernel was not compiled before; the chip `virtual` needs none.
    """
    texts = {kernel.name: kernel.text for kernel in kernels}
    unique = {text.anonymous: text for text in reversed(texts.values())}
    images = dict(zip(unique, compile_texts(list(unique.values()), options), strict=True))
    return {name: images[text.anonymous] for name, text in texts.items()}


def compile_texts(kernels: Sequence[KernelText], options: GpuOptions) -> list[KernelImage]:
    """The images of kernels, from the folder or compiled now.

    Raises:
        MissingExtraError: as `compile_all`.
    """
    if options.chip == VIRTUAL:
        return [KernelImage(k.name, VIRTUAL, k.source.encode(), k.warps) for k in kernels]
    missing = [k for k in kernels if load_image(k, options) is None]
    processes = min(os.cpu_count() or 1, len(missing) // 2)
    if len(missing) >= MANY and processes > 1:
        _elsewhere(missing, options, processes)
    found = []
    for kernel in kernels:
        image = load_image(kernel, options)
        if image is None:
            image = compile_kernel(kernel, options).image
            save_image(kernel, image, options)
        found.append(image)
    return found


def _elsewhere(kernels: Sequence[KernelText], options: GpuOptions, processes: int) -> None:
    """Compile kernels in other processes, into the folder.

    Raises:
        LoweringError: a process has failed.
    """
    triton()
    command = [sys.executable, "-P", "-m", __name__]  # -P: no modules from the folder one happens to be in
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    common = {**asdict(options), "folder": str(options.folder)}
    running = []
    for number in range(processes):
        request = {"options": common, "kernels": [asdict(k) for k in kernels[number::processes]]}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        assert process.stdin is not None
        process.stdin.write(json.dumps(request))
        process.stdin.close()
        process.stdin = None  # `communicate` would flush it
        running.append(process)
    failures = [process.communicate()[1] for process in running if process.wait() != 0]
    if failures:
        raise LoweringError(f"compiling GPU kernels in another process failed:\n{failures[0][-4000:]}")


def main() -> None:
    """Compile what standard input asks for."""
    request = json.load(sys.stdin)
    options = GpuOptions(**{**request["options"], "folder": Path(request["options"]["folder"])})
    for entry in request["kernels"]:
        kernel = KernelText.of(entry)
        save_image(kernel, compile_kernel(kernel, options).image, options)


def _pointer(element: str) -> str:
    """Triton's short name of an element type in memory."""
    name = MEMORY[element]
    return _SHORT.get(name) or f"i{name.removeprefix('tl.int')}"


if __name__ == "__main__":
    main()
