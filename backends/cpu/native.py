"""LLVM IR text to object code, with nothing but llvmlite."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm


def initialize() -> None:
    """Let LLVM generate code for this machine's kind of processor."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


def target_machine(cpu: str, features: str, level: int) -> Any:
    """The machine to generate code for, at a level of optimisation from 0 to 3. Call `initialize` before."""
    target = llvm.Target.from_default_triple()
    codegen = 2 if level else 1
    return target.create_target_machine(cpu=cpu, features=features, opt=codegen, reloc="pic", codemodel="default")


def optimized(text: str, machine: Any, level: int, explicit: bool = False) -> Any:
    """The module of LLVM IR text, for a machine.

    Args:
        explicit: whether the text is explicit vector code, to which level 2 need not do much.

    Raises:
        RuntimeError: LLVM rejects the text.
    """
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    if level:
        _optimize(module, machine, level, explicit)
    return module


def _optimize(module: Any, machine: Any, level: int, explicit: bool) -> None:
    """LLVM's optimiser.

    Explicit vector code is as good as it gets before LLVM sees it, and LLVM's own pipelines take longer over it than
    all else together. Of their passes two are missed: instructions are simplified (which makes code generation faster,
    too), and loops test at their end. LLVM's global value numbering does harm: it keeps so many addresses in registers
    that sums are spilled.
    """
    tuning = llvm.create_pipeline_tuning_options(speed_level=level)
    builder = llvm.create_pass_builder(machine, tuning)
    if level == 1 or (level == 2 and explicit):
        passes = llvm.create_new_module_pass_manager()
        passes.add_always_inliner_pass()
        passes.add_instruction_combine_pass()
        if level == 2:
            passes.add_simplify_cfg_pass()
            passes.add_loop_rotate_pass()
            passes.add_instruction_combine_pass()
    else:
        tuning.loop_vectorization = tuning.slp_vectorization = True
        passes = builder.getModulePassManager()
    passes.run(module, builder)
