"""Queue runners: threads that keep a queue filled by running its enqueue operations, over and over."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError, TracingError
from thalweg.dialects.location import user_frame
from thalweg.frontend.graph import Graph, Operation
from thalweg.frontend.queues import QueueBase
from thalweg.frontend.session import Session
from thalweg.frontend.trace import current
from thalweg.frontend.train.coordinator import Coordinator


class QueueRunner:
    """Fills a queue from threads, one for each operation.

    When the data is at an end (OutOfRangeError) in all of them, the queue is closed: who dequeues gets what is left,
    then OutOfRangeError. When the coordinator stops, enqueues that wait are cancelled.

    Args:
        queue: to be filled.
        enqueue_ops: what the threads run; the same one several times for several threads.

    Raises:
        TracingError: not within a graph.

    Example:
        >>> tw.train.add_queue_runner(tw.train.QueueRunner(queue, [fill] * 4))
    """

    def __init__(self, queue: QueueBase, enqueue_ops: Sequence[Operation]) -> None:
        graph = current()
        if not isinstance(graph, Graph):
            raise TracingError(f"{user_frame()} a queue runner belongs in a graph. Use `with graph.as_default():`.")
        if not enqueue_ops:
            raise ValueError(f"{user_frame()} give at least one enqueue operation.")
        self.graph = graph
        self.queue = queue
        self.enqueue_ops = tuple(enqueue_ops)
        self.close_op = queue.close()
        self.cancel_op = queue.close(cancel_pending_enqueues=True)
        self._lock = threading.Lock()
        self._running = 0

    @property
    def name(self) -> str:
        return self.queue.name

    def create_threads(self, session: Session, coordinator: Coordinator, start: bool = True) -> list[threading.Thread]:
        """Threads that fill the queue until the coordinator stops or the data ends, and one that waits for the stop."""
        runs = [session.make_callable(operation) for operation in self.enqueue_ops]
        close, cancel = session.make_callable(self.close_op), session.make_callable(self.cancel_op)
        with self._lock:
            self._running += len(runs)
        ended = threading.Event()  # nothing is left to be cancelled
        jobs: list[tuple[str, Callable[[], None]]] = [
            (f"{self.name}-{number}", lambda run=run: self._fill(run, close, coordinator, ended))  # type: ignore[misc]
            for number, run in enumerate(runs)
        ]
        jobs.append((f"{self.name}-stop", lambda: self._cancel(cancel, coordinator, ended)))
        threads = [threading.Thread(target=job, name=f"thalweg-queue-{name}", daemon=True) for name, job in jobs]
        for thread in threads:
            coordinator.register_thread(thread)
            if start:
                thread.start()
        return threads

    def _fill(
        self, run: Callable[[], Any], close: Callable[[], Any], coordinator: Coordinator, ended: threading.Event
    ) -> None:
        try:
            while not coordinator.should_stop():
                run()
        except (OutOfRangeError, CancelledError):
            pass  # the data is at an end, or somebody closed the queue
        except BaseException as error:
            coordinator.request_stop(error)
        finally:
            with self._lock:
                self._running -= 1
                last = not self._running
            if last:
                ended.set()
                self._closing(close, coordinator)

    def _cancel(self, cancel: Callable[[], Any], coordinator: Coordinator, ended: threading.Event) -> None:
        while not coordinator.wait_for_stop(0.05):
            if ended.is_set():
                return
        self._closing(cancel, coordinator)

    def _closing(self, close: Callable[[], Any], coordinator: Coordinator) -> None:
        try:
            close()
        except Exception as error:  # the session is closed already, or its tasks are gone
            coordinator.request_stop(error)


def add_queue_runner(runner: QueueRunner) -> None:
    """Have `start_queue_runners` start it, too."""
    runner.graph.queue_runners.append(runner)


def start_queue_runners(session: Session, coordinator: Coordinator, start: bool = True) -> list[threading.Thread]:
    """Start the threads of all queue runners of the session's graph."""
    return [
        thread
        for runner in session.graph.queue_runners
        for thread in runner.create_threads(session, coordinator, start)
    ]
