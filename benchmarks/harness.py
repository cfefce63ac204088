"""Fair timing: implementations take turns, medians are compared, and all must agree before any is timed."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

REST = 0.1  # seconds before each turn: threads of the last one, which wait for work by spinning, fall asleep

Step = Callable[[], object]  # runs once, waits for the result, returns it (a scalar or an array)
Maker = Callable[[], Step]


@dataclass(frozen=True)
class Workload:
    """One row of the table: the same computation, once per framework.

    `makers` maps a framework's name to a function that builds its step (imports the framework, places the data,
    compiles nothing yet). Steps of different frameworks start from the same numbers; `rtol` bounds how far the results
    of the first calls may lie apart, None where they are random.
    """

    name: str
    doc: str
    makers: Mapping[str, Maker]
    rtol: float | None = 2e-3
    unit: str = "ms"


@dataclass
class Result:
    """What was measured of one implementation; times in seconds."""

    framework: str
    compile_seconds: float = 0.0
    rounds: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.rounds) if self.rounds else float("nan")

    @property
    def best(self) -> float:
        return min(self.rounds) if self.rounds else float("nan")


def measure(workload: Workload, frameworks: list[str], rounds: int, budget: float) -> list[Result]:
    """Time a workload: `rounds` rounds, in each of which every implementation has one turn.

    Args:
        budget: seconds to spend on each implementation, about.
    """
    results, steps = [], []
    for framework in frameworks:
        if framework in workload.makers:
            result, step = _prepare(workload, framework)
            results.append(result)
            steps.append(step)
    _check_agreement(workload, results, steps)
    counts = [_calls_per_turn(step, budget / rounds) if step else 0 for step in steps]
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for result, step, count in zip(results, steps, counts, strict=True):
                if step is not None:
                    time.sleep(REST)
                    step()  # caches warm after the others' turns
                    start = time.perf_counter()
                    for _ in range(count):
                        step()
                    result.rounds.append((time.perf_counter() - start) / count)
    finally:
        gc.enable()
    return results


def _prepare(workload: Workload, framework: str) -> tuple[Result, Step | None]:
    result = Result(framework)
    try:
        step = workload.makers[framework]()
        start = time.perf_counter()
        result.first = step()  # type: ignore[attr-defined]
        result.compile_seconds = time.perf_counter() - start
        return result, step
    except Exception as error:  # an implementation that fails is a line in the table, not the end of it
        result.error = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        return result, None


def _check_agreement(workload: Workload, results: list[Result], steps: list[Step | None]) -> None:
    """Mark every implementation whose first result differs from the first implementation's."""
    if workload.rtol is None:
        return
    firsts = [(r, _numbers(r.first)) for r, s in zip(results, steps, strict=True) if s]  # type: ignore[attr-defined]
    for result, value in firsts[1:]:
        wanted = firsts[0][1]
        scale = max(float(np.abs(wanted).max()), 1e-30)
        if value.shape != wanted.shape or float(np.abs(value - wanted).max()) > workload.rtol * scale:
            result.error = f"differs from {firsts[0][0].framework}"


def _numbers(result: object) -> np.ndarray:
    """A result (of several the first) as float64; torch's bfloat16 goes through float32, which NumPy knows."""
    if isinstance(result, (tuple, list)):
        result = result[0]
    if hasattr(result, "detach"):
        result = result.detach()
        result = result.float() if str(result.dtype) == "torch.bfloat16" else result
    return np.asarray(result).astype(np.float64)


def _calls_per_turn(step: Step, seconds: float) -> int:
    """How many calls fill a turn, from a short trial."""
    start, count = time.perf_counter(), 0
    while count < 3 or (time.perf_counter() - start < min(0.05, seconds) and count < 10_000):
        step()
        count += 1
    return max(1, int(seconds / ((time.perf_counter() - start) / count)))
