"""Processes that compile parts of programs."""

from __future__ import annotations

import io
import os

import pytest

from thalweg.backends.cpu import workers
from thalweg.backends.cpu.jit import compile_part
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.partition import Part
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError

OPTIONS = CpuOptions(threads=1, opt_level=1)
PARTS = [
    Part(f"func.func @f{n}(%x: f32) -> f32 {{\n%y = arith.mulf %x, %x : f32\nreturn %y : f32\n}}") for n in range(5)
]
WRONG = Part("func.func @f() { %0 = arith.addf %1, %1 : f32 return }")


def _refuse(part: Part) -> bytes:
    raise AssertionError(f"compiled here: {part}")


@pytest.fixture
def pool() -> workers._Pool:
    return workers._pool()


@pytest.mark.timeout(120)
def test_processes_and_this_one_share_the_work() -> None:
    with context.entered():
        wanted = [compile_part(part, OPTIONS) for part in PARTS]
        assert workers.compile_all(PARTS, OPTIONS, 2, lambda part: compile_part(part, OPTIONS)) == wanted


@pytest.mark.timeout(120)
def test_a_process_serves_several_programs(pool: workers._Pool) -> None:
    pool.prepare(1)
    before = pool.ready
    with context.entered():
        for _ in range(2):
            workers.compile_all(PARTS[:1], OPTIONS, 1, lambda part: compile_part(part, OPTIONS))
    assert pool.ready == before >= 1


@pytest.mark.timeout(120)
def test_what_a_process_rejects_is_told_and_it_serves_on() -> None:
    worker = workers._Worker()
    try:
        with pytest.raises(LoweringError, match="rejects"):
            worker.compile(WRONG, OPTIONS)
        assert worker.compile(PARTS[0], OPTIONS).startswith((b"\x7fELF", b"\xcf\xfa\xed\xfe"))
    finally:
        worker.stop()
    assert not worker.alive


@pytest.mark.timeout(120)
def test_an_error_here_ends_the_whole() -> None:
    def fail(part: Part) -> bytes:
        raise LoweringError("no")

    with pytest.raises(LoweringError, match="no"):
        workers.compile_all(PARTS, OPTIONS, 1, fail)


@pytest.mark.timeout(120)
def test_a_process_that_has_ended_is_told(pool: workers._Pool) -> None:
    worker = workers._Worker()
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(LoweringError, match=r"the process ended .*tw\.config\.threads = 1"):
        worker.compile(PARTS[0], OPTIONS)
    worker.stop()
    pool.give_back(worker)
    assert pool.take().alive  # another


def test_pipes_of_another_process_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = workers._Worker()
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: worker.owner + 1)
        assert not worker.alive
        worker.stop()  # nothing happens
    assert worker.alive
    worker.stop()


def test_a_process_ends_with_its_requests() -> None:
    sent = io.BytesIO()
    workers._send_part(sent, PARTS[0], OPTIONS)
    sent.seek(0)
    assert workers._receive_part(sent) == (PARTS[0], OPTIONS)
    assert workers._receive_part(sent) is None


def test_short_programs_start_no_process(monkeypatch: pytest.MonkeyPatch, pool: workers._Pool) -> None:
    monkeypatch.setattr(workers._Pool, "ready", 0)
    started: list[int] = []
    monkeypatch.setattr(workers._Pool, "prepare", lambda self, count: started.append(count))
    long = [Part("\n" * workers.WORTHWHILE), *PARTS]
    assert workers.helpers(PARTS, 8) == 0
    assert [workers.helpers(long, count) for count in (1, 2, 8, 100)] == [0, 1, 5, 5]
    workers.prepare(10, 4)
    workers.prepare(100_000, 1)
    assert started == []
    workers.prepare(100_000, 4)
    assert started == [3]
    monkeypatch.setattr("sys.executable", "/usr/bin/editor")
    assert workers.helpers(long, 8) == 0


def test_a_short_program_takes_the_processes_that_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers._Pool, "ready", 2)
    assert workers.helpers(PARTS, 8) == 2
