"""Traces of steps, and the file that Perfetto opens."""

from __future__ import annotations

import itertools
import json

import pytest

from thalweg.runtime.plan import Node
from thalweg.runtime.tracing import Trace, clock_offset, current, trace_steps

PS, WORKER = "/job:ps/task:0/device:CPU:0", "/job:worker/task:0/device:CPU:0"


def _two_tasks() -> Trace:
    made = Trace()
    made.ran(PS, Node(0, "cluster", "read", where="m.py:3:"), 1000, 3000)
    made.ran(PS, Node(1, "dequeue", "wait"), 2000, 9000)
    made.ran(PS, Node(2, "send", "send_0", {"edge": "w"}), 3000, 3100)
    made.moved(PS, WORKER, "w", 400, 3050)
    made.counted(PS, "queue", 7, 4000)
    remote = Trace()  # its clock is 1 ms ahead
    remote.ran(WORKER, Node(0, "recv", "recv_0", {"edge": "w"}), 1_003_000, 1_005_000)
    made.add(remote.to_wire(), offset=1_000_000)
    return made


def test_the_file(tmp_path):
    made = _two_tasks()
    made.write(tmp_path / "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    ran = {e["name"]: e for e in events if e["ph"] == "X"}
    assert ran["read"]["ts"] == 0.0 and ran["read"]["dur"] == 2.0 and ran["read"]["args"]["at"] == "m.py:3:"
    assert ran["recv w"]["ts"] == 2.0, "on the clock of the task that made the trace"
    assert ran["read"]["tid"] != ran["wait"]["tid"], "what overlaps has lanes of its own"
    assert ran["read"]["tid"] == ran["send w"]["tid"]
    assert ran["recv w"]["pid"] != ran["read"]["pid"], "a task is a process"
    (start,) = [e for e in events if e["ph"] == "s"]
    (end,) = [e for e in events if e["ph"] == "f"]
    assert start["id"] == end["id"] and start["args"]["bytes"] == 400
    for arrow, event in ((start, ran["send w"]), (end, ran["recv w"])):
        assert (arrow["pid"], arrow["tid"]) == (event["pid"], event["tid"])
        assert event["ts"] <= arrow["ts"] < event["ts"] + event["dur"], "Perfetto ties an arrow to what it lies within"
    times = [e["ts"] for e in events if e["ph"] != "M"]
    assert times == sorted(times)
    assert next(e for e in events if e["ph"] == "C")["args"] == {"": 7}
    names = {e["args"]["name"] for e in events if e["ph"] == "M"}
    assert {"/job:ps/task:0", "/job:worker/task:0", "/device:CPU:0", "/device:CPU:0 +1"} <= names


def test_lanes_never_overlap(tmp_path):
    made = Trace()
    for i in range(50):
        made.ran(PS, Node(i, "op", f"n{i}"), i * 10, i * 10 + (i * 37) % 100)
    made.write(tmp_path / "t.json")
    by_lane: dict[int, list[tuple[float, float]]] = {}
    for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"]:
        if e["ph"] == "X":
            by_lane.setdefault(e["tid"], []).append((e["ts"], e["ts"] + e["dur"]))
    for spans in by_lane.values():
        spans.sort()
        assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(spans))


def test_each_value_of_an_edge_has_an_arrow_of_its_own(tmp_path):
    made = Trace()
    for turn in range(3):  # of a loop: all recvs wait already
        made.ran(WORKER, Node(1, "recv", "recv_0", {"edge": "w"}), 0, 2000 + turn * 1000)
        made.ran(PS, Node(0, "send", "send_0", {"edge": "w"}), 1000 + turn * 1000, 1500 + turn * 1000)
        made.moved(PS, WORKER, "w", 4, 1100 + turn * 1000)
    made.write(tmp_path / "t.json")
    ends = [e for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"] if e["ph"] == "f"]
    assert [e["tid"] % 1000 for e in sorted(ends, key=lambda e: e["id"])] == [0, 1, 2]


def test_times_keep_their_nanoseconds(tmp_path):
    made = Trace()
    made.ran(PS, Node(0, "op", "first"), 1_795_267_563_456_000_001, 1_795_267_563_456_000_002)
    made.ran(PS, Node(1, "op", "second"), 1_795_267_563_456_000_003, 1_795_267_563_456_000_004)
    made.write(tmp_path / "t.json")
    written = json.loads((tmp_path / "t.json").read_text())
    assert [e["ts"] for e in written["traceEvents"] if e["ph"] == "X"] == [0.0, 0.002]
    assert written["otherData"]["began"].startswith("2026-11-21 13:26:03")


def test_bytes_per_edge():
    made = _two_tasks()
    made.moved(PS, WORKER, "w", 400, 5000)
    assert made.bytes_per_edge() == {"w": 800}


def test_one_at_a_time(tmp_path):
    assert current() is None
    with trace_steps(tmp_path / "t.json") as made:
        assert current() is made
        with pytest.raises(RuntimeError, match="is being made already"), trace_steps():
            pass
    assert current() is None and (tmp_path / "t.json").exists()


@pytest.mark.parametrize(
    ("received", "replied", "offset"),
    [
        (60, 80, 0),  # 20 ahead, known to 40
        (1060, 1080, 1020),
        (-940, -920, -980),
        (10, 90, 0),
        (31, 111, 21),  # what the task took of the time makes no error
    ],
)
def test_an_offset_within_its_error_is_none(received: int, replied: int, offset: int) -> None:
    assert clock_offset(0, 100, received, replied) == offset
