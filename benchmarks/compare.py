"""Two runs beside each other: what became faster, what slower, and whether more than the noise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from rich.console import Console

NOISE = 0.05  # ratios nearer to 1 than this are not told as changes


def compare(before: Path, after: Path) -> int:
    """Print one line per workload that both files have: our medians, the ratio before/after (above 1 is faster), and
    the same ratio of the peers' fastest, which says how much of it is the machine. Returns how many became slower.

    Raises:
        SystemExit: a file is missing or none of ours.
    """
    console = Console(width=150, highlight=False)
    old, new = _rows(before), _rows(after)
    console.print(f"{'workload':<28}{before.stem:>16}{after.stem:>16}{'speed-up':>11}{'of peers':>11}", style="bold")
    ratios, slower = [], 0
    for name in [n for n in old if n in new]:
        a, b = _median(old[name], "thalweg"), _median(new[name], "thalweg")
        if a is None or b is None:
            console.print(f"{name:<28}{_shown(a):>16}{_shown(b):>16}", style="red")
            slower += b is None and a is not None
            continue
        ratio, machine = a / b, _peers(old[name], new[name])
        ratios.append(ratio)
        relative = ratio / (machine or 1.0)
        slower += relative < 1 - NOISE
        style = "green" if relative > 1 + NOISE else "red" if relative < 1 - NOISE else ""
        told = f"{machine:.2f}x" if machine else "-"
        console.print(f"{name:<28}{_shown(a):>16}{_shown(b):>16}{ratio:>10.2f}x{told:>11}", style=style)
    for name in sorted(set(old) ^ set(new)):
        console.print(f"{name:<28} only in {before.stem if name in old else after.stem}", style="dim")
    if ratios:
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
        told = f"{slower} slower by more than {NOISE:.0%}"
        console.print(f"\n{len(ratios)} workloads, geometric mean {mean:.3f}x, {told}")
    return slower


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return {row["workload"]: row for row in json.loads(path.read_text())["rows"]}
    except FileNotFoundError:
        raise SystemExit(f"no file {path}; `python -m benchmarks --json {path}` writes one") from None
    except (ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"{path} is not the JSON of a benchmark run: {error}") from None


def _median(row: dict[str, Any], framework: str) -> float | None:
    found = row.get(framework) or {}
    return None if not found or found.get("error") else float(found["median_s"])


def _peers(old: dict[str, Any], new: dict[str, Any]) -> float | None:
    """Geometric mean of before/after over the peers that both runs have."""
    ratios = []
    for name in old:
        if name not in ("workload", "unit", "thalweg"):
            a, b = _median(old, name), _median(new, name)
            if a and b:
                ratios.append(a / b)
    return math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else None


def _shown(seconds: float | None) -> str:
    if seconds is None:
        return "error"
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.2f} us"
