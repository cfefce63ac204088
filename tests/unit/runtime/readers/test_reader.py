"""Readers: records across files, turns, ends, failures, cancellation."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from queue_outcomes import NUMBER, Outcome

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError, StepError
from thalweg.dialects.types import TensorType, string
from thalweg.runtime.queues import Queue
from thalweg.runtime.readers import Reader

PATIENCE = 60.0


def open_file(name: str) -> Iterator[tuple[np.ndarray, ...]]:
    """"3-7" holds 3, 4, 5, 6 in chunks of two; "bad" fails after its first chunk."""
    if name == "bad":
        yield (np.array([-1, -2]),)
        raise StepError("bad:3: something is wrong")
    if name == "missing":
        raise FileNotFoundError(2, "No such file", name)
    first, end = map(int, name.split("-"))
    for at in range(first, end, 2):
        yield (np.arange(at, min(at + 2, end)),)


class Files:
    def __init__(self, *names: str) -> None:
        self.queue = Queue("files", [TensorType((), string)])
        self.reader = Reader("r", [NUMBER], open_file)
        self.add(*names)

    def add(self, *names: str) -> Files:
        for name in names:
            Outcome(lambda done, n=name: self.queue.enqueue([np.array(n.encode(), object)], done))
        return self

    def end(self) -> Files:
        self.queue.close_input()
        return self

    def many(self, count: int, partial: bool = False) -> Outcome:
        return Outcome(lambda done: self.reader.read(self.queue, count, done, partial))

    def one(self) -> Outcome:
        return Outcome(lambda done: self.reader.read(self.queue, 1, done, batched=False))


def ended(outcome: Outcome) -> Outcome:
    assert outcome.wait(PATIENCE), "the read hangs"
    return outcome


def test_records_go_on_across_files() -> None:
    files = Files("0-3", "3-3", "3-8").end()
    assert ended(files.one()).numbers == 0
    assert ended(files.many(4)).numbers == [1, 2, 3, 4]
    assert ended(files.many(2, partial=True)).numbers == [5, 6]
    assert ended(files.many(2, partial=True)).numbers == [7]
    assert isinstance(ended(files.many(2, partial=True)).error, OutOfRangeError)


def test_the_end_of_the_files_takes_nothing() -> None:
    files = Files("0-3").end()
    with pytest.raises(OutOfRangeError, match="read from reader 'r': the files are at an end, 3 of 5 records are left"):
        ended(files.many(5)).get()
    assert ended(files.many(3)).numbers == [0, 1, 2]


def test_a_read_waits_for_a_file() -> None:
    files = Files("0-2")
    waiting = files.many(4)
    assert not waiting.wait(0.05)
    files.add("2-4")
    assert ended(waiting).numbers == [0, 1, 2, 3]


def test_reads_take_turns() -> None:
    files = Files()
    reads = [files.many(2) for _ in range(3)]
    files.add("0-6")
    assert [ended(r).numbers for r in reads] == [[0, 1], [2, 3], [4, 5]]


def test_a_file_that_fails_is_told_and_the_next_one_read() -> None:
    files = Files("bad", "missing", "5-7").end()
    with pytest.raises(StepError, match="bad:3: something is wrong"):
        ended(files.many(3)).get()
    assert ended(files.many(2)).numbers == [-1, -2], "what came before stays"
    with pytest.raises(StepError, match="No such file"):
        ended(files.one()).get()
    assert ended(files.many(2)).numbers == [5, 6]


def test_a_cancelled_read_takes_nothing() -> None:
    files = Files("0-2")
    waiting, behind = files.many(4), files.many(2)
    assert not waiting.wait(0.05)
    waiting.ticket.cancel(CancelledError("given up"))
    with pytest.raises(CancelledError, match="given up"):
        ended(waiting).get()
    assert ended(behind).numbers == [0, 1]


def test_a_cancelled_read_leaves_the_file_where_it_is() -> None:
    read_on = threading.Event()

    def slow(name: str) -> Iterator[tuple[np.ndarray, ...]]:
        yield (np.array([0]),)
        assert read_on.wait(PATIENCE)
        yield (np.array([1]),)
        yield (np.array([2]),)

    files = Files("any").end()
    files.reader = Reader("slow", [NUMBER], slow)
    waiting = files.many(3)
    waiting.ticket.cancel(CancelledError("given up"))
    read_on.set()
    assert isinstance(ended(waiting).error, CancelledError)
    assert ended(files.many(3)).numbers == [0, 1, 2]


def test_many_reads_in_line() -> None:
    files = Files()
    reads = [files.one() for _ in range(3000)]
    files.add("0-3000")
    assert [ended(r).numbers for r in reads] == list(range(3000))


def test_cancelling_one_that_stands_in_line() -> None:
    files = Files()
    first, second = files.many(1), files.many(1)
    assert second.ticket.cancel(CancelledError("")) and isinstance(ended(second).error, CancelledError)
    files.add("0-1", "1-2")
    assert ended(first).numbers == [0] and ended(files.one()).numbers == 1


def test_reset_cancels_all() -> None:
    files = Files()
    reads = [files.many(1) for _ in range(3)]
    files.reader.close()
    assert all(isinstance(ended(r).error, CancelledError) for r in reads)
    assert files.queue.state()["waiting_dequeues"] == 0


def test_many_threads_read_each_record_once() -> None:
    files = Files(*[f"{n}-{n + 25}" for n in range(0, 1000, 25)]).end()
    got: Counter[int] = Counter()
    lock = threading.Lock()

    def work(count: int) -> None:
        while not isinstance((outcome := ended(files.many(count, partial=True))).error, OutOfRangeError):
            with lock:
                got.update(outcome.numbers)

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in (1, 3, 7, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert got == Counter(range(1000))
