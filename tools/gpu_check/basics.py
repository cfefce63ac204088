"""Copies, kernels, graphs, mixed programs, memory, other libraries: does the runtime do what it says?"""

from __future__ import annotations

import functools
import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import thalweg as tw
from thalweg.dialects.devices import Device
from thalweg.dialects.diagnostics import DeviceMemoryError
from thalweg.runtime.config import config
from thalweg.runtime.gpu.memory import size_text
from thalweg.tools.gpu_check.check import SKIPPED, Check, on_gpu


def launch(check: Check) -> None:
    """Copies of all sizes there and back, their speeds, a kernel, events, and other GPUs."""
    gpu = check.gpu
    rng = np.random.default_rng(0)
    for count in check.size((0, 1, 1000, 20_000, 2**20 + 3, 2**26), (0, 1, 1000, 20_000, 2**20 + 3)):
        with check.attempt(f"copy {size_text(count)} there and back") as found:
            data = rng.integers(0, 255, count).astype(np.uint8)
            began = time.perf_counter()
            there = gpu.put(data)
            gpu.synchronise()
            middle = time.perf_counter()
            back = there.numpy()
            assert (back == data).all(), "the bytes differ"
            if count >= 2**20 and not check.simulated:
                found["up_gb_s"] = count / (middle - began) / 1e9
                found["down_gb_s"] = count / (time.perf_counter() - middle) / 1e9
    with check.attempt("copies on the GPU") as found:
        size = check.size(2**30, 2**16)
        a, b = gpu.empty((size,), np.uint8), gpu.empty((size,), np.uint8)
        ms = min(gpu.time(lambda: gpu.driver.copy(b.address, a.address, size, gpu.compute), 5))
        if not check.simulated:
            found["gb_s"] = 2 * size / ms / 1e6
    with check.attempt("a kernel"), on_gpu():
        x = rng.standard_normal(1000).astype(np.float32)
        y = np.asarray(tw.function(lambda a: a * 2 + 1)(x))
        assert np.allclose(y, x * 2 + 1), f"the largest error is {np.abs(y - x * 2 - 1).max()}"
    others = [name for name in config.devices if "GPU" in name][1:]
    if not others:
        check.note("other GPUs", SKIPPED, why="there is one GPU")
    for name in others:
        with check.attempt(f"from GPU 0 to {name}") as found:
            from thalweg.gpus import gpu_of

            other = gpu_of(Device("GPU", int(name.rpartition(":")[2])))
            data = rng.integers(0, 255, check.size(2**28, 2**16)).astype(np.uint8)
            there = gpu.put(data)
            began = time.perf_counter()
            copied = other.receive(there)
            other.synchronise()
            if not check.simulated:
                found["gb_s"] = data.size / (time.perf_counter() - began) / 1e9
            found["directly"] = other._peers.get(0, False)
            assert (copied.numpy() == data).all(), "the bytes differ"


