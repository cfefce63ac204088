"""What a file that Perfetto opens must be like."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any


def check_file(path: Path) -> list[dict[str, Any]]:
    """The events of a trace file, which must keep the rules of the format."""
    events: list[dict[str, Any]] = json.loads(path.read_text())["traceEvents"]
    timed = [e for e in events if e["ph"] != "M"]
    assert [e["ts"] for e in timed] == sorted(e["ts"] for e in timed) and timed[0]["ts"] == 0.0
    named = {(e["pid"], e.get("tid")) for e in events if e["ph"] == "M"}
    slices: dict[tuple[int, int], list[tuple[float, float]]] = {}
    for e in timed:
        assert isinstance(e["pid"], int) and e["name"] and e["ph"] in "XCsf"
        if e["ph"] != "C":
            assert (e["pid"], e["tid"]) in named and (e["pid"], None) in named
        if e["ph"] == "X":
            assert e["dur"] >= 0
            slices.setdefault((e["pid"], e["tid"]), []).append((e["ts"], e["ts"] + e["dur"]))
    for e in timed:
        if e["ph"] in "sf":
            assert any(a <= e["ts"] <= b for a, b in slices[e["pid"], e["tid"]]), "an arrow ends in mid-air"
    ends = Counter((e["id"], e["ph"]) for e in timed if e["ph"] in "sf")
    assert all(count == 1 for count in ends.values()) and {i for i, ph in ends if ph == "s"} == {i for i, _ in ends}
    return events
