"""What `thalweg run` reports from a shadow run: NaN, statistics, and the values themselves."""

from __future__ import annotations

from pathlib import Path

import typer

from thalweg.backends.reference import shadow
from thalweg.dialects import context
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.printing import names_in
from thalweg.tools.console import err, out, table
from thalweg.tools.execution import Execution
from thalweg.tools.loading import Array
from thalweg.tools.values import save_npz


def report(execution: Execution, find_nan: bool, trace: bool, save: str) -> None:
    """Do what was asked for.

    Raises:
        typer.Exit: with code 1, where a NaN reaches a result and `find_nan` asked for it.
    """
    with context.entered():
        module = execution.shadow_module()
        inputs = [*execution.inputs, *execution.subject.constants]
        variables, execute = dict(execution.variables), execution.execute(module)
        names = _names(module)
        if trace:
            _print(shadow.trace_values(module, inputs, variables, execute), names)
        if save:
            everything = shadow.values_where(module, inputs, lambda _: True, variables, execute)
            _save(everything, names, save)
        if find_nan:
            _tell_nan(shadow.nan_origins(module, inputs, variables, execute))


def _names(module: ir.Module) -> dict[ir.Value, str]:
    return {v: n for view in module.body.operations for v, n in names_in(view.operation).items()}


def _print(records: list[shadow.Record], names: dict[ir.Value, str]) -> None:
    columns = ("value", "op", "type", "min", "max", "mean", "NaN", "inf", "runs", "place")
    shown = table("", *columns, right=columns[3:9])
    for record in records:
        place = f"{Path(record.where.file).name}:{record.where.line}" if record.where else ""
        op = record.operation.name.removeprefix("tw.")
        for value, s in zip(record.operation.results, record.results, strict=False):
            numbers = [f"{n:.4g}" for n in (s.minimum, s.maximum, s.mean)]
            odd = [str(n or "") for n in (s.nans, s.infinities)]
            shown.add_row(names[value], op, str(s.type), *numbers, *odd, str(record.executions), place)
    out().print(shown)


def _save(values: list[tuple[ir.Operation, tuple[Array, ...]]], names: dict[ir.Value, str], path: str) -> None:
    """Under the names of the compact form, `%3 exp model.py:7`; in loops, `@2` marks the second execution."""
    runs: dict[str, int] = {}
    arrays: dict[str, Array] = {}
    for operation, results in values:
        where = where_of(operation.location)
        place = f" {Path(where.file).name}:{where.line}" if where else ""
        for value, array in zip(operation.results, results, strict=False):
            name = f"{names[value]} {operation.name.removeprefix('tw.')}{place}"
            runs[name] = runs.get(name, 0) + 1
            arrays[name if runs[name] == 1 else f"{name} @{runs[name]}"] = array
    save_npz(path, arrays)
    out().print(f"{len(arrays)} values in {path}")


def _tell_nan(origins: list[shadow.Origin]) -> None:
    for origin in origins:
        if not origin.reaches_result:
            out().print(f"masked on the way to the results: {origin}", style="dim")
    first = next((o for o in origins if o.reaches_result), None)
    if first is not None:
        err().print(str(first))
        raise typer.Exit(1)
    out().print("no NaN reaches a result", style="green")
