"""Which way to cut a product is chosen: by the model, by what was measured, by what was measured before. No test times
anything: a clock says what is fast."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.backends.cpu import timing, tuning
from thalweg.backends.cpu.backend import compile_stablehlo, lower
from thalweg.backends.cpu.emit.blocking import Schedule
from thalweg.backends.cpu.emit.decision import Decision
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.tuning import Found, Trial, Tuner
from thalweg.compiler import Driver, driver
from thalweg.dialects import context
from thalweg.dialects.mlir import ir
from thalweg.runtime.cache import DiskCache

OPTIONS = CpuOptions(threads=2)
Clock = Callable[[Any], float]  # the seconds that a choice takes


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def stablehlo(function: Callable[..., Any], *arrays: np.ndarray) -> ir.Module:
    """Call with a context entered."""
    return driver().to_stablehlo(tw.function(function).program(*arrays).module)[0]


def matmul(x: tw.Tensor, y: tw.Tensor) -> tw.Tensor:
    return tw.matmul(x, y)


MATRICES = numbers(48, 300), numbers(300, 200)


@dataclass
class Timer:
    """Measures by a clock, and keeps what it was asked."""

    clock: Clock
    asked: list[list[Any]] = field(default_factory=list)

    def __call__(self, trials: Sequence[Trial], seconds: float) -> list[float]:
        assert 0 < seconds <= tuning.SECONDS
        self.asked.append([trial.choice for trial in trials])
        return [self.clock(trial.choice) for trial in trials]


def tuned(tuner: Tuner, *arrays: np.ndarray, function: Callable[..., Any] = matmul) -> Kernel:
    """The program's only kernel."""
    with context.entered():
        (kernel,) = lower(stablehlo(function, *arrays), tuner.options, tuner=tuner).program.kernels()
    return kernel


def only(tuner: Tuner) -> Found:
    (found,) = tuner.found.values()
    return found


def test_the_search_takes_what_the_clock_says() -> None:
    timer = Timer(lambda choice: 1.0 if choice.unroll != 4 else 0.5)
    tuner = Tuner(OPTIONS, None, timer)
    kernel, usual = tuned(tuner, *MATRICES), tuned(Tuner(OPTIONS), *MATRICES)
    found = only(tuner)
    assert found.choice == replace(found.model, unroll=4) and (found.seconds, found.usual) == (0.5, 1.0)
    assert kernel.source != usual.source and (kernel.operands[0].shape, kernel.name) == ((48, 300), usual.name)
    assert timer.asked[0][0] == found.model and timer.asked[-1] == [found.model, found.choice]
    assert str(found).endswith("2.00x  unroll 2 -> 4")


def test_the_search_goes_on_from_the_best() -> None:
    """Twice as many tiles and no packing, which no choice beside the model's has."""
    timer = Timer(lambda choice: 1.0 - 0.2 * (choice.splits > 1) - 0.1 * (not choice.pack_rhs))
    found = _found(timer)
    assert found.model.pack_rhs and found.model.splits == 1
    assert found.choice.splits > 1 and not found.choice.pack_rhs
    assert len(timer.asked) <= tuning.ROUNDS + 1


def _found(timer: Timer) -> Found:
    tuner = Tuner(OPTIONS, None, timer)
    tuned(tuner, numbers(128, 256), numbers(256, 512))
    return only(tuner)


def test_what_is_not_faster_than_the_noise_is_left() -> None:
    usual = tuned(Tuner(OPTIONS), *MATRICES)
    tuner = Tuner(OPTIONS, None, Timer(lambda choice: 1.0 if choice.unroll != 4 else 1 - 0.9 * tuning.NOISE))
    assert tuned(tuner, *MATRICES).source == usual.source
    assert only(tuner).choice is None and only(tuner).gain == 1


def test_what_only_seemed_faster_is_left() -> None:
    """The winner is timed anew beside the model's choice."""
    timer = Timer(lambda choice: 1.0)
    timer.clock = lambda choice: 0.5 if len(timer.asked) < 3 and choice.unroll == 4 else 1.0
    tuner = Tuner(OPTIONS, None, timer)
    tuned(tuner, *MATRICES)
    assert only(tuner).choice is None and len(timer.asked) == 3


