"""Many threads at one queue: nothing is lost, nothing comes twice, nobody waits for ever."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from queue_outcomes import Numbers, Outcome

from thalweg.dialects.diagnostics import CancelledError, OutOfRangeError
from thalweg.runtime.queues import BucketStore, FifoStore, Mutex, PriorityStore, ShuffleStore, Store

PATIENCE = 60.0  # seconds; reached only by a hang


def together(*jobs: Callable[[], None]) -> None:
    """Run jobs on threads of their own, and raise what they raise."""
    errors: list[BaseException] = []
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        try:
            barrier.wait()
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


def finished(outcome: Outcome) -> Outcome:
    assert outcome.wait(PATIENCE), f"{outcome.ticket.what} waits for ever"
    return outcome


@pytest.mark.parametrize(
    "store", [FifoStore, lambda: ShuffleStore(3, 0), PriorityStore, lambda: BucketStore([300, 900])],
    ids=["fifo", "shuffle", "priority", "bucket"],
)  # fmt: skip
def test_producers_and_consumers(store: Callable[[], Store]) -> None:
    """4 producers of single elements and batches, 4 consumers of the same; then the queue is closed and drained."""
    q = Numbers(7, store())
    got: Counter[int] = Counter()
    lock = threading.Lock()

    def produce(first: int) -> Callable[[], None]:
        def job() -> None:
            rng, number = random.Random(first), first
            while number < first + 300:
                count = min(rng.randrange(1, 10), first + 300 - number)
                finished(q.put(*range(number, number + count))).get()
                number += count

        return job

    def consume(seed: int) -> Callable[[], None]:
        def job() -> None:
            rng = random.Random(seed)
            while True:
                outcome = finished(q.up_to(rng.randrange(1, 12)))
                if isinstance(outcome.error, OutOfRangeError):
                    return
                with lock:
                    got.update(outcome.numbers)

        return job

    producers = [produce(300 * k) for k in range(4)]
    left = [len(producers)]

    def closing(job: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            job()
            with lock:
                left[0] -= 1
                last = not left[0]
            if last:
                q.close()

        return run

    together(*map(closing, producers), *(consume(k) for k in range(4)))
    assert got == Counter(range(1200))
    assert q.queue.state()["waiting_dequeues"] == q.queue.size() == 0


def test_order_is_kept_from_one_producer_to_one_consumer() -> None:
    q = Numbers(3)
    got: list[int] = []

    def produce() -> None:
        for number in range(500):
            finished(q.put(number))

    def consume() -> None:
        while len(got) < 500:
            got.extend(finished(q.many(4)).numbers)

    together(produce, consume)
    assert got == list(range(500))


def test_cancelling_while_others_work() -> None:
    """What was cancelled has taken nothing: all that was put in comes out, through the others."""
    q = Numbers(5)
    got: list[int] = []

    def produce() -> None:
        for number in range(400):
            finished(q.put(number)).get()
        q.close()

    def consume() -> None:
        while True:
            outcome = q.many(2)
            if outcome.pending:
                outcome.ticket.cancel(CancelledError("changed my mind"))
            finished(outcome)
            if isinstance(outcome.error, OutOfRangeError):
                return
            if outcome.error is None:
                got.extend(outcome.numbers)

    together(produce, consume)
    assert got == list(range(400))


def test_outcomes_come_once_even_if_cancelled_and_served_at_the_same_time() -> None:
    for _ in range(200):
        q = Numbers(1)
        waiting = q.get()
        together(lambda q=q: q.put(1) and None, lambda w=waiting: w.ticket.cancel(CancelledError("")) and None)
        assert waiting.calls == 1
        assert q.queue.size() == (waiting.error is not None)


def test_closing_while_others_work() -> None:
    for round_ in range(50):
        q = Numbers(2)
        got: list[int] = []
        sent: list[int] = []

        def produce(q: Numbers = q, sent: list[int] = sent) -> None:
            for number in range(20):
                if isinstance(finished(q.put(number)).error, CancelledError):
                    return
                sent.append(number)

        def consume(q: Numbers = q, got: list[int] = got) -> None:
            while not isinstance((outcome := finished(q.get())).error, OutOfRangeError):
                got.append(outcome.numbers)

        together(produce, consume, lambda q=q, r=round_: q.close(cancel_pending=bool(r % 2)))
        assert got == sent


def test_a_mutex_is_held_by_one() -> None:
    mutex = Mutex("m")
    inside: list[int] = []
    total = [0]

    def work() -> None:
        for _ in range(100):
            outcome = Outcome(mutex.acquire)
            assert outcome.wait(PATIENCE)
            inside.append(1)
            assert len(inside) == 1
            total[0] += 1
            inside.pop()
            mutex.release(outcome.get()[0])

    together(*[work] * 4)
    assert total == [400] and not mutex.held
