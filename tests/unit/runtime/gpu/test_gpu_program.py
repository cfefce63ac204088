"""Device programs on a virtual GPU: launches, graphs, loops, branches, errors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import tiny_kernels as tiny

from thalweg.dialects.diagnostics import DeviceError
from thalweg.runtime.gpu import program
from thalweg.runtime.gpu.artefact import Branch, Buffer, Copy, While
from thalweg.runtime.gpu.device import Gpu
from thalweg.runtime.gpu.driver import DriverError
from thalweg.runtime.gpu.program import LoadedProgram
from thalweg.runtime.gpu.virtual import VirtualDriver

X = np.arange(4, dtype=np.float32)


@pytest.fixture
def gpu() -> Gpu:
    return Gpu(VirtualDriver(1, tiny.interpreter), 0)


def calls(gpu: Gpu) -> Counter[str]:
    assert isinstance(gpu.driver, VirtualDriver)
    found = Counter(call[0] for call in gpu.driver.log)
    gpu.driver.log.clear()
    return found


TWO = [("double", tiny.argument(0), tiny.arena(0)), ("increment", tiny.arena(0), tiny.result(0))]


def test_the_second_run_is_captured_and_the_others_replayed(gpu: Gpu) -> None:
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1))
    seen = []
    for turn in range(4):
        calls(gpu)
        np.testing.assert_array_equal(loaded([gpu.put(X + turn)])[0].numpy(), (X + turn) * 2 + 1)
        found = calls(gpu)
        seen.append((found["launch"], found["end_capture"], found["launch_graph"]))
    assert seen == [(2, 0, 0), (2, 1, 1), (0, 0, 1), (0, 0, 1)]


def test_results_of_several_runs_are_several_arrays(gpu: Gpu) -> None:
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1))
    found = [loaded([gpu.put(X * k)])[0] for k in range(5)]
    for k, array in enumerate(found):
        np.testing.assert_array_equal(array.numpy(), X * k * 2 + 1)


def test_without_graphs_everything_is_launched(gpu: Gpu) -> None:
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1), graphs=False)
    for _ in range(3):
        np.testing.assert_array_equal(loaded([gpu.put(X)])[0].numpy(), X * 2 + 1)
    assert calls(gpu)["launch"] == 6


def test_one_launch_needs_no_graph(gpu: Gpu) -> None:
    loaded = LoadedProgram(gpu, tiny.program(TWO[:1], 1, 0))
    for _ in range(3):
        loaded([gpu.put(X)])
    assert calls(gpu)["begin_capture"] == 0


def test_graphs_are_not_worth_copies_of_large_arrays(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "COPIED", X.nbytes - 1)  # two launches; an input and a result
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1))
    for _ in range(3):
        np.testing.assert_array_equal(loaded([gpu.put(X)])[0].numpy(), X * 2 + 1)
    assert calls(gpu)["begin_capture"] == 0
    monkeypatch.setattr(program, "COPIED", X.nbytes)
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1))
    for _ in range(3):
        np.testing.assert_array_equal(loaded([gpu.put(X)])[0].numpy(), X * 2 + 1)
    assert calls(gpu)["begin_capture"] == 1


def test_state_that_has_moved_is_captured_again(gpu: Gpu) -> None:
    steps = [("double", tiny.argument(0), tiny.arena(0)), ("step", tiny.arena(0), tiny.argument(1))]
    loaded = LoadedProgram(gpu, replace(tiny.program(steps, 2, 1), aliases=((0, 1),)), state=1)
    w = gpu.put(np.zeros(4, np.float32))
    for _ in range(3):
        loaded([gpu.put(X), w])
    np.testing.assert_array_equal(w.numpy(), -6 * X)
    elsewhere = gpu.put(np.ones(4, np.float32))
    calls(gpu)
    loaded([gpu.put(X), elsewhere])
    found = calls(gpu)
    assert (found["destroy_graph"], found["end_capture"]) == (1, 1)
    np.testing.assert_array_equal(elsewhere.numpy(), 1 - 2 * X)
    np.testing.assert_array_equal(w.numpy(), -6 * X)


def test_constants_and_copies(gpu: Gpu) -> None:
    made = tiny.program(
        [("add", tiny.argument(0), tiny.constant(0), tiny.arena(0)), Copy(tiny.arena(0), tiny.result(0))], 1, 1
    )
    loaded = LoadedProgram(gpu, replace(made, constants=(X * 100,)))
    for _ in range(3):
        np.testing.assert_array_equal(loaded([gpu.put(X)])[0].numpy(), X * 101)


LOOP = [
    Copy(tiny.argument(0), tiny.arena(0)),
    While(
        (("below", tiny.arena(0), tiny.argument(1), Buffer("arena", 0, 1024, 1)),),
        Buffer("arena", 0, 1024, 1),
        (("double", tiny.arena(0), tiny.arena(1)), ("increment", tiny.arena(1), tiny.arena(0))),
    ),
    Copy(tiny.arena(0), tiny.result(0)),
]


def test_loops_are_driven_by_the_host_and_their_bodies_are_graphs(gpu: Gpu) -> None:
    loaded = LoadedProgram(gpu, tiny.program(LOOP, 2, 1))
    for turn in range(3):
        expected = X.copy()
        while expected[0] < 100:
            expected = expected * 2 + 1
        calls(gpu)
        np.testing.assert_array_equal(loaded([gpu.put(X), gpu.put(X * 0 + 100)])[0].numpy(), expected)
        found = calls(gpu)
        assert found["launch_graph"] == (7 if turn else 0)
        assert found["end_capture"] == (turn == 1)


def _repeated(trips: int) -> list[object]:
    begin, loop, end = LOOP
    assert isinstance(loop, While)
    return [begin, While(loop.condition, loop.predicate, loop.body, trips), end]


@pytest.mark.parametrize("trips", [0, 1, 5])
def test_loops_of_known_length_are_part_of_the_graph(gpu: Gpu, trips: int) -> None:
    """Nothing is read back between launches: the host waits once, for the result."""
    loaded = LoadedProgram(gpu, tiny.program(_repeated(trips), 2, 1))
    assert loaded.program.straight
    expected = X * 2**trips + 2**trips - 1
    for _ in range(3):
        inputs = [gpu.put(X), gpu.put(X)]
        calls(gpu)
        (found,) = loaded(inputs)
        assert "synchronise" not in calls(gpu)
        np.testing.assert_array_equal(found.numpy(), expected)


def test_long_loops_are_driven_many_trips_at_a_time(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thalweg.runtime.gpu.program.MOST", 6)  # three trips of two launches
    loaded = LoadedProgram(gpu, tiny.program(_repeated(8), 2, 1))
    for turn in range(3):
        calls(gpu)
        (found,) = loaded([gpu.put(X), gpu.put(X)])
        # Twice three trips, and two trips with the copy after them; the copy before them is alone.
        assert calls(gpu)["launch_graph"] == (3 if turn else 0)
        np.testing.assert_array_equal(found.numpy(), X * 2**8 + 2**8 - 1)


@pytest.mark.parametrize(("first", "factor"), [(0.0, 2), (5.0, 3)])
def test_branches(gpu: Gpu, first: float, factor: int) -> None:
    selector = Buffer("arena", 0, 1024, 1)
    thrice = (("double", tiny.argument(0), tiny.arena(1)), ("add", tiny.arena(1), tiny.argument(0), tiny.result(0)))
    steps = [
        ("below", tiny.argument(0), tiny.argument(1), selector),
        Branch(selector, ((("double", tiny.argument(0), tiny.result(0)),), thrice)),
    ]
    loaded = LoadedProgram(gpu, tiny.program(steps, 2, 1))
    for _ in range(3):
        x = X + np.float32(first)
        np.testing.assert_array_equal(loaded([gpu.put(x), gpu.put(X * 0 + 4)])[0].numpy(), x * factor)


def test_an_arm_is_captured_only_after_it_has_run(gpu: Gpu) -> None:
    """Drivers load kernels when they are first launched, which they cannot while capturing."""
    selector = Buffer("arena", 0, 1024, 1)
    twice = (("double", tiny.argument(0), tiny.arena(1)), ("double", tiny.arena(1), tiny.result(0)))
    more = (("increment", tiny.argument(0), tiny.arena(1)), ("increment", tiny.arena(1), tiny.result(0)))
    steps = [("below", tiny.argument(0), tiny.argument(1), selector), Branch(selector, (twice, more))]
    loaded = LoadedProgram(gpu, tiny.program(steps, 2, 1))
    captured = []
    for first in (0, 0, 9, 9, 9):
        calls(gpu)
        x = np.full(4, first, np.float32)
        np.testing.assert_array_equal(loaded([gpu.put(x), gpu.put(X * 0 + 4)])[0].numpy(), x + 2 if first else x * 4)
        captured.append(calls(gpu)["end_capture"])
    assert captured == [0, 1, 0, 1, 0]


def test_what_fails_while_it_runs_is_found_by_checking_launches(gpu: Gpu) -> None:
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1), name="train()")
    gpu.driver.faults["synchronise"] = DriverError("cuStreamSynchronize", 700, "CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(DeviceError, match=r"kernel k0_double of model.py:1 failed on /device:GPU:0, in train\(\)"):
        loaded([gpu.put(X)], check_launches=True)


def test_what_fails_unseen_says_how_to_find_it(gpu: Gpu) -> None:
    array = gpu.put(X)
    gpu.driver.faults["synchronise"] = DriverError("cuStreamSynchronize", 700, "CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(DeviceError, match=r"ILLEGAL_ADDRESS.*tw.config.check_launches = True"):
        gpu.synchronise()
    np.testing.assert_array_equal(array.numpy(), X)


def test_a_failed_capture_leaves_the_stream_usable(gpu: Gpu) -> None:
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1))
    loaded([gpu.put(X)])
    gpu.driver.faults["launch"] = DriverError("cuLaunchKernelEx", 1, "CUDA_ERROR_INVALID_VALUE")
    with pytest.raises(DeviceError, match=r"k0_double of model.py:1 cannot be captured"):
        loaded([gpu.put(X)])
    np.testing.assert_array_equal(loaded([gpu.put(X)])[0].numpy(), X * 2 + 1)
    np.testing.assert_array_equal(gpu.put(X).numpy(), X)


def test_nothing_is_kept_when_a_program_goes(gpu: Gpu) -> None:
    before = gpu.in_use
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1))
    for _ in range(3):
        loaded([gpu.put(X)])
    assert gpu.in_use > before
    calls(gpu)
    del loaded
    assert gpu.in_use == before
    assert calls(gpu)["destroy_graph"] == 1


def test_runs_do_not_add_up(gpu: Gpu) -> None:
    loaded = LoadedProgram(gpu, tiny.program(TWO, 1, 1))
    for _ in range(3):
        loaded([gpu.put(X)])[0].numpy()
    before, pinned = gpu.in_use, gpu.staging.taken
    for _ in range(50):
        loaded([gpu.put(X)])[0].numpy()
    assert (gpu.in_use, gpu.staging.taken) == (before, pinned)
