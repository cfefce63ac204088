"""Null training steps, the paper's figure 7: workers fetch shared parameters, do next to nothing, send updates.

    python -m benchmarks.osdi.null_step [--workers 1,2,4] [--ps 2] [--quick]

A step is synchronous: it ends when all workers' updates are in. "Scalar" has one number on each parameter task, "dense"
the named number of bytes spread over them, all of which goes to every worker and back; "sparse" looks up 32 random rows
of a table and updates them, so it should not depend on the size of the table. Tasks are processes of this machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import thalweg as tw
from benchmarks.osdi.paper import NULL_STEP
from benchmarks.osdi.report import percentiles, plot, show, write

ROWS, WIDTH = 32, 64  # looked up in each step, and floats of a row
MEGABYTE = 1 << 20


def dense(nbytes: int, ps: int, workers: int) -> list[Any]:
    """The workers' updates: each reads every parameter and adds something of its size to it."""
    size = max(1, nbytes // 4 // ps)
    parameters = []
    for task in range(ps):
        with tw.device(f"/job:ps/task:{task}"):
            parameters.append(tw.Variable(tw.zeros((size,)), name=f"dense_{nbytes}_{task}"))
    updates = []
    for worker in range(workers):
        for parameter in parameters:
            with tw.device(f"/job:worker/task:{worker}"):
                update = parameter * 0.5 + 1.0
            updates.append(parameter.assign_sub(update))
    return updates


def sparse(nbytes: int, ps: int, workers: int) -> list[Any]:
    """The workers' updates of random rows of a table that is spread over the parameter tasks."""
    rows = nbytes // 4 // WIDTH
    with tw.device("/job:ps"):
        table = tw.ShardedVariable((rows, WIDTH), shards=ps, devices="/job:ps", name=f"sparse_{nbytes}")
    optimizer = tw.optim.SGD(0.01)
    rng = np.random.default_rng(0)
    updates = []
    for worker in range(workers):
        with tw.device(f"/job:worker/task:{worker}"):
            ids = tw.asarray(rng.integers(0, rows, ROWS).astype(np.int32))

            def loss(ids: Any = ids) -> Any:
                return tw.sum(table.lookup(ids))

            gradients = tw.grad(loss, wrt=table.shards)()
            updates.append(optimizer.apply(zip(gradients, table.shards, strict=True)))
    return updates


def measure(cluster: tw.Cluster, build: Callable[[], list[Any]], seconds: float) -> list[float]:
    """Step times."""
    graph = tw.Graph()
    with graph.as_default():
        updates = build()
    with tw.Session(graph, target=cluster) as session:
        for _ in range(3):
            session.run(updates)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 5:
            start = time.perf_counter()
            session.run(updates)
            times.append(time.perf_counter() - start)
    return times


def main() -> None:
    """Measure, print beside the paper's figure, write, plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.osdi.null_step", description=__doc__)
    parser.add_argument("--workers", default="1,2,4", help="numbers of workers")
    parser.add_argument("--ps", type=int, default=2, help="parameter tasks")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each point")
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    options = parser.parse_args()
    counts = [int(n) for n in options.workers.split(",")]
    kinds: dict[str, tuple[Any, int]] = {"scalar": (dense, 4 * options.ps), "dense 1 MB": (dense, MEGABYTE)}
    kinds |= {"sparse 10 MB": (sparse, 10 * MEGABYTE)}
    if not options.quick:
        kinds |= {"dense 10 MB": (dense, 10 * MEGABYTE), "dense 100 MB": (dense, 100 * MEGABYTE)}
        kinds |= {"sparse 1 GB": (sparse, 1024 * MEGABYTE)}
    medians: dict[str, dict[Any, float]] = {}
    spread: dict[str, dict[int, dict[int, float]]] = {}
    for name, (kind, nbytes) in kinds.items():
        for count in counts:
            with tw.Cluster(ps=options.ps, workers=count) as cluster:
                times = measure(cluster, lambda k=kind, b=nbytes, n=count: k(b, options.ps, n), options.seconds)  # type: ignore[misc]
            medians.setdefault(name, {})[count] = statistics.median(times) * 1e3
            spread.setdefault(name, {})[count] = percentiles(times)
            print(f"{name}, {count} workers: {medians[name][count]:.3g} ms")
    show("Null training step by workers", "ms", medians, NULL_STEP)
    write("null_step", {"median_ms": medians, "percentiles_s": spread, "parameter_tasks": options.ps})
    plot("null_step", "Null training step", ("workers", "ms"), medians, NULL_STEP, log="xy")


if __name__ == "__main__":
    main()
