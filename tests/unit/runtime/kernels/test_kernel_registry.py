"""Kernels are found by the op's name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime import kernels
from thalweg.runtime.kernels import Call, Done, async_kernel, find, kernel, registered
from thalweg.runtime.kernels.comm import upper_halves, widened
from thalweg.runtime.plan import DEAD, Node
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step


@pytest.fixture
def clean() -> Iterator[None]:
    """Takes the kernels of a test away again."""
    registered()
    before = dict(kernels._registry.kernels)
    yield
    kernels._registry.kernels.clear()
    kernels._registry.kernels.update(before)


def test_a_kernel_is_inline_or_blocking_or_asynchronous(clean: None) -> None:
    @kernel("test_inline")
    def inline(call: Call) -> tuple[int]:
        return (1,)

    @kernel("test_blocking", blocking=True)
    def blocking(call: Call) -> tuple[int]:
        return (2,)

    @async_kernel("test_later")
    def later(call: Call, done: Done) -> None:
        done([3])

    assert (find("test_inline").run, find("test_inline").blocking) == (inline, False)
    assert (find("test_blocking").run, find("test_blocking").blocking) == (blocking, True)
    assert (find("test_later").start, find("test_later").run) == (later, None)


def test_an_op_has_one_kernel(clean: None) -> None:
    with pytest.raises(ValueError, match="a kernel for 'send' is registered already"):
        kernel("send")(lambda call: ())
    with pytest.raises(ValueError, match="a kernel for 'send' is registered already"):
        async_kernel("send")(lambda call, done: None)


def test_an_unknown_op_is_told_with_the_nearest() -> None:
    with pytest.raises(StepError, match="no kernel runs the op 'sned'; did you mean 'send'"):
        find("sned")


def test_a_call_shows_its_node() -> None:
    step = Step(1, Resources(), LocalRendezvous())
    call = Call(Node(0, "op", "name", {"a": 1}), [2], step, "/device:CPU:0", "loop/1")
    assert (call.attrs, call.inputs, call.device, call.tag) == ({"a": 1}, [2], "/device:CPU:0", "loop/1")


@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_sixteen_bits_keep_sign_exponent_and_seven_bits(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32) * np.float32(1e20)
    y = widened(upper_halves(x))
    assert upper_halves(x).dtype == np.uint16 and y.dtype == np.float32 and y.shape == shape
    np.testing.assert_allclose(y, x, rtol=2**-7)
    special = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0], np.float32)
    np.testing.assert_array_equal(widened(upper_halves(special)), special)


def test_there_is_one_dead_value_in_every_process() -> None:
    import pickle

    assert pickle.loads(pickle.dumps(DEAD)) is DEAD and repr(DEAD) == "DEAD"
