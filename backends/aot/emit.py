"""Signatures to object code for a target: the CPU backend's own kernels, one module, the C interface around them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from thalweg.backends.aot import dispatch
from thalweg.backends.aot.abi import Function, embedded_state, exported_names, interface
from thalweg.backends.aot.layout import Layout
from thalweg.backends.aot.link.sizes import code_of
from thalweg.backends.aot.support import support
from thalweg.backends.aot.targets import Target
from thalweg.backends.aot.tasks import Tasks, with_words
from thalweg.backends.aot.web import for_engines
from thalweg.backends.aot.wrappers import jni
from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.executable import Signature
from thalweg.backends.cpu.memory import Buffer, buffers
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects.diagnostics import ExportError
from thalweg.dialects.mlir import ir

_KERNEL = re.compile(r"k\d+_")


@dataclass(frozen=True)
class Step:
    """A signature's StableHLO as LLVM IR that defines `step.NAME`, for one kind of processor; `buffers` tell what
    the plan of its arena is. If it is `shared` by threads, its first argument is a pool (tasks.py)."""

    name: str
    signature: Signature
    llvm: str
    buffers: tuple[Buffer, ...]
    shared: bool = False

    @property
    def pointers(self) -> int:
        """How many pointers `step.NAME` takes."""
        arrays = len(self.signature.inputs) + len(self.signature.outputs) - len(self.signature.aliases)
        return arrays + 1 + self.shared


@dataclass(frozen=True)
class Emitted:
    """Object code of a model, and its functions' assembly; `exports` are the C functions that it defines."""

    code: bytes
    assembly: str
    exports: tuple[str, ...]


def options_for(target: Target) -> list[CpuOptions]:
    """How the CPU backend generates code for a target's processors, the best first."""
    pairs = [(cpu, target.features, more) for cpu, _, more in (name.partition("+") for name in target.cpus)]
    features = [(cpu, features or (more and f"+{more}")) for cpu, features, more in pairs]
    # The block of weights is a checkpoint, and serves all processors of a target: it keeps the program's own order.
    common = CpuOptions(threads=target.threads, opt_level=2, pack_weights=False)
    return [replace(common, cpu=cpu, features=some) for cpu, some in features]


def lower_step(name: str, module: ir.Module, options: CpuOptions) -> Step:
    """The kernels and the step of one signature. Call with a context entered.

    Raises:
        LoweringError: the program holds what cannot be compiled; names the op and the user's line.
    """
    tasks = Tasks(options.threads)
    shared = options.threads > 1
    lowered = lower(module, options, lambda _: tasks, tasks.complete) if shared else lower(module, options)
    text = tasks.define(lowered.llvm[: lowered.llvm.index("\ndefine void @tw_entry(")])
    # Only now are there other functions of the same names beside these.
    text = re.sub(r"@(step|constant\d+|k\d+_\w+)\b", rf"@\1.{name}", text)
    return Step(name, lowered.signature, text, tuple(buffers(lowered)), shared)


def emit(
    model: str, target: Target, functions: Sequence[Function], steps: Sequence[Sequence[Step]], layout: Layout,
    meta: str, block: bytes | None, java: bool = False,
) -> Emitted:  # fmt: skip
    """Object code.

    Args:
        steps: those of the functions' pieces in order, once for each of the target's processors.
        block: the state to be embedded, None to leave it to a file.
        java: whether the library also has the bridge that Java needs.

    Raises:
        ExportError: LLVM cannot generate the code, or the code needs functions that are not in it.
    """
    machine = _machine(target)
    bits = target.pointer_bits
    shared = steps[0][0].shared
    outside = interface(model, functions, layout, meta, bits, block is not None, shared)
    outside += _choice(functions, steps, target.cpus) if len(steps) > 1 else "".join(map(_declaration, steps[0]))
    if block is not None:
        outside += embedded_state(model, block)
    if target.format == "coff":
        outside += "@_fltused = constant i32 0\n"  # what Microsoft's linker wants of code with floats
    exports = exported_names(model, functions, shared)
    if java:
        outside += jni.bridge(model, functions, layout, bits)
        exports += jni.exported_names(model, functions)
    below = support(target.triple, bits)
    module = _parse(outside, target, machine)
    for text in (below.llvm, *_versions(target, steps)):
        module.link_in(_parse(with_words(text, bits), target, machine))
    _finish(module, exports, below.names)
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    tuning.loop_unrolling = False  # the kernels are unrolled as far as it pays: more costs size alone
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return Emitted(machine.emit_object(module), code_of(machine.emit_assembly(module)), tuple(exports))


def _declaration(step: Step) -> str:
    return f"declare void @step.{step.name}({', '.join(['ptr'] * step.pointers)})\n"


def _choice(functions: Sequence[Function], steps: Sequence[Sequence[Step]], levels: Sequence[str]) -> str:
    """Steps that call the version for the processor."""
    arenas = {piece.name: f.arena_bytes for f in functions for piece in f.pieces}
    count = len(levels)
    choosers = "".join(dispatch.chooser(s.name, s.pointers, arenas[s.name], count) for s in steps[0])
    declared = dispatch.declarations([(s.name, s.pointers) for s in steps[0]], count)
    return dispatch.level_function(levels) + choosers + declared


def _versions(target: Target, steps: Sequence[Sequence[Step]]) -> Iterator[str]:
    """The steps' texts; where there are several versions, each with names of its own, for its processor."""
    if len(steps) == 1:
        shape = for_engines if "+simd128" in target.features else str
        yield from (shape(step.llvm) for step in steps[0])
        return
    for number, (level, version) in enumerate(zip(target.cpus, steps, strict=True)):
        cpu, _, feature = level.partition("+")
        attributes = f'"target-cpu"="{cpu}"' + (f' "target-features"="+{feature}"' if feature else "")
        for step in version:
            text = re.sub(rf"@([\w.]+)\.{step.name}\b", rf"@\1.{step.name}.v{number}", step.llvm)
            text = re.sub(r"^(define .*\)) ([^)]*)\{$", rf"\1 \2{attributes} {{", text, flags=re.MULTILINE)
            yield text


def _parse(text: str, target: Target, machine: Any) -> Any:
    if not target.is_wasm:
        # How many cases make a table is a variable of LLVM's that generating WebAssembly sets for all processors: code
        # would depend on what was exported before. No switch of ours has enough cases for a table to pay.
        text = re.sub(r"^(define .*\)[^)]*?) \{$", r'\1 "no-jump-tables"="true" {', text, flags=re.MULTILINE)
    try:
        module = llvm.parse_assembly(text)
    except RuntimeError as error:
        raise ExportError(f"LLVM rejects the code for {target.name}: {error}") from error
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    return module


def _finish(module: Any, exports: Sequence[str], below: Sequence[str]) -> None:
    """All but the interface is internal; what the code generator may yet call stays. Kernels stay functions of their
    own: a call costs nothing beside their work, and sizes and profiles tell them apart."""
    for function in module.functions:
        if _KERNEL.match(function.name) and not function.is_declaration:
            function.add_function_attribute("noinline")
        if not function.is_declaration and function.name not in (*exports, *below):
            function.linkage = "internal"
    for name in below:
        module.get_function(name).linkage = "internal"


@cache
def _initialize() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()  # for the question what an x86 processor can do


def _machine(target: Target) -> Any:
    _initialize()
    found = llvm.Target.from_triple(target.triple)
    reloc = "static" if target.is_wasm else "pic"
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc=reloc, codemodel="default"
    )
