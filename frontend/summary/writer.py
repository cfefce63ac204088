"""Event files, written by TensorBoard's own writer."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import Any, Self

from thalweg.dialects.diagnostics import MissingExtraError
from thalweg.dialects.location import user_frame
from thalweg.dialects.mlir import ir
from thalweg.frontend.graph import Graph
from thalweg.frontend.summary.graph_def import graph_def


class FileWriter:
    """Writes what TensorBoard shows into a folder. Safe to use from several threads; writing happens on its own one.

    Args:
        logdir: the folder, made if need be. Each run should have its own.
        graph: a graph, or a program's module, to be shown.

    Raises:
        MissingExtraError: the extra `[tensorboard]` is not installed.
    """

    def __init__(self, logdir: str | os.PathLike[str], graph: Any = None) -> None:
        try:
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError:
            raise MissingExtraError("event files", "tensorboard") from None
        self.logdir = os.fspath(logdir)
        self._writer = EventFileWriter(self.logdir)
        self._open = True
        if graph is not None:
            self.add_graph(graph)

    def add(self, summary: Any, step: int | None = None) -> None:
        """Write a fetched summary.

        Args:
            summary: bytes, as a session or a summary function gives them.
            step: where it stands on the x axis.

        Raises:
            TypeError: it is no summary.
        """
        from tensorboard.compat.proto.summary_pb2 import Summary

        data = summary if isinstance(summary, bytes) else getattr(summary, "item", lambda: None)()
        if not isinstance(data, bytes):
            raise TypeError(
                f"{user_frame()} FileWriter.add takes a summary that was fetched, got a {type(summary).__name__}. "
                "Run it first: writer.add(session.run(summary), step)."
            )
        self._event(step=int(step) if step is not None else None, summary=Summary.FromString(data))

    def add_graph(self, graph: Any) -> None:
        """Write a graph, or a program's module. TensorBoard folds what stands in one `tw.name_scope` together."""
        if isinstance(graph, Graph):
            with graph.lock:
                self._event(graph_def=graph_def(graph.module, graph.operations()))
        else:
            self._event(graph_def=graph_def(graph if isinstance(graph, ir.Module) else graph.module))

    def _event(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        if not self._open:
            raise ValueError(f"{user_frame()} this FileWriter of {self.logdir} is closed. Make another one.")
        self._writer.add_event(Event(wall_time=time.time(), **{k: v for k, v in fields.items() if v is not None}))

    def flush(self) -> None:
        """Have everything on disk that was added so far."""
        self._writer.flush()

    def close(self) -> None:
        """Write the rest, and end. More than once is fine."""
        if self._open:
            self._open = False
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
