"""The GPU backend: StableHLO in, one readable Triton module per kernel out.

legalize   StableHLO -> linalg on tensors     backends/cpu/legalize.py
read       linalg -> value graph              backends/cpu/read.py
form       values -> kernels                  backends/cpu/fusion.py, elementwise.py, rows.py, contraction.py
save       one Python module per kernel       store.py
compile    Python -> PTX, cubin, hsaco        compile.py (needs no GPU)
simulate   in Triton's interpreter, on NumPy  simulate.py (needs no GPU)

There is no launcher yet: nothing here runs on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thalweg.backends.cpu.backend import aliases_of, main_function, signature_types
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.fusion import Generator, form
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.program import Launch, Program
from thalweg.backends.cpu.read import read_function
from thalweg.backends.cpu.schedule import order_updates
from thalweg.backends.gpu.compile import Compiled, compile_kernel
from thalweg.backends.gpu.contraction import contraction
from thalweg.backends.gpu.elementwise import elementwise
from thalweg.backends.gpu.fused import not_yet
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.rows import rows
from thalweg.backends.gpu.store import save
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType

_ELEMENTWISE = {"map", "slice", "reshape", "constant"}
_KINDS = {
    "convolution": "a convolution",
    "window": "a reduction over a sliding window",
    "insert": "a part written into a tensor (concatenate, pad, an update of a slice)",
}


@dataclass(frozen=True)
class Lowered:
    """A program as Triton kernels. It must be used with the module's context entered."""

    linalg: ir.Operation  # whose ops the values of the program refer to
    program: Program
    outputs: tuple[TensorType, ...]
    aliases: dict[int, int]  # result number -> argument that it overwrites
    options: GpuOptions

    @property
    def kernels(self) -> tuple[TritonKernel, ...]:
        """In the order in which they run."""
        return tuple(k for k in self.program.kernels() if isinstance(k, TritonKernel))

    def save(self) -> list[Path]:
        """Write the kernels' modules; the files, in order."""
        return [save(kernel, self.options.folder) for kernel in self.kernels]


def lower(module: ir.Module, options: GpuOptions | None = None) -> Lowered:
    """The kernels of the function `main` of a StableHLO module with static shapes. The module is not changed.

    Raises:
        LoweringError: an op that has no Triton code yet; it names the op and the user's line.
    """
    options = options or GpuOptions()

    def emit(group: Group, name: str) -> TritonKernel:
        kind = group.root.kind
        if kind == "reduce":
            return rows(group, name)
        if kind == "contract":
            return contraction(group, name, options)
        if kind in _ELEMENTWISE:
            return elementwise(group, name)
        raise not_yet(group.root, _KINDS.get(kind) or group.root.op_name)

    with module.context, ir.Location.unknown(module.context):
        linalg = legalize(module)
        function = main_function(linalg)
        aliases = aliases_of(function)
        program = form(read_function(function), Generator(emit, lambda root: root.kind == "contract"))
        for step in program.steps:
            if not isinstance(step, Launch):
                raise not_yet(step.results[0], step.results[0].op_name)
        order_updates(program, aliases)
        return Lowered(linalg, program, signature_types(function)[1], aliases, options)


def compile_stablehlo(module: ir.Module, options: GpuOptions | None = None) -> list[Compiled]:
    """The machine code of the kernels of a module, in the order in which they run. Needs no GPU.

    Raises:
        LoweringError: an op that has no Triton code yet.
        MissingExtraError: Triton is not installed.
    """
    lowered = lower(module, options)
    paths = lowered.save()
    return [compile_kernel(k, path, lowered.options) for k, path in zip(lowered.kernels, paths, strict=True)]


STAGES = ("triton", "ptx")


def stage(module: ir.Module, name: str, options: GpuOptions | None = None) -> str:
    """The text of a stage, one of `STAGES`: the kernels' modules, or their assembly (`ptx`; on AMD chips its like).

    Raises:
        LoweringError: an op that has no Triton code yet.
        MissingExtraError: Triton is not installed; the stage `triton` needs none.
    """
    if name == "triton":
        return "\n\n".join(f"# {k.name}.py\n{k.source}" for k in lower(module, options).kernels)
    return "".join(f"// {kernel.name}\n{kernel.assembly}\n" for kernel in compile_stablehlo(module, options))
