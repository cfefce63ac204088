"""Traces of steps: what ran where and when, across devices and tasks, as Perfetto and chrome://tracing show it.

    with tw.trace_steps("steps.json"):
        session.run(train)

A task is a process of the picture and a device a group of its lanes; what overlaps on one device (waiting ops, loops
that overlap) gets lanes of its own. Arrows go from a send to the op that received. Counters show the lengths of queues.
A program that is one piece of machine code shows as one event per call: while a trace is made, calls do not take the
quick way, which nothing sees.
Times are nanoseconds of the clock of the task that made the trace; those of other tasks come with the offset of their
clocks, measured when the trace is fetched (`clock_offset`).
"""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thalweg.dialects.devices import parse
from thalweg.runtime.locks import quick_way

if TYPE_CHECKING:
    from thalweg.runtime.plan import Node


@dataclass(frozen=True, slots=True)
class Ran:
    """A node ran on a device, or a whole program. `edge` is that of a send or recv; `title` is for people."""

    device: str
    name: str
    op: str
    where: str
    begin: int
    end: int
    edge: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """A value went from one device to another."""

    source: str
    target: str
    edge: str
    size: int
    at: int


@dataclass(frozen=True, slots=True)
class Counted:
    """A count changed, the length of a queue say."""

    device: str
    name: str
    value: int
    at: int


Event = Ran | Moved | Counted
_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Ran, Moved, Counted)}


class Trace:
    """Collects events; safe to use from several threads. It is a step's `tracer`."""

    def __init__(self, events: Iterable[Event] = ()) -> None:
        self.events: list[Event] = list(events)  # appending is atomic

    def ran(self, device: str, node: Node, begin: int, end: int) -> None:
        """A node ran, from `begin` to `end` in ns of `time.time_ns`."""
        edge = node.attrs.get("edge", "") if node.op in ("send", "recv") else ""
        title = f"{node.op} {edge}" if edge else node.attrs.get("title", "")
        self.events.append(Ran(device, node.name, node.op, node.where, begin, end, edge, title))

    def called(self, device: str, name: str, begin: int, end: int) -> None:
        """A program that is compiled as a whole was called."""
        self.events.append(Ran(device, name, "program", "", begin, end))

    def moved(self, source: str, target: str, edge: str, size: int, at: int) -> None:
        """`size` bytes were sent from one device to another."""
        self.events.append(Moved(source, target, edge, size, at))

    def counted(self, device: str, name: str, value: int, at: int) -> None:
        """A count is `value` from now on."""
        self.events.append(Counted(device, name, value, at))

    def bytes_per_edge(self) -> dict[str, int]:
        """What went over each edge between devices, in bytes."""
        total: dict[str, int] = defaultdict(int)
        for event in self.events:
            if isinstance(event, Moved):
                total[event.edge] += event.size
        return dict(total)

    # Between processes.

    def to_wire(self) -> list[tuple[str, dict[str, Any]]]:
        """Plain data that another task can take in with `add`."""
        return [(type(event).__name__, asdict(event)) for event in self.events]

    def add(self, wire: Iterable[tuple[str, Mapping[str, Any]]], offset: int = 0) -> None:
        """Take in another task's events, whose clock is `offset` ns ahead of ours."""
        for kind, fields in wire:
            event = _KINDS[kind](**fields)
            if isinstance(event, Ran):
                event = replace(event, begin=event.begin - offset, end=event.end - offset)
            else:
                event = replace(event, at=event.at - offset)
            self.events.append(event)

    # Files.

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write a JSON file for Perfetto (ui.perfetto.dev) or chrome://tracing."""
        began = min((_at(event) for event in self.events), default=0)
        content = {
            "traceEvents": _chrome(list(self.events), began),
            "displayTimeUnit": "ns",
            "otherData": {"began": f"{datetime.fromtimestamp(began / 1e9, UTC):%Y-%m-%d %H:%M:%S.%f} UTC"},
        }
        Path(path).write_text(json.dumps(content))


def _at(event: Event) -> int:
    return event.begin if isinstance(event, Ran) else event.at


def _chrome(events: Iterable[Event], began: int) -> list[dict[str, Any]]:
    """The events in the Trace Event Format of Chrome (its document of that name), in the order of time.

    Times count from `began`: as microseconds since 1970 they would not fit a double to the nanosecond.
    """
    every = sorted(events, key=_at)
    picture = _Picture(began)
    shown = [picture.ran(event) for event in every if isinstance(event, Ran)]
    shown += [picture.count(event) for event in every if isinstance(event, Counted)]
    for number, event in enumerate(e for e in every if isinstance(e, Moved)):
        shown += picture.arrow(event, number)
    return [*picture.names(), *sorted(shown, key=itemgetter("ts"))]


