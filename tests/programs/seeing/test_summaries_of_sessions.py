"""Summaries and graphs of sessions, as TensorBoard itself reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import thalweg as tw

accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
pytestmark = pytest.mark.timeout(120)


def read(folder: Path) -> Any:
    found = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0})
    found.Reload()
    return found


def training() -> tuple[tw.Graph, tw.Operation, Any]:
    """A layer in a name scope, its variable on a second device, and what is to be told of it."""
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (None, 3), name="x")
        pictures = tw.placeholder(tw.uint8, (2, 4, 5, 3), name="pictures")
        with tw.name_scope("layer"), tw.device("/device:CPU:1"):
            w = tw.Variable(np.ones((3, 2), np.float32), name="w")
            y = tw.tanh(x @ w, name="y")
            tw.summary.histogram("w", w)
        with tw.name_scope("training"):
            loss = tw.mean(y, name="loss")
            tw.summary.scalar("loss", loss)
            step = w.assign_sub(0.5 * w)
            with tw.control_dependencies([step]):
                tw.identity(loss, name="afterwards")
        tw.summary.image("seen", pictures, most=2)
        told = tw.summary.merge_all()
    return graph, step, told


@pytest.mark.parametrize("devices", [2, 3])
def test_a_training_run_is_shown_step_by_step(tmp_path: Path, devices: int) -> None:
    feeds = {"x": np.ones((4, 3), np.float32), "pictures": np.full((2, 4, 5, 3), 7, np.uint8)}
    with tw.config.override(virtual_cpus=devices):
        graph, step, told = training()
        with tw.Session(graph) as session, tw.summary.FileWriter(tmp_path, graph) as writer:
            for number in range(4):
                summary, _ = session.run([told, step], feeds)
                writer.add(summary, number)
    found = read(tmp_path)
    losses = found.Scalars("training/loss")
    assert [e.step for e in losses] == [0, 1, 2, 3]
    np.testing.assert_allclose([e.value for e in losses], np.tanh(3 * 0.5 ** np.arange(4)), rtol=1e-5)
    widths = [e.histogram_value for e in found.Histograms("layer/w")]
    np.testing.assert_allclose([h.sum for h in widths], 6 * 0.5 ** np.arange(4))
    assert len(found.Images("seen/0")) == len(found.Images("seen/1")) == 4


def test_the_graph_has_the_names_scopes_devices_and_sizes_of_the_program(tmp_path: Path) -> None:
    graph, step, _ = training()
    with tw.summary.FileWriter(tmp_path) as writer:
        writer.add_graph(graph)
    nodes = {node.name: node for node in read(tmp_path).Graph().node}
    assert {"x", "layer/y", "training/loss", "training/afterwards", graph.variables()[0].name} <= set(nodes)
    assert nodes["layer/y"].device == "/device:CPU:1" and nodes["training/loss"].device == ""
    assert f"^{step.name}" in nodes["training/afterwards"].input
    (shape,) = nodes["x"].attr["_output_shapes"].list.shape
    assert [d.size for d in shape.dim] == [-1, 3], "an open extent"
    assert b"test_summaries_of_sessions.py:" in nodes["layer/y"].attr["source"].s
    for node in nodes.values():
        for source in node.input:
            assert source.removeprefix("^").partition(":")[0] in nodes


def test_names_stay_apart_from_those_that_are_made_up(tmp_path: Path) -> None:
    graph = tw.Graph()
    with graph.as_default():
        x = tw.placeholder(tw.float32, (), name="cond/on_true/exp")
        tw.cond(x > 0, lambda: tw.exp(tw.exp(x)), lambda: x)
    with tw.summary.FileWriter(tmp_path, graph):
        pass
    names = [node.name for node in read(tmp_path).Graph().node]
    assert len(names) == len(set(names)) and "cond/on_true/exp" in names


def test_in_a_traced_function(tmp_path: Path) -> None:
    @tw.function
    def step(x):
        y = tw.exp(x)
        tw.summary.scalar("mean", tw.mean(y))
        tw.summary.histogram("all", y)
        return y, tw.summary.merge_all()

    with tw.summary.FileWriter(tmp_path) as writer:
        for number in range(3):
            _, told = step(np.float32([number, number]))
            writer.add(told, number)
    found = read(tmp_path)
    np.testing.assert_allclose([e.value for e in found.Scalars("mean")], np.exp(np.arange(3)), rtol=1e-6)
    assert [e.histogram_value.num for e in found.Histograms("all")] == [2, 2, 2]
