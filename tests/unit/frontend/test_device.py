"""Names of devices, and specs."""

from __future__ import annotations

import pytest

from thalweg.dialects.types import TensorType, float32, int32
from thalweg.frontend.array import ones
from thalweg.frontend.device import Device, device, parse_device
from thalweg.frontend.spec import TensorSpec, spec


@pytest.mark.parametrize(("name", "parsed"), [
    ("/device:CPU:0", Device("CPU", 0)), ("cpu", Device("CPU", 0)), ("GPU:3", Device("GPU", 3)),
    ("/job:ps/task:1", Device("CPU", 0, "ps", 1)), ("/job:w/task:0/device:CPU:2", Device("CPU", 2, "w", 0)),
])  # fmt: skip
def test_parsing(name, parsed):
    assert parse_device(name) == parsed
    assert parse_device(str(parsed)) == parsed


@pytest.mark.parametrize("name", ["", "/device:CPU:x", "/task:/", "a b"])
def test_no_device(name):
    with pytest.raises(ValueError, match=r"test_device.py:\d+:.*is not a device"):
        parse_device(name)


def test_with_device():
    with device("/device:CPU:0") as here:
        assert ones((2,)).device == here
    with pytest.raises(ValueError, match="there is no device '/device:CPU:1' here"), device("/device:CPU:1"):
        pass


def test_specs():
    open_ = spec((None, 3), int32)
    assert open_ == TensorSpec((None, 3), int32)
    assert repr(open_) == "spec(i32[?,3])"
    assert open_.accepts(TensorType((7, 3), int32))
    assert not any(
        open_.accepts(t) for t in (TensorType((3,), int32), TensorType((7, 3), float32), TensorType((7, 4), int32))
    )
    assert spec(4).type == TensorType((4,), float32)
    with pytest.raises(ValueError, match="leaves extents open"):
        _ = open_.type
    with pytest.raises(ValueError, match="counts or None"):
        spec((-1,))
