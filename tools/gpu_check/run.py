"""The sections, one process each, and what becomes of them."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from thalweg.dialects.diagnostics import did_you_mean
from thalweg.tools.gpu_check.check import findings_of

# What is worth most comes first: what there is no time for is left out from the end.
SECTIONS: dict[str, tuple[str, str, int]] = {  # name: (module and function, title, seconds that it may take)
    "environment": ("environment:environment", "This machine", 120),
    "launch": ("basics:launch", "Copies, kernels, events, peers", 120),
    "ops": ("ops:conformance", "Every op, at one dtype, against the NumPy reference", 300),
    "graphs": ("basics:graphs", "Graph capture", 120),
    "training": ("models:training", "Models trained on the GPU and on the host", 240),
    "matmul": ("speed:matmul", "Speed: products of matrices", 240),
    "fused": ("speed:fused", "Speed: what is bound by memory", 240),
    "attention": ("speed:attention", "Speed: attention", 240),
    "gpt2": ("networks:gpt2", "Speed: a training step of GPT-2 (small)", 420),
    "resnet": ("networks:resnet", "Speed: a training step of ResNet-50", 420),
    "dispatch": ("speed:dispatch", "Speed: what a call costs", 120),
    "gradients": ("models:gradients", "Gradients against the host", 180),
    "memory": ("basics:memory", "Memory: leaks, and when it is used up", 120),
    "mixed": ("basics:mixed", "Programs over the host and GPUs", 120),
    "dlpack": ("basics:dlpack", "Arrays of other libraries", 120),
    "collectives": ("several:collectives", "Several GPUs: sums of them, and a model on all of them", 180),
    "tuning": ("speed:tuning", "Autotuning", 240),
    "dtypes": ("ops:dtypes", "Every op, at its other dtypes", 900),
}
# Those that go on in a new process where one of their cases has ended the old one (`Check.left`).
RESUMED = frozenset({"ops", "dtypes", "gradients", "training", "matmul", "fused", "attention", "dispatch", "tuning"})
LEAST = 5  # seconds below which no section is begun
MOST = 20  # processes for one section
MINUTES = 25  # of the whole, unless another number is asked for
# JAX takes no memory before it needs it: ours and that of PyTorch is in the same GPU.
ENVIRONMENT = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "2"}


@dataclass
class Result:
    """What came of a section.

    Args:
        status: `done`, `crashed…`, `timed out…`, `left out…`.
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
    out: Path, names: Sequence[str], simulated: bool, quick: bool, limit: int = 0, minutes: float = 0,
    tell: Callable[[Sequence[Result]], None] = lambda _: None,
) -> list[Result]:  # fmt: skip
    """Run sections one after the other.

    Args:
        limit: seconds for each, in place of its own.
        minutes: for all of them together; what there is no time for is left out. 0 for no end.
        tell: is called with all results so far as each one comes.
    """
    out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + minutes * 60 if minutes else math.inf
    results: list[Result] = []
    for name in names:
        left = end - time.monotonic()
        seconds = min(limit or SECTIONS[name][2], left)
        if left < LEAST:
            results.append(Result(name, SECTIONS[name][1], f"left out: the {minutes:g} minutes are over", 0.0))
        else:
            results.append(_run_one(out, name, simulated, quick, seconds))
        tell(results)
    return results


def _run_one(out: Path, name: str, simulated: bool, quick: bool, seconds: float) -> Result:
    """Run a section, in as many processes as it takes: what has ended one is not begun again in the next."""
    file, log = out / f"{name}.jsonl", out / f"{name}.log"
    file.unlink(missing_ok=True)
    log.unlink(missing_ok=True)
    command = _command(name, file, simulated, quick)
    began, known, ended = time.perf_counter(), 0, 0
    while True:
        status = _process(command, log, seconds - (time.perf_counter() - began), seconds)
        findings = findings_of(file)
        names = len({finding["name"] for finding in findings})
        if not status.startswith("crashed") or name not in RESUMED or names == known or ended == MOST:
            break
        known, ended = names, ended + 1
        with file.open("a") as text:
            text.write("\n")  # the last line may have no end
    if ended and status == "done":
        status = f"done, after {ended} of its cases ended the process"
    took, said = round(time.perf_counter() - began, 1), log.read_text(errors="replace")
    return Result(name, SECTIONS[name][1], status, took, findings, said[-4000:])


def _process(command: Sequence[str], log: Path, seconds: float, whole: float) -> str:
    """Run a process to its end, or for so many seconds; what came of it.

    Args:
        whole: seconds that the section has, for the message.
    """
    with log.open("ab") as output:
        # A session of its own, so that what it has started ends with it.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**ENVIRONMENT, **os.environ},
        )  # fmt: skip
        try:
            code = child.wait(max(seconds, 0))
            return "done" if code == 0 else f"crashed with exit code {code}"
        except subprocess.TimeoutExpired:
            return f"timed out after {whole:.0f} s"
        finally:
            with suppress(ProcessLookupError):  # what it has started may outlive it
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()


def _command(name: str, file: Path, simulated: bool, quick: bool) -> list[str]:
    options = [*(["--simulated"] if simulated else []), *(["--quick"] if quick else [])]
    return [sys.executable, "-m", "thalweg.tools.gpu_check", name, str(file), *options]


def section(name: str) -> Callable[..., None]:
    """The function of a section."""
    module, _, function = SECTIONS[name][0].partition(":")
    found: Callable[..., None] = getattr(import_module(f"thalweg.tools.gpu_check.{module}"), function)
    return found
