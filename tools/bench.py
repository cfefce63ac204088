"""`thalweg bench`: the benchmarks of the repository, where there is one; and of an exported model."""

from __future__ import annotations

import typer

from thalweg.tools.console import err

_HELP = """
Run workloads against other frameworks, alternating in one process, and print medians and ratios.

The workloads live in the repository (benchmarks/), not in the installed package: run this in a checkout.

**Examples**

    thalweg bench
    thalweg bench --workloads mlp,convnet --against jax,torch
    thalweg bench --threads 1 --rounds 3           # other options go to `python -m benchmarks`
    thalweg bench --compare before.json after.json # two runs beside each other; fails where one became slower

**An exported model**: its latency in C on this machine (where there is a C compiler), or under node

    thalweg bench dist
    thalweg bench dist 16                          # batches of 16 rows
    thalweg bench dist/wasm32
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    through = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(name="bench", help=_HELP, rich_help_panel="Run", context_settings=through)(bench)


def bench(
    context: typer.Context,
    workloads: str = typer.Option("", metavar="NAMES", help="Workloads, separated by commas; all of them by default."),
    against: str = typer.Option("", metavar="NAMES", help="Peers: jax, torch, tensorflow; by default those installed."),
) -> None:
    """Hand over to `benchmarks` in the working directory."""
    import subprocess
    import sys
    from pathlib import Path

    if context.args and Path(context.args[0]).is_dir():
        from thalweg.tools.bench_artefact import measure

        raise typer.Exit(measure(Path(context.args[0]), context.args[1:]))
    if not Path("benchmarks/__main__.py").is_file():
        err().print("error: no benchmarks/ here. Clone the repository and run `thalweg bench` in its root.")
        raise typer.Exit(1)
    # A process of its own: benchmarks set thread counts before they import anything.
    options = [("--workloads", workloads), ("--against", against)]
    command = [sys.executable, "-m", "benchmarks", *(w for o, v in options if v for w in (o, v)), *context.args]
    raise typer.Exit(subprocess.run(command, check=False).returncode)
