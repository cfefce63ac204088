"""Looking into a cluster: traces on one clock, checks on the tasks, costs measured there, compression, summaries."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from trace_files import check_file

import thalweg as tw
from thalweg.runtime.tracing import Ran

pytest.importorskip("ray")
pytest.importorskip("zmq")
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def cluster():
    with tw.Cluster(ps=1, workers=1) as made:
        yield made


@pytest.fixture
def graph(cluster):
    """w on the parameter task, x @ w on the worker, its sum on the parameter task."""
    made = tw.Graph()
    with made.as_default():
        x = tw.placeholder(tw.float32, (4, 64), name="x")
        with tw.device("/job:ps/task:0"):
            w = tw.Variable(np.full((64, 64), 1.00390625, np.float32), name="w")
        with tw.device("/job:worker/task:0"):
            y = tw.identity(tw.sqrt(x @ w), name="y")
            tw.summary.histogram("y", y)
        with tw.device("/job:ps/task:0"):
            total = tw.sum(y, name="total")
            tw.summary.scalar("total", total)
        tw.identity(tw.summary.merge_all(), name="told")
    yield made
    cluster.reset()


ONES = np.ones((4, 64), np.float32)


def test_a_trace_of_all_tasks_is_on_one_clock(cluster, graph, tmp_path: Path) -> None:
    with tw.Session(graph, target=cluster) as session:
        session.run("total:0", {"x": ONES})
        began = time.time_ns()
        with tw.trace_steps(tmp_path / "t.json") as made:
            for _ in range(3):
                session.run("total:0", {"x": ONES})
        ended = time.time_ns()
    events = check_file(tmp_path / "t.json")
    processes = {e["args"]["name"] for e in events if e["name"] == "process_name"}
    assert processes == {"/job:ps/task:0", "/job:worker/task:0"}
    arrows = sum(e["ph"] == "s" for e in events)
    assert arrows == sum(e["ph"] == "f" for e in events)
    assert arrows == 3 * 2
    assert sorted(made.bytes_per_edge().values()) == [3 * 4 * 64 * 4, 3 * 64 * 64 * 4]
    for event in made.events:
        if isinstance(event, Ran):
            assert began - 1e6 < event.begin <= event.end < ended + 1e6


def test_a_task_names_the_op_and_line_of_the_first_nan(cluster, graph) -> None:
    with tw.Session(graph, target=cluster) as session:
        assert np.isnan(float(session.run("total:0", {"x": -ONES})))
        with tw.config.override(check_nans=True):
            with pytest.raises(
                tw.ExecutionError, match=r"test_seeing_clusters\.py:\d+.*sqrt made the first NaN"
            ) as found:
                session.run("total:0", {"x": -ONES})
            assert np.isfinite(float(session.run("total:0", {"x": ONES})))
        assert "/job:worker/task:0" in str(found.value)
        assert np.isnan(float(session.run("total:0", {"x": -ONES}))), "nobody looks any more"


def test_costs_are_measured_on_the_tasks(cluster, graph) -> None:
    with tw.Session(graph, target=cluster) as session:
        costs = session.measure_costs("total:0", {"x": ONES}, runs=3)
    kinds = {name.partition(" ")[0] for name in costs}
    assert {"dot_general", "sqrt", "reduce_sum"} <= kinds
    assert all(0 <= seconds < 1 for seconds in costs.values())


def test_tensors_between_tasks_are_sent_as_16_bits_if_asked_for(cluster, graph) -> None:
    exact = ONES @ np.full((64, 64), 1.00390625, np.float32)
    with tw.Session(graph, target=cluster) as session, tw.trace_steps() as full:
        np.testing.assert_allclose(session.run("y:0", {"x": ONES}), np.sqrt(exact), rtol=1e-6)
    with (
        tw.config.override(compress_transfers=True),
        tw.Session(graph, target=cluster) as session,
        tw.trace_steps() as half,
    ):
        found = session.run("y:0", {"x": ONES})
    np.testing.assert_allclose(found, np.full((4, 64), 8.0), rtol=1e-6, err_msg="1 + 1/256 is 1 in 16 bits")
    (whole,), (cut,) = full.bytes_per_edge().values(), half.bytes_per_edge().values()
    assert cut * 2 == whole == 64 * 64 * 4


def test_summaries_are_made_where_the_values_are(cluster, graph, tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with tw.Session(graph, target=cluster) as session, tw.summary.FileWriter(tmp_path, graph) as writer:
        writer.add(session.run("told:0", {"x": ONES}), step=7)
    found = accumulator.EventAccumulator(str(tmp_path))
    found.Reload()
    (event,) = found.Scalars("total")
    assert event.step == 7 and event.value == pytest.approx(4 * 64 * np.sqrt(64 * 1.00390625), rel=1e-5)
    assert found.Histograms("y")[0].histogram_value.num == 4 * 64
    devices = {node.device for node in found.Graph().node}
    assert {"/job:ps/task:0", "/job:worker/task:0"} <= devices
