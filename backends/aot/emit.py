"""Signatures to object code for a target: the CPU backend's own kernels, one module, the C interface around them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm

from thalweg.backends.aot import dispatch
from thalweg.backends.aot.abi import Function, embedded_state, exported_names, interface
from thalweg.backends.aot.layout import Layout
from thalweg.backends.aot.link.sizes import code_of
from thalweg.backends.aot.support import support
from thalweg.backends.aot.targets import Target
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
    the plan of its arena is."""

    name: str
    signature: Signature
    llvm: str
    buffers: tuple[Buffer, ...]

    @property
    def pointers(self) -> int:
        """How many pointers `step.NAME` takes."""
        return len(self.signature.inputs) + len(self.signature.outputs) - len(self.signature.aliases) + 1


@dataclass(frozen=True)
class Emitted:
    """Object code of a model, and its functions' assembly; `exports` are the C functions that it defines."""

    code: bytes
    assembly: str
    exports: tuple[str, ...]


def options_for(target: Target) -> list[CpuOptions]:
    """How the CPU backend generates code for a target's processors, the best first. On one thread, since there may be
    no library of threads below."""
    return [CpuOptions(threads=1, cpu=cpu, features=target.features, opt_level=2) for cpu in target.cpus]


def lower_step(name: str, module: ir.Module, options: CpuOptions) -> Step:
    """The kernels and the step of one signature. Call with a context entered.

    Raises:
        LoweringError: the program holds what cannot be compiled; names the op and the user's line.
    """
    lowered = lower(module, options)
    text = lowered.llvm[: lowered.llvm.index("\ndefine void @tw_entry(")]
    # Only now are there other functions of the same names beside these.
    text = re.sub(r"@(step|constant\d+|k\d+_\w+)\b", rf"@\1.{name}", text)
    return Step(name, lowered.signature, text, tuple(buffers(lowered)))


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
    outside = interface(model, functions, layout, meta, bits, block is not None)
    outside += _choice(functions, steps) if len(steps) > 1 else "".join(map(_declaration, steps[0]))
    if block is not None:
        outside += embedded_state(model, block)
    if target.format == "coff":
        outside += "@_fltused = constant i32 0\n"  # what Microsoft's linker wants of code with floats
    exports = exported_names(model, functions)
    if java:
        outside += jni.bridge(model, functions, layout, bits)
        exports += jni.exported_names(model, functions)
    below = support(target.triple, bits)
    module = _parse(outside, target, machine)
    for text in (below.llvm, *_versions(target, steps)):
        module.link_in(_parse(text, target, machine))
    _finish(module, exports, below.names)
    tuning = llvm.create_pipeline_tuning_options(speed_level=2)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    tuning.loop_unrolling = False  # the kernels are unrolled as far as it pays: more costs size alone
    builder = llvm.create_pass_builder(machine, tuning)
    builder.getModulePassManager().run(module, builder)
    return Emitted(machine.emit_object(module), code_of(machine.emit_assembly(module)), tuple(exports))


def _declaration(step: Step) -> str:
    return f"declare void @step.{step.name}({', '.join(['ptr'] * step.pointers)})\n"


def _choice(functions: Sequence[Function], steps: Sequence[Sequence[Step]]) -> str:
    """Steps that call the version for the processor."""
    arenas = {piece.name: f.arena_bytes for f in functions for piece in f.pieces}
    choosers = "".join(dispatch.chooser(s.name, s.pointers, arenas[s.name]) for s in steps[0])
    return dispatch.level_function() + choosers + dispatch.declarations([(s.name, s.pointers) for s in steps[0]])


def _versions(target: Target, steps: Sequence[Sequence[Step]]) -> Iterator[str]:
    """The steps' texts; where there are several versions, each with names of its own, for its processor."""
    if len(steps) == 1:
        shape = for_engines if "+simd128" in target.features else str
        yield from (shape(step.llvm) for step in steps[0])
        return
    for number, (cpu, version) in enumerate(zip(target.cpus, steps, strict=True)):
        for step in version:
            text = re.sub(rf"@([\w.]+)\.{step.name}\b", rf"@\1.{step.name}.v{number}", step.llvm)
            text = re.sub(r"^(define .*\)) ([^)]*)\{$", rf'\1 \2"target-cpu"="{cpu}" {{', text, flags=re.MULTILINE)
            yield text


def _parse(text: str, target: Target, machine: Any) -> Any:
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
