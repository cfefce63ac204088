"""When each kernel of a call ran."""

from __future__ import annotations

import json

import numpy as np

import thalweg as tw
from thalweg.backends.cpu import timeline
from thalweg.compiler import driver
from thalweg.dialects import context


def _recorded(function, *arrays):
    with context.entered():
        module, _ = driver().to_stablehlo(tw.function(function).program(*arrays).module)
        return timeline.record(module, arrays, driver().cpu_options())


def test_launches_in_order(tmp_path):
    x = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    found = _recorded(lambda x: tw.tanh(x @ x) @ x, x)
    assert len(found.launches) >= 2 and found.dropped == 0
    assert found.launches[0].start == 0
    for one, next_ in zip(found.launches, found.launches[1:], strict=False):
        assert one.start < one.end <= next_.start
    assert 0.9 * found.seconds < found.launches[-1].end <= 1.01 * found.seconds
    timeline.write_timeline(found, tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert [e["name"] for e in events if e["ph"] == "X"] == [x.kernel for x in found.launches]


def test_a_long_loop_keeps_its_first_launches(monkeypatch):
    monkeypatch.setattr(timeline, "_MOST", 64)
    monkeypatch.setattr(timeline, "_KIND", "memref<193xi64>")
    x = np.ones((8, 8), np.float32)
    found = _recorded(lambda x: tw.while_loop(lambda i, v: i < 500, lambda i, v: (i + 1, tw.tanh(v @ v)), (0, x)), x)
    assert len(found.launches) == 64 and found.dropped > 400
