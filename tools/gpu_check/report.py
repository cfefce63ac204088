"""What the sections found, for people (report.md) and for programs (report.json)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from thalweg.tools.gpu_check.check import GOOD
from thalweg.tools.gpu_check.run import Result

SIMULATED = "**Simulated.** No GPU was used: kernels ran in Triton's interpreter on tiny sizes. Times mean nothing."
_QUIET = frozenset({"name", "status", "error", "traceback"})
_MANY = 60  # findings of a section, above which those that are as they should be are only counted


def write(out: Path, results: Sequence[Result], simulated: bool) -> bool:
    """Write both files; says whether all is as it should be."""
    fine = all(_is_fine(result) for result in results)
    data = {"simulated": simulated, "fine": fine, "sections": [asdict(result) for result in results]}
    (out / "report.json").write_text(json.dumps(data, indent=1))
    (out / "report.md").write_text("\n".join(_lines(results, simulated)) + "\n")
    return fine


def line_of(result: Result) -> str:
    """A section in one line.

    Example:
        >>> line_of(result)
        'ops          done in 41.2 s: 310 ok, 2 wrong'
    """
    counts = Counter(finding["status"] for finding in result.findings)
    told = ", ".join(f"{count} {status}" for status, count in counts.items()) or "nothing found"
    return f"{result.name:12} {result.status} in {result.seconds} s: {told}"


def _is_fine(result: Result) -> bool:
    return result.status == "done" and all(finding["status"] in GOOD for finding in result.findings)


def _lines(results: Sequence[Result], simulated: bool) -> Iterator[str]:
    yield "# GPU check"
    yield ""
    if simulated:
        yield from (SIMULATED, "")
    yield "| section | | result |"
    yield "|---|---|---|"
    for result in results:
        counts = Counter(finding["status"] for finding in result.findings)
        told = ", ".join(f"{count} {status}" for status, count in counts.items())
        yield f"| {result.name} | {result.title} | {result.status} in {result.seconds} s: {told} |"
    for result in results:
        yield from ("", f"## {result.title}", "")
        yield from _section(result)


def _section(result: Result) -> Iterator[str]:
    shown = result.findings
    if len(shown) > _MANY:
        shown = [finding for finding in shown if finding["status"] not in GOOD]
        yield f"{len(result.findings) - len(shown)} as they should be; the others:"
        yield ""
    if shown:
        yield "| what | | |"
        yield "|---|---|---|"
    for finding in shown:
        values = ", ".join(f"{key} {_text(value)}" for key, value in finding.items() if key not in _QUIET)
        error = _cell(finding.get("error", ""))
        yield f"| {_cell(finding['name'])} | {finding['status']} | {_cell(values)}{' ' if error else ''}{error} |"
    if result.status != "done":
        yield from ("", f"{result.status}. The end of its log:", "", "```", result.log, "```")


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", "<br>")