def test_what_was_found_is_not_timed_again(tmp_path: Path) -> None:
    timer = Timer(lambda choice: 1.0 if choice.unroll != 4 else 0.5)
    first = tuned(Tuner(OPTIONS, DiskCache(tmp_path, 10**6), timer), *MATRICES)
    asked = len(timer.asked)
    again, known = (Tuner(OPTIONS, DiskCache(tmp_path, 10**6), measure) for measure in (timer, None))
    assert tuned(again, *MATRICES).source == first.source == tuned(known, *MATRICES).source
    assert len(timer.asked) == asked and only(again) == only(known) and only(known).gain == 2


def test_that_nothing_is_better_is_remembered_too(tmp_path: Path) -> None:
    timer = Timer(lambda choice: 1.0)
    for _ in range(2):
        tuned(Tuner(OPTIONS, DiskCache(tmp_path, 10**6), timer), *MATRICES)
    assert [len(asked) for asked in timer.asked[1:]] == [1]


def _other_processor(monkeypatch: pytest.MonkeyPatch) -> CpuOptions:
    monkeypatch.setattr(tuning, "host_cpu", lambda: ("another", ""))
    return OPTIONS


def _other_generators(monkeypatch: pytest.MonkeyPatch) -> CpuOptions:
    monkeypatch.setattr(tuning, "generators", lambda: "another")
    return OPTIONS


@pytest.mark.parametrize(
    "other",
    [
        lambda _: replace(OPTIONS, threads=3),
        lambda _: replace(OPTIONS, opt_level=3),
        _other_processor,
        _other_generators,
    ],
    ids=["threads", "level", "processor", "generators"],
)
def test_what_others_found_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: Callable[[pytest.MonkeyPatch], CpuOptions]
) -> None:
    store = DiskCache(tmp_path, 10**6)
    tuned(Tuner(OPTIONS, store, Timer(lambda choice: 1.0 if choice.unroll != 4 else 0.5)), *MATRICES)
    tuner = Tuner(other(monkeypatch), store)
    tuned(tuner, *MATRICES)
    assert not tuner.found


@pytest.mark.parametrize(
    "kept", [b"{", b"[]", b"{}", b'{"choice": {"rows": 3}, "seconds": 1, "usual": 1}',
             b'{"choice": 7, "seconds": 1, "usual": 1}', b'{"choice": null, "seconds": "", "usual": 1}', b"\xff\xfe"],
)  # fmt: skip
def test_what_cannot_be_read_is_told_and_measured_again(tmp_path: Path, kept: bytes) -> None:
    class Other(DiskCache):
        def put(self, key: str, payload: bytes) -> None:
            super().put(key, kept)

    timer = Timer(lambda choice: 1.0 if choice.unroll != 4 else 0.5)
    tuned(Tuner(OPTIONS, Other(tmp_path, 10**6), timer), *MATRICES)
    asked, tuner = len(timer.asked), Tuner(OPTIONS, DiskCache(tmp_path, 10**6), timer)
    with pytest.warns(RuntimeWarning, match="measured again"):
        tuned(tuner, *MATRICES)
    assert len(timer.asked) == 2 * asked and only(tuner).gain == 2


def test_a_damaged_file_is_told_and_measured_again(tmp_path: Path) -> None:
    timer = Timer(lambda choice: 1.0)
    tuned(Tuner(OPTIONS, DiskCache(tmp_path, 10**6), timer), *MATRICES)
    (path,) = tmp_path.glob("??/*")
    path.write_bytes(path.read_bytes()[:-3])
    asked = len(timer.asked)
    with pytest.warns(RuntimeWarning, match="damaged"):
        tuned(Tuner(OPTIONS, DiskCache(tmp_path, 10**6), timer), *MATRICES)
    assert len(timer.asked) == 2 * asked


def test_equal_layers_are_timed_once() -> None:
    timer = Timer(lambda choice: 1.0)
    tuner = Tuner(OPTIONS, None, timer)

    def layers(x: tw.Tensor, y: tw.Tensor) -> tw.Tensor:
        for _ in range(3):
            x = tw.tanh(x @ y)
        return x

    with context.entered():
        lowered = lower(stablehlo(layers, numbers(64, 96), numbers(96, 96)), OPTIONS, tuner=tuner)
    assert len(list(lowered.program.kernels())) == 3
    assert sum(len(asked) == 1 for asked in timer.asked) == 2, "the first layer reads what the caller gives"


@dataclass
class Told:
    """Poses as a tuner: takes the choice of a number among those beside the model's; `choices` are all of them."""

    options: CpuOptions
    number: int
    choices: list[Any] = field(default_factory=list)

    def best(self, write: Callable[[Decision], Kernel]) -> Kernel:
        decision = Decision()
        usual = write(decision)
        self.choices = decision.near(decision.usual)
        return write(Decision(self.choices[self.number])) if self.number < len(self.choices) else usual


