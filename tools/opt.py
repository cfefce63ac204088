"""`thalweg opt`: run passes over a module, in the manner of mlir-opt."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.tools.console import complain, out, print_lines, table, write

if TYPE_CHECKING:
    from thalweg.dialects.mlir import ir
    from thalweg.passes.pipeline import Instrument, Pipeline
    from thalweg.tools.expected import Part
    from thalweg.tools.instruments import Which

_HELP = """
Run passes over a module and print what they make of it.

Passes run in the order of the pipeline's text, options in braces; a name may be a whole pipeline (`optimize`).
MLIR's own passes go in `mlir(…)`. `thalweg opt --list-passes` lists them all.

**Examples**

    thalweg opt model.mlir -p optimize
    thalweg opt model.mlir -p 'inline,differentiate,simplify' --print-after-all
    thalweg opt model.mlir -p 'cse,mlir(canonicalize)' --timing -o out.mlir
    thalweg opt model.mlir -p optimize --compact
    thalweg translate model.py:f --to tw | thalweg opt - -p dce

**When a pass fails**

    thalweg opt model.mlir -p optimize --emit-reproducer bug.mlir
    thalweg opt bug.mlir --run-reproducer

**Tests**

    thalweg opt invalid.mlir --split-input-file --verify-diagnostics
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="opt", help=_HELP, rich_help_panel="Compile")(opt)


_PRINTING, _CHECKING = "Printing", "Checking"  # panels of the help

Source = Annotated[str, typer.Argument(metavar="FILE", help="MLIR text; - is stdin.", show_default=False)]
PipelineText = Annotated[str, typer.Option("--pipeline", "-p", metavar="TEXT", help="Passes, separated by commas.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where to write; - is stdout.")]
Listing = Annotated[bool, typer.Option("--list-passes", help="List passes and pipelines, then exit.")]
Compact = Annotated[
    bool, typer.Option("--compact", help="For people: short types, source lines, colour.", rich_help_panel=_PRINTING),
]
DebugInfo = Annotated[bool, typer.Option("--mlir-print-debuginfo", help="Print locations.", rich_help_panel=_PRINTING)]
PrintBefore = Annotated[
    list[str] | None,
    typer.Option("--print-before", metavar="PASS", help="Print before a pass, on stderr.", rich_help_panel=_PRINTING),
]
PrintAfter = Annotated[
    list[str] | None,
    typer.Option("--print-after", metavar="PASS", help="Print after a pass, on stderr.", rich_help_panel=_PRINTING),
]
PrintBeforeAll = Annotated[
    bool, typer.Option("--print-before-all", help="Print before every pass.", rich_help_panel=_PRINTING),
]
PrintAfterAll = Annotated[
    bool, typer.Option("--print-after-all", help="Print after every pass.", rich_help_panel=_PRINTING),
]
Timing = Annotated[bool, typer.Option("--timing", help="Time each pass, on stderr.", rich_help_panel=_PRINTING)]
VerifyEach = Annotated[
    bool, typer.Option("--verify-each/--no-verify-each", help="Verify after every pass.", rich_help_panel=_CHECKING),
]
SplitInputFile = Annotated[
    bool,
    typer.Option("--split-input-file", help="Split at // ----- and run each part alone.", rich_help_panel=_CHECKING),
]
VerifyDiagnostics = Annotated[
    bool,
    typer.Option(
        "--verify-diagnostics",
        help="Check errors against comments like // expected-error@+1 {{part of the message}}.",
        rich_help_panel=_CHECKING,
    ),
]
EmitReproducer = Annotated[
    str,
    typer.Option(
        "--emit-reproducer",
        metavar="FILE",
        help="Where a failing pass leaves its input.",
        rich_help_panel=_CHECKING,
    ),
]
RunReproducer = Annotated[
    bool,
    typer.Option("--run-reproducer", help="Take the pipeline from the file's first line.", rich_help_panel=_CHECKING),
]


