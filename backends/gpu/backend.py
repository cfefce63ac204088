"""The GPU backend: StableHLO in, one readable Triton module per kernel out.

legalize   StableHLO -> linalg on tensors     backends/cpu/legalize.py
read       linalg -> value graph              backends/cpu/read.py
prepare    what makes better kernels here     attention_parts.py, attention_results.py, depthwise.py, pads.py, pairs.py,
                                              splits.py, prologues.py
form       values -> kernels                  backends/cpu/fusion.py; one file here for each kind of kernel
save       one Python module per kernel       store.py
compile    Python -> PTX, cubin, hsaco        compile.py (needs no GPU)
build      kernels -> a program to launch     program.py, runtime/gpu/artefact.py
simulate   in Triton's interpreter, on NumPy  simulate.py (needs no GPU)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from thalweg.backends.cpu.attention import form_attention
from thalweg.backends.cpu.backend import aliases_of, main_function, signature_types
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.fusion import Generator, form
from thalweg.backends.cpu.graph import Graph, Value, tidy
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.read import read_function
from thalweg.backends.cpu.schedule import order_updates
from thalweg.backends.gpu.attention import attention, tiles_of_attention
from thalweg.backends.gpu.attention_parts import split_attention
from thalweg.backends.gpu.attention_results import finish_attention
from thalweg.backends.gpu.blocked import block_matrices
from thalweg.backends.gpu.collect import collective, gather_collectives
from thalweg.backends.gpu.compile import Compiled, compile_kernel
from thalweg.backends.gpu.configurations import Tile
from thalweg.backends.gpu.contraction import contraction, contraction_tiles, parts_of
from thalweg.backends.gpu.cumulative import cumulative
from thalweg.backends.gpu.depthwise import depthwise_as_windows
from thalweg.backends.gpu.descriptors import matmul
from thalweg.backends.gpu.elementwise import elementwise, flat_tiles
from thalweg.backends.gpu.fused import not_yet
from thalweg.backends.gpu.insert import insert
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.long_lines import cut_long_lines
from thalweg.backends.gpu.loops import loops
from thalweg.backends.gpu.lowered import Lowered
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.pads import absorb_pads
from thalweg.backends.gpu.pairs import join_pairs
from thalweg.backends.gpu.program import build
from thalweg.backends.gpu.prologues import absorb_prologues, drop_absorbed, with_prologues
from thalweg.backends.gpu.rows import row_tiles
from thalweg.backends.gpu.scatter import scatter
from thalweg.backends.gpu.select_scatter import select_and_scatter
from thalweg.backends.gpu.several import reductions
from thalweg.backends.gpu.sort import sort
from thalweg.backends.gpu.splits import split_sums
from thalweg.backends.gpu.triangles import cholesky, triangular_solve
from thalweg.backends.gpu.tuning import Tuner
from thalweg.backends.shards.collectives import OP as COLLECTIVE
from thalweg.backends.shards.split import Share, split_module
from thalweg.dialects.mlir import ir
from thalweg.runtime.gpu.artefact import DeviceProgram, Splits

Emit = Callable[..., TritonKernel]  # of (group, name, options); those of `CANDIDATES` also take `tile`

# Who writes the kernel that a value starts, by its kind, or by its op's name where the kind is `opaque`.
EMITTERS: dict[str, Emit] = {
    **dict.fromkeys(("map", "slice", "reshape", "constant"), elementwise),
    "reduce": reductions,
    "attention": attention,
    "contract": matmul,
    "convolution": contraction,
    "window": loops,
    "insert": insert,
    "stablehlo.scatter": scatter,
    "stablehlo.sort": sort,
    "stablehlo.cholesky": cholesky,
    "stablehlo.triangular_solve": triangular_solve,
    "tw.cumulative": cumulative,
    "stablehlo.select_and_scatter": select_and_scatter,
    COLLECTIVE: collective,
}


# What may be tried instead of the tile that the rules choose, for the kinds of kernel that have a choice.
CANDIDATES: dict[str, Callable[[Group, GpuOptions], list[Tile]]] = {
    "map": flat_tiles,
    "reduce": row_tiles,
    "contract": contraction_tiles,
    "convolution": contraction_tiles,
    "attention": tiles_of_attention,
}


def emit(group: Group, name: str, options: GpuOptions, tuner: Tuner | None = None) -> TritonKernel:
    """The kernel of a group, by the tile that a tuner knows to be best.

    Raises:
        LoweringError: an op that has no Triton code; it names the op and the user's line.
    """
    root = group.root
    emitter = EMITTERS.get(root.op_name if root.kind == "opaque" else root.kind)
    if emitter is None:
        raise not_yet(root, root.op_name)
    if root.kind in ("contract", "attention"):
        group = with_prologues(group)
    if tuner is None or root.kind not in CANDIDATES:
        return emitter(group, name, options)
    tuned = partial(emitter, group, name, options)
    return tuner.best(lambda tile: tuned(tile=tile), lambda: CANDIDATES[root.kind](group, options))


def _has_epilogue(root: Value) -> bool:
    return root.kind == "window" or (root.kind in ("contract", "convolution") and not parts_of(root))


def prepare(graph: Graph, options: GpuOptions) -> Graph:
    """Rewrite a graph in place into values that make better kernels on a GPU."""
    form_attention(graph, narrow=True)
    changed = split_attention(graph) | depthwise_as_windows(graph) | absorb_pads(graph)
    if changed | join_pairs(graph, options) | split_sums(graph, options):
        _update_users(graph)
    if finish_attention(graph):
        _update_users(graph)
    if absorb_prologues(graph, options):
        _update_users(graph)
        drop_absorbed(graph)
    return graph


def _update_users(graph: Graph) -> None:
    tidy(graph)


def lower(module: ir.Module, options: GpuOptions | None = None, tuner: Tuner | None = None) -> Lowered:
    """The kernels of the function `main` of a StableHLO module with static shapes. The module is not changed.

    Args:
        tuner: chooses tiles by what it has measured; None leaves that to the rules (configurations.py).

    Raises:
        LoweringError: an op that has no Triton code; it names the op and the user's line.
    """
    options = options or GpuOptions()
    with module.context, ir.Location.unknown(module.context):
        linalg = legalize(block_matrices(cut_long_lines(module)), own=False)
        function = main_function(linalg)
        aliases = aliases_of(function)
        generator = Generator(lambda group, name: emit(group, name, options, tuner), _has_epilogue)
        program = form(prepare(read_function(function), options), generator)
        gather_collectives(program)
        order_updates(program, aliases)
        inputs, outputs = signature_types(function)
        return Lowered(linalg, program, inputs, outputs, aliases, options)


def compile_stablehlo(module: ir.Module, options: GpuOptions | None = None) -> list[Compiled]:
    """The machine code of the kernels of a module, in the order in which they run. Needs no GPU.

    Raises:
        LoweringError: an op that has no Triton code.
        MissingExtraError: Triton is not installed.
    """
    lowered = lower(module, options)
    return [compile_kernel(kernel.text, lowered.options) for kernel in lowered.kernels]


def compile_program(
    module: ir.Module, options: GpuOptions | None = None, tuner: Tuner | None = None, share: Share | None = None
) -> DeviceProgram:
    """A module as all that a launcher needs. Needs no GPU.

    Args:
        share: which part of it, where several GPUs share the batch.

    Raises:
        LoweringError: an op that has no Triton code; a batch that cannot be split evenly.
        MissingExtraError: Triton is not installed; the chip `virtual` needs none here.
    """
    with module.context, ir.Location.unknown(module.context):
        if share is None:
            return build(lower(module, options, tuner))
        part = split_module(module, share)
        program = build(lower(part.module, options, tuner))
        return replace(program, split=Splits(part.arguments, part.results, part.same))


STAGES = ("triton", "ptx")


def stage(module: ir.Module, name: str, options: GpuOptions | None = None) -> str:
    """The text of a stage, one of `STAGES`: the kernels' modules, or their assembly (`ptx`; on AMD chips its like).

    Raises:
        LoweringError: an op that has no Triton code yet.
        MissingExtraError: Triton is not installed; the stage `triton` needs none.
    """
    if name == "triton":
        return "\n\n".join(f"# {k.name}.py\n{k.source}" for k in lower(module, options).kernels)
    return "".join(f"// {kernel.image.name}\n{kernel.assembly}\n" for kernel in compile_stablehlo(module, options))
