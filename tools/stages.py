"""The stages of a program that a command works on, as modules and as text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from thalweg.backends.cpu.backend import Lowered, compile_stablehlo, lower, stages
from thalweg.backends.cpu.executable import Executable
from thalweg.backends.cpu.legalize import legalize
from thalweg.backends.gpu import backend as gpu
from thalweg.compiler import STAGES, driver, optimized
from thalweg.dialects import context
from thalweg.dialects.extents import any_open
from thalweg.dialects.mlir import ir
from thalweg.passes.pipeline import Pipeline
from thalweg.passes.pipelines import to_parts
from thalweg.runtime.config import config
from thalweg.tools.loading import LoadError, Subject

__all__ = [
    "PARTS", "STAGES", "WITH_PLACES", "argument_names", "executable", "gpu_binaries", "gpu_text", "lowered",
    "module_at", "parts_at", "stablehlo_of", "text_at", "texts_at",
]

WITH_PLACES = ("tw", "tw-optimized", "stablehlo", "linalg")  # stages that are modules, whose ops carry locations
PARTS = "parts"  # one module for each device


def text_at(subject: Subject, stage: str, debug_info: bool = False) -> str:
    """The text of a stage; with locations on request, at the stages `WITH_PLACES`.

    Raises:
        LoadError: a StableHLO module has no stage before `stablehlo`.
    """
    with context.entered():
        if stage in WITH_PLACES:
            return str(module_at(subject, stage).get_asm(enable_debug_info=debug_info))
        return texts_at(subject, [stage])[stage]


def texts_at(subject: Subject, wanted: Sequence[str]) -> dict[str, str]:
    """The texts of stages beyond linalg, from one compilation."""
    every = stages(stablehlo_of(subject), driver().cpu_options(), driver().tuner())
    return {stage: every[stage] for stage in wanted}


def gpu_text(subject: Subject, stage: str, chip: str) -> str:
    """The text of one of the GPU backend's stages."""
    return gpu.stage(stablehlo_of(subject), stage, driver().gpu_options(chip))


def gpu_binaries(subject: Subject, kind: str, chip: str, folder: Path) -> list[Path]:
    """Write the kernels' machine code and modules to a folder; the files, machine code first.

    Raises:
        LoadError: the chip does not run this kind of code.
    """
    options = driver().gpu_options(chip)
    if (kind == "cubin") != (options.vendor == "cuda"):
        raise LoadError(f"{chip} does not run {kind}; cubin is for NVIDIA's sm_…, hsaco for AMD's gfx….")
    folder.mkdir(parents=True, exist_ok=True)
    module = stablehlo_of(subject)
    written = []
    for compiled in gpu.compile_stablehlo(module, options):
        written.append(folder / f"{compiled.image.name}.{kind}")
        written[-1].write_bytes(compiled.image.binary)
    for kernel in gpu.lower(module, options).kernels:
        written.append(folder / f"{kernel.name}.py")
        written[-1].write_text(kernel.source)
    return written


def lowered(subject: Subject) -> Lowered:
    """The program on its way down the CPU backend, with its kernels and its memory plan."""
    return lower(stablehlo_of(subject), driver().cpu_options(), tuner=driver().tuner())


def module_at(subject: Subject, stage: str) -> ir.Operation:
    """The module of a stage, one of `WITH_PLACES`, as an operation."""
    if stage == "stablehlo":
        return stablehlo_of(subject).operation
    if stage == "linalg":
        return legalize(stablehlo_of(subject))
    if subject.dialect == "stablehlo":
        raise LoadError(f"{subject.name} is a StableHLO module: it has no stage '{stage}'. Its first is 'stablehlo'.")
    return subject.module.operation if stage == "tw" else optimized(subject.module).operation


def parts_at(subject: Subject, devices: str = "") -> ir.Module:
    """The program cut for devices: a module that holds one for each.

    Args:
        devices: as the pass `place` takes them; this process's if empty.

    Raises:
        LoadError: a StableHLO module, which no pass of ours can cut.
    """
    if subject.dialect == "stablehlo":
        raise LoadError(f"{subject.name} is a StableHLO module: only tw programs are cut for devices.")
    module = optimized(subject.module)
    pipeline = to_parts(devices or ";".join(config.devices), config.compress_transfers, config.placement_costs)
    Pipeline.parse(pipeline).run(module)
    return module


def stablehlo_of(subject: Subject) -> ir.Module:
    """The program as StableHLO.

    Raises:
        LoadError: it has open extents.
    """
    if any(any_open(t.shape) for t in subject.inputs):
        needed = ",".join(str(t).replace("?", "N") for t in subject.inputs)
        raise LoadError(f"{subject.name} has extents that a run decides. Give --shapes {needed} with numbers for N.")
    return subject.module if subject.dialect == "stablehlo" else driver().to_stablehlo(subject.module)[0]


def argument_names(subject: Subject) -> list[str]:
    """What the arguments of the program that is compiled are: inputs, captured constants, variables."""
    count = len(subject.inputs) - len(subject.constants)
    names = list(subject.names) or [f"argument {i}" for i in range(count)]
    names += [f"constant {i}" for i in range(len(subject.constants))]
    if subject.dialect == "tw":
        names += [f"variable {name}" for name in driver().to_stablehlo(subject.module)[1]]
    return names


def executable(module: ir.Module) -> Executable:
    """A StableHLO module compiled with the process's options."""
    return compile_stablehlo(module, driver().cpu_options(), driver().tuner())
