"""The CPU backend: StableHLO in, native code out.

legalize   StableHLO -> linalg on tensors         legalize.py
read       linalg -> value graph                  read.py
form       values -> kernels                      fusion.py, alike.py, emit/
order      in-place updates last                  schedule.py
plan       values -> buffers                      plan.py
step       kernels -> one function in MLIR        step.py, parallel.py
prepare    the same for what lays out weights     hoist.py, weights.py
cut        kernels and step -> parts              partition.py
lower      MLIR -> LLVM IR, part by part          jit.py, workers.py
compile    LLVM IR -> object code                 jit.py, native.py
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from thalweg.backends.cpu.executable import ENTRY, PREPARE, Executable, Signature
from thalweg.backends.cpu.fusion import form
from thalweg.backends.cpu.hoist import Split, hoist_packing, split_steady
from thalweg.backends.cpu.jit import compile_llvm, compile_program, to_llvm_ir
from thalweg.backends.cpu.layout import prefer_channels_last
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.orientation import follow_images
from thalweg.backends.cpu.padding import absorb_paddings
from thalweg.backends.cpu.parallel import Parallel
from thalweg.backends.cpu.partition import parts_of, with_definitions
from thalweg.backends.cpu.pieces import cut_sums
from thalweg.backends.cpu.plan import Plan
from thalweg.backends.cpu.program import Program, share_kernels
from thalweg.backends.cpu.read import read_function
from thalweg.backends.cpu.schedule import order_updates
from thalweg.backends.cpu.slices import slice_batches
from thalweg.backends.cpu.slopes import keep_slopes
from thalweg.backends.cpu.step import Runner, StepWriter
from thalweg.backends.cpu.subnormals import EXACT, Mode, mode
from thalweg.backends.cpu.tuning import Tuner
from thalweg.backends.cpu.weights import Preparation
from thalweg.backends.cpu.widening import absorb_widenings
from thalweg.backends.cpu.workers import prepare
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType, dtype_from_mlir


def compile_stablehlo(
    module: ir.Module, options: CpuOptions | None = None, tuner: Tuner | None = None
) -> Executable:
    """Compile the function `main` of a StableHLO module with static shapes. The module is not changed.

    Matrices among the arguments that are marked as variables or constants, and that the program does not update, are
    packed once (weights.py).

    Args:
        tuner: chooses how products of matrices are cut; None leaves that to a model.

    Raises:
        LoweringError: an op, a type or a shape that the backend cannot compile.
    """
    options = options or CpuOptions()
    with module.context, ir.Location.unknown(module.context):
        prepare(_length(module), options.worker_count())
        lowered = lower(module, options, tuner=tuner)
    return Executable(lowered.signature, lowered.object_code(options), options)


def _length(module: ir.Module) -> int:
    """How many ops there are, those inside of other ops not counted."""
    bodies = (region for view in module.body.operations for region in view.operation.regions)
    return sum(len(block.operations) for region in bodies for block in region.blocks)


def stages(
    module: ir.Module, options: CpuOptions | None = None, tuner: Tuner | None = None
) -> dict[str, str]:
    """The text of each stage: 'linalg', 'kernels', 'llvm' (optimised) and 'asm'."""
    options = options or CpuOptions()
    with module.context, ir.Location.unknown(module.context):
        lowered = lower(module, options, tuner=tuner)
    native = compile_llvm(lowered.llvm, options, keep_texts=True)
    return {"linalg": lowered.linalg, "kernels": lowered.kernels, "llvm": native.llvm, "asm": native.assembly}


@dataclass(frozen=True)
class Lowered:
    """A program on the way down: what it takes and gives, and its text at the stages."""

    signature: Signature
    linalg_op: ir.Operation
    program: Program
    plan: Plan
    sources: Mapping[str, str]  # the kernels' functions, by name
    step: str  # the step, with what it declares
    definitions: str  # LLVM IR of what it declares beside the kernels, and of the entry

    @property
    def linalg(self) -> str:
        return str(self.linalg_op)

    @property
    def kernels(self) -> str:
        return f"module {{\n{''.join(self.sources.values())}{self.step}}}\n"

    @cached_property
    def llvm(self) -> str:
        with self.linalg_op.context:
            return with_definitions(to_llvm_ir(self.kernels), self.definitions)

    def object_code(self, options: CpuOptions) -> bytes:
        """Machine code as `Executable` takes it."""
        with self.linalg_op.context:
            return compile_program(parts_of(self.sources, self.step, self.definitions), options)


def lower(
    module: ir.Module,
    options: CpuOptions,
    around: Callable[[Runner], Runner] = lambda run: run,
    finish: Callable[[str], str] = lambda step: step,
    tuner: Tuner | None = None,
) -> Lowered:
    """All stages up to LLVM IR; `around` wraps how kernels are launched and `finish` completes the step (profiles
    do).
    """
    linalg = legalize(module)
    function = main_function(linalg)
    aliases = aliases_of(function)
    graph = follow_images(prefer_channels_last(absorb_widenings(read_function(function)), options))
    graph = slice_batches(absorb_paddings(graph, options), options)
    graph = hoist_packing(cut_sums(keep_slopes(graph), options), options)
    split = split_steady(graph, steady_of(function), options) if options.pack_weights else None
    program = form(graph, options, tuner=tuner)
    order_updates(program, aliases)
    share_kernels(program)
    plan = Plan(program, aliases, options.worker_count())
    exactness = mode(options)
    parallel = Parallel(options.worker_count(), exactness)
    step = finish(StepWriter(program, plan, aliases, around(parallel)).text())
    inputs, outputs = signature_types(function)
    sources = {kernel.name: kernel.source for kernel in program.kernels()}
    preparation = None
    definitions = entry(len(graph.args) + len(outputs) - len(aliases) + 1, exactness)
    if split is not None:
        text, preparation = _prepared(split, options, parallel, sources)
        step += text
        definitions += entry(len(graph.args) + 1, exactness, PREPARE, "prepare")
    signature = Signature(inputs, outputs, aliases, plan.arena_bytes, preparation)
    definitions = exactness.declarations + parallel.definitions() + definitions
    return Lowered(signature, linalg, program, plan, sources, parallel.declarations() + step, definitions)


def _prepared(
    split: Split, options: CpuOptions, parallel: Parallel, sources: dict[str, str]
) -> tuple[str, Preparation]:
    """The function that lays out weights, whose kernels are added to `sources`, and what it takes and gives."""
    program = form(split.prepare, options, prefix="p")
    share_kernels(program)
    plan = Plan(program, {}, options.worker_count())
    text = StepWriter(program, plan, {}, parallel, "prepare").text()
    sources |= {kernel.name: kernel.source for kernel in program.kernels()}
    made = tuple(TensorType(v.shape, dtype_from_mlir(v.element)) for v in split.prepare.outputs)
    return text, Preparation(made, split.sources, plan.arena_bytes)


def main_function(module: ir.Operation) -> ir.Operation:
    """The function `main`, or the only public one.

    Raises:
        LoweringError: there is none.
    """
    functions = [
        view.operation for view in module.regions[0].blocks[0].operations if view.operation.name == "func.func"
    ]
    for function in functions:
        if ir.StringAttr(function.attributes["sym_name"]).value == "main":
            return function
    if len(functions) != 1:
        raise LoweringError("the module has no function 'main'. Name the function to compile 'main'.")
    return functions[0]


def aliases_of(function: ir.Operation) -> dict[int, int]:
    """Result number -> argument number, from the `tw.alias` attributes of the arguments.

    Raises:
        LoweringError: an alias that names no result, a result of another type, or one that is taken.
    """
    if "arg_attrs" not in function.attributes:
        return {}
    kind = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)
    inputs, results = kind.inputs, kind.results  # lists that are made anew each time
    aliases: dict[int, int] = {}
    for argument, attributes in enumerate(ir.ArrayAttr(function.attributes["arg_attrs"])):
        attributes = ir.DictAttr(attributes)
        if "tw.alias" not in attributes:
            continue
        result = ir.IntegerAttr(attributes["tw.alias"]).value
        if result not in range(len(results)) or result in aliases or results[result] != inputs[argument]:
            raise LoweringError(
                f"argument {argument} ({inputs[argument]}) has tw.alias = {result}, which is not a result of the "
                "same type that no other argument aliases."
            )
        aliases[result] = argument
    return aliases


def steady_of(function: ir.Operation) -> set[int]:
    """The arguments that are what they were in the last call, or nearly always: those with the attribute `tw.constant`,
    and with `tw.variable`, if the function does not give them new values."""
    if "arg_attrs" not in function.attributes:
        return set()
    every = [ir.DictAttr(attributes) for attributes in ir.ArrayAttr(function.attributes["arg_attrs"])]
    kept = {k for k, attributes in enumerate(every) if "tw.constant" in attributes or "tw.variable" in attributes}
    return kept - set(aliases_of(function).values())


def signature_types(function: ir.Operation) -> tuple[tuple[TensorType, ...], tuple[TensorType, ...]]:
    """The types of a function's arguments and results, with the sign of integers."""
    kind = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)

    def tensor(type_: ir.Type) -> TensorType:
        ranked = ir.RankedTensorType(type_)
        return TensorType(tuple(ranked.shape), dtype_from_mlir(str(ranked.element_type)))

    return tuple(map(tensor, kind.inputs)), tuple(map(tensor, kind.results))


def entry(pointers: int, exactness: Mode = EXACT, name: str = ENTRY, step: str = "step") -> str:
    """LLVM IR of a function that is called from Python: it takes one table of pointers, and hands them to a step.

    The table holds the arguments, the results that alias no argument, and the arena.
    """
    lines = [f"\ndefine void @{name}(ptr %table) {{"]
    for k in range(pointers):
        lines += [f"  %g{k} = getelementptr ptr, ptr %table, i64 {k}", f"  %p{k} = load ptr, ptr %g{k}, align 8"]
    call = f"  call void @{step}({', '.join(f'ptr %p{k}' for k in range(pointers))})"
    return "\n".join([*lines, *exactness.before, call, *exactness.after, "  ret void", "}", ""])
