"""Which way of cutting a product is fastest: measured, remembered in files, and otherwise what the model says.

A kernel is written once as the model (emit/blocking.py) says. If it is not known what is best for it, the ways that
differ from that in one thing are compiled and timed, then those around the best of them, and so on. What is best at
last replaces the model's choice if it is faster by more than the noise, and is kept under the kernel's text, the
processor, the number of threads, and the code generators' own text.

    {"choice": {"rows": 8, "vectors": 3, …} or null, "seconds": 1.1e-5, "usual": 1.3e-5}

All ways add the same numbers up in the same order (emit/decision.py): tuning changes no bit of any result.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from thalweg.backends.cpu.emit.decision import Decision
from thalweg.backends.cpu.jit import host_cpu
from thalweg.backends.cpu.kept import Store
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.machine import machine
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.program import storage

SECONDS = 1.0  # of timing for each kernel, about; compiling takes as long again
ROUNDS = 3  # steps away from the model's choice
NOISE = 0.03  # of the time: what is not faster by more is not taken for faster
MOST_SCRATCH = 4 << 20  # bytes that a kernel may take more than the model's, for each thread


@dataclass(frozen=True)
class Trial:
    """A kernel to be timed, and the choice that it was written by."""

    choice: Any
    kernel: Kernel


# The least seconds of a call of each kernel, which do the same, in about so many seconds altogether. The first is the
# one that the others are compared with.
Measure = Callable[[Sequence[Trial], float], Sequence[float]]


@dataclass(frozen=True)
class Found:
    """What is best for a kernel.

    Args:
        model: what the model says.
        choice: what to take instead; None: nothing is better.
        seconds, usual: of a call, and of one by the model's choice.
    """

    model: Any
    choice: Any
    seconds: float
    usual: float

    @property
    def gain(self) -> float:
        """How many times as fast as by the model's choice."""
        return self.usual / self.seconds if self.seconds else 1.0

    def __str__(self) -> str:
        took = f"{self.usual * 1e6:10.1f} us -> {self.seconds * 1e6:10.1f} us  {self.gain:5.2f}x"
        if self.choice is None:
            return took
        before, after = dataclasses.asdict(self.model), dataclasses.asdict(self.choice)
        changes = (f"{name} {before[name]} -> {after[name]}" for name in after if after[name] != before[name])
        return f"{took}  {', '.join(changes)}"


@dataclass
class Tuner:
    """Chooses among the ways to write kernels.

    Args:
        store: where is kept what was found, from process to process; None: nowhere.
        measure: how long kernels take; None: then only what was found before is known.
        found: afterwards, the kernels that there was something to decide about, by name.

    Example:
        >>> tuner = Tuner(options, DiskCache(folder, 2**24), partial(time_kernels, options=options))
        >>> lower(module, options, tuner=tuner)
        >>> {name: found.gain for name, found in tuner.found.items()}
    """

    options: CpuOptions
    store: Store | None = None
    measure: Measure | None = None
    found: dict[str, Found] = field(default_factory=dict)

    def best(self, write: Callable[[Decision], Kernel]) -> Kernel:
        """The fastest kernel.

        Args:
            write: the kernel by a decision.
        """
        decision = Decision()
        usual = write(decision)
        if not decision.near(decision.usual):
            return usual
        key = self._key(usual)
        known = self._recall(key, decision.usual)
        if known is None and self.measure is not None:
            known = self._search(Trial(decision.usual, usual), decision, write, self.measure)
            self._remember(key, known)
        if known is None:
            return usual
        self.found[usual.name] = known
        return usual if known.choice is None else write(Decision(known.choice))

    def _search(self, usual: Trial, decision: Decision, write: Callable[[Decision], Kernel], measure: Measure) -> Found:
        """The best way, where it is faster than the usual one by more than the noise."""
        best, tried, each = usual, {usual.choice}, SECONDS / (ROUNDS + 1)
        for _ in range(ROUNDS):
            fresh = [choice for choice in dict.fromkeys(decision.near(best.choice)) if choice not in tried]
            tried.update(fresh)
            trials = [best, *self._different(usual, [Trial(choice, write(Decision(choice))) for choice in fresh])]
            seconds = measure(trials, each) if len(trials) > 1 else [0.0]
            winner = trials[min(range(len(trials)), key=seconds.__getitem__)]
            if winner is best:
                break
            best = winner
        if best is usual:
            (now,) = measure([usual], each / 10)
            return Found(usual.choice, None, now, now)
        before, after = measure([usual, best], each)  # anew: the least of many is good luck, too
        better = math.isfinite(before) and after < (1 - NOISE) * before
        if not better:
            return Found(usual.choice, None, before, before)
        return Found(usual.choice, best.choice, after, before)

    @staticmethod
    def _different(usual: Trial, trials: Sequence[Trial]) -> list[Trial]:
        """One of those with the same text, without those that need much more memory."""
        by_text = {_text(trial.kernel): trial for trial in reversed(trials)}
        by_text.pop(_text(usual.kernel), None)
        most = usual.kernel.scratch + MOST_SCRATCH
        return [trial for trial in reversed(by_text.values()) if trial.kernel.scratch <= most]

    # What was found before.

    def _key(self, kernel: Kernel) -> str:
        options = self.options
        # An array of the caller's lies as it lies.
        places = [storage(value).kind == "arg" for value in kernel.operands]
        how = (options.cpu, options.features, options.opt_level, options.worker_count(), places)
        words = (_text(kernel), repr(how), repr(machine(options)), *host_cpu(), generators())
        return hashlib.sha256("\0".join(words).encode()).hexdigest()

    def _recall(self, key: str, usual: Any) -> Found | None:
        kept = self.store.get(key) if self.store is not None else None
        if kept is None:
            return None
        try:
            data = json.loads(kept)
            choice = None if data["choice"] is None else _like(usual, data["choice"])
            return Found(usual, choice, float(data["seconds"]), float(data["usual"]))
        except (ValueError, KeyError, TypeError) as error:
            warnings.warn(
                f"what was measured of a kernel (entry {key[:12]} of the tuning cache) cannot be read: {error!r}. "
                "It is measured again where tuning is on.",
                RuntimeWarning,
                stacklevel=2,
            )
            return None

    def _remember(self, key: str, found: Found) -> None:
        if self.store is not None:
            choice = None if found.choice is None else dataclasses.asdict(found.choice)
            data = {"choice": choice, "seconds": found.seconds, "usual": found.usual}
            self.store.put(key, json.dumps(data).encode())


def _text(kernel: Kernel) -> str:
    """The text of a kernel, without its name."""
    return kernel.source.partition("(")[2]


def _like(usual: Any, fields: Any) -> Any:
    """A choice from its fields.

    Raises:
        ValueError: they are not those of `usual`'s class.
    """
    kinds = {name: type(value) for name, value in dataclasses.asdict(usual).items()}
    if not isinstance(fields, dict) or kinds != {name: type(value) for name, value in fields.items()}:
        raise ValueError(f"{fields} is no {type(usual).__name__}")
    return type(usual)(**fields)


@cache
def generators() -> str:
    """A digest of the text of all code generators: another version of them may be best otherwise."""
    state = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        state.update(file.read_bytes())
    return state.hexdigest()
