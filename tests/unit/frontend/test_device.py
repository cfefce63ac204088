"""Names of devices, and specs."""

from __future__ import annotations

import numpy as np
import pytest

import thalweg  # noqa: F401  (installs the compiler)
from thalweg.dialects.location import scope_of, where_of
from thalweg.dialects.types import TensorType, float32, int32
from thalweg.frontend.array import exp, ones
from thalweg.frontend.device import Device, check_device, current_scope, device, devices, parse_device
from thalweg.frontend.function import function
from thalweg.frontend.spec import TensorSpec, spec
from thalweg.frontend.variable import Variable
from thalweg.runtime.config import config


@pytest.mark.parametrize(("name", "parsed"), [
    ("/device:CPU:0", Device("CPU", 0)), ("cpu", Device("CPU")), ("GPU:3", Device("GPU", 3)),
    ("/job:ps/task:1", Device(None, None, "ps", 1)), ("/job:w/task:0/device:CPU:2", Device("CPU", 2, "w", 0)),
    ("/task:1", Device(None, None, None, 1)), ("/device:GPU:*", Device("GPU")),
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
    with pytest.raises(ValueError, match="there is no device '/device:CPU:1' here"):
        ones((2,), device="/device:CPU:1")


def test_scopes_nest():
    with device("/job:ps"):
        with device("/task:1"), device("cpu:0"):
            assert current_scope() == "/job:ps/task:1/device:CPU:0"
            with device("/job:worker"):
                assert current_scope() == "/job:worker"
            with device(None):
                assert current_scope() == ""
            with device("colocate:w"):
                assert current_scope() == "colocate:w"
                with device("gpu"):
                    assert current_scope() == "/job:ps/task:1/device:GPU"
        assert current_scope() == "/job:ps"
    assert current_scope() == ""


def test_what_matches():
    assert Device("GPU").matches(Device("GPU", 3, "w", 0))
    assert not Device("GPU").matches(Device("CPU", 0))
    assert Device("CPU", 0, "w", 1).is_full and not Device("CPU", 0, "w").is_full


def test_ops_carry_the_device_asked_for():
    @function
    def f(x):
        with device("/job:ps/task:0"):
            return exp(x)

    module = f.program(np.ones((2,), np.float32)).module
    op = next(o for o in module.body.operations[0].regions[0].blocks[0].operations if o.operation.name == "tw.exp")
    assert scope_of(op.location) == "/job:ps/task:0"
    where = where_of(op.location)
    assert where is not None and where.function == "f" and where.file == __file__


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


def test_virtual_devices():
    with config.override(virtual_cpus=3):
        assert devices() == [Device("CPU", 0), Device("CPU", 1), Device("CPU", 2)]
        assert check_device("cpu:2") == Device("CPU", 2)
        with pytest.raises(ValueError, match="there is no device '/device:CPU:3' here; this process has '/"):
            check_device("cpu:3")
    assert devices() == [Device("CPU", 0)]
    with pytest.raises(ValueError, match="at least 1"):
        config.set_virtual_devices(cpu=0)


def test_devices_of_other_tasks_are_not_here():
    with pytest.raises(ValueError, match="there is no device '/job:ps/task:0' here"):
        check_device("/job:ps/task:0")
    assert check_device("/job:localhost/task:0") == Device("CPU", 0)


def test_devices_of_variables_and_tensors():
    with config.override(virtual_cpus=2), device("cpu:1"):
        assert Variable(ones((2,))).device == Device("CPU", 1)
        assert exp(ones((2,))).device == Device("CPU", 0), "eager ops run at once, where the caller is"
    with device("/job:ps/task:1"):
        table = Variable(ones((2,)), name="table")
        assert table.device == Device(None, None, "ps", 1)
    with device(f"colocate:{table.name}"):
        assert Variable(ones((2,))).device == table.device
    assert Variable(ones((2,))).device == Device("CPU", 0)


def test_a_function_is_traced_for_the_devices_that_are_asked_for_around_its_call():
    @function
    def double(x):
        return x * 2

    x = np.ones(3, np.float32)
    double(x)
    with device("/job:nowhere"):
        told = double.explain(x)
        assert told.traces and told.changes == ("tw.device asked for nothing, asks for /job:nowhere",)
        double(x)
        assert double.explain(x).program == 2
        assert "/job:nowhere" in double.program(x).module.operation.get_asm(enable_debug_info=True)
    double(x)
    assert double.explain(x).program == 1
    assert "/job:nowhere" not in double.program(x).module.operation.get_asm(enable_debug_info=True)
