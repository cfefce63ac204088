"""Graphs on the command line: the step of a tensor, of an operation, of all of a graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Thalweg = Callable[..., Any]

GRAPH = """\
import numpy as np
import thalweg as tw

graph = tw.Graph()
with graph.as_default():
    x = tw.placeholder(tw.float32, (None, 3), name="x")
    unused = tw.placeholder(tw.float32, (), name="unused")
    with tw.device("/job:ps/task:0"):
        w = tw.Variable(np.ones((3, 2), np.float32), name="of_a_graph")
    with tw.device("/job:worker/task:0"):
        y = tw.exp(x @ w, name="y")
        step = w.assign_sub(0.5 * w)
"""
TASKS = "/job:ps/task:0/cpu:0;/job:worker/task:0/cpu:0"


@pytest.fixture(autouse=True)
def graph_file(folder: Path) -> None:
    (folder / "graphs.py").write_text(GRAPH)


def test_a_tensor_is_the_step_that_computes_it(thalweg: Thalweg) -> None:
    result = thalweg("inspect", "graph", "graphs.py:y", "--devices", TASKS)
    assert result.exit_code == 0, result.output
    first, *lines = result.output.splitlines()
    assert first == "2 devices, 1 tensor sent, 24 bytes"
    assert any("send -> /job:worker/task:0" in line and "graphs.py:" in line for line in lines)
    assert "unused" not in result.output and "writes" not in result.output


def test_all_of_a_graph_has_what_changes_state(thalweg: Thalweg) -> None:
    result = thalweg("inspect", "graph", "graphs.py:graph", "--devices", TASKS)
    assert result.exit_code == 0 and "writes of_a_graph" in result.output and "1 exp" in result.output


def test_an_operation_is_run(thalweg: Thalweg, folder: Path) -> None:
    (folder / "graphs.py").write_text(GRAPH.replace('tw.device("/job:ps/task:0")', "tw.name_scope('a')").replace(
        'tw.device("/job:worker/task:0")', "tw.name_scope('b')"
    ))  # fmt: skip
    result = thalweg("run", "graphs.py:step")
    assert result.exit_code == 0 and "of_a_graph" in result.output and "in [0.5, 0.5]" in result.output


def test_open_sizes_are_given_in_order(thalweg: Thalweg) -> None:
    result = thalweg("translate", "graphs.py:y", "--to", "tw", "--shapes", "f32[5,3]")
    assert result.exit_code == 0 and "tensor<5x3xf32>" in result.output
    result = thalweg("translate", "graphs.py:y", "--to", "tw", "--shapes", "f32[5]")
    assert result.exit_code == 1 and "graphs.py:y is fed x:0 f32[?,3]. Give --shapes" in result.output


def test_what_is_compiled_has_sizes(thalweg: Thalweg) -> None:
    result = thalweg("translate", "graphs.py:y", "--to", "stablehlo")
    assert result.exit_code == 1 and "Give --shapes f32[N,3] with numbers for N" in result.output
