"""A session that saves and recovers: restore at the start, save now and then, go on after a task has died.

    with tw.train.MonitoredSession(graph, "run/checkpoints", {"model": model, "optimizer": opt}, target=cluster,
                                   save_steps=100, last_step=10_000) as session:
        while not session.should_stop():
            session.run(train, feeds={x: next(batches)})
"""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from thalweg.dialects.diagnostics import (
    CancelledError,
    CheckpointError,
    StepError,
    UnavailableError,
    UninitialisedError,
)
from thalweg.dialects.location import user_frame
from thalweg.frontend.graph import Graph
from thalweg.frontend.session import Session
from thalweg.frontend.train.checkpoints import CheckpointManager

Feeds = Mapping[Any, Any] | Callable[[int], Mapping[Any, Any]]

LOST = (UnavailableError, UninitialisedError)  # what says that a task, or what it held, is gone


class MonitoredSession:
    """Runs steps over state that outlives failures.

    At the start the newest checkpoint is restored. A step during which a task dies is given up; then this waits for the
    task, gives variables the values of the newest checkpoint (their first ones if there is none), and runs the step
    again. What was done since that checkpoint is lost, and `step` says so.

    Args:
        graph: what is run.
        folder, tree: of the checkpoints, see `CheckpointManager`.
        target: where it runs: this process, or a `tw.Cluster`.
        save_steps: save after so many steps; None for never.
        save_seconds: save at a step when so much time is over since the last time; None for never.
        last_step: `should_stop` says so once as many steps are done, and saved.
        containers: whose queues and accumulators are emptied after a failure.
        on_restore: called with the session after variables have got their values, at the start and after failures.
        recoveries: how many failures in a row are borne.
        patience: seconds to wait for a task that died.
        options: of `CheckpointManager`: keep, asynchronous.

    Attributes:
        session: the plain session, for runs that are no steps.
        step: how many steps the variables are from.
        recovered: how often it has recovered.
    """

    def __init__(
        self,
        graph: Graph,
        folder: Any,
        tree: Any,
        *,
        target: Any = None,
        save_steps: int | None = 1000,
        save_seconds: float | None = None,
        last_step: int | None = None,
        containers: Sequence[str] = (),
        on_restore: Callable[[Session], None] | None = None,
        recoveries: int = 5,
        patience: float = 120.0,
        **options: Any,
    ) -> None:
        self.session = Session(graph, target)
        self.manager = CheckpointManager(folder, tree, session=self.session, **options)
        self.step = 0
        self.recovered = 0
        self._save_steps, self._save_seconds, self._last_step = save_steps, save_seconds, last_step
        self._containers, self._on_restore = list(containers), on_restore
        self._recoveries, self._patience = recoveries, patience
        self._lock = threading.RLock()  # of the counters, and held while variables are restored
        self._generation = 0  # grows with each recovery
        self._saved_at, self._saved_step = time.monotonic(), 0
        self._stop = self._ended = False
        self._restore()

    def run(self, fetches: Any, feeds: Feeds | None = None, timeout: float | None = None) -> Any:
        """One step, see `Session.run`; any number of threads may take steps.

        Args:
            feeds: values by tensor or name, or a function that gives them from the number of the step: after a
                failure it is asked again, so that each step gets what belongs to it.

        Raises:
            StepError: the step failed, and not because a task was lost; or tasks were lost too often in a row.
        """
        failures = 0
        while True:
            generation = self._generation
            try:
                result = self.session.run(fetches, feeds(self.step) if callable(feeds) else feeds, timeout)
            except StepError as error:
                if isinstance(error, CancelledError) and self._recovered_since(generation):
                    continue  # another thread's recovery emptied what this one waited for
                if not self._is_loss(error):
                    raise
                failures += 1
                if failures > self._recoveries:
                    told = f"{user_frame()} given up after {self._recoveries} recoveries: {error}"
                    raise type(error)(told) from error
                self._recover(generation)
                continue
            self._count(generation)
            return result

    def should_stop(self) -> bool:
        """Whether the last step is done and saved, or a stop was asked for."""
        return self._stop or self._ended

    def request_stop(self) -> None:
        """Make `should_stop` say so, to all threads."""
        self._stop = True

    def save(self) -> None:
        """Save now."""
        with self._lock:
            self.manager.save(self.step)
            self._saved_at, self._saved_step = time.monotonic(), self.step

    def close(self) -> None:
        """Save what is not saved, and end the session.

        Raises:
            StepError, CheckpointError: what is not saved is lost, with a task that was killed; the session is ended.
        """
        try:
            if self.step != self._saved_step:
                self._save_end()
            self.manager.close()
        except (StepError, CheckpointError) as error:
            error.add_note(f"The newest checkpoint is of step {self._saved_step}: a new session goes on there.")
            raise
        finally:
            self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:  # the state may be what failed: the checkpoints stay as they are
            self.manager.close()
            self.session.close()

    def _count(self, generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return  # the variables are older than this step by now
            self.step += 1
            if self._last_step is not None and self.step >= self._last_step:
                saved = False
                with self._bearing_losses():
                    self._save_end()
                    saved = True
                self._ended = saved  # if not, training is not over: the next step recovers
                return
            late = self._save_seconds is not None and time.monotonic() - self._saved_at >= self._save_seconds
            due = self._save_steps is not None and self.step - self._saved_step >= self._save_steps
            if late or due:
                with self._bearing_losses():
                    self.save()

    def _save_end(self) -> None:
        """Save, and be sure of it: a task is waited for, for what it held was perhaps none of this."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                self.save()
                self.manager.wait()
                return
            except (StepError, CheckpointError) as error:
                missing = isinstance(_cause(error), UnavailableError) and self.session.target is not None
                if not missing or time.monotonic() > deadline:
                    raise
                self.session.target.wait(self._patience)

    def _is_loss(self, error: BaseException | None) -> bool:
        return self.session.target is not None and isinstance(error, LOST)

    @contextmanager
    def _bearing_losses(self) -> Iterator[None]:
        """A checkpoint that fails because a task was lost is only missing; the next step recovers."""
        try:
            yield
        except (StepError, CheckpointError) as error:
            why = _cause(error)
            if not self._is_loss(why) and not isinstance(why, CancelledError):
                raise
            warnings.warn(f"{user_frame()} no checkpoint of step {self.step}: {error}", stacklevel=3)

    def _recovered_since(self, generation: int) -> bool:
        with self._lock:  # until a recovery that is under way is over
            return generation != self._generation

    def _recover(self, generation: int) -> None:
        with self._lock:
            if generation != self._generation:
                return  # another thread has done it
            deadline = time.monotonic() + self._patience
            while True:  # a task may die again while this goes on
                try:
                    self.session.target.wait(self._patience)
                    with self._bearing_losses():  # of a save that was under way
                        self.manager.wait()
                    self._reset()
                    self._restore()
                    break
                except StepError as error:
                    if not self._is_loss(error) or time.monotonic() > deadline:
                        raise
            self._generation += 1
            self.recovered += 1

    def _reset(self) -> None:
        """Give all variables their first values, and empty the containers."""
        for variable in self.session.graph.variables():
            try:
                self.session.target.initialise(variable)
            except KeyError:  # no step has used it: it gets its value with the first that does
                continue
        if self._containers:
            self.session.reset(self._containers)

    def _restore(self) -> None:
        found = self.manager.restore(fall_back=True)
        self.step = self._saved_step = found.step if found is not None else 0
        self._saved_at = time.monotonic()
        self._ended = self._last_step is not None and self.step >= self._last_step
        if self._on_restore is not None:
            self._on_restore(self.session)


def _cause(error: StepError | CheckpointError) -> BaseException | None:
    return error.__cause__ if isinstance(error, CheckpointError) else error