def opt(
    source: Source = "-",
    pipeline: PipelineText = "",
    output: Output = "-",
    listing: Listing = False,
    compact: Compact = False,
    debug_info: DebugInfo = False,
    print_before: PrintBefore = None,
    print_after: PrintAfter = None,
    print_before_all: PrintBeforeAll = False,
    print_after_all: PrintAfterAll = False,
    timing: Timing = False,
    verify_each: VerifyEach = True,
    split_input_file: SplitInputFile = False,
    verify_diagnostics: VerifyDiagnostics = False,
    emit_reproducer: EmitReproducer = "",
    run_reproducer: RunReproducer = False,
) -> None:
    """Parse, run, print."""
    if listing:
        list_passes()
        return
    from thalweg.dialects import context
    from thalweg.passes.pipeline import Pipeline
    from thalweg.tools.expected import parts_of
    from thalweg.tools.instruments import PrintIR, Timing
    from thalweg.tools.loading import read_text

    text = read_text(source)
    passes = Pipeline.parse(_reproduced(text, source) if run_reproducer else pipeline)
    timer = Timing()
    before: Which = True if print_before_all else print_before or ()
    after: Which = True if print_after_all else print_after or ()
    printer = PrintIR.of(passes, before, after, debug_info)
    job = _Job(source, passes, verify_each, (printer, timer), Path(emit_reproducer) if emit_reproducer else None)
    with context.entered():
        parts = list(parts_of(text, source, split_input_file))
        if verify_diagnostics:
            failed = not all([part.check(lambda p=part: job.run(p)) for part in parts])  # type: ignore[misc]
        else:
            modules, failed = _run_all(job, parts)
            _show(modules, output, compact, debug_info)
    if timing:
        timer.report()
    if failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Job:
    """What is to be done with each part of the input."""

    source: str
    pipeline: Pipeline
    verify_each: bool
    instruments: tuple[Instrument, ...]
    reproducer: Path | None

    def run(self, part: Part) -> ir.Module:
        """The module of a part, transformed; errors name the file where MLIR has only `-`."""
        from thalweg.dialects.diagnostics import ThalwegError
        from thalweg.dialects.verify import parse, parse_file

        try:
            module = parse_file(self.source) if part.whole and self.source != "-" else parse(part.text, self.source)
            self.pipeline.run(
                module, verify_each=self.verify_each, instruments=self.instruments, reproducer=self.reproducer
            )
        except ThalwegError as error:
            raise type(error)(re.sub(r"(?<!\S)-:(?=\d)", f"{self.source}:", str(error))) from error
        return module


def _run_all(job: _Job, parts: list[Part]) -> tuple[list[ir.Module], bool]:
    """The modules that came through, and whether one did not. A single part's error is the command's."""
    from thalweg.dialects.diagnostics import ThalwegError

    if len(parts) == 1:
        return [job.run(parts[0])], False
    modules, failed = [], False
    for part in parts:
        try:
            modules.append(job.run(part))
        except ThalwegError as error:
            complain(error)
            failed = True
    return modules, failed


def _show(modules: list[ir.Module], output: str, compact: bool, debug_info: bool) -> None:
    from thalweg.dialects.printing import compact as compact_text
    from thalweg.dialects.printing import lines

    if compact and output == "-":
        for module in modules:
            print_lines(lines(module))
        return
    show = compact_text if compact else lambda m: m.operation.get_asm(enable_debug_info=debug_info)
    write("\n// -----\n".join(show(m).strip("\n") for m in modules), output)


def _reproduced(text: str, source: str) -> str:
    """The pipeline that a reproducer's first line names."""
    from thalweg.dialects.diagnostics import PassError

    found = re.match(r"// thalweg opt \S+ --pipeline '([^']*)'", text)
    if found is None:
        raise PassError(f"{source}: not a reproducer: its first line is not `// thalweg opt FILE --pipeline '…'`.")
    return found[1]


def list_passes() -> None:
    """Print the passes with their options, and the pipelines."""
    from thalweg.passes.pipelines import PIPELINES

    passes = table("Passes", "name", "options", "what it does")
    for row in pass_rows():
        passes.add_row(*row)
    pipelines = table("\nPipelines", "name", "passes")
    for name, text in PIPELINES.items():
        pipelines.add_row(name, text)
    out().print(passes)
    out().print(pipelines)


def pass_rows() -> Iterator[tuple[str, str, str]]:
    """Name, options with defaults, and summary of every pass."""
    from thalweg.passes import registry

    for name in registry.PASSES:
        found = registry.find(name)
        options = ", ".join(f"{option}={field.default}" for option, field in found.options().items())
        yield name, options, found.summary()
