"""`thalweg translate`: a program at another stage, or in another format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from thalweg.tools.console import print_lines, write, write_bytes

if TYPE_CHECKING:
    from thalweg.dialects.mlir import ir
    from thalweg.tools.loading import Subject

_HELP = """
Print a program at a stage of the compiler, as a graph, or as a portable artefact.

Stages, in order: **tw** as traced, **tw-optimized**, **stablehlo**, **linalg**, **kernels** as formed, **llvm**,
**asm**. Graphs: **dot** for Graphviz, **json** for Model Explorer. **artefact**: StableHLO as versioned bytecode.
**parts**: one program for each of the `--devices`, with what they send to each other.

For GPUs, which need not be there: **triton**, one Python module per kernel; **ptx**, and with `--chip gfx942` AMD's
assembly; **cubin**, and **hsaco** for AMD: a file for each kernel in the folder `--output`, beside its module.

A function is traced with `--shapes`, or with what its attribute `example_inputs` holds.

**Examples**

    thalweg translate model.py:f --to stablehlo
    thalweg translate model.py:f --to tw --shapes f32[2,3],f32[3,4]
    thalweg translate exported_from_jax.mlir --to asm -o step.s
    thalweg translate model.py:f --to dot | dot -Tsvg > f.svg
    thalweg translate model.py:f --to json --of stablehlo -o f.json
    thalweg translate model.py:f --to dot --of parts --devices cpu:2
    thalweg translate model.py:f --to triton
    thalweg translate model.py:f --to cubin --chip sm_90 -o kernels
    thalweg translate model.py:f --to artefact --stablehlo-version 1.0.0 -o f.mlirbc
"""
_GRAPHS = ("dot", "json")
_BINARIES = {"cubin": "sm_90", "hsaco": "gfx942"}  # and the chips they are for, unless another is named
_GPU = ("triton", "ptx", *_BINARIES)
_FORMATS = (
    "tw", "tw-optimized", "parts", "stablehlo", "linalg", "kernels", "llvm", "asm", *_GPU, *_GRAPHS, "artefact"
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="translate", help=_HELP, rich_help_panel="Compile")(translate)


def _known(value: str) -> str:
    if value and value not in _FORMATS:
        from thalweg.dialects.diagnostics import did_you_mean

        raise typer.BadParameter(f"'{value}'{did_you_mean(value, _FORMATS)} Known: {', '.join(_FORMATS)}.")
    return value


def translate(
    target: str = typer.Argument(..., metavar="PROGRAM", help="model.mlir, an artefact, -, or model.py:function."),
    to: str = typer.Option("stablehlo", "--to", "-t", metavar="FORMAT", callback=_known, help="A stage or format."),
    shapes: str = typer.Option("", "--shapes", metavar="TYPES", help="Types of the inputs: f32[2,3],i32[4]."),
    output: str = typer.Option("-", "--output", "-o", metavar="FILE", help="Where to write; - is stdout."),
    of: str = typer.Option("", "--of", metavar="STAGE", callback=_known, help="The stage that a graph shows."),
    debug_info: bool = typer.Option(False, "--mlir-print-debuginfo", help="Print locations (up to linalg)."),
    compact: bool = typer.Option(False, "--compact", help="For people: short types, source lines (up to linalg)."),
    devices: str = typer.Option("", "--devices", metavar="LIST", help="For parts: cpu:2, /job:ps/task:0..1/cpu:0."),
    chip: str = typer.Option("", "--chip", metavar="CHIP", help="For triton, ptx, cubin, hsaco: sm_80…sm_100, gfx942."),
    version: str = typer.Option("", "--stablehlo-version", metavar="V", help="Of an artefact; the newest by default."),
) -> None:
    """Load, bring to the stage, write."""
    from thalweg.dialects import context
    from thalweg.tools import stages
    from thalweg.tools.loading import LoadError, load

    subject = load(target, shapes)
    with context.entered():
        if to == "artefact":
            _write_artefact(subject, version, output)
            return
        if to in _GPU:
            _write_gpu(subject, to, chip, output)
            return
        stage = (of or subject.dialect) if to in _GRAPHS else to
        if stage not in (*stages.WITH_PLACES, stages.PARTS):
            if to in _GRAPHS or compact:
                known = ", ".join((*stages.WITH_PLACES, stages.PARTS))
                raise LoadError(f"the stage '{stage}' is plain text; graphs and --compact show {known}.")
            write(stages.text_at(subject, stage), output)
            return
        parts = stages.parts_at(subject, devices) if stage == stages.PARTS else None
        operation = parts.operation if parts else stages.module_at(subject, stage)
        if to in _GRAPHS:
            _write_graph(operation, to, subject.name, output)
        elif compact:
            _write_compact(operation, output)
        else:
            write(str(operation.get_asm(enable_debug_info=debug_info)), output)


def _write_artefact(subject: Subject, version: str, output: str) -> None:
    import sys

    from thalweg.backends.stablehlo import artefact
    from thalweg.tools import stages
    from thalweg.tools.loading import LoadError

    if output == "-" and sys.stdout.isatty():
        raise LoadError("an artefact is binary: give --output FILE, or redirect stdout.")
    write_bytes(artefact.serialize(stages.stablehlo_of(subject), version or None), output)


def _write_gpu(subject: Subject, to: str, chip: str, output: str) -> None:
    from pathlib import Path

    from thalweg.tools import stages
    from thalweg.tools.loading import LoadError

    if to not in _BINARIES:
        write(stages.gpu_text(subject, to, chip or _BINARIES["cubin"]), output)
        return
    if output == "-":
        raise LoadError(f"{to} is one file for each kernel: give --output FOLDER.")
    files = stages.gpu_binaries(subject, to, chip or _BINARIES[to], Path(output))
    write("".join(f"{path}\n" for path in files), "-")


def _write_graph(module: ir.Operation, to: str, label: str, output: str) -> None:
    from thalweg.dialects import graph

    write((graph.to_dot if to == "dot" else graph.to_json)(module, label), output)


def _write_compact(module: ir.Operation, output: str) -> None:
    from thalweg.dialects import printing

    if output == "-":
        print_lines(printing.lines(module))
    else:
        write(printing.compact(module), output)
