"""The table that a person reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from benchmarks.harness import Result, Workload

Row = dict[str, Any]  # of the JSON file: "workload", "unit", and what was measured of each framework

_console = Console(width=180, highlight=False)
_CELL = 16
_SCALE = {"ms": 1e3, "us": 1e6}


def start_table(frameworks: list[str], threads: int) -> None:
    """The heading; ratio = the fastest peer's median / thalweg's, so above 1 is faster than every peer."""
    legend = "medians; thalweg's first call in brackets; ratio = fastest peer / thalweg"
    _console.print(f"\n{threads} thread(s); {legend}", style="dim")
    cells = "".join(f"{f:>{_CELL + 8 if f == 'thalweg' else _CELL}}" for f in frameworks)
    _console.print(f"{'workload':<26}{cells}{'ratio':>9}", style="bold")


def print_row(
    workload: Workload, frameworks: list[str], results: list[Result], memory: Mapping[str, float | None]
) -> None:
    """One workload, a column for each framework; `memory` in megabytes by framework, where it was measured."""
    scale, by_name = _SCALE[workload.unit], {result.framework: result for result in results}
    cells = ""
    for framework in frameworks:
        result = by_name.get(framework)
        cell = "-" if result is None else "error" if result.error else f"{result.median * scale:.3f} {workload.unit}"
        cells += f"{cell:>{_CELL}}"
        if framework == "thalweg":
            cells += f" [{result.compile_seconds if result else 0:4.1f}s]"
    quotient = _ratio({r.framework: r.median for r in results if not r.error})
    mark = "-" if quotient is None else f"{quotient:.2f}x"
    style = "" if quotient is None else "green" if quotient >= 1 else "yellow" if quotient >= 0.5 else "red"
    _console.print(f"{workload.name:<26}{cells}[{style or 'white'}]{mark:>9}[/]".replace("[ ", "\\[ "))
    if any(memory.values()):
        peaks = ""
        for framework in frameworks:
            peak = f"{memory[framework]:.0f} MB" if memory.get(framework) else "-"
            peaks += f"{peak:>{_CELL}}" + " " * (8 if framework == "thalweg" else 0)
        _console.print(f"{'  peak memory':<26}{peaks}", style="dim")
    for result in results:
        if result.error:
            _console.print(f"    {result.framework}: {result.error}", style="red", markup=False)


def _ratio(medians: dict[str, float]) -> float | None:
    ours = medians.pop("thalweg", None)
    return min(medians.values()) / ours if ours and medians else None


def added(before: list[Row], measured: list[Row]) -> list[Row]:
    """Rows of an earlier run with those of a later one in their places, and with the peers that only the earlier had.

    Each peer's time is told beside ours in the same run ("thalweg_s", "thalweg_best_s"): ratios stay fair.
    """
    rows = {row["workload"]: row for row in before}
    for row in measured:
        rows[row["workload"]] = {**rows.get(row["workload"], {}), **row}
    return list(rows.values())


def ratio(row: Row, least: bool = False) -> float | None:
    """The fastest peer's time / ours, each pair from one run, medians or the least; None where either is missing."""
    which = "best_s" if least else "median_s"
    peers = [cell for name, cell in row.items() if isinstance(cell, dict) and name != "thalweg" and not cell["error"]]
    if row.get("thalweg", {}).get("error", "missing") or not peers:
        return None
    ours = row["thalweg"][which]
    return min(float(cell[which] / cell.get("thalweg_best_s" if least else "thalweg_s", ours)) for cell in peers)


def summary(rows: list[Row]) -> None:
    """The geometric mean of the ratios, and how many rows are won."""
    ratios = [quotient for quotient in map(ratio, rows) if quotient]
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        won, half = sum(r >= 1 for r in ratios), sum(r >= 0.5 for r in ratios)
        _console.print(
            f"\n{len(ratios)} rows: faster than the fastest peer in {won}, within 2x in {half}; "
            f"geometric mean {mean:.2f}x"
        )
