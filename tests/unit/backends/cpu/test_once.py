import threading
import time

import pytest

from thalweg.backends.cpu.once import once


@pytest.mark.timeout(30)
def test_several_threads_that_come_first_get_one() -> None:
    made: list[object] = []

    @once
    def make() -> object:
        time.sleep(0.01)
        made.append(object())
        return made[-1]

    start, found = threading.Barrier(8), list[object]()

    def get() -> None:
        start.wait()
        found.append(make())

    threads = [threading.Thread(target=get) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and found == made * 8


def test_what_fails_is_tried_again() -> None:
    answers = [ValueError("not yet"), 7]

    @once
    def make() -> object:
        answer = answers.pop(0)
        if isinstance(answer, ValueError):
            raise answer
        return answer

    with pytest.raises(ValueError, match="not yet"):
        make()
    assert make() == make() == 7
