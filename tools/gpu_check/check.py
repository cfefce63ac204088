"""What a section of the check has: a GPU, sizes, and a place for what it finds."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from thalweg.dialects.devices import Device
from thalweg.dialects.diagnostics import LoweringError
from thalweg.runtime.config import config
from thalweg.runtime.gpu.device import Gpu

T = TypeVar("T")
OK, WRONG, FAILED, MISSING, SKIPPED = "ok", "wrong", "failed", "missing", "skipped"
GOOD = frozenset({OK, SKIPPED})


@dataclass
class Check:
    """Args:
    file: where findings are appended, one JSON object a line.
    simulated: virtual GPUs and tiny sizes.
    quick: fewer cases, smaller sizes.
    """

    file: Path
    simulated: bool = False
    quick: bool = False

    @property
    def gpu(self) -> Gpu:
        """The first one."""
        from thalweg.gpus import gpu_of

        return gpu_of(Device("GPU", 0))

    def size(self, real: T, simulated: T) -> T:
        """A size for a GPU, or the one for Triton's interpreter."""
        return simulated if self.simulated else real

    def note(self, name: str, status: str = OK, **values: Any) -> None:
        """Write down a finding, at once."""
        with self.file.open("a") as file:
            file.write(json.dumps({"name": name, "status": status, **values}, default=str) + "\n")

    @contextmanager
    def attempt(self, name: str, **values: Any) -> Iterator[dict[str, Any]]:
        """Do something and write down how it went; what the block puts into the dictionary is written with it.

        Example:
            >>> with check.attempt("softmax") as found:
            ...     found["ms"] = ...
        """
        found: dict[str, Any] = dict(values)
        began = time.perf_counter()
        status = OK
        try:
            yield found
        except LoweringError as error:
            status, found["error"] = MISSING, str(error)
        except AssertionError as error:
            status, found["error"] = WRONG, str(error)[:2000]
        except Exception as error:
            found["error"] = f"{type(error).__name__}: {error}"[:2000]
            found["traceback"] = traceback.format_exc(limit=-6)
            status = FAILED
        found.setdefault("seconds", round(time.perf_counter() - began, 3))
        self.note(name, found.pop("status", status), **found)


@contextmanager
def on_gpu() -> Iterator[None]:
    """What is compiled inside runs on the first GPU."""
    with config.override(default_device="gpu"):
        yield


@contextmanager
def on_cpu() -> Iterator[None]:
    """What is compiled inside runs on the host."""
    with config.override(default_device="cpu"):
        yield


Section = Callable[[Check], None]


def milliseconds(check: Check, step: Callable[[], Any], rounds: int = 5, least: float = 20.0) -> float:
    """The least time of a step on the GPU, measured by events around as many steps as take `least` milliseconds."""
    gpu = check.gpu
    for _ in range(3):
        step()
    gpu.synchronise()
    if check.simulated:
        return min(gpu.time(lambda: _discard(step()), repeats=1))
    (once,) = gpu.time(lambda: _discard(step()), repeats=1)
    count = max(1, min(200, int(least / max(once, 1e-3))))

    def several() -> None:
        for _ in range(count):
            step()

    return min(gpu.time(several, repeats=rounds)) / count


def _discard(_: Any) -> None:
    """Results are not looked at."""
