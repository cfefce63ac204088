"""Many readers or one writer."""

from __future__ import annotations

import signal
import threading
import time

import pytest

from thalweg.runtime.locks import HOLDERS, WANTED, Gate, Held, SharedLock

pytestmark = pytest.mark.timeout(30)


def test_readers_are_inside_together() -> None:
    lock, both = SharedLock(), threading.Barrier(2, timeout=10)

    def read() -> None:
        with lock.reading():
            both.wait()

    other = threading.Thread(target=read, daemon=True)
    other.start()
    read()
    other.join()
    assert lock.words[HOLDERS] == 0


def test_a_writer_is_alone() -> None:
    lock = SharedLock()
    inside: list[str] = []
    seen: list[list[str]] = []

    def work(kind: str) -> None:
        for _ in range(50):
            with lock.writing() if kind == "writer" else lock.reading():
                inside.append(kind)
                seen.append(inside.copy())
                time.sleep(0.0001)
                inside.remove(kind)

    threads = [threading.Thread(target=work, args=(kind,), daemon=True) for kind in ["writer", "reader", "reader"] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 300
    assert all(len(there) == 1 for there in seen if "writer" in there)


def test_a_writer_that_waits_goes_before_new_readers() -> None:
    lock, order = SharedLock(), list[str]()
    lock.acquire_read()

    def write() -> None:
        with lock.writing():
            order.append("writer")

    def read() -> None:
        with lock.reading():
            order.append("reader")

    threads = []
    for job in (write, read):
        threads.append(threading.Thread(target=job, daemon=True))
        threads[-1].start()
        time.sleep(0.05)
    lock.release_read()
    for thread in threads:
        thread.join()
    assert order == ["writer", "reader"]


def test_a_lock_may_be_released_by_another_thread() -> None:
    lock = SharedLock()
    lock.acquire_write()
    other = threading.Thread(target=lock.release_write)
    other.start()
    other.join()
    with lock.reading():
        pass


@pytest.mark.parametrize("native, write", [(-1, True), (-1, False), (3, True)])
def test_python_waits_for_native_code_and_tells_it_so(native: int, write: bool) -> None:
    lock, entered = SharedLock(), threading.Event()
    lock.words[HOLDERS] = native

    def work() -> None:
        with lock.writing() if write else lock.reading():
            entered.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert not entered.wait(0.05)
    assert lock.words[WANTED] == 1
    lock.words[HOLDERS] = 0
    thread.join()
    assert entered.is_set() and [*lock.words][:2] == [0, 0]


def test_several_locks_are_held_together() -> None:
    first, second = SharedLock(), SharedLock()
    with Held([(first, True), (second, False)]):
        assert first.words[HOLDERS] == -1 and second.words[HOLDERS] == 1
    assert first.words[HOLDERS] == 0 and second.words[HOLDERS] == 0


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no way to send a thread a signal")
@pytest.mark.parametrize("write", [True, False])
def test_an_interrupt_while_waiting_leaves_nothing_taken(write: bool) -> None:
    first, second = SharedLock(), SharedLock()
    second.words[HOLDERS] = -1  # native code is inside
    timer = threading.Timer(0.05, lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), Held([(first, True), (second, write)]):
        pass
    second.words[HOLDERS] = 0
    assert [*first.words][:2] == [*second.words][:2] == [0, 0]
    with Held([(first, True), (second, True)]):  # both can be had
        pass


def test_a_gate_is_open_when_nobody_has_a_reason_to_close_it() -> None:
    gate = Gate()
    gate.close("a trace")
    gate.close("a trace")
    gate.close("checks")
    gate.open("a trace")
    assert gate.words[WANTED] == 1
    gate.open("checks")
    gate.open("checks")
    assert list(gate.words) == [0, 0]
