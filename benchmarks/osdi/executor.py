"""How many sub-graphs a second one process runs, and what a step costs beside a direct call.

    python -m benchmarks.osdi.executor [--seconds 0.5]

A null step is a step through the executor that computes next to nothing: the paper's runs 10,000 sub-graphs a second.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import thalweg as tw
from benchmarks.osdi.paper import SUBGRAPHS_PER_SECOND
from benchmarks.osdi.report import show, write
from thalweg.frontend.program import compiler
from thalweg.runtime.kernels import Call, Done, async_kernel, kernel
from thalweg.runtime.plan import FEED, LoadedPartition, Node, PartitionPlan
from thalweg.runtime.step import StepIds
from thalweg.runtime.task import Task

CPU = "/job:localhost/task:0/device:CPU:{}"
COUNTS = (1, 4, 16, 64, 256)  # nodes of a step
THREADS = (1, 2, 4)


@kernel("benchmark_pass")
def _pass(call: Call) -> Any:
    return call.inputs


@async_kernel("benchmark_pass_later")
def _pass_later(call: Call, done: Done) -> None:
    done(call.inputs)


def chain(op: str, count: int) -> list[LoadedPartition]:
    """A value that goes through `count` ops."""
    nodes = tuple(
        Node(k, op, f"{op}_{k}", {"program": 0}, ((k - 1, 0) if k else (FEED, 0),)) for k in range(count)
    )
    plan = PartitionPlan(CPU.format(0), nodes, feeds=(0,), fetches=((0, (count - 1, 0)),))
    return [LoadedPartition(plan, (lambda inputs: inputs,))]


def ping_pong(count: int) -> list[LoadedPartition]:
    """A value that goes from device to device `count` times."""
    nodes: tuple[list[Node], list[Node]] = ([], [])
    at = (FEED, 0)
    for k in range(count):
        here, there = nodes[k % 2], nodes[(k + 1) % 2]
        edge = {"edge": str(k), "source": CPU.format(k % 2), "target": CPU.format((k + 1) % 2)}
        here.append(Node(len(here), "send", f"send_{k}", edge, (at,), outputs=0))
        there.append(Node(len(there), "recv", f"recv_{k}", edge))
        at = (len(there) - 1, 0)
    last = count % 2
    return [
        LoadedPartition(PartitionPlan(
            CPU.format(d), tuple(nodes[d]), feeds=() if d else (0,), fetches=((0, at),) if d == last else ()
        ))
        for d in range(2)
    ]  # fmt: skip


def runner(partitions: list[LoadedPartition]) -> Callable[[], Any]:
    """A function that runs one step."""
    task, ids, x = Task(), StepIds(), np.ones(4, np.float32)
    task.register("null", partitions)
    return lambda: task.run("null", ids(), {0: x})


def rate(step: Callable[[], Any], seconds: float, threads: int = 1) -> float:
    """Steps a second, from `threads` threads together; the best of three rounds."""
    step()
    return max(_rate_once(step, seconds / 3, threads) for _ in range(3))


def _rate_once(step: Callable[[], Any], seconds: float, threads: int) -> float:
    counts = [0] * threads
    start = threading.Barrier(threads)

    def work(number: int) -> None:
        start.wait()
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(10):
                step()
            counts[number] += 10

    began = time.perf_counter()
    workers = [threading.Thread(target=work, args=(k,)) for k in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)


def calls() -> dict[str, Callable[[], Any]]:
    """The same small computation by each way into the runtime."""
    x = np.ones(4, np.float32)
    variable = tw.Variable(np.zeros(4, np.float32), name="benchmark")

    @tw.function
    def direct(value: Any) -> Any:
        variable.assign_add(value)
        return value * 2.0

    graph = tw.Graph()
    with graph.as_default():
        fed = tw.placeholder(tw.float32, (4,), name="x")
        doubled = tw.multiply(fed, 2.0, name="doubled")
        queue = tw.FIFOQueue(capacity=8, dtypes=[tw.float32], shapes=[(4,)], name="benchmark")
        push, pop = queue.enqueue([fed]), queue.dequeue()
    session = tw.Session(graph)
    quick = session.make_callable(doubled, [fed])
    enqueue, dequeue = session.make_callable(push, [fed]), session.make_callable(pop)

    def through_queue() -> None:
        enqueue(x)
        dequeue()

    one_cluster = Task()
    plan = PartitionPlan(CPU.format(0), (Node(0, "cluster", "cluster", {"program": 0}, ((FEED, 0),)),), (0,),
                         ((0, (0, 0)),))  # fmt: skip
    enter = compiler().compile(direct.program(x)).direct
    assert enter is not None
    one_cluster.register("one", [LoadedPartition(plan, (lambda inputs: (enter(*inputs),),))])
    ids = StepIds()
    return {
        "tw.function": lambda: direct(x),
        "make_callable": lambda: quick(x),
        "Session.run": lambda: session.run(doubled, {fed: x}),
        "executor, one cluster": lambda: one_cluster.run("one", ids(), {0: x}),
        "enqueue and dequeue (2 steps)": through_queue,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    seconds = parser.parse_args().seconds
    kinds = {"host ops": "benchmark_pass", "asynchronous ops": "benchmark_pass_later", "clusters": "cluster"}
    steps = {name: {n: rate(runner(chain(op, n)), seconds) for n in COUNTS} for name, op in kinds.items()}
    steps["transfers between devices"] = {n: rate(runner(ping_pong(n)), seconds) for n in COUNTS}
    show("Null steps by number of ops in a step", "steps a second", steps)
    null = runner(chain("benchmark_pass", 4))
    threads = {"4 host ops": {n: rate(null, seconds, n) for n in THREADS}}
    show("Null steps by number of client threads", "steps a second", threads,
         {"sub-graphs": {1: SUBGRAPHS_PER_SECOND}})  # fmt: skip
    ways = {name: {"us": 1e6 / rate(step, seconds)} for name, step in calls().items()}
    show("What one call costs", "microseconds", ways)
    write("executor", {"steps_per_second": steps, "by_threads": threads, "call_us": ways})


if __name__ == "__main__":
    main()
