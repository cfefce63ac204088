"""Processes that compile parts of long programs, beside the one that asks: MLIR's Python bindings and llvmlite let one
thread of a process in at a time.

A process is started when a long program comes (`prepare`: it gets ready while the program is still on its way through
the passes), serves one part after the other, and stays for the next program, or ends after a minute without work.

    request   {"options": {…}, "explicit": true, "sizes": [120, 0]}\\n, then the MLIR and the LLVM IR of the part
    answer    {"ok": true, "size": 4312}\\n, then the object code, or what was wrong
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

import thalweg
from thalweg.backends.cpu.once import once
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.partition import Part, lines_of
from thalweg.dialects.diagnostics import LoweringError

WORTHWHILE = 10_000  # lines of MLIR: about three times what starting a process takes
OPS_WORTHWHILE = 500  # ops of StableHLO that become about as many lines
_MOST = 16
_IDLE_SECONDS = 60


class _Worker:
    """A process, and the pipes to it."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", __name__]  # -P: no modules from the folder one happens to be in
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
        self.owner = os.getpid()

    @property
    def alive(self) -> bool:
        """Is it there, and ours? A process that was forked off ours has our pipes, but must not use them."""
        return self.owner == os.getpid() and self._process.poll() is None

    def compile(self, part: Part, options: CpuOptions) -> bytes:
        """The object code of a part.

        Raises:
            LoweringError: the part is rejected, or the process has ended.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            _send_part(self._process.stdin, part, options)
            head = json.loads(self._process.stdout.readline() or b"null")
            data = self._process.stdout.read(head["size"]) if head else b""
        except OSError:
            head = None
        if head is None:
            raise LoweringError(
                f"compiling a part of the program in another process failed: the process ended (exit code "
                f"{self._process.wait()}). Set tw.config.threads = 1 to compile in this process."
            )
        if not head["ok"]:
            raise LoweringError(data.decode())
        return data

    def stop(self) -> None:
        """End the process."""
        if self.owner == os.getpid():
            self._process.kill()
            self._process.communicate()


class _Pool:
    """The processes that have nothing to do."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()

    def prepare(self, count: int) -> None:
        """Let there be so many."""
        with self._lock:
            self._idle = [worker for worker in self._idle if worker.alive]
            self._idle += [_Worker() for _ in range(count - len(self._idle))]

    @property
    def ready(self) -> int:
        """How many there are."""
        with self._lock:
            return sum(worker.alive for worker in self._idle)

    def take(self) -> _Worker:
        with self._lock:
            while self._idle:
                worker = self._idle.pop()
                if worker.alive:
                    return worker
        return _Worker()

    def give_back(self, worker: _Worker) -> None:
        with self._lock:
            self._idle.append(worker)


@once
def _pool() -> _Pool:
    return _Pool()


def _can_start() -> bool:
    """Can a Python be started? Not so in a program that embeds one."""
    return "python" in os.path.basename(sys.executable or "") and os.path.isfile(str(thalweg.__file__))


def helpers(parts: Sequence[Part], processors: int) -> int:
    """How many processes can help: for a short program, no more than are there."""
    most = min(processors, len(parts), _MOST) - 1
    if not most or not _can_start():
        return 0
    return most if lines_of(parts) >= WORTHWHILE else min(most, _pool().ready)


def prepare(ops: int, processors: int) -> None:
    """Start processes for a program of so many ops, if it is long: they get ready while it is on its way."""
    if ops >= OPS_WORTHWHILE and processors > 1 and _can_start():
        _pool().prepare(min(processors, _MOST) - 1)


def compile_all(parts: Sequence[Part], options: CpuOptions, count: int, here: Callable[[Part], bytes]) -> list[bytes]:
    """The object code of all parts, by this process (`here`) and `count` others.

    Raises:
        LoweringError: a part is rejected, or a process has ended.
    """
    objects = [b""] * len(parts)
    waiting = deque(enumerate(parts))

    def work(compile_part: Callable[[Part], bytes]) -> None:
        try:
            while waiting:
                number, part = waiting.popleft()
                objects[number] = compile_part(part)
        except IndexError:  # another thread took the last
            return
        except BaseException:
            waiting.clear()
            raise

    def elsewhere() -> None:
        worker = _pool().take()
        try:
            work(lambda part: worker.compile(part, options))
        except BaseException:
            worker.stop()
            raise
        _pool().give_back(worker)

    with ThreadPoolExecutor(count) as threads:
        others = [threads.submit(elsewhere) for _ in range(count)]
        work(here)
        for other in others:
            other.result()
    return objects


# The messages.


def _send_part(pipe: IO[bytes], part: Part, options: CpuOptions) -> None:
    texts = [part.source.encode(), part.definitions.encode()]
    head = {"options": options.to_json(), "explicit": part.explicit, "sizes": [len(text) for text in texts]}
    pipe.write(json.dumps(head).encode() + b"\n" + b"".join(texts))
    pipe.flush()


def _receive_part(pipe: IO[bytes]) -> tuple[Part, CpuOptions] | None:
    """None at the end."""
    line = pipe.readline()
    if not line:
        return None
    head = json.loads(line)
    source, definitions = (pipe.read(size).decode() for size in head["sizes"])
    return Part(source, definitions, head["explicit"]), CpuOptions(**head["options"])


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Compile parts until there is no more to do, or nobody to do it for."""
    from thalweg.backends.cpu.jit import compile_part
    from thalweg.dialects import context

    with context.entered():
        while select.select([requests], [], [], _IDLE_SECONDS)[0]:
            request = _receive_part(requests)
            if request is None:
                return
            try:
                data, ok = compile_part(*request), True
            except LoweringError as error:
                data, ok = str(error).encode(), False
            answers.write(json.dumps({"ok": ok, "size": len(data)}).encode() + b"\n" + data)
            answers.flush()


def main() -> None:
    """Serve the process that started this one. What is printed by whatever is called here goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that is for the process that started this one
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
