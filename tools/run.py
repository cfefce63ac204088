"""`thalweg run`: compile a program and run it; compare, bisect, and look at what happens inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thalweg.tools.console import err, out

if TYPE_CHECKING:
    from thalweg.backends.reference.bisect import Culprit
    from thalweg.tools.execution import Execution, Results

_HELP = """
Compile a program, run it, and tell what came out.

A program is a module (`tw`, StableHLO text or a portable artefact, say exported from JAX) or model.py:function.
Inputs come from an .npz file, by name or in order; without one, from the function's `example_inputs`, else they are
random (`--seed`). The names of variables in the file set their values.

**Examples**

    thalweg run model.py:f --inputs in.npz --output out.npz
    thalweg run exported_from_jax.mlir --seed 1 --time 100

**Faster?** Times other ways to cut products and convolutions; later compilations with THALWEG_CPU_TUNING=1 know them:

    thalweg run model.py:step --tune --time 100

**Is it right?** Exit code 1 if not. Against the NumPy interpreter, results or op by op:

    thalweg run model.py:f --check reference
    thalweg run model.py:f --bisect               # the first op that differs
    thalweg run model.py:f --bisect --save-case bug    # that op alone
    thalweg run model.py:f --save-cases cases     # every op as a test

**What happens inside?** A shadow run in the interpreter; the compiled program is not touched.

    thalweg run model.py:step --find-nan          # who made the first NaN
    thalweg run model.py:step --trace-values      # range of every value
    thalweg run model.py:step --save-values all.npz

**And in the compiled code?**

    thalweg run model.py:step --profile           # time by kernel
    thalweg run model.py:step --trace step.json   # when each ran, for Perfetto and chrome://tracing
    thalweg run model.py:step --dump-kernels DIR  # each kernel as a test
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="run", help=_HELP, rich_help_panel="Run")(run)


_CHECKING, _INSIDE = "Checking", "Looking inside"  # panels of the help

Target = Annotated[str, typer.Argument(metavar="PROGRAM", help="model.mlir, an artefact, -, or model.py:function.")]
Inputs = Annotated[str, typer.Option("--inputs", "-i", metavar="NPZ", help="Inputs, and values of variables.")]
Shapes = Annotated[str, typer.Option("--shapes", metavar="TYPES", help="Types of the inputs: f32[2,3],i32[4].")]
Seed = Annotated[int, typer.Option("--seed", help="Of random inputs.")]
Output = Annotated[str, typer.Option("--output", "-o", metavar="NPZ", help="Where results and variables go.")]
Time = Annotated[int, typer.Option("--time", metavar="N", help="Call it N times, and print the median and the least.")]
Tune = Annotated[bool, typer.Option("--tune", help="Time several ways to cut each product; keep the best on disk.")]
Check = Annotated[
    str,
    typer.Option(
        "--check",
        metavar="reference|NPZ",
        help="Compare results with the interpreter's, or with a file's.",
        rich_help_panel=_CHECKING,
    ),
]
Tolerance = Annotated[
    float,
    typer.Option(
        "--tolerance",
        help="Relative; by default what the dtype allows.",
        rich_help_panel=_CHECKING,
        show_default=False,
    ),
]
FindCulprit = Annotated[
    bool, typer.Option("--bisect", help="Find the first op whose compiled result differs.", rich_help_panel=_CHECKING),
]
SaveCase = Annotated[
    str,
    typer.Option(
        "--save-case",
        metavar="NAME",
        help="With --bisect: write that op alone as NAME.mlir and NAME.npz.",
        rich_help_panel=_CHECKING,
    ),
]
SaveCases = Annotated[
    str,
    typer.Option(
        "--save-cases",
        metavar="FOLDER",
        help="Write every op alone, with operands and expected results.",
        rich_help_panel=_CHECKING,
    ),
]
FindNan = Annotated[
    bool, typer.Option("--find-nan", help="The op and line that made the first NaN.", rich_help_panel=_INSIDE),
]
TraceValues = Annotated[
    bool, typer.Option("--trace-values", help="Statistics of every value, op by op.", rich_help_panel=_INSIDE),
]
SaveValues = Annotated[
    str, typer.Option("--save-values", metavar="NPZ", help="Write every value of every op.", rich_help_panel=_INSIDE),
]
Profile = Annotated[
    bool, typer.Option("--profile", help="Where the time goes, kernel by kernel.", rich_help_panel=_INSIDE),
]
TraceFile = Annotated[
    str,
    typer.Option("--trace", metavar="JSON", help="Write when each kernel of a call ran.", rich_help_panel=_INSIDE),
]
DumpKernels = Annotated[
    str,
    typer.Option(
        "--dump-kernels",
        metavar="DIR",
        help="Write every kernel with its data, as tests.",
        rich_help_panel=_INSIDE,
    ),
]


