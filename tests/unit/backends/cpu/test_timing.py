"""Kernels take turns and are timed: who runs how often, when it ends. What the clock shows is not asserted."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu import timing
from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.timing import race, time_kernels
from thalweg.backends.cpu.tuning import Trial
from thalweg.compiler import driver
from thalweg.dialects import context


class Clock:
    """Time that passes as runs say."""

    def __init__(self) -> None:
        self.now, self.calls = 0.0, []

    def run(self, name: str, seconds: float, first: float = 0.0) -> Callable[[int], float]:
        def once(times: int) -> float:
            took = times * seconds + (first if name not in self.calls else 0.0)
            self.calls.append(name)
            self.now += took
            return took

        return once


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: made.now)
    return made


def test_the_least_counts(clock: Clock) -> None:
    runs = [clock.run("a", 2e-3, first=5.0), clock.run("b", 1.9e-3)]
    assert race(runs, 6.0) == pytest.approx([2e-3, 1.9e-3])
    assert clock.now == pytest.approx(6.0, rel=0.01)


def test_the_hopeless_have_few_turns(clock: Clock) -> None:
    race([clock.run("a", 1e-3), clock.run("slow", 1.3e-3), clock.run("b", 1.2e-3)], 1.0)
    counts = {name: clock.calls.count(name) for name in ("a", "slow", "b")}
    assert counts["slow"] == 2 + timing.LEAST_ROUNDS and counts["a"] > 300 and abs(counts["a"] - counts["b"]) <= 1


def test_turns_go_back_and_forth(clock: Clock) -> None:
    race([clock.run(name, 1e-3) for name in "abc"], 0.05)
    assert "".join(clock.calls[9:]).startswith("cbaabccba")


def test_short_runs_are_repeated(clock: Clock) -> None:
    times: list[int] = []
    run = clock.run("a", 1e-6)
    race([lambda n: (times.append(n), run(n))[1]], 0.01)
    assert times[:2] == [1, 1] and times[2] == round(timing.SAMPLE / 1e-6)


def test_there_is_an_end_where_runs_are_long(clock: Clock) -> None:
    found = race([clock.run(name, 3.0) for name in "abc"], 1.0)
    assert found == [3.0, math.inf, math.inf] and clock.calls == ["a"] * (2 + timing.LEAST_ROUNDS)


def test_nothing_takes_no_time() -> None:
    assert race([], 1.0) == [] and time_kernels([], 1.0, CpuOptions(threads=1)) == []


def _kernel(threads: int, function: Callable[..., tw.Tensor], *arrays: np.ndarray) -> Kernel:
    module = driver().to_stablehlo(tw.function(function).program(*arrays).module)[0]
    (kernel,) = lower(module, CpuOptions(threads=threads)).program.kernels()
    return kernel


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_kernels_are_run(threads: int, dtype: type) -> None:
    with context.entered():
        arrays = np.ones((65, 300), dtype), np.ones((300, 200), dtype), np.ones((200,), dtype)
        kernel = _kernel(threads, lambda a, b, c: a @ b + c, *arrays)
        found = time_kernels([Trial(None, kernel)] * 2, 0.01, CpuOptions(threads=threads))
    assert len(found) == 2 and all(seconds > 0 for seconds in found)


def test_buffers_lie_as_in_a_program() -> None:
    """What the caller gives lies as NumPy puts it; no bytes are missing."""
    with context.entered():
        kernel = _kernel(1, lambda a, b: tw.tanh(a @ b), np.ones((5, 7), np.float32), np.ones((7, 3), np.float32))
    buffers = timing._buffers(kernel)
    assert [buffer.size for buffer in buffers] == [5 * 7 * 4, 7 * 3 * 4, 5 * 3 * 4]
    assert [buffer.ctypes.data % 64 for buffer in buffers] == [16, 16, 0]
    assert np.isfinite(buffers[0].view(np.float32)).all() and buffers[0].view(np.float32).std() > 0.1
