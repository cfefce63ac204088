"""What was measured of a step decides where the next one's operations go."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.runtime.tracing import Ran

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def two_devices():
    with tw.config.override(virtual_cpus=2):
        yield


def long_loops() -> tuple[tw.Graph, dict[str, np.ndarray]]:
    """Two loops that only running them shows to be long, of whose place nothing is said."""
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (), name="x")
        n = tw.placeholder(tw.int32, (), name="n")
        left = tw.while_loop(lambda i, v: i < n, lambda i, v: (i + 1, tw.cos(v)), (0, x))[1]
        right = tw.while_loop(lambda i, v: i < n, lambda i, v: (i + 1, tw.sin(v)), (0, x))[1]
        with tw.device("/device:CPU:1"):
            tw.add(left, right, name="out")
    return graph, {"x": np.float32(0.5), "n": np.int32(300_000)}


def places(graph: tw.Graph, feeds: dict[str, np.ndarray]) -> list[set[str]]:
    """The device of each cluster that has a loop, and what it computes."""
    with tw.Session(graph) as session:
        session.run("out:0", feeds)
        with tw.trace_steps() as made:
            session.run("out:0", feeds)
    return [{e.device} for e in made.events if isinstance(e, Ran) and e.op == "cluster" and "while" in e.title]


def test_loops_that_turn_out_long_run_beside_each_other(tmp_path: Path) -> None:
    graph, feeds = long_loops()
    with tw.Session(graph) as session:
        costs = session.measure_costs("out:0", feeds, runs=3)
    loops = [seconds for name, seconds in costs.items() if name.startswith("while ")]
    assert len(loops) == 2 and min(loops) > 1e-4, "300,000 iterations each"
    assert all("test_measured_costs.py" in name for name in costs if " " in name)
    assert len(places(graph, feeds)) == 1, "two short loops, as far as anybody knows, are not worth a journey"
    file = tmp_path / "costs.json"
    file.write_text(json.dumps(costs))
    with tw.config.override(placement_costs=str(file)):
        assert sorted(map(min, places(graph, feeds))) == ["/device:CPU:0", "/device:CPU:1"]


def test_open_extents_are_measured_as_fed() -> None:
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (None,), name="x")
        with tw.device("/device:CPU:1"):
            tw.sum(tw.exp(x), name="out")
    with tw.Session(graph) as session:
        costs = session.measure_costs("out:0", {x: np.ones(1000, np.float32)})
    assert any(name.startswith("exp ") and seconds > 0 for name, seconds in costs.items())


def test_a_step_is_run_once_more_than_asked_for() -> None:
    graph = tw.Graph()
    with graph.as_default():
        w = tw.Variable(0, name="count")
        tick = w.assign_add(1)
    with tw.Session(graph) as session:
        session.measure_costs(tick, runs=4)
        assert int(session.run(w)) == 5


def test_a_file_that_is_missing_is_told() -> None:
    graph, feeds = long_loops()
    with tw.config.override(placement_costs="nowhere.json"), pytest.raises(tw.PassError, match=r"nowhere\.json"):
        tw.Session(graph).run("out:0", feeds)
