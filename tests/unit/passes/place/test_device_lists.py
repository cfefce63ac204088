"""Devices as the option of `place` names them."""

from __future__ import annotations

import pytest

from thalweg.dialects.diagnostics import PassError
from thalweg.passes.place.devices import parse_devices


@pytest.mark.parametrize(("text", "names"), [
    ("cpu:2", ["/device:CPU:0", "/device:CPU:1"]),
    ("cpu:1;gpu:1", ["/device:CPU:0", "/device:GPU:0"]),
    ("/job:ps/task:0..1/cpu:0", ["/job:ps/task:0/device:CPU:0", "/job:ps/task:1/device:CPU:0"]),
    ("/job:w/task:1..2/cpu:0..1 /device:CPU:3",
     [*(f"/job:w/task:{t}/device:CPU:{i}" for t in (1, 2) for i in (0, 1)), "/device:CPU:3"]),
    ("cpu:1;/device:CPU:0", ["/device:CPU:0"]),
])  # fmt: skip
def test_lists(text: str, names: list[str]) -> None:
    assert [str(d) for d in parse_devices(text)] == names


@pytest.mark.parametrize(("text", "message"), [
    ("", "'' is not a device"),
    ("cpu:0", "are none"),
    ("/job:ps/task:0", "names one in part only"),
    ("/job:ps/cpu:0", "names one in part only"),
    ("gpu", "names one in part only"),
    ("what?", "'what[?]' is not a device"),
    ("cpu:9999999", "more than 4096"),
    ("/job:w/task:5..2/cpu:0", "are none"),
])  # fmt: skip
def test_no_lists(text: str, message: str) -> None:
    with pytest.raises(PassError, match=message):
        parse_devices(text)
