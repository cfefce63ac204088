"""`thalweg gpu-check`: run the sections, write the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer

from thalweg.tools.console import err

_HELP = """
Check the GPU backend on this machine: numbers, gradients, training, graphs, memory, speed. Writes a report, for
people and as JSON.

Each section runs in a process of its own, with a time limit; the report is written anew after each. What is worth most
comes first, and what there is no time for is left out. Run it on the machine with the GPU; PyTorch, JAX and CuPy are
compared with where they are installed.

**Examples**

    thalweg gpu-check --out gpu-report
    thalweg gpu-check --out gpu-report --sections environment,ops,matmul
    thalweg gpu-check --out try --simulated --quick    # without a GPU: the same code in Triton's interpreter
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="gpu-check", help=_HELP, rich_help_panel="Run")(gpu_check)


def gpu_check(
    out: Path = typer.Option(Path("gpu-report"), help="Folder for report.md, report.json and the sections' logs."),
    sections: str = typer.Option("", metavar="NAMES", help="Sections, separated by commas; all of them by default."),
    simulated: bool = typer.Option(False, "--simulated", help="No GPU: Triton's interpreter, tiny sizes, no speeds."),
    quick: bool = typer.Option(False, "--quick", help="Fewer cases and sizes."),
    minutes: float = typer.Option(25, help="For all sections together; 0 for no end."),
    limit: int = typer.Option(0, metavar="SECONDS", help="For each section, in place of its own limit."),
) -> None:
    """Run the sections and write the report; exit code 1 if anything is not as it should be."""
    from thalweg.runtime.gpu.driver import why_none
    from thalweg.tools.gpu_check.report import line_of, write
    from thalweg.tools.gpu_check.run import Result, chosen, run

    names = chosen(sections)
    missing = "" if simulated else why_none()
    if missing:
        err().print(f"error: {missing}\nTo see the check itself work, add --simulated.", markup=False)
        raise typer.Exit(1)

    def tell(results: Sequence[Result]) -> None:
        typer.echo(line_of(results[-1]))
        write(out, results, simulated)  # whatever ends this process, the report says what is known

    fine = write(out, run(out, names, simulated, quick, limit, minutes, tell), simulated)
    typer.echo(f"{out / 'report.md'}{' (simulated: no GPU was used)' if simulated else ''}")
    raise typer.Exit(0 if fine else 1)
