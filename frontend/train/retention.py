"""Which checkpoints to keep. A policy takes all of them, the oldest first, and gives those that it wants to keep;
what no policy wants is removed. Any function of that kind will do:

    def keep_round(checkpoints):
        return [c for c in checkpoints if c.step % 1000 == 0]
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.dialects.location import user_frame
from thalweg.runtime.checkpoints import Checkpoint

Policy = Callable[[Sequence[Checkpoint]], Sequence[Checkpoint]]


@dataclass(frozen=True)
class KeepLast:
    """The newest `count`."""

    count: int = 5

    def __post_init__(self) -> None:
        _expect_count(self.count)

    def __call__(self, checkpoints: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        return checkpoints[-self.count :]


@dataclass(frozen=True)
class KeepBest:
    """The `count` with the lowest value of a metric, or the highest; the newer one of equals. Checkpoints without the
    metric, or where it is no number, are not among the best."""

    metric: str
    count: int = 1
    highest: bool = False

    def __post_init__(self) -> None:
        _expect_count(self.count)

    def __call__(self, checkpoints: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        measured = [c for c in checkpoints if not math.isnan(c.metrics.get(self.metric, math.nan))]
        sign = -1 if self.highest else 1
        return sorted(reversed(measured), key=lambda c: sign * c.metrics[self.metric])[: self.count]


@dataclass(frozen=True)
class KeepEvery:
    """One of every `hours`: the first, and each that is at least so much younger than the one kept before it."""

    hours: float

    def __call__(self, checkpoints: Sequence[Checkpoint]) -> Sequence[Checkpoint]:
        kept: list[Checkpoint] = []
        for checkpoint in checkpoints:
            if not kept or checkpoint.time - kept[-1].time >= self.hours * 3600:
                kept.append(checkpoint)
        return kept


def _expect_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"{user_frame()} keep at least 1 checkpoint, got {count}. To keep all, give no policy.")
