"""Names of devices: what satisfies what, and how nested scopes add up."""

from __future__ import annotations

import pytest

from thalweg.dialects import context
from thalweg.dialects.devices import Device, parse
from thalweg.dialects.location import Where, moved, on_device, scope_of, where_of


@pytest.mark.parametrize(("device", "request_", "wanted"), [
    ("/device:CPU:1", "", True), ("/device:CPU:1", "cpu", True), ("/device:CPU:1", "cpu:0", False),
    ("/device:CPU:1", "/job:ps", False), ("/device:CPU:1", "/job:localhost/task:0", True),
    ("/job:ps/task:1/device:CPU:0", "/job:ps", True), ("/job:ps/task:1/device:CPU:0", "/job:ps/task:0", False),
    ("/job:ps/task:1/device:CPU:0", "/task:1/cpu:0", True), ("/job:ps/task:1/device:CPU:0", "gpu", False),
])  # fmt: skip
def test_what_satisfies_a_request(device: str, request_: str, wanted: bool) -> None:
    assert parse(device).satisfies(parse(request_) if request_ else Device()) == wanted


@pytest.mark.parametrize(("outer", "inner", "merged"), [
    ("/job:ps", "/task:1", "/job:ps/task:1"), ("/job:ps/task:1/cpu:0", "/job:worker", "/job:worker"),
    ("/job:ps/cpu:3", "gpu", "/job:ps/device:GPU"), ("/job:ps/task:0", "/job:ps/cpu:1", "/job:ps/task:0/device:CPU:1"),
])  # fmt: skip
def test_inner_scopes_win(outer: str, inner: str, merged: str) -> None:
    assert str(parse(outer).merge(parse(inner))) == merged


def test_a_location_moves_and_keeps_its_place() -> None:
    with context.entered():
        here = Where("m.py", 3, "f")
        there = moved(on_device(here.location(), "/job:ps"), "/device:CPU:1")
        assert (scope_of(there), where_of(there)) == ("/device:CPU:1", here)
        assert scope_of(moved(there, "")) == ""
