"""The sections, one process each, and what becomes of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from thalweg.dialects.diagnostics import did_you_mean

SECTIONS: dict[str, tuple[str, str, int]] = {  # name: (module and function, title, seconds that it may take)
    "environment": ("environment:environment", "This machine", 120),
    "launch": ("basics:launch", "Copies, kernels, events, peers", 300),
    "ops": ("ops:conformance", "Every op against the NumPy reference", 5400),
    "gradients": ("models:gradients", "Gradients against the host", 1800),
    "training": ("models:training", "Models trained on the GPU and on the host", 1800),
    "graphs": ("basics:graphs", "Graph capture", 600),
    "mixed": ("basics:mixed", "Programs over the host and GPUs", 600),
    "memory": ("basics:memory", "Memory: leaks, and when it is used up", 900),
    "collectives": ("several:collectives", "Several GPUs: sums by NCCL, and a model on all of them", 900),
    "dlpack": ("basics:dlpack", "Arrays of other libraries", 300),
    "tuning": ("speed:tuning", "Autotuning", 1800),
    "matmul": ("speed:matmul", "Speed: products of matrices", 1800),
    "fused": ("speed:fused", "Speed: what is bound by memory", 1200),
    "attention": ("speed:attention", "Speed: attention", 1200),
    "gpt2": ("networks:gpt2", "Speed: a training step of GPT-2 (small)", 2400),
    "resnet": ("networks:resnet", "Speed: a training step of ResNet-50", 2400),
    "dispatch": ("speed:dispatch", "Speed: what a call costs", 600),
}


@dataclass
class Result:
    """What came of a section.

    Args:
        status: `done`, `crashed`, `timed out`.
        findings: as it wrote them.
        log: the end of what it printed.
    """

    name: str
    title: str
    status: str
    seconds: float
    findings: list[dict[str, Any]] = field(default_factory=list)
    log: str = ""


def chosen(names: str) -> list[str]:
    """The sections that a list names; all of them if it is empty.

    Raises:
        ValueError: there is no such section; the message lists them.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(SECTIONS)
    for name in wanted:
        if name not in SECTIONS:
            nearest = did_you_mean(name, SECTIONS) or "."
            raise ValueError(f"unknown section '{name}'{nearest} The sections are {', '.join(SECTIONS)}.")
    return wanted


def run(
    out: Path, names: Sequence[str], simulated: bool, quick: bool, limit: int = 0,
    tell: Callable[[Result], None] = lambda _: None,
) -> list[Result]:  # fmt: skip
    """Run sections one after the other.

    Args:
        limit: seconds for each, in place of its own.
        tell: is called with each result as it comes.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = []
    for name in names:
        results.append(_run_one(out, name, simulated, quick, limit))
        tell(results[-1])
    return results


def _run_one(out: Path, name: str, simulated: bool, quick: bool, limit: int) -> Result:
    _, title, seconds = SECTIONS[name]
    file, log = out / f"{name}.jsonl", out / f"{name}.log"
    file.unlink(missing_ok=True)
    command = _command(name, file, simulated, quick)
    began = time.perf_counter()
    with log.open("wb") as output:
        # A session of its own, so that what it has started ends with it.
        child = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = child.wait(limit or seconds)
            status = "done" if code == 0 else f"crashed with exit code {code}"
        except subprocess.TimeoutExpired:
            status = f"timed out after {limit or seconds} s"
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
    text = log.read_text(errors="replace")
    return Result(name, title, status, round(time.perf_counter() - began, 1), findings_of(file), text[-4000:])


def _command(name: str, file: Path, simulated: bool, quick: bool) -> list[str]:
    options = [*(["--simulated"] if simulated else []), *(["--quick"] if quick else [])]
    return [sys.executable, "-m", "thalweg.tools.gpu_check", name, str(file), *options]


def findings_of(file: Path) -> list[dict[str, Any]]:
    """What a section wrote; a last line that a crash cut off is left out."""
    found = []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return found


def section(name: str) -> Callable[..., None]:
    """The function of a section."""
    module, _, function = SECTIONS[name][0].partition(":")
    found: Callable[..., None] = getattr(import_module(f"thalweg.tools.gpu_check.{module}"), function)
    return found