def _convolution(x: tw.Tensor, w: tw.Tensor) -> tw.Tensor:
    return tw.nn.relu(tw.nn.conv(x, w, stride=2))


def _gradient(x: tw.Tensor, w: tw.Tensor, g: tw.Tensor) -> tw.Tensor:
    return tw.grad(lambda v: tw.sum(tw.nn.conv(x, v) * g))(w)


PROGRAMS: dict[str, tuple[Callable[..., Any], tuple[tuple[int, ...], ...]]] = {
    "product": (matmul, ((70, 80), (80, 112))),
    "few rows": (matmul, ((9, 520), (520, 80))),
    "one row": (matmul, ((1, 300), (300, 96))),
    "long sum": (lambda a, b, c: a @ b + c, ((33, 5000), (5000, 64), (64,))),
    "a transposed": (lambda a, b: a.T @ b, ((90, 48), (90, 80))),
    "b transposed": (lambda a, b: a @ b.T, ((48, 90), (80, 90))),
    "batches": (matmul, ((3, 40, 50), (3, 50, 60))),
    "convolution": (_convolution, ((2, 17, 15, 24), (3, 3, 24, 33))),
    "weights": (_gradient, ((2, 11, 13, 20), (3, 3, 20, 40), (2, 11, 13, 40))),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_way_gives_the_same_bits(name: str) -> None:
    function, shapes = PROGRAMS[name]
    arrays, options = [numbers(*shape) for shape in shapes], CpuOptions(threads=2, opt_level=0)
    with context.entered():
        module = stablehlo(function, *arrays)
        usual = compile_stablehlo(module, options)(arrays)
        number, texts = 0, set()
        while True:
            told = Told(options, number)
            lowered = lower(module, options, tuner=told)  # type: ignore[arg-type]
            if number >= len(told.choices):
                break
            number += 1
            if lowered.kernels in texts:
                continue
            texts.add(lowered.kernels)
            results = compile_stablehlo(module, options, told)(arrays)  # type: ignore[arg-type]
            for one, other in zip(usual, results, strict=True):
                assert one.tobytes() == other.tobytes(), told.choices[number - 1]
    assert len(texts) > 3


def test_sums_along_lanes_have_no_other_way() -> None:
    timer = Timer(lambda choice: 1.0)
    tuner = Tuner(OPTIONS, None, timer)
    tuned(tuner, numbers(2, 500), numbers(100, 500), function=lambda a, b: a @ b.T)
    assert not timer.asked and not tuner.found


def test_choices_are_possible() -> None:
    """Nothing is packed that nobody reads, no more tiles than rows, nothing twice."""
    with context.entered():
        told = Told(OPTIONS, 10**6)
        lower(stablehlo(matmul, *MATRICES), OPTIONS, tuner=told)  # type: ignore[arg-type]
    assert len(told.choices) > 5
    for choice in told.choices:
        assert isinstance(choice, Schedule) and not choice.dot
        assert choice.order == "panels" or (not choice.pack_rhs and choice.group == choice.splits == 1)
        assert 1 <= choice.splits * choice.rows <= 48 + choice.rows and 32 <= choice.block <= 300


def test_the_option_has_programs_tuned_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timer = Timer(lambda choice: 1.0 if choice.unroll != 4 else 0.5)
    monkeypatch.setattr(timing, "time_kernels", lambda trials, seconds, options: timer(trials, seconds))
    program = tw.function(matmul).program(*MATRICES)
    with tw.config.override(cache_dir=tmp_path, threads=2, default_device="cpu"):
        assert driver().tuner() is None
        Driver(tw.config).compile(program)
        assert not timer.asked and not (tmp_path / "tuned").exists()
        with tw.config.override(cpu_tuning=True):
            (result,) = Driver(tw.config).compile(program)(MATRICES)
            asked = len(timer.asked)
            assert asked and list((tmp_path / "tuned").glob("??/*"))
            np.testing.assert_allclose(result, MATRICES[0] @ MATRICES[1], rtol=1e-4, atol=1e-3)
            Driver(tw.config).compile(program)
            for path in tmp_path.glob("??/*"):
                path.unlink()  # the programs, not what was found
            Driver(tw.config).compile(program)
        assert len(timer.asked) == asked
