"""`python -m benchmarks.sweep`: what is neither a matrix product nor a convolution, over shapes and dtypes, against
PyTorch and JAX.

Times are the least of many calls, implementations taking turns in one process after a check that they agree; results
are allocated by the call. `--part 2/4` runs every fourth row from the second on, so that long tables can be made in
turns; `--only TEXT` those whose family or name contains the text. Rows are merged into the JSON file by name.
"""

from __future__ import annotations

import argparse
import inspect
import json
import math
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Step, Workload, measure
from benchmarks.sweep_blocks import blocks
from benchmarks.sweep_names import NAMES
from benchmarks.sweep_rows import Row, rows
from benchmarks.sweep_training import training

SLOW_COMPILE = 1.0  # seconds of a first call that are worth a line


def _thalweg(row: Row) -> Step:
    import thalweg as tw

    xp, arguments = NAMES["thalweg"](), [tw.asarray(a) for a in row.arguments()]
    program: Callable[..., Any] = partial(row.program, xp)

    def run(*arrays: Any) -> Any:
        return tw.grad(lambda *a: tw.sum(program(*a)))(*arrays) if row.gradient else program(*arrays)

    names = [inspect.Parameter(f"x{k}", inspect.Parameter.POSITIONAL_OR_KEYWORD) for k in range(len(arguments))]
    run.__signature__ = inspect.Signature(names)  # type: ignore[attr-defined]  # as a user's function would have
    compiled = tw.function(run)
    return lambda: compiled(*arguments)


def _jax(row: Row) -> Step:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    xp, arguments = NAMES["jax"](), [jnp.asarray(a) for a in row.arguments()]
    program = partial(row.program, xp)
    compiled = jax.jit(jax.grad(lambda *a: jnp.sum(program(*a))) if row.gradient else program)
    return lambda: jax.block_until_ready(compiled(*arguments))


def _torch(row: Row) -> Step:
    import torch

    xp, arguments = NAMES["torch"](), [_tensor(a) for a in row.arguments()]
    if not row.gradient:

        def infer() -> object:
            with torch.inference_mode():
                return row.program(xp, *arguments)

        return infer
    x = arguments[0].requires_grad_()
    return lambda: torch.autograd.grad(torch.sum(row.program(xp, *arguments)), x)[0]


def _tensor(array: np.ndarray) -> Any:
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


MAKERS: dict[str, Callable[[Row], Step]] = {"thalweg": _thalweg, "jax": _jax, "torch": _torch}


def workloads() -> list[tuple[str, Workload]]:
    """(family, workload) of every row."""
    made = [
        (row.family, Workload(row.name, row.name, {f: partial(m, row) for f, m in MAKERS.items()}, row.rtol, "us"))
        for row in (*rows(), *blocks())
    ]
    return [*made, *(("training", workload) for workload in training())]


def _line(family: str, workload: Workload, rounds: int, budget: float) -> dict[str, Any]:
    """Measure a row, print it, return what the JSON file keeps of it."""
    results = measure(workload, list(MAKERS), rounds, budget)
    best = {r.framework: r.best * 1e6 for r in results if not r.error}
    peers = [us for framework, us in best.items() if framework != "thalweg"]
    ratio = min(peers) / best["thalweg"] if peers and "thalweg" in best else math.nan
    first = next((r.compile_seconds for r in results if r.framework == "thalweg"), math.nan)
    cells = "".join(f"{best.get(framework, math.nan):11.1f}" for framework in MAKERS)
    slow = f"   first call {first:.1f} s" if first > SLOW_COMPILE else ""
    print(f"{family:12}{workload.name:36}{cells}{ratio:8.2f}x{slow}", flush=True)
    for result in results:
        if result.error:
            print(f"    {result.framework}: {result.error}", flush=True)
    return {"row": workload.name, "family": family, "us": best, "ratio": ratio, "first_call_s": first}


def summary(table: list[dict[str, Any]]) -> str:
    """How many rows are how far ahead or behind, and the geometric mean of their ratios."""
    ratios = [row["ratio"] for row in table if row["ratio"] == row["ratio"]]
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
    counts = ", ".join(f"{sum(r >= least for r in ratios)} at {least}x" for least in (1.0, 0.95, 0.9, 0.5))
    return f"{len(ratios)} rows: {counts} or better; geometric mean {mean:.2f}x"


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--only", default="", help="rows whose family or name contains one of these, parted by |")
    parser.add_argument("--part", default="1/1", help="K/N: every N-th row from the K-th on")
    parser.add_argument("--threads", type=int, default=0, help="processors to use (default: all)")
    parser.add_argument("--budget", type=float, default=0.1, help="seconds for each implementation of a row")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each implementation of a row")
    parser.add_argument("--json", type=Path, default=None, help="default: benchmarks/results/sweep-THREADS.json")
    options = parser.parse_args()
    if options.threads:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    threads = len(os.sched_getaffinity(0))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "THALWEG_THREADS"):
        os.environ[name] = str(threads)
    part, parts = map(int, options.part.split("/"))
    wanted = options.only.split("|")
    chosen = [(f, w) for f, w in workloads() if any(text in f"{f} {w.name}" for text in wanted)][part - 1 :: parts]
    print(f"{threads} thread(s); least microseconds; ratio = fastest peer / thalweg")
    print(f"{'family':12}{'row':36}" + "".join(f"{framework:>11}" for framework in MAKERS) + f"{'ratio':>9}")
    target = options.json or Path(f"benchmarks/results/sweep-{threads}.json")
    kept = {r["row"]: r for r in json.loads(target.read_text())["rows"]} if target.exists() else {}
    start, table = time.perf_counter(), []
    for family, workload in chosen:
        table.append(_line(family, workload, options.rounds, options.budget))
        kept[workload.name] = table[-1]
        target.write_text(json.dumps({"threads": threads, "rows": list(kept.values())}, indent=1) + "\n")
    print(f"{summary(table)}; {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
