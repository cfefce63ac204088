"""`python -m benchmarks.start`: seconds until a program's first result, in processes of their own.

import    `import thalweg` and its names, NumPy aside
cold      the first call: tracing, compiling and one run, with nothing on disk
warm      the same in a later process, which finds the machine code on disk
traced    the same with `tw.config.warm_start`, which keeps the traced program, too
call      the second call, for comparison
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness import Step

ROWS = (
    "matmul-512", "mlp-step", "transformer-block", "convnet-step", "lstm-full-softmax",
    "transformer-12-step", "resnet50-step", "googlenet-step",
)  # fmt: skip
LAYERS = 12


def transformer_step() -> Step:
    """A training step with Adam of twelve blocks of workloads/transformer.py, one after the other."""
    import thalweg as tw
    from benchmarks.workloads import transformer

    rng = np.random.default_rng(0)
    layers = [
        [tw.Variable(p, name=f"layer{layer}_{k}") for k, p in enumerate(transformer._parameters())]
        for layer in range(LAYERS)
    ]
    every = [variable for layer in layers for variable in layer]
    optimiser = tw.optim.Adam(1e-3)
    mask = np.tril(np.ones((transformer.LENGTH, transformer.LENGTH), bool))
    x = rng.standard_normal((transformer.BATCH, transformer.LENGTH, transformer.WIDTH), np.float32)

    @tw.function
    def step(x):  # type: ignore[no-untyped-def]
        def loss():  # type: ignore[no-untyped-def]
            h = x
            for layer in layers:
                h = transformer._block(tw, tw.nn.softmax, tw.nn.gelu, layer, h, mask)
            return tw.mean(h**2)

        value, gradients = tw.value_and_grad(loss, wrt=every)()
        optimiser.apply(zip(gradients, every, strict=True))
        return value

    return lambda: step(x)


def _maker(row: str) -> Callable[[], Step]:
    from benchmarks.workloads import MODELS, WORKLOADS

    if row == "transformer-12-step":
        return transformer_step
    return next(workload for workload in (*WORKLOADS, *MODELS) if workload.name == row).makers["thalweg"]


def _child(row: str) -> dict[str, float]:
    """What a process measures of itself."""
    begin = time.perf_counter()
    import thalweg

    _ = thalweg.function
    imported = time.perf_counter()
    step = _maker(row)()
    built = time.perf_counter()
    step()
    first = time.perf_counter()
    step()
    return {"import": imported - begin, "first": first - built, "call": time.perf_counter() - first}


def _process(row: str, folder: Path, **options: str) -> dict[str, float]:
    environment = os.environ | {"THALWEG_CACHE": "1", "THALWEG_CACHE_DIR": str(folder)} | options
    command = [sys.executable, "-m", "benchmarks.start", "--child", row]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(row: str, runs: int) -> dict[str, float]:
    """The columns of a row, each the least of some processes."""
    cold, warm, traced = [], [], []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            cold.append(_process(row, Path(folder)))
            warm.append(_process(row, Path(folder)))
            _process(row, Path(folder), THALWEG_WARM_START="1")
            traced.append(_process(row, Path(folder), THALWEG_WARM_START="1"))
    least = {"cold": cold, "warm": warm, "traced": traced}
    return {
        "import": min(run["import"] for run in warm),
        **{name: min(run["first"] for run in found) for name, found in least.items()},
        "call": min(run["call"] for run in warm),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.start", description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", default=",".join(ROWS), help="names separated by commas")
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the numbers, too")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(_child(options.child)))
        return
    rows: dict[str, dict[str, float]] = {}
    for row in options.rows.split(","):
        rows[row] = measure(row, options.runs)
        if len(rows) == 1:
            print(f"{'':24}" + "".join(f"{column:>9}" for column in rows[row]))
        print(f"{row:24}" + "".join(f"{value:9.3f}" for value in rows[row].values()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
