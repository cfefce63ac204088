"""The CPU backend: StableHLO in, native code out.

legalize   StableHLO -> linalg on tensors         legalize.py
read       linalg -> value graph                  read.py
form       values -> kernels                      fusion.py, emit/
order      in-place updates last                  schedule.py
plan       values -> buffers                      plan.py
step       kernels -> one function in MLIR        step.py, parallel.py
lower      MLIR -> LLVM IR                        jit.py
compile    LLVM IR -> object code                 jit.py
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from thalweg.backends.cpu.executable import ENTRY, Executable, Signature
from thalweg.backends.cpu.fusion import form
from thalweg.backends.cpu.jit import compile_llvm, compile_program, to_llvm_ir
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.parallel import Parallel
from thalweg.backends.cpu.plan import Plan
from thalweg.backends.cpu.program import Program, share_kernels
from thalweg.backends.cpu.read import read_function
from thalweg.backends.cpu.schedule import order_updates
from thalweg.backends.cpu.step import Runner, StepWriter
from thalweg.backends.cpu.widening import absorb_widenings
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType, dtype_from_mlir


def compile_stablehlo(module: ir.Module, options: CpuOptions | None = None) -> Executable:
    """Compile the function `main` of a StableHLO module with static shapes. The module is not changed.

    Raises:
        LoweringError: an op, a type or a shape that the backend cannot compile.
    """
    options = options or CpuOptions()
    with module.context, ir.Location.unknown(module.context):
        lowered = lower(module, options)
    names = {kernel.name for kernel in lowered.program.kernels()}
    return Executable(lowered.signature, compile_program(lowered.llvm, names, options), options)


def stages(module: ir.Module, options: CpuOptions | None = None) -> dict[str, str]:
    """The text of each stage: 'linalg', 'kernels', 'llvm' (optimised) and 'asm'."""
    options = options or CpuOptions()
    with module.context, ir.Location.unknown(module.context):
        lowered = lower(module, options)
    native = compile_llvm(lowered.llvm, options, keep_texts=True)
    return {"linalg": lowered.linalg, "kernels": lowered.kernels, "llvm": native.llvm, "asm": native.assembly}


@dataclass(frozen=True)
class Lowered:
    """A program on the way down: what it takes and gives, and its text at the stages."""

    signature: Signature
    linalg_op: ir.Operation
    program: Program
    plan: Plan
    kernels: str
    llvm: str

    @property
    def linalg(self) -> str:
        return str(self.linalg_op)


def lower(
    module: ir.Module,
    options: CpuOptions,
    around: Callable[[Runner], Runner] = lambda run: run,
    finish: Callable[[str], str] = lambda step: step,
) -> Lowered:
    """All stages up to LLVM IR; `around` wraps how kernels are launched and `finish` completes the step (profiles
    do).
    """
    linalg = legalize(module)
    function = main_function(linalg)
    aliases = aliases_of(function)
    program = form(absorb_widenings(read_function(function)), options)
    order_updates(program, aliases)
    share_kernels(program)
    plan = Plan(program, aliases, options.worker_count())
    parallel = Parallel(options.worker_count())
    step = finish(StepWriter(program, plan, aliases, around(parallel)).text())
    sources = "".join({kernel.name: kernel.source for kernel in program.kernels()}.values())
    kernels = f"module {{\n{sources}{parallel.declarations()}{step}}}\n"
    inputs, outputs = signature_types(function)
    signature = Signature(inputs, outputs, aliases, plan.arena_bytes)
    pointers = len(inputs) + len(outputs) - len(aliases) + 1
    return Lowered(signature, linalg, program, plan, kernels, parallel.define(to_llvm_ir(kernels)) + entry(pointers))


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
    aliases: dict[int, int] = {}
    for argument, attributes in enumerate(ir.ArrayAttr(function.attributes["arg_attrs"])):
        attributes = ir.DictAttr(attributes)
        if "tw.alias" not in attributes:
            continue
        result = ir.IntegerAttr(attributes["tw.alias"]).value
        if result not in range(len(kind.results)) or result in aliases or kind.results[result] != kind.inputs[argument]:
            raise LoweringError(
                f"argument {argument} ({kind.inputs[argument]}) has tw.alias = {result}, which is not a result of the "
                "same type that no other argument aliases."
            )
        aliases[result] = argument
    return aliases


def signature_types(function: ir.Operation) -> tuple[tuple[TensorType, ...], tuple[TensorType, ...]]:
    """The types of a function's arguments and results, with the sign of integers."""
    kind = ir.FunctionType(ir.TypeAttr(function.attributes["function_type"]).value)

    def tensor(type_: ir.Type) -> TensorType:
        ranked = ir.RankedTensorType(type_)
        return TensorType(tuple(ranked.shape), dtype_from_mlir(str(ranked.element_type)))

    return tuple(map(tensor, kind.inputs)), tuple(map(tensor, kind.results))


def entry(pointers: int) -> str:
    """LLVM IR of the function that is called from Python: it takes one table of pointers.

    The table holds the arguments, the results that alias no argument, and the arena.
    """
    lines = [f"\ndefine void @{ENTRY}(ptr %table) {{"]
    for k in range(pointers):
        lines += [f"  %g{k} = getelementptr ptr, ptr %table, i64 {k}", f"  %p{k} = load ptr, ptr %g{k}, align 8"]
    lines.append(f"  call void @step({', '.join(f'ptr %p{k}' for k in range(pointers))})")
    return "\n".join([*lines, "  ret void", "}", ""])
