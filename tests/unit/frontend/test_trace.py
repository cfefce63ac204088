"""Traces: captured arrays, locations, scopes, variables."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from thalweg.dialects import context
from thalweg.dialects.diagnostics import LeakedTensorError
from thalweg.dialects.location import where_of
from thalweg.dialects.types import TensorType, float32
from thalweg.dialects.verify import verify, walk
from thalweg.frontend import array as xp
from thalweg.frontend.trace import SMALL, Trace, current, suspended
from thalweg.frontend.variable import Variable

F32_2 = TensorType((2,), float32)


def names(program):
    return [op.name for op in walk(program.module.body)]


def test_a_program():
    trace = Trace("double it")
    assert current() is None
    with trace.recording():
        assert current() is trace
        x = trace.argument(F32_2)
        program = trace.finish([xp.add(x, x)])
    assert current() is None
    assert (program.name, program.inputs, program.outputs) == ("double it", (F32_2,), (F32_2,))
    assert names(program) == ["func.func", "tw.add", "func.return"]
    with context.entered():
        verify(program.module)
        assert "module @double_it" in str(program.module)


def test_every_op_carries_the_users_line():
    trace = Trace("f")
    with trace.recording():
        x = trace.argument(F32_2)
        line = inspect.currentframe().f_lineno + 1
        y = xp.tanh(x)
        program = trace.finish([y])
    (tanh,) = [op for op in walk(program.module.body) if op.name == "tw.tanh"]
    where = where_of(tanh.location)
    assert (where.file, where.line, where.function) == (__file__, line, "test_every_op_carries_the_users_line")


def test_small_arrays_become_constants_and_big_ones_arguments():
    small, big = xp.ones((SMALL // 4,)), xp.ones((SMALL // 4 + 1,))
    trace = Trace("f")
    with trace.recording():
        program = trace.finish([xp.negative(small), xp.negative(big), xp.abs(big)])
    assert names(program).count("tw.constant") == 1
    assert program.inputs == ()
    assert [c.shape for c in program.constants] == [big.shape], "the same array is one argument"
    assert program.constants[0] is big.data


def test_arrays_captured_as_inputs():
    x = xp.ones((2,))
    trace = Trace("f", capture="inputs")
    with trace.recording():
        program = trace.finish([xp.negative(x)])
    assert (program.inputs, program.constants) == ((F32_2,), ())


def test_a_closed_trace_takes_its_tensors_with_it():
    trace = Trace("f", label="f()")
    with trace.recording():
        x = trace.argument(F32_2)
    with pytest.raises(
        LeakedTensorError, match=r"test_trace.py:\d+:.*f32\[2\].*has escaped from f\(\), which has ended"
    ):
        xp.add(x, x)
    other = Trace("g")
    with other.recording(), pytest.raises(LeakedTensorError):
        xp.add(x, x)


def test_tensors_of_a_trace_that_is_open_elsewhere():
    outer, inner = Trace("outer", label="outer()"), Trace("inner")
    with outer.recording():
        x = outer.argument(F32_2)
        with inner.recording(), pytest.raises(LeakedTensorError, match=r"outer\(\), which is another trace"):
            xp.add(x, x)
        assert current() is outer


def test_suspended():
    trace = Trace("f")
    with trace.recording():
        with suspended():
            assert xp.add(xp.ones((2,)), 1.0).tolist() == [2, 2]
        program = trace.finish([])
    assert names(program) == ["func.func", "func.return"]


def test_variables_are_declared_once_and_accessed_in_order():
    w = Variable(np.zeros(2, np.float32), name="trace_w")
    trace = Trace("f")
    with trace.recording():
        before = w.value
        w.assign(before + 1)
        program = trace.finish([before, w.value])
    kinds = [n for n in names(program) if n in ("tw.variable_handle", "tw.read", "tw.assign")]
    assert kinds == ["tw.variable_handle", "tw.read", "tw.assign", "tw.read"]
    assert program.variables == (w,)


def test_an_exception_restores_the_thread():
    trace = Trace("f")
    with pytest.raises(ZeroDivisionError), trace.recording():
        xp.add(trace.argument(F32_2), 1)
        1 / 0  # noqa: B018
    assert current() is None
    assert xp.add(xp.ones((2,)), 1.0).tolist() == [2, 2]
