"""Tables, files and plots of the experiments."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).resolve().parents[1] / "results" / "osdi"

Series = Mapping[str, Mapping[Any, float]]  # by name: y by x


def show(title: str, unit: str, series: Series, paper: Series | None = None) -> None:
    """Print ours, and below it the paper's: one row a series, one column an x."""
    console = Console(width=140, highlight=False)
    console.print(f"\n{title} ({unit})", style="bold")
    for whose, data in (("here", series), ("paper", paper or {})):
        if not data:
            continue
        xs = sorted({x for row in data.values() for x in row})
        table = Table(box=None, header_style="dim", title=None)
        table.add_column(whose, min_width=26)
        for x in xs:
            table.add_column(str(x), justify="right")
        for name, row in data.items():
            table.add_row(name, *(_number(row[x]) if x in row else "" for x in xs))
        console.print(table)


def write(name: str, result: Mapping[str, Any]) -> Path:
    """Write a result as JSON, with when and where it was measured."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    about = {
        "when": time.strftime("%Y-%m-%d %H:%M:%S"), "python": platform.python_version(),
        "processors": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }  # fmt: skip
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"about": about, **result}, indent=1) + "\n")
    print(f"written to {path}")
    return path


def plot(
    name: str,
    title: str,
    labels: tuple[str, str],
    series: Series,
    paper: Series | None = None,
    log: str = "",
) -> None:
    """Draw ours as lines and the paper's dashed, where matplotlib is installed.

    Args:
        labels: of the x and y axes.
        log: which axes are logarithmic: "", "x", "y" or "xy".
    """
    try:
        import matplotlib
    except ImportError:
        print("no plot: matplotlib is not installed")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), layout="constrained")
    for style, marker, data, suffix in (("-", "o", series, ""), ("--", "", paper or {}, " (paper)")):
        for label, row in data.items():
            axes.plot(list(row), list(row.values()), style, marker=marker, label=label + suffix, linewidth=1.4)
    axes.set_title(title)
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    if "x" in log:
        axes.set_xscale("log")
    if "y" in log:
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    RESULTS.mkdir(parents=True, exist_ok=True)
    figure.savefig(RESULTS / f"{name}.png", dpi=110)
    pyplot.close(figure)
    print(f"plotted in {RESULTS / f'{name}.png'}")


def percentiles(seconds: Sequence[float], points: Sequence[int] = (10, 50, 90, 99)) -> dict[int, float]:
    """Of step times, by percent."""
    ordered = sorted(seconds)
    return {p: ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] for p in points}


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
