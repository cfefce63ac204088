"""Where in the user's program."""

from __future__ import annotations

import threading

import numpy as np

import thalweg as tw
from thalweg.dialects.location import user_frame


def test_the_users_frame():
    where = user_frame()
    assert where.file == __file__ and where.function == "test_the_users_frame"


def test_a_thread_whose_target_is_ours():
    results: list[tw.Tensor] = []

    @tw.function
    def twice(x):
        results.append(x.shape)
        return x * 2

    thread = threading.Thread(target=twice, args=(np.ones((3,), np.float32),))
    thread.start()
    thread.join()
    assert results == [(3,)], "no frame of the user's is below the call in that thread"
