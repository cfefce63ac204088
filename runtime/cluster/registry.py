"""Clusters that run in a process of their own, by name: where their tasks are, and the key, in a file that only their
user can read. The process that keeps a cluster writes it, others attach to what it says."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from thalweg.dialects.diagnostics import UnavailableError, did_you_mean
from thalweg.runtime.cluster.master import Master

_LOOK_SECONDS: Final = 0.2
_PING_EVERY: Final = 25  # looks


@dataclass(frozen=True)
class Record:
    """What others must know of a cluster.

    Args:
        jobs: how many tasks each job has.
        tasks: addresses by name of those that are there.
        host: where a master must listen for the tasks to reach it.
        pid: of the process that keeps it.
        logs: the folder of what its tasks print.
    """

    name: str
    jobs: dict[str, int]
    tasks: dict[str, str]
    public: str
    secret: str = field(repr=False)
    host: str
    pid: int
    logs: str = ""

    @property
    def is_alive(self) -> bool:
        """Whether the process that keeps it runs."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
        return True


class Registry:
    """The clusters of a user on this machine.

    Args:
        folder: by default under $XDG_RUNTIME_DIR, or the user's cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        home = os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        self._folder = folder or Path(home) / "thalweg" / "clusters"

    def write(self, record: Record) -> None:
        """Write a record, whole or not at all, for its user's eyes only."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(record.name)
        fresh = path.with_suffix(f".{os.getpid()}")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(record), file)
        fresh.replace(path)

    def read(self, name: str) -> Record:
        """The record of a cluster that runs.

        Raises:
            UnavailableError: there is none of that name, or its process has ended.
        """
        try:
            record = Record(**json.loads(self._path(name).read_text()))
        except FileNotFoundError:
            nearest = did_you_mean(name, self.names()) or "."
            raise UnavailableError(
                f"no cluster '{name}' runs here{nearest} Start it: thalweg cluster start {name} --ps 1 --workers 2"
            ) from None
        if not record.is_alive:
            self.remove(name)
            raise UnavailableError(f"the cluster '{name}' is no more: the process that kept it has ended.")
        return record

    def runs(self, name: str) -> bool:
        """Whether a cluster of that name runs."""
        try:
            return self.read(name).is_alive
        except UnavailableError:
            return False

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._path(name).unlink()

    def names(self) -> list[str]:
        """The clusters that have a record, running or not."""
        return sorted(path.stem for path in self._folder.glob("*.json"))

    def _path(self, name: str) -> Path:
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"'{name}' is no name for a cluster: use letters, digits, - and _.")
        return self._folder / f"{name}.json"


class Follower:
    """Keeps a master up to date with the record of a cluster that another process keeps."""

    def __init__(self, registry: Registry, name: str, master: Master) -> None:
        self._registry, self._name, self._master = registry, name, master
        self._closing = threading.Event()
        self._follow(registry.read(name))
        self._thread = threading.Thread(target=self._watch, name="thalweg-follower", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Follow it no longer. The cluster goes on."""
        self._closing.set()
        self._thread.join(5.0)

    def _watch(self) -> None:
        looks = 0
        while not self._closing.wait(_LOOK_SECONDS):
            looks += 1
            try:
                self._follow(self._registry.read(self._name))
            except UnavailableError as error:
                for task in list(self._master.tasks):
                    self._master.lose(task, error)
            if looks % _PING_EVERY == 0:
                self._master.ping()

    def _follow(self, record: Record) -> None:
        known = self._master.tasks
        for task in known.keys() - record.tasks.keys():
            self._master.lose(task, UnavailableError(f"{task} has died; it is being started again."))
        for task, address in record.tasks.items():
            if task in known and known[task] != address:
                self._master.lose(task, UnavailableError(f"{task} has died, and was started again."))
        fresh = {task: address for task, address in record.tasks.items() if known.get(task) != address}
        if fresh:
            self._master.adopt(fresh)


class Publisher:
    """Keeps the record of a cluster up to date for as long as it runs here."""

    def __init__(self, registry: Registry, name: str, record: Callable[[], Record]) -> None:
        self._registry, self._name, self._record = registry, name, record
        self._closing = threading.Event()
        self._last = record()
        registry.write(self._last)
        self._thread = threading.Thread(target=self._watch, name="thalweg-publisher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Remove the record."""
        self._closing.set()
        self._thread.join(5.0)
        self._registry.remove(self._name)

    def _watch(self) -> None:
        while not self._closing.wait(_LOOK_SECONDS):
            record = self._record()
            if record != self._last:
                self._last = record
                self._registry.write(record)
