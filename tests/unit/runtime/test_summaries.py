"""Summaries and event files, as TensorBoard itself reads them."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import thalweg as tw


def _read(folder) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"histograms": 0, "images": 0, "scalars": 0, "tensors": 0})
    found.Reload()
    return found


def test_scalars_over_steps(tmp_path):
    with tw.summary.FileWriter(tmp_path) as writer:
        for step in range(5):
            writer.add(tw.summary.scalar("loss", tw.asarray(1.0 / (step + 1))), step)
    events = _read(tmp_path).Scalars("loss")
    assert [e.step for e in events] == list(range(5))
    np.testing.assert_allclose([e.value for e in events], 1 / np.arange(1, 6), rtol=1e-6)


def test_histogram(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    with tw.summary.FileWriter(tmp_path) as writer:
        writer.add(tw.summary.histogram("w", values), 3)
    found = _read(tmp_path).Histograms("w")[0]
    told = found.histogram_value
    assert found.step == 3 and told.num == 1000
    np.testing.assert_allclose([told.min, told.max, told.sum], [values.min(), values.max(), values.sum()], rtol=1e-4)
    for limit in (-1.0, 0.0, 0.5):
        edge = min((x for x in told.bucket_limit if x >= limit), default=np.inf)
        counted = sum(n for top, n in zip(told.bucket_limit, told.bucket, strict=True) if top <= edge)
        assert counted == np.count_nonzero(values <= edge)


@pytest.mark.parametrize("values", [np.zeros((4,)), np.array([1e30, -1e30]), np.zeros((0,))])
def test_histograms_of_odd_values(values):
    assert isinstance(tw.summary.histogram("h", values), bytes)


def test_histogram_of_nan():
    with pytest.raises(tw.TypeInferenceError, match=r"test_summaries.py:\d+:.*1 of 3 elements are NaN"):
        tw.summary.histogram("h", np.array([1.0, np.nan, 2.0]))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images(tmp_path, channels):
    pictures = np.random.default_rng(0).integers(0, 255, (5, 6, 7, channels), dtype=np.uint8)
    with tw.summary.FileWriter(tmp_path) as writer:
        writer.add(tw.summary.image("seen", pictures, most=2), 0)
        writer.add(tw.summary.image("floats", pictures.astype(np.float32) / 255, most=1), 0)
    found = _read(tmp_path)
    assert set(found.Tags()["images"]) == {"seen/0", "seen/1", "floats"}
    for tag in ("seen/0", "floats"):
        decoded = np.asarray(Image.open(io.BytesIO(found.Images(tag)[0].encoded_image_string)))
        np.testing.assert_array_equal(decoded.reshape(6, 7, channels), pictures[0])


def test_text_and_merge(tmp_path):
    both = tw.summary.merge([tw.summary.scalar("a", 1.0), tw.summary.scalar("b", 2.0)])
    with tw.summary.FileWriter(tmp_path) as writer:
        writer.add(both, 0)
        writer.add(tw.summary.text("note", "**bold**"), 0)
    found = _read(tmp_path)
    assert set(found.Tags()["scalars"]) == {"a", "b"} and found.Tags()["tensors"] == ["note"]
    with pytest.raises(ValueError, match="two summaries are tagged 'a'"):
        tw.summary.merge([tw.summary.scalar("a", 1.0), tw.summary.scalar("a", 2.0)])


def test_a_programs_graph(tmp_path):
    @tw.function
    def f(x):
        return tw.cond(tw.sum(x) > 0, lambda: tw.exp(x), lambda: x)

    with tw.summary.FileWriter(tmp_path, f.program(np.ones((3,), np.float32)).module):
        pass
    graph = _read(tmp_path).Graph()
    nodes = {n.name: n for n in graph.node}
    assert len(nodes) == len(graph.node), "names are unique"
    assert any(n.op == "exp" and n.name.startswith("cond/on_true/") for n in graph.node)
    for node in graph.node:
        for source in node.input:
            assert source.removeprefix("^").partition(":")[0] in nodes


def test_errors(tmp_path):
    with pytest.raises(tw.TypeInferenceError, match=r"takes one number, got f32\[3\]"):
        tw.summary.scalar("a", np.ones((3,), np.float32))
    with pytest.raises(tw.TypeInferenceError, match="no current graph"):
        tw.summary.merge_all()
    writer = tw.summary.FileWriter(tmp_path)
    with pytest.raises(TypeError, match="takes a summary that was fetched"):
        writer.add(3.0)
    writer.close()
    writer.close()
    with pytest.raises(ValueError, match="is closed"):
        writer.add(tw.summary.scalar("a", 1.0))
