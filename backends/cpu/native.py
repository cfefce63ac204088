"""LLVM IR text to object code, with nothing but llvmlite: also a script that another process runs (partition.py).

    python native.py CPU FEATURES LEVEL < module.ll > module.o
"""

from __future__ import annotations

import sys
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


def optimized(text: str, machine: Any, level: int) -> Any:
    """The module of LLVM IR text, for a machine.

    Raises:
        RuntimeError: LLVM rejects the text.
    """
    module = llvm.parse_assembly(text)
    module.triple = machine.triple
    module.data_layout = str(machine.target_data)
    if level:
        _optimize(module, machine, level)
    return module


def _optimize(module: Any, machine: Any, level: int) -> None:
    """LLVM's optimiser. The kernels are optimised vector code already: level 1 only simplifies instructions, which
    makes code generation faster; LLVM's own pipelines, with its vectorisers, run from level 2 on.
    """
    tuning = llvm.create_pipeline_tuning_options(speed_level=level)
    builder = llvm.create_pass_builder(machine, tuning)
    if level == 1:
        passes = llvm.create_new_module_pass_manager()
        passes.add_instruction_combine_pass()
    else:
        tuning.loop_vectorization = tuning.slp_vectorization = True
        passes = builder.getModulePassManager()
    passes.run(module, builder)


def main() -> None:
    """Standard input to standard output."""
    cpu, features, level = sys.argv[1], sys.argv[2], int(sys.argv[3])
    initialize()
    machine = target_machine(cpu, features, level)
    module = optimized(sys.stdin.buffer.read().decode(), machine, level)
    sys.stdout.buffer.write(machine.emit_object(module))


if __name__ == "__main__":
    main()
