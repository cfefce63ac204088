"""`thalweg export`: programs as native libraries with nothing below them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer

from thalweg.tools.console import out

if TYPE_CHECKING:
    from types import ModuleType

    from thalweg.backends.aot.arithmetic import Arithmetic as Kind
    from thalweg.backends.aot.narrow import Storage

_HELP = """
Write native libraries: for each target a static and a shared library (or WebAssembly), and for all of them a C header,
the weights, a manifest and the program's IR.

Each program is a signature of the model, called by its function's name; write NAME=model.py:function for another one.
The variables that the programs share are the model's state.

**Examples**

    thalweg export model.py:infer --target host --out dist
    thalweg export infer=model.py:predict train=model.py:step --target android-arm64 --target wasm32 --out dist
    thalweg export model.py:step --target tpu --shards 4 --out dist
    thalweg export --list
"""

Programs = Annotated[list[str] | None, typer.Argument(metavar="[NAME=]model.py:function…", show_default=False)]
Targets = Annotated[list[str], typer.Option("--target", "-t", help="A target; may be repeated. See --list.")]
Out = Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Where to.")]
Name = Annotated[str, typer.Option("--name", help="The model's, as C functions are called by.")]
Weights = Annotated[str, typer.Option("--weights", metavar="f32|bf16|int8", help="How weights are stored.")]
Arithmetic = Annotated[
    str,
    typer.Option("--arithmetic", metavar="f32|int8|int8-dynamic", help="Of products by int8 weights."),
]
Embed = Annotated[
    bool | None,
    typer.Option("--embed/--no-embed", help="Weights inside the libraries; by default below 1 MB.", show_default=False),
]
StableHlo = Annotated[
    str | None,
    typer.Option("--stablehlo", metavar="VERSION", help="Of the target tpu's artefacts.", show_default=False),
]
Threads = Annotated[int, typer.Option("--threads", min=1, help="That a call may use, of a pool that it is given.")]
Shards = Annotated[int, typer.Option("--shards", min=1, help="TPUs that a batch is split over.")]
List = Annotated[bool, typer.Option("--list", help="List the targets.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="export", help=_HELP, rich_help_panel="Ship")(export)


def export(
    programs: Programs = None,
    targets: Targets = ["host"],  # noqa: B006  (the command line's default, never changed)
    folder: Out = "dist",
    name: Name = "model",
    weights: Weights = "f32",
    arithmetic: Arithmetic = "f32",
    embed: Embed = None,
    stablehlo: StableHlo = None,
    shards: Shards = 1,
    threads: Threads = 1,
    list_targets: List = False,
) -> None:
    """Resolve the programs, export, tell what was written."""
    if list_targets:
        _list()
        return
    from thalweg.shipping.api import export as run
    from thalweg.tools.functions import load_file, resolve
    from thalweg.tools.loading import LoadError

    if not programs:
        raise typer.BadParameter("name a program: model.py:function.", param_hint="PROGRAM")
    from pathlib import Path

    signatures = {}
    files: dict[str, ModuleType] = {}
    for program in programs:
        given, equals, target = program.partition("=")
        path, colon, function = (target if equals else program).rpartition(":")
        if not colon or not path.endswith(".py"):
            raise LoadError(f"'{program}' is not a function in a Python file. Write model.py:function.")
        signature = given if equals else function.rpartition(".")[2]
        if signature in signatures:
            raise LoadError(f"two programs are called '{signature}'. Name them: infer={path}:{function}.")
        if path not in files:
            files[path] = load_file(Path(path))
        signatures[signature] = resolve(Path(path), function, open_extents=True, module=files[path])
    if weights not in ("f32", "bf16", "int8"):
        raise typer.BadParameter(f"'{weights}' is none of f32, bf16, int8.", param_hint="--weights")
    if arithmetic not in ("f32", "int8", "int8-dynamic"):
        raise typer.BadParameter(f"'{arithmetic}' is none of f32, int8, int8-dynamic.", param_hint="--arithmetic")
    storage = cast("Storage", weights)
    report = run(
        signatures,
        folder,
        targets=targets,
        name=name,
        weights=storage,
        arithmetic=cast("Kind", arithmetic),
        embed=embed,
        stablehlo=stablehlo,
        shards=shards,
        threads=threads,
    )
    out().print(str(report), highlight=False)


def _list() -> None:
    from thalweg.backends.aot.targets import TARGETS

    for target in TARGETS.values():
        out().print(f"{target.name:<18} {target.triple:<36} {target.cpu} {target.features}", highlight=False)
    out().print(f"{'tpu':<18} StableHLO, for PJRT", highlight=False)
