"""Replicated training, the paper's figures 8b and 8c: asynchronous and synchronous steps, and backup workers.

    python -m benchmarks.osdi.replicas [--workers 16] [--rounds 60] [--sigma 0.4] [--cluster]

Each worker trains a small model on its own batches. What a real worker computes for seconds is played by a pause of
random length in its thread before each step: BASE · exp(sigma · z) with z normal, independent for each step, so that
some worker is always late. Synchronous steps wait for the slowest of all; with b backups for the fastest m of m + b.
Workers are virtual devices of this process, or with --cluster tasks in processes of their own.

Figure 8c shows the normalised speed-up t(0)/t(b) · m/(m + b): backups must bring more than the machines they take.
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import thalweg as tw
from benchmarks.osdi.paper import BACKUP_SPEEDUP, BACKUP_STEP
from benchmarks.osdi.report import percentiles, plot, show, write

BASE = 0.06  # seconds
RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(256, 16)).astype(np.float32)
TARGETS = (DATA @ RNG.normal(size=(16, 1))).astype(np.float32)


class Model:
    """A linear model with its variables on one device, and a replica on each worker."""

    def __init__(self, optimizer: Any, variables: str, workers: list[str]) -> None:
        self.graph = tw.Graph()
        self.steps, self.feeds = [], []
        with self.graph.as_default():
            with tw.device(variables):
                w = tw.Variable(np.zeros((16, 1), np.float32), name="w")
            for worker in workers:
                with tw.device(worker):
                    x, y = tw.placeholder(tw.float32, (8, 16)), tw.placeholder(tw.float32, (8, 1))
                    (gradient,) = tw.grad(lambda x=x, y=y: tw.mean((x @ w - y) ** 2), wrt=[w])()
                    self.steps.append(optimizer.apply([(gradient, w)]))
                    self.feeds.append((x, y))

    def run_worker(self, session: tw.Session, number: int, sigma: float, stop: threading.Event) -> list[float]:
        """Train until told to stop; how long each step took."""
        rng, times = np.random.default_rng(number), []
        while not stop.is_set():
            begin = time.perf_counter()
            if stop.wait(BASE * float(np.exp(sigma * rng.normal()))):
                break
            rows = rng.integers(0, 256, 8)
            x, y = self.feeds[number]
            try:
                session.run(self.steps[number], feeds={x: DATA[rows], y: TARGETS[rows]})
            except tw.ThalwegError:
                if stop.is_set():  # the session was closed while this worker waited for its round
                    break
                raise
            times.append(time.perf_counter() - begin)
        return times


@contextmanager
def training(model: Model, session: tw.Session, sigma: float) -> Iterator[list[list[float]]]:
    """All workers at work, each in a thread. Their step times are in the list after the block."""
    stop, times = threading.Event(), [list[float]() for _ in model.steps]

    def work(number: int) -> None:
        times[number] += model.run_worker(session, number, sigma, stop)

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(len(model.steps))]
    for thread in threads:
        thread.start()
    try:
        yield times
    finally:
        stop.set()
        session.close()  # replicas that wait for a round that nobody ends
        for thread in threads:
            thread.join(10)


Places = Callable[[int], tuple[str, list[str], Any]]  # the variables' device, the workers', and the session's target


def asynchronous(places: Places, workers: int, seconds: float, sigma: float) -> list[float]:
    """Step times of workers that wait for nobody."""
    variables, devices, target = places(workers)
    model = Model(tw.train.AsyncReplicas(tw.optim.SGD(0.01)), variables, devices)
    with tw.Session(model.graph, target=target) as session:
        for step, (x, y) in zip(model.steps, model.feeds, strict=True):  # compiles it
            session.run(step, feeds={x: DATA[:8], y: TARGETS[:8]})
        with training(model, session, sigma) as times:
            time.sleep(seconds)
    return [t for worker in times for t in worker]


def synchronous(places: Places, workers: int, backups: int, rounds: int, sigma: float) -> list[float]:
    """How long rounds take."""
    variables, devices, target = places(workers + backups)
    optimizer = tw.train.SyncReplicas(tw.optim.SGD(0.01), replicas=workers, backups=backups)
    model = Model(optimizer, variables, devices)
    with model.graph.as_default():
        start, update = optimizer.start(), optimizer.update()
    times = []
    with tw.Session(model.graph, target=target) as session:
        session.run(start)
        with training(model, session, sigma):
            for number in range(rounds + 5):
                begin = time.perf_counter()
                session.run(update, timeout=60)
                if number >= 5:
                    times.append(time.perf_counter() - begin)
    return times


def _local(count: int) -> tuple[str, list[str], Any]:
    tw.config.set_virtual_devices(cpu=count + 1)
    return "/device:CPU:0", [f"/device:CPU:{k + 1}" for k in range(count)], None


def main() -> None:
    """Measure, print beside the paper's figures, write, plot."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.osdi.replicas", description=__doc__)
    parser.add_argument("--workers", type=int, default=16)
    parser.add_argument("--backups", type=int, default=5, help="the most")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--sigma", type=float, default=0.4, help="how much workers' times vary")
    parser.add_argument("--cluster", action="store_true", help="workers as processes")
    options = parser.parse_args()
    cluster = tw.Cluster(ps=1, workers=options.workers + options.backups) if options.cluster else None

    def remote(count: int) -> tuple[str, list[str], Any]:
        return "/job:ps/task:0", [f"/job:worker/task:{k}" for k in range(count)], cluster

    places = remote if cluster else _local
    free = asynchronous(places, options.workers, options.rounds * BASE * 1.5, options.sigma)
    rounds = {
        b: synchronous(places, options.workers, b, options.rounds, options.sigma) for b in range(options.backups + 1)
    }
    if cluster:
        cluster.close()
    _tell(options.workers, free, rounds)


def _tell(workers: int, free: list[float], rounds: dict[int, list[float]]) -> None:
    percents = (10, 25, 50, 75, 90, 95, 99)
    cdf = {
        "asynchronous": {p: t * 1e3 for p, t in percentiles(free, percents).items()},
        "synchronous": {p: t * 1e3 for p, t in percentiles(rounds[0], percents).items()},
    }
    show(f"Step time of {workers} workers by percentile", "ms", cdf)
    medians = {b: statistics.median(times) for b, times in rounds.items()}
    speedup = {b: medians[0] / t * workers / (workers + b) for b, t in medians.items()}
    show("Median synchronous step by backups", "s", {f"{workers} workers": medians}, {"50 workers": BACKUP_STEP})
    show("Normalised speed-up by backups", "t(0)/t(b) m/(m+b)", {"here": speedup}, {"50 workers": BACKUP_SPEEDUP})
    best = max(speedup, key=lambda b: speedup[b])
    print(f"best with {best} backups: {speedup[best]:.3f}")
    write("replicas", {"workers": workers, "percentiles_ms": cdf, "median_s": medians, "speedup": speedup})
    plot("replicas_cdf", "Step times", ("ms", "percent"), {k: {v: p for p, v in c.items()} for k, c in cdf.items()})
    plot("replicas_backups", "Backup workers", ("backups", "normalised speed-up"), {f"{workers} workers": speedup},
         {"50 workers": BACKUP_SPEEDUP})  # fmt: skip


if __name__ == "__main__":
    main()
