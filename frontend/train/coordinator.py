"""Several threads that end together: one asks to stop, or fails, and all stop; the error reaches who waits for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError, ThalwegError


class Coordinator:
    """Stops threads together.

    Args:
        clean_stop: errors that end the work without being a failure; by default the end of the data, and the
            cancellation that follows where others wait for what will not come.

    Example:
        >>> coordinator = tw.train.Coordinator()
        >>> threads = tw.train.start_queue_runners(session, coordinator)
        >>> with coordinator.stop_on_exception():
        ...     while not coordinator.should_stop():
        ...         session.run(train)
        >>> coordinator.join()                             # raises what a thread failed with
    """

    def __init__(self, clean_stop: tuple[type[BaseException], ...] = (OutOfRangeError, CancelledError)) -> None:
        self.clean_stop = clean_stop
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._threads: set[threading.Thread] = set()

    def should_stop(self) -> bool:
        """Whether somebody asked to stop."""
        return self._stop.is_set()

    def request_stop(self, error: BaseException | None = None) -> None:
        """Ask all threads to stop. The first error that is none of `clean_stop` is raised again by `join`; later ones
        are its consequences, and dropped."""
        with self._lock:
            if error is not None and not isinstance(error, self.clean_stop) and not self._stop.is_set():
                self._error = error
            self._stop.set()

    def clear_stop(self) -> None:
        """Forget that somebody asked to stop, and why; for a new start with the same coordinator."""
        with self._lock:
            self._error = None
            self._stop.clear()

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Wait until somebody asks to stop. False if nobody did for `timeout` seconds."""
        return self._stop.wait(timeout)

    def register_thread(self, thread: threading.Thread) -> None:
        """`join` will wait for this thread."""
        with self._lock:
            self._threads.add(thread)

    @contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """Errors in the block ask to stop, and are raised by `join`."""
        try:
            yield
        except Exception as error:
            self.request_stop(error)
        except BaseException:
            self.request_stop()
            raise

    def raise_requested_exception(self) -> None:
        """Raise what a thread failed with, if one did."""
        if self._error is not None:
            raise self._error

    def join(
        self, threads: Iterable[threading.Thread] = (), stop_grace_period: float = 120.0, ignore_live: bool = False
    ) -> None:
        """Wait for the threads, those registered and these, to end.

        They may go on until somebody asks to stop; from then on they have `stop_grace_period` seconds. An error does
        not wait for that: where they all have ended it is raised at once.

        Raises:
            Exception: what the first thread that failed failed with.
            ThalwegError: threads still run after the grace period (unless `ignore_live`); names them.
        """
        with self._lock:
            waited = self._threads | set(threads)
        waited.discard(threading.current_thread())
        while any(t.is_alive() for t in waited) and not self.wait_for_stop(0.05):
            pass
        deadline = time.monotonic() + stop_grace_period
        for thread in waited:
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._threads -= waited
        self.raise_requested_exception()
        alive = sorted(t.name for t in waited if t.is_alive())
        if alive and not ignore_live:
            raise ThalwegError(
                f"threads still run {stop_grace_period:g} s after they were asked to stop: {', '.join(alive)}. What "
                "they wait for must be closed, as queue runners do with their queues."
            )
