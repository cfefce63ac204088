"""Runs as the Markdown tables of docs/performance.md: `python -m benchmarks --markdown FILE…`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from benchmarks.report import ratio

_NAMES = {
    "jax": "JAX", "torch": "PyTorch", "torch.compile": "torch.compile", "tensorflow": "TensorFlow",
    "tensorflow-xla": "TensorFlow, XLA", "onnxruntime": "ONNX Runtime", "litert": "LiteRT",
}  # fmt: skip
_SCALE = {"ms": 1e3, "us": 1e6}


def markdown(*paths: Path, least: bool = False) -> str:
    """One table of all rows of the files, with a column for each peer that any row has: medians, or the `least` of all
    rounds, which says more where other work ran on the machine.

    The last line counts the rows in which we are faster than the fastest peer.
    """
    rows = [row for path in paths for row in json.loads(path.read_text())["rows"]]
    peers = [peer for peer in _NAMES if any(_time(row, peer, least) for row in rows)]
    lines = [
        f"| workload | thalweg | {' | '.join(_NAMES[p] for p in peers)} | fastest peer / thalweg | first call |",
        "|---" * (len(peers) + 4) + "|",
    ]
    ratios = []
    for row in rows:
        ours, scale = _time(row, "thalweg", least), _SCALE[row["unit"]]
        theirs = [_time(row, peer, least) for peer in peers]
        cells = ["" if t is None else _digits(t * scale) for t in theirs]
        if ours is None:
            lines.append(f"| {row['workload']} ({row['unit']}) | failed | {' | '.join(cells)} | | |")
            continue
        quotient = ratio(row, least)
        shown = ""
        if quotient is not None:
            ratios.append(quotient)
            shown = f"**{quotient:.2f}x**" if quotient >= 1 else f"{quotient:.2f}x"
        first = f"{row['thalweg']['first_call_s']:.2f} s"
        cells = [f"{row['workload']} ({row['unit']})", _digits(ours * scale), *cells, shown, first]
        lines.append(f"| {' | '.join(cells)} |")
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    ahead, near = sum(r >= 1 for r in ratios), sum(r >= 0.5 for r in ratios)
    told = f"faster than the fastest peer in {ahead}, within 2x in {near}; geometric mean {mean:.2f}x"
    return "\n".join([*lines, "", f"{len(ratios)} rows: {told}."])


def _time(row: dict[str, Any], name: str, least: bool) -> float | None:
    cell = row.get(name)
    return None if not cell or cell["error"] else float(cell["best_s" if least else "median_s"])


def _digits(number: float) -> str:
    return f"{number:.0f}" if number >= 1000 else f"{number:.3g}"
