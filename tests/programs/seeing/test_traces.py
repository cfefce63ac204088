"""Traces of whole programs: everything that runs is in them, and the file keeps to what Perfetto asks for."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from trace_files import check_file

import thalweg as tw
from thalweg.runtime.tracing import Ran

pytestmark = pytest.mark.timeout(120)


def test_programs_that_are_one_piece_show_each_call(tmp_path: Path) -> None:
    @tw.function
    def plain(x):
        return tw.sum(tw.exp(x))

    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (4,), name="x")
        y = tw.exp(x, name="y")
    ones = np.ones((4,), np.float32)
    session = tw.Session(graph)
    run = session.make_callable(y, [x])
    plain(ones), run(ones)  # they know the quick way by now
    with tw.trace_steps(tmp_path / "t.json") as made:
        for _ in range(3):
            plain(ones)
            run(ones)
        session.run(y, {x: ones})
    plain(ones), run(ones)
    assert Counter(e.name for e in made.events if isinstance(e, Ran)) == {"plain": 3, "run y:0": 4}
    check_file(tmp_path / "t.json")


def test_queues_loops_and_devices_in_one_picture(tmp_path: Path) -> None:
    with tw.config.override(virtual_cpus=2):
        graph = tw.Graph()
        with graph.as_default():
            queue = tw.FIFOQueue(8, [tw.float32], shapes=[(3,)], name="rows")
            put = queue.enqueue(tw.ones((3,)))
            row = queue.dequeue()

            def body(i, a):
                with tw.device("/device:CPU:1"):
                    b = tw.tanh(a)
                with tw.device("/device:CPU:0"):
                    return i + 1, b * 2.0

            _, out = tw.while_loop(lambda i, a: i < 4, body, (0, row))
        with tw.Session(graph) as session, tw.trace_steps(tmp_path / "t.json") as made:
            for _ in range(2):
                session.run(put)
            for _ in range(2):
                session.run(out)
    events = check_file(tmp_path / "t.json")
    assert [e["args"][""] for e in events if e["ph"] == "C" and e["name"].startswith("rows")] == [1, 2, 1, 0]
    shown = [e["name"] for e in events if e["ph"] == "X"]
    assert {"enqueue", "dequeue", "tanh"} <= set(shown), "clusters are called by what they do"
    assert shown.count("tanh") == 2 * 4, "each iteration is there"
    assert sum(e["ph"] == "s" for e in events) == len([m for m in made.events if type(m).__name__ == "Moved"])
    assert made.bytes_per_edge()