def run(
    command: typer.Context,
    target: Target,
    inputs: Inputs = "",
    shapes: Shapes = "",
    seed: Seed = 0,
    output: Output = "",
    time: Time = 0,
    tune: Tune = False,
    check: Check = "",
    tolerance: Tolerance = 0.0,
    find_culprit: FindCulprit = False,
    save_case: SaveCase = "",
    save_cases: SaveCases = "",
    find_nan: FindNan = False,
    trace_values: TraceValues = False,
    save_values: SaveValues = "",
    profile: Profile = False,
    trace: TraceFile = "",
    dump_kernels: DumpKernels = "",
) -> None:
    """Load, bind, and do what was asked."""
    from thalweg.dialects import context
    from thalweg.tools.execution import Execution
    from thalweg.tools.loading import load
    from thalweg.tools.values import bind, read_npz, save_npz

    if check and check != "reference" and not check.endswith(".npz"):
        raise typer.BadParameter(f"'{check}' is neither 'reference' nor an .npz file.", param_hint="--check")
    given = read_npz(inputs) if inputs else {}
    subject = load(target, shapes, list(given.values()) or None)
    with context.entered():
        execution = Execution(subject, *bind(subject, given, seed, inputs))
    allowed = tolerance or None
    if tune:
        _tune(command, execution)
    if save_cases:
        from thalweg.tools.cases import write_cases

        out().print(f"{write_cases(execution, Path(save_cases))} cases in {save_cases}")
        return
    if find_nan or trace_values or save_values:
        from thalweg.tools.inside import report

        report(execution, find_nan, trace_values, save_values)
        return
    if profile or trace or dump_kernels:
        _kernels(execution, profile, trace, dump_kernels)
        return
    if find_culprit:
        _bisect(execution, allowed, save_case)
        return
    call = execution.compiled()
    results = call()
    _tell(results)
    if output:
        save_npz(output, results.named)
    if time:
        _time(call.seconds(time))
    if check:
        _check(execution, results, check, allowed)


def _tell(results: Results) -> None:
    """Each result: its type, range, and its elements where they are few."""
    import numpy as np

    from thalweg.backends.reference.shadow import Summary

    for name, array in results.named.items():
        out().print(f"{name}: {Summary.of(array)}")
        if array.size <= 64:
            out().print(np.array2string(array, prefix="  ", precision=6))


def _tune(command: typer.Context, execution: Execution) -> None:
    """Have kernels timed, and take what is best in all that this command does."""
    from thalweg.runtime.config import config

    command.with_resource(config.override(cpu_tuning=True))
    for name, found in execution.tune().items():
        out().print(f"{name:<24} {found}", highlight=False)


def _kernels(execution: Execution, profile: bool, trace: str, folder: str) -> None:
    """Times of the kernels, and each of them on its own."""
    from thalweg.backends.cpu.timeline import write_timeline

    if profile:
        for row in execution.profile():
            out().print(str(row), highlight=False)
    if trace:
        timeline = execution.timeline()
        write_timeline(timeline, trace)
        more = f", the first of {len(timeline.launches) + timeline.dropped}" if timeline.dropped else ""
        out().print(f"{len(timeline.launches)} launches{more} in {timeline.seconds * 1e3:.4g} ms: {trace}")
    if folder:
        names = execution.dump_kernels(Path(folder))
        out().print(f"{len(names)} kernels are in {folder}; pytest {folder} runs each of them alone")


def _check(execution: Execution, results: Results, against: str, tolerance: float | None) -> None:
    from thalweg.tools.execution import differs
    from thalweg.tools.values import read_npz

    found = results.named
    if against == "reference":
        expected = execution.reference().named
    else:
        # floats that NumPy does not have are saved as float32
        expected = {n: a.astype(found[n].dtype) if n in found else a for n, a in read_npz(against).items()}
    different = differs(found, expected, tolerance)
    if different:
        err().print(f"{different[0]}: {different[1]}. Find the op with --bisect.")
        raise typer.Exit(1)
    name = "the reference" if against == "reference" else against
    out().print(f"agrees with {name} ({len(found)} arrays)", style="green")


def _bisect(execution: Execution, tolerance: float | None, save_case: str) -> None:
    from thalweg.backends.reference.bisect import Culprit
    from thalweg.dialects import context

    with context.entered():
        culprit = execution.bisect(tolerance)
        if culprit is None:
            out().print("compiled and reference agree on the results", style="green")
            return
        err().print(str(culprit))
        if save_case and isinstance(culprit, Culprit):
            _save_case(culprit, save_case)
    raise typer.Exit(1)


def _save_case(culprit: Culprit, name: str) -> None:
    from thalweg.tools.cases import write_case

    write_case(Path(name), culprit.case, list(culprit.inputs))
    err().print(f"That op alone is in {name}.mlir, its operands in {name}.npz.")


def _time(seconds: list[float]) -> None:
    from statistics import median

    out().print(f"{len(seconds)} calls: median {median(seconds) * 1e3:.4g} ms, least {min(seconds) * 1e3:.4g} ms")
