"""The coordinator: stopping together, errors that reach who waits, threads that do not end."""

from __future__ import annotations

import threading
import time

import pytest

import thalweg as tw


def thread(work) -> threading.Thread:
    made = threading.Thread(target=work, name=work.__name__, daemon=True)
    made.start()
    return made


def test_one_asks_and_all_stop() -> None:
    coordinator = tw.train.Coordinator()
    rounds = [0, 0]

    def work(k: int) -> None:
        while not coordinator.should_stop():
            rounds[k] += 1
            if rounds[k] == 10 and k == 0:
                coordinator.request_stop()
            time.sleep(0.001)

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(2)]
    for t in threads:
        t.start()
    coordinator.join(threads, stop_grace_period=30)
    assert rounds[0] == 10 and not any(t.is_alive() for t in threads)


def test_the_first_error_is_raised_by_join_and_stops_the_others() -> None:
    coordinator = tw.train.Coordinator()

    def fails() -> None:
        with coordinator.stop_on_exception():
            raise ValueError("the disk is gone")

    def follows() -> None:
        coordinator.wait_for_stop()
        coordinator.request_stop(KeyError("a consequence"))

    for work in (follows, fails):
        coordinator.register_thread(thread(work))
    with pytest.raises(ValueError, match="the disk is gone"):
        coordinator.join(stop_grace_period=30)
    with pytest.raises(ValueError, match="the disk is gone"):
        coordinator.raise_requested_exception()


def test_the_end_of_the_data_is_no_failure() -> None:
    coordinator = tw.train.Coordinator()
    with coordinator.stop_on_exception():
        raise tw.OutOfRangeError("nothing is left")
    assert coordinator.should_stop()
    coordinator.join()
    strict = tw.train.Coordinator(clean_stop=())
    with strict.stop_on_exception():
        raise tw.OutOfRangeError("nothing is left")
    with pytest.raises(tw.OutOfRangeError):
        strict.join()


def test_join_waits_for_threads_that_end_by_themselves() -> None:
    coordinator = tw.train.Coordinator()
    coordinator.join([thread(lambda: time.sleep(0.05))])
    assert not coordinator.should_stop()


def test_threads_that_do_not_end_are_named() -> None:
    coordinator = tw.train.Coordinator()
    free = threading.Event()

    def stubborn() -> None:
        free.wait(60)

    coordinator.register_thread(thread(stubborn))
    coordinator.request_stop()
    with pytest.raises(tw.ThalwegError, match=r"threads still run 0.05 s after they were asked to stop: stubborn"):
        coordinator.join(stop_grace_period=0.05)
    coordinator.join([thread(stubborn)], stop_grace_period=0.05, ignore_live=True)
    free.set()


def test_a_new_start() -> None:
    coordinator = tw.train.Coordinator()
    coordinator.request_stop(ValueError("first"))
    coordinator.clear_stop()
    assert not coordinator.should_stop() and not coordinator.wait_for_stop(0.01)
    coordinator.raise_requested_exception()