def _trained(steps: int, **options: Any) -> tuple[list[float], list[np.ndarray]]:
    """Losses and weights of a small network, with options of the process."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(32, 20)).astype(np.float32), rng.integers(0, 4, 32).astype(np.int32)
    with config.override(**options):
        weights = [tw.Variable(rng.normal(size=s).astype(np.float32) * 0.3, name="check") for s in ((20, 33), (33, 4))]
        optimizer = tw.optim.Adam(0.01)

        @tw.function
        def step(x: Any, y: Any) -> Any:
            def loss() -> Any:
                return tw.mean(tw.nn.softmax_cross_entropy(tw.tanh(x @ weights[0]) @ weights[1], y))

            value, gradients = tw.value_and_grad(loss, wrt=weights)()
            optimizer.apply(zip(gradients, weights, strict=True))
            return value

        return [float(step(x, y)) for _ in range(steps)], [w.numpy() for w in weights]


def graphs(check: Check) -> None:
    """The same numbers with graphs and without; state that the host changes between replays; loops."""
    with check.attempt("training with graphs and without, bit by bit"):
        with_graphs = _trained(6, default_device="gpu", gpu_graphs=True)
        without = _trained(6, default_device="gpu", gpu_graphs=False)
        assert with_graphs[0] == without[0], f"losses differ: {with_graphs[0]} and {without[0]}"
        for a, b in zip(with_graphs[1], without[1], strict=True):
            assert (a == b).all(), f"weights differ by up to {np.abs(a - b).max()}"
    with check.attempt("a variable that the host changes between replays"), on_gpu():
        w = tw.Variable(np.zeros(64, np.float32), name="changed")
        bump = tw.function(lambda x: (w.assign_add(x), tw.sum(w * 2))[1])
        one = np.ones(64, np.float32)
        for turn in range(6):
            if turn % 2:
                w.assign(np.full(64, 10 * turn, np.float32))
            before = w.numpy()
            total = float(bump(one))
            assert total == float((before + 1).sum() * 2), f"turn {turn}: got {total}"
    body = lambda i, a: (i + 1, tw.tanh(a @ a) + a)  # noqa: E731
    looped = lambda x, n: tw.while_loop(lambda i, a: i < n, body, (0, x))[1]  # noqa: E731
    for name, side, counted in (
        ("a small loop that is one kernel", 16, False),
        ("a loop that the host drives, its body a graph", check.size(512, 64), False),
        ("a loop of known length, part of the graph", check.size(512, 64), True),
    ):
        with check.attempt(name, side=side), on_gpu():
            step = tw.function(looped, static=("n",) if counted else ())
            x = np.eye(side, dtype=np.float32) / 2
            for n in (1, 4, 9):
                expected = x
                for _ in range(n):
                    expected = np.tanh(expected @ expected) + expected
                got = np.asarray(step(x, n))
                off = np.abs(got - expected).max()
                assert np.allclose(got, expected, rtol=1e-3, atol=1e-4), f"{n} turns: off by {off}"
    with check.attempt("steps of two programs in turns"), on_gpu():
        w = tw.Variable(np.zeros(8, np.float32), name="turns")
        up = tw.function(lambda: w.assign_add(tw.ones((8,)) * 3 + tw.sum(w) * 0))
        down = tw.function(lambda: w.assign_sub(tw.ones((8,)) + tw.sum(w) * 0))
        for _ in range(10):
            up()
            down()
        assert (w.numpy() == 20).all(), f"got {w.numpy()}"


def mixed(check: Check) -> None:
    """Programs over the host and GPUs: numbers, and whether copies overlap with work."""
    gpus = [name for name in config.devices if "GPU" in name]

    def over(x: Any) -> Any:
        with tw.device("cpu:0"):
            a = tw.exp(x)
        with tw.device(gpus[0]):
            b = tw.sum(a, axis=0)
        with tw.device(gpus[-1]):
            c = b * 3
        with tw.device("cpu:0"):
            return c + 1

    with check.attempt(f"host, {gpus[0]}, {gpus[-1]}, host", devices=len(gpus)):
        step = tw.function(over)
        data = np.random.default_rng(0).normal(size=(64, 32)).astype(np.float32)
        for _ in range(4):
            got = np.asarray(step(data))
            assert np.allclose(got, np.exp(data).sum(0) * 3 + 1, rtol=1e-4), f"off by {np.abs(got).max()}"
    with check.attempt("a queue feeds a GPU"):
        graph = tw.Graph()
        with graph.as_default():
            queue = tw.FIFOQueue(8, [tw.float32], [(16,)])
            x = tw.placeholder(tw.float32, (16,), name="x")
            enqueue = queue.enqueue(x)
            with tw.device(gpus[0]):
                out = queue.dequeue() * 2
        with tw.Session(graph) as session:
            for k in range(4):
                session.run(enqueue, {x: np.full(16, k, np.float32)})
            for k in range(4):
                assert (np.asarray(session.run(out)) == 2 * k).all(), f"element {k} is wrong"
    with check.attempt("the host and a GPU work at the same time") as found:
        size = check.size(1024, 16)
        a = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32) / size

        def both(x: Any, on_host: bool, on_device: bool) -> Any:
            results = []
            for wanted, place in ((on_host, "cpu:0"), (on_device, gpus[0])):
                with tw.device(place):
                    y = x
                    for _ in range(8 if wanted else 0):
                        y = tw.tanh(y @ x)
                    results.append(tw.sum(y))
            return tuple(results)

        for label, host, device in (("host", True, False), ("gpu", False, True), ("both", True, True)):
            wanted = functools.partial(both, on_host=host, on_device=device)
            timed = tw.function(wanted, static=("on_host", "on_device"))
            found[f"{label}_ms"] = _least(timed, a, check.size(10, 1)) * 1e3


def _least(step: Callable[[Any], Any], x: Any, rounds: int) -> float:
    """The least seconds until all results are there."""
    best = float("inf")
    for _ in range(rounds + 1):
        began = time.perf_counter()
        for result in step(x):
            float(result)
        best = min(best, time.perf_counter() - began)
    return best


def memory(check: Check) -> None:
    """Nothing piles up; what is too much is told with names and lines, and work goes on after it."""
    gpu = check.gpu
    with check.attempt("nothing is left of 200 steps") as found, on_gpu():
        w = tw.Variable(np.zeros((64, 64), np.float32), name="leak")
        step = tw.function(lambda x: (w.assign_add(x @ w + x), tw.sum(w))[1])
        x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32) * 1e-3
        for _ in range(5):
            float(step(x))
        gpu.synchronise()
        before, pinned, (free, _) = gpu.in_use, gpu.staging.taken, _free(check)
        for _ in range(check.size(200, 20)):
            float(step(x))
        gpu.synchronise()
        found["bytes"], found["pinned"] = gpu.in_use - before, gpu.staging.taken - pinned
        found["driver"] = free - _free(check)[0]
        assert found["bytes"] == found["pinned"] == 0, "memory piles up"
    with check.attempt("a program's memory goes with it") as found, on_gpu():
        gc.collect()
        before = gpu.in_use
        made = tw.function(lambda x: tw.sum(tw.tanh(x @ x) @ x))
        for _ in range(3):
            float(made(np.ones((128, 128), np.float32)))
        found["while it lives"] = gpu.in_use - before
        del made
        gc.collect()
        found["after"] = gpu.in_use - before
        assert found["after"] <= 0, "what a program had is still there"
    with check.attempt("what does not fit is told") as found, on_gpu():
        total = gpu.properties.memory
        side = int((total / 4 / 3) ** 0.5)  # three such matrices are all there is
        try:
            huge = tw.function(lambda a: tw.sum(tw.exp(tw.broadcast_to(a, (side, side))) @ tw.ones((side, side))))
            if not check.simulated:
                kept = [gpu.empty((side, side), np.float32, f"block {k} of the check") for k in range(3)]
                float(huge(np.ones((side, 1), np.float32)))
                del kept
            else:
                gpu.allocate(total * 2, "a block of the check")
        except DeviceMemoryError as error:
            found["message"] = str(error)
            assert "block" in str(error), "the message does not name what is there"
        else:
            raise AssertionError("it fitted")
    gc.collect()
    with check.attempt("work goes on after it"), on_gpu():
        assert float(tw.function(lambda x: tw.sum(x))(np.ones(100, np.float32))) == 100


def _free(check: Check) -> tuple[int, int]:
    check.gpu.enter()
    return check.gpu.driver.memory()


def dlpack(check: Check) -> None:
    """Arrays to and from PyTorch and CuPy without a copy; NumPy where the GPU is a virtual one."""
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    with on_gpu():
        double = tw.function(lambda a: a * 2)
        if check.simulated:
            with check.attempt("numpy.from_dlpack of a virtual GPU's array"):
                assert (np.from_dlpack(double(x)) == x * 2).all(), "the numbers differ"
            return
        with check.attempt("torch") as found:
            try:
                import torch
            except ImportError:
                found["status"], found["why"] = SKIPPED, "PyTorch is not installed"
            else:
                found["version"] = torch.__version__
                there = torch.from_dlpack(double(x))
                assert there.is_cuda and (there.cpu().numpy() == x * 2).all(), "to PyTorch: the numbers differ"
                theirs = torch.arange(12, device="cuda", dtype=torch.float32).reshape(3, 4) + 1
                ours = tw.from_dlpack(theirs)
                assert ours.held.address == theirs.data_ptr(), "from PyTorch: it was copied"
                assert (np.asarray(double(ours)) == (x + 1) * 2).all(), "from PyTorch: the numbers differ"
        with check.attempt("cupy") as found:
            try:
                import cupy
            except ImportError:
                found["status"], found["why"] = SKIPPED, "CuPy is not installed"
            else:
                found["version"] = cupy.__version__
                assert (cupy.asnumpy(cupy.from_dlpack(double(x))) == x * 2).all(), "to CuPy: the numbers differ"
                ours = tw.from_dlpack(cupy.asarray(x))
                assert (np.asarray(double(ours)) == x * 2).all(), "from CuPy: the numbers differ"
