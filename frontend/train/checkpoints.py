"""Checkpoints of a training that goes on: written beside it, kept by policies, found again after a crash.

    manager = tw.train.CheckpointManager("run/checkpoints", {"model": model, "optimizer": opt})
    manager.restore()                                  # the newest one, if there is any
    for batch in data:
        step(batch)
        if int(opt.step) % 1000 == 0:
            manager.save(int(opt.step), {"loss": loss})
    manager.close()                                    # waits for the last one
"""

from __future__ import annotations

import atexit
import os
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from thalweg.dialects.diagnostics import CheckpointError
from thalweg.dialects.location import user_frame
from thalweg.frontend.train.leaves import leaves_of
from thalweg.frontend.train.restoring import restore_checkpoint
from thalweg.frontend.train.retention import KeepLast, Policy
from thalweg.frontend.train.stores import LocalStore, SessionStore, Store, Write
from thalweg.runtime import checkpoints as disk
from thalweg.runtime.checkpoints import Checkpoint

if TYPE_CHECKING:
    from thalweg.frontend.session import Session

_LAST_FIVE = KeepLast(5)


class CheckpointManager:
    """Writes and reads the checkpoints of a folder, and keeps those that policies want.

    `save` copies the variables and returns; a thread writes the copy. A process that is killed at any moment leaves the
    checkpoints that were complete, and nothing that looks like one and is not.

    Args:
        folder: of the checkpoints; made at the first save. One process at a time may save into it, any number read.
        tree: a nested structure of variables, arrays, and objects with a `variables()` method (modules, optimisers).
        keep: policies, by default the last five; what any of them wants stays, as does the newest. None keeps all.
        asynchronous: whether a thread writes. A save that comes before the last one is written waits for it.
        files: over how many files the tensors are spread.
        session: whose tasks hold the variables. Each then writes and reads what it holds, in a folder that all see.

    Example:
        >>> keep = [tw.train.KeepLast(3), tw.train.KeepBest("accuracy", highest=True), tw.train.KeepEvery(hours=6)]
        >>> manager = tw.train.CheckpointManager("run", {"model": model}, keep=keep)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        tree: Any,
        *,
        keep: Sequence[Policy] | None = (_LAST_FIVE,),
        asynchronous: bool = True,
        files: int = 1,
        session: Session | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._tree = tree
        self._keep = keep
        self._writer = Writer() if asynchronous else None
        self._session = session
        self._store: Store = LocalStore(files) if session is None else SessionStore(session)
        self._cleaned = False

    @property
    def checkpoints(self) -> list[Checkpoint]:
        """The complete ones, the oldest step first."""
        return disk.complete(self.folder)

    @property
    def latest(self) -> Checkpoint | None:
        """The newest complete one."""
        found = self.checkpoints
        return found[-1] if found else None

    def save(self, step: int, metrics: Mapping[str, Any] | None = None) -> None:
        """Write a checkpoint of the variables as they are now.

        Args:
            step: the number that checkpoints are ordered by.
            metrics: numbers that policies choose by.

        Raises:
            CheckpointError: this save failed, or (asynchronous) the one before; the cause is chained.
        """
        numbers = {name: float(value) for name, value in (metrics or {}).items()}
        where = f"{user_frame()} checkpoint of step {step}"
        if self._writer is not None:
            self._writer.wait()
        copied = self._store.snapshot(leaves_of(self._tree))

        def write() -> None:
            self._write(copied, step, numbers)

        if self._writer is None:
            _failing(where, write)
        else:
            self._writer.start(where, write)

    def restore(self, *, fall_back: bool = False, **options: Any) -> Checkpoint | None:
        """Assign the variables from the newest checkpoint; None if there is none at all.

        Args:
            fall_back: if it is damaged, warn and take the one before.
            options: of `restore_checkpoint`: rename, allow_missing, allow_unused.

        Raises:
            CheckpointError: it does not fit, or is damaged (with `fall_back`: all of them are).
        """
        self.wait()
        found = disk.folders(self.folder)
        for path in reversed(found):
            try:
                checkpoint = disk.open_checkpoint(path)
                if fall_back:
                    checkpoint.verify()
            except CheckpointError as error:
                if not fall_back:
                    raise CheckpointError(
                        f"{user_frame()} {error} With fall_back=True the one before it is taken."
                    ) from None
                warnings.warn(f"{user_frame()} {error} The checkpoint before it is restored.", stacklevel=2)
                continue
            restore_checkpoint(checkpoint, self._tree, session=self._session, **options)
            return checkpoint
        if found:
            raise CheckpointError(f"{user_frame()} every checkpoint in {self.folder} is damaged.")
        return None

    def wait(self) -> None:
        """Wait until what was saved is on disk.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._writer is not None:
            self._writer.wait()

    def close(self) -> None:
        """`wait`, and no more saves."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> CheckpointManager:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _write(self, copied: Write, step: int, metrics: Mapping[str, float]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._cleaned:  # by the first save, not by who only reads
            disk.remove_incomplete(self.folder)
            self._cleaned = True
        folder = disk.new_folder(self.folder, step)
        try:
            copied(folder, step, metrics)
        except BaseException:
            disk.remove(folder)
            raise
        self._retain()

    def _retain(self) -> None:
        if self._keep is None:
            return
        found = self.checkpoints
        wanted = {c.path for policy in self._keep for c in policy(found)} | {c.path for c in found[-1:]}
        for checkpoint in found:
            if checkpoint.path not in wanted:
                disk.remove(checkpoint.path)


class Writer:
    """One thread at a time that writes beside the training. What fails is raised at the next call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._error: CheckpointError | None = None
        self._closed = False
        # A thread that is a daemon does not keep a process alive: what was saved last must be on disk before it ends.
        reference = weakref.ref(self)
        self._at_exit = lambda: _finish(reference)
        atexit.register(self._at_exit)
        weakref.finalize(self, atexit.unregister, self._at_exit)

    def start(self, where: str, write: Callable[[], None]) -> None:
        """Run `write` on a thread, once the one before is done."""
        with self._lock:
            self._join()
            if self._closed:
                raise CheckpointError(f"{where}: the manager is closed.")

            def run() -> None:
                try:
                    _failing(where, write)
                except CheckpointError as error:
                    self._error = error

            self._thread = threading.Thread(target=run, name="thalweg-checkpoint", daemon=True)
            self._thread.start()

    def wait(self) -> None:
        """Until nothing is being written."""
        with self._lock:
            self._join()

    def close(self) -> None:
        """`wait`, then refuse."""
        with self._lock:
            self._closed = True
            self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error


def _finish(reference: weakref.ref[Writer]) -> None:
    writer = reference()
    if writer is not None:
        writer.wait()


def _failing(where: str, write: Callable[[], None]) -> None:
    try:
        write()
    except Exception as error:
        raise CheckpointError(f"{where} failed: {error}. The ones before it are as they were.") from error
