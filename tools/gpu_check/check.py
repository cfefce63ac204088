"""What a section of the check has: a GPU, sizes, and a place for what it finds."""

from __future__ import annotations

import faulthandler
import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from thalweg.dialects.devices import Device
from thalweg.dialects.diagnostics import DeviceError, LoweringError
from thalweg.runtime.config import config
from thalweg.runtime.gpu.device import Gpu

T = TypeVar("T")
OK, WRONG, FAILED, MISSING, SKIPPED = "ok", "wrong", "failed", "missing", "skipped"
GOOD = frozenset({OK, SKIPPED})
BEGUN = "begun"  # of what is under way; what stays so has taken the process with it
BROKEN = 75  # the exit code of a section whose GPU does nothing any more


class Finding(dict[str, Any]):
    """What an attempt has found so far.

    Args:
        save: writes it down, for the case that the attempt does not come to its end.
    """

    def __init__(self, values: dict[str, Any], save: Callable[[dict[str, Any]], None] = lambda _: None) -> None:
        super().__init__(values)
        self._save = save

    def save(self) -> None:
        """Write down what there is."""
        self._save(self)


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
    _resumes: bool = field(default=False, init=False)  # whether the section can go on in another process
    _limit: float = field(default=0, init=False)  # seconds that an attempt may take; 0 for no end

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

    def left(self, cases: Iterable[T], name: Callable[[T], str], seconds: float) -> list[T]:
        """The cases that nothing is written of yet. A section that goes through these may end in the middle: where one
        of them breaks the GPU or does not end, the others are left to another process.

        Args:
            name: under which a case is attempted.
            seconds: that each may take; on a virtual GPU there is no end.

        Example:
            >>> for size in check.left(sizes, str, 60):
            ...     with check.attempt(str(size)):
        """
        self._resumes, self._limit = True, 0 if self.simulated else seconds
        known = {finding["name"] for finding in findings_of(self.file)}
        return [case for case in cases if name(case) not in known]

    @contextmanager
    def attempt(self, name: str, **values: Any) -> Iterator[Finding]:
        """Do something and write down how it went; what the block puts into the dictionary is written with it.

        Raises:
            SystemExit: it has broken the GPU, and the section can go on without this process (`left`).

        Example:
            >>> with check.attempt("softmax") as found:
            ...     found["ms"] = ...
        """
        found = Finding(values, lambda values: self.note(name, BEGUN, **values))
        found.save()
        began = time.perf_counter()
        status = OK
        if self._limit:  # what hangs in the driver hears no exception
            faulthandler.dump_traceback_later(self._limit, exit=True)
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
        finally:
            if self._limit:
                faulthandler.cancel_dump_traceback_later()
        found.setdefault("seconds", round(time.perf_counter() - began, 3))
        self.note(name, found.pop("status", status), **found)
        if status == FAILED and self._resumes and self._is_broken():
            raise SystemExit(BROKEN)

    def _is_broken(self) -> bool:
        """Whether the GPU does nothing any more for this process, as after an illegal address."""
        try:
            self.gpu.synchronise()
        except DeviceError:
            return True
        return False


def findings_of(file: Path) -> list[dict[str, Any]]:
    """What a section wrote, each once; a last line that a crash cut off is left out. What was begun and never ended has
    failed."""
    found: dict[int, dict[str, Any]] = {}
    open_: dict[str, int] = {}  # the place of what is begun
    for place, line in enumerate(file.read_text().splitlines() if file.exists() else ()):
        try:
            finding = json.loads(line)
        except json.JSONDecodeError:
            continue
        place = open_.pop(finding["name"], place)
        if finding.get("status") == BEGUN:
            open_[finding["name"]] = place
            finding |= {"status": FAILED, "error": "it did not come to its end: the process ended in it, or was ended"}
        found[place] = finding
    return list(found.values())


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
