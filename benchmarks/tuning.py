"""`python -m benchmarks.tuning`: what schedules that were timed gain over the model's (`tw.config.cpu_tuning`), for
products of matrices and convolutions of random sizes.

Each is compiled twice, by the model and tuned, and both are timed afterwards in turns, by the least of many calls: what
the search saw counts for nothing. Rows are told as they are made; `--skip` leaves out those at the beginning.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Step, Workload, measure

WAYS = ("model", "tuned")
LIGHTEST, HEAVIEST = 2e5, 4e8  # products of a row
Row = tuple[str, Callable[..., Any], tuple[np.ndarray, ...]]  # its name, what is computed, of what


def rows(seed: int) -> Iterator[Row]:
    """Products of matrices and convolutions in turns, without end."""
    draw = random.Random(seed)
    while True:
        yield _product(draw)
        yield _product(draw)
        yield _convolution(draw)


def _size(draw: random.Random, least: int, most: int) -> int:
    """As often below the middle of the orders of magnitude as above."""
    return round(math.exp(draw.uniform(math.log(least), math.log(most))))


def _numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def _product(draw: random.Random) -> Row:
    while True:
        m, k, n = _size(draw, 2, 1500), _size(draw, 32, 3000), _size(draw, 16, 3000)
        if LIGHTEST < m * k * n < HEAVIEST:
            break
    turned = draw.random() < 0.25
    if turned:
        return f"{m}x{k}x{n}, b transposed", lambda a, b: a @ b.T, (_numbers(m, k), _numbers(n, k))
    return f"{m}x{k}x{n}", lambda a, b: a @ b, (_numbers(m, k), _numbers(k, n))


def _convolution(draw: random.Random) -> Row:
    import thalweg as tw

    while True:
        batch, side = draw.choice((1, 1, 2, 8)), draw.choice((7, 13, 14, 28, 33, 56))
        window, stride = draw.choice((1, 3, 3, 5)), draw.choice((1, 1, 2))
        inputs, outputs = (draw.choice((16, 32, 33, 64, 100, 128, 256)) for _ in range(2))
        if LIGHTEST < batch * (side / stride) ** 2 * window**2 * inputs * outputs < HEAVIEST:
            break
    x, w = _numbers(batch, side, side, inputs), _numbers(window, window, inputs, outputs)
    g = _numbers(batch, -(-side // stride), -(-side // stride), outputs)
    name = f"{batch}x{side}x{side}x{inputs}, {window}x{window} to {outputs}, stride {stride}"

    def forward(x: Any, w: Any) -> Any:
        return tw.nn.conv(x, w, stride=stride)

    def weights(x: Any, w: Any, g: Any) -> Any:
        return tw.grad(lambda w: tw.sum(forward(x, w) * g))(w)

    return (f"{name}: weights", weights, (x, w, g)) if draw.random() < 0.3 else (name, forward, (x, w))


def _step(function: Callable[..., Any], arrays: tuple[np.ndarray, ...], tuned: bool) -> Step:
    import thalweg as tw

    tensors = [tw.asarray(array) for array in arrays]
    compiled = tw.function(function)
    with tw.config.override(cpu_tuning=tuned):
        compiled(*tensors)
    return lambda: compiled(*tensors)


def main() -> None:
    """Parse, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tuning", description=__doc__)
    parser.add_argument("--rows", type=int, default=30)
    parser.add_argument("--skip", type=int, default=0, help="rows at the beginning")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=0, help="default: all processors")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--budget", type=float, default=0.3, help="seconds for each way of a row")
    parser.add_argument("--json", type=Path, default=None, help="where rows go, after those that are there")
    options = parser.parse_args()
    import thalweg as tw

    found = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    with tempfile.TemporaryDirectory() as folder, tw.config.override(threads=options.threads, cache_dir=folder):
        wanted = itertools.islice(rows(options.seed), options.skip, options.skip + options.rows)
        for name, function, arrays in wanted:
            began = time.perf_counter()
            ways = {way: _step(function, arrays, way == "tuned") for way in WAYS}
            search = time.perf_counter() - began
            makers = {way: (lambda step=step: step) for way, step in ways.items()}
            results = measure(Workload(name, name, makers), list(WAYS), options.rounds, options.budget)
            seconds = {result.framework: result.best for result in results}
            gain = seconds["model"] / seconds["tuned"]
            found.append({"row": name, "threads": tw.config.thread_count, **seconds, "gain": gain, "search": search})
            times = "".join(f"{seconds[way] * 1e6:11.1f} us" for way in WAYS)
            print(f"{name:48}{times}{gain:8.2f}x   [{search:.1f} s]", flush=True)
    mean = math.exp(sum(math.log(row["gain"]) for row in found) / max(len(found), 1))
    print(f"{len(found)} rows, {sum(row['gain'] > 1.03 for row in found)} gain, geometric mean {mean:.3f}x")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
