"""What the sections found, for people (report.md) and for programs (report.json)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from thalweg.tools.gpu_check.check import GOOD
from thalweg.tools.gpu_check.run import Result

SIMULATED = "**Simulated.** No GPU was used: kernels ran in Triton's interpreter on tiny sizes. Times mean nothing."
_QUIET = frozenset({"name", "status", "error", "traceback"})
# What is asked of the backend: section, the number that tells, the least that it should be, in words.
GOALS = (
    ("matmul", "cublas_ratio", 0.85, "products of matrices beside cuBLAS"),
    ("fused", "share_of_copy", 0.9, "what is bound by memory, as share of a copy"),
    ("attention", "torch_ratio", 0.8, "attention beside PyTorch's"),
    ("gpt2", "torch.compile_ratio", 1.0, "a training step of GPT-2 beside torch.compile"),
    ("gpt2", "jax_ratio", 1.0, "a training step of GPT-2 beside JAX"),
    ("resnet", "torch.compile_ratio", 1.0, "a training step of ResNet-50 beside torch.compile"),
    ("resnet", "jax_ratio", 1.0, "a training step of ResNet-50 beside JAX"),
)
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
    if not simulated:
        yield from _speeds(results)
    for result in results:
        yield from ("", f"## {result.title}", "")
        yield from _section(result)


def _speeds(results: Sequence[Result]) -> Iterator[str]:
    """Beside what is asked: how many cases were measured, and the least, middle and greatest of them."""
    yield from ("", "## Speeds", "", "Ratios are the other's time by ours: above 1 we are faster.", "")
    yield "| what | asked | cases | least | median | greatest | |"
    yield "|---|---|---|---|---|---|---|"
    for section, key, asked, what in GOALS:
        found = sorted(f[key] for r in results if r.name == section for f in r.findings if key in f)
        if not found:
            yield f"| {what} | {asked} | 0 | | | | not measured |"
            continue
        reached = sum(value >= asked for value in found)
        numbers = " | ".join(f"{value:.3g}" for value in (found[0], median(found), found[-1]))
        yield f"| {what} | {asked} | {len(found)} | {numbers} | {reached} of {len(found)} reach it |"


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