class _Picture:
    """Which process and lane everything stands in."""

    def __init__(self, began: int) -> None:
        self._began = began
        self._processes: dict[str, int] = {}
        self._lanes: dict[str, list[int]] = defaultdict(list)  # by device: when each lane is free again
        # The thread, begin and end of sends and recvs, by device and edge.
        self._ends: dict[tuple[str, str, str], list[tuple[int, int, int]]] = defaultdict(list)

    def _time(self, ns: int) -> float:
        return (ns - self._began) / 1e3

    def place(self, device: str) -> tuple[int, str]:
        spec = parse(device)
        task = spec.task_name or "this process"
        return self._processes.setdefault(task, len(self._processes) + 1), device

    def ran(self, event: Ran) -> dict[str, Any]:
        process, device = self.place(event.device)
        lanes = self._lanes[device]
        lane = next((i for i, free in enumerate(lanes) if free <= event.begin), len(lanes))
        lanes[lane : lane + 1] = [event.end]
        if event.edge:
            self._ends[event.op, device, event.edge].append((self._thread(device, lane), event.begin, event.end))
        return {
            "ph": "X", "name": event.title or event.name, "cat": event.op, "pid": process,
            "tid": self._thread(device, lane), "ts": self._time(event.begin), "dur": (event.end - event.begin) / 1e3,
            "args": {"op": event.op, "name": event.name, "at": event.where},
        }  # fmt: skip

    def count(self, event: Counted) -> dict[str, Any]:
        process, _ = self.place(event.device)
        return {"ph": "C", "name": event.name, "pid": process, "ts": self._time(event.at), "args": {"": event.value}}

    def _thread(self, device: str, lane: int) -> int:
        """Lanes of one device stand together: 1000 to each."""
        return list(self._lanes).index(device) * 1000 + lane

    def arrow(self, event: Moved, number: int) -> Iterator[dict[str, Any]]:
        """From within the send to the end of the recv, where the trace has both: an arrow belongs to the event that is
        under way in its lane at its time."""
        sends = self._ends["send", event.source, event.edge]
        recvs = self._ends["recv", event.target, event.edge]
        sent = next((s for s in sends if s[1] <= event.at <= s[2]), None)
        received = next((r for r in recvs if r[2] >= event.at), None)  # the first that ended after the value was sent
        if sent is None or received is None:
            return
        recvs.remove(received)  # the next value of this edge goes to another one
        shared = {"cat": "edge", "name": event.edge, "id": number, "args": {"bytes": event.size}}
        (source, _), (target, _) = self.place(event.source), self.place(event.target)
        yield {"ph": "s", "pid": source, "tid": sent[0], "ts": self._time(event.at), **shared}
        arrived = max(event.at, received[1], received[2] - 1)
        yield {"ph": "f", "bp": "e", "pid": target, "tid": received[0], "ts": self._time(arrived), **shared}

    def names(self) -> Iterator[dict[str, Any]]:
        for task, process in self._processes.items():
            yield {"ph": "M", "name": "process_name", "pid": process, "args": {"name": task}}
        for device, lanes in self._lanes.items():
            process, _ = self.place(device)
            for lane in range(len(lanes)):
                name = device.removeprefix(parse(device).task_name) + (f" +{lane}" if lane else "")
                thread = self._thread(device, lane)
                yield {"ph": "M", "name": "thread_name", "pid": process, "tid": thread, "args": {"name": name}}


class _Current:
    """The trace that steps are recorded in now, for the whole process: steps run on many threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.trace: Trace | None = None


_current = _Current()


def current() -> Trace | None:
    """The trace that a new step should record in, None if none is being made."""
    return _current.trace


def clock_offset(asked: int, answered: int, received: int, replied: int) -> int:
    """What another task's clock is ahead of ours, in ns, by Cristian's algorithm: both middles are one moment.

    That may be wrong by half of what the messages took. An offset within that error is none: tasks of one machine share
    its clock, and to move their events would put what arrives before what was sent.

    Args:
        asked, answered: when our question left and when the answer was here, by our clock.
        received, replied: when the question arrived and when its answer left, by the other clock.

    Example:
        >>> clock_offset(asked=0, answered=100, received=60, replied=80)  # 20 +- 40
        0
        >>> clock_offset(asked=0, answered=100, received=1060, replied=1080)
        1020
    """
    offset = (received + replied) // 2 - (asked + answered) // 2
    error = ((answered - asked) - (replied - received)) // 2
    return offset if abs(offset) > error else 0


@contextmanager
def trace_steps(path: str | os.PathLike[str] | None = None) -> Iterator[Trace]:
    """Record every step that starts within the block, on all threads and in all tasks.

    Args:
        path: a JSON file to write at the end, for Perfetto or chrome://tracing.

    Raises:
        RuntimeError: a trace is being made already.

    Example:
        >>> with tw.trace_steps("steps.json") as recorded:
        ...     session.run(train)
        >>> recorded.bytes_per_edge()
    """
    made = Trace()
    with _current.lock:
        if _current.trace is not None:
            raise RuntimeError("a trace is being made already; end it before another one begins")
        _current.trace = made
        quick_way.close("trace")
    try:
        yield made
    finally:
        quick_way.open("trace")
        _current.trace = None
        if path is not None:
            made.write(path)
