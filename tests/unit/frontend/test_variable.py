"""Variables, eager and in traced functions."""

from __future__ import annotations

import gc

import numpy as np
import pytest

from thalweg.dialects.diagnostics import TracingError, TypeInferenceError
from thalweg.frontend import array as xp
from thalweg.frontend.function import function
from thalweg.frontend.variable import ALIGNMENT, Variable


def test_reading_and_assigning():
    w = Variable([1.0, 2.0], name="reading")
    before = w.value
    assert w.assign_add(1.0) is w
    w.assign_sub([0.5, 0.5])
    assert (w.value.tolist(), before.tolist()) == ([1.5, 2.5], [1, 2]), "a value read does not change"
    w.assign(xp.zeros((2,)))
    assert w.numpy().tolist() == np.asarray(w).tolist() == [0, 0]


def test_the_buffer_stays_and_is_aligned():
    for size in (1, 3, 1000):
        w = Variable(np.ones(size, np.float32))
        address = w.buffer.ctypes.data
        assert address % ALIGNMENT == 0
        w.assign(np.zeros(size, np.float32))
        assert w.buffer.ctypes.data == address
    assert Variable(np.float32(3)).shape == ()


def test_names_are_unique_while_in_use():
    first = Variable(0.0, name="unique")
    assert Variable(0.0, name="unique").name == "unique_1", "dropped at once"
    second = Variable(0.0, name="unique")
    assert (first.name, second.name) == ("unique", "unique_1")
    del first
    gc.collect()
    assert Variable(0.0, name="unique").name == "unique"


def test_operators_and_functions_take_variables():
    w = Variable([[1.0, 2.0]], name="operand")
    assert (w + 1).tolist() == [[2, 3]]
    assert (2 * w).tolist() == [[2, 4]]
    assert (w @ w.T).tolist() == [[5]]
    assert w[0, 1].tolist() == 2
    assert xp.sum(w).tolist() == 3
    assert (w == w).tolist() == [[True, True]]
    assert xp.concat([w, w]).shape == (2, 2)
    assert w.at[0, 0].set(5).tolist() == [[5, 2]]
    assert float(Variable(2.5)) == 2.5


def test_dtype_shape_and_initial_function():
    w = Variable(lambda: np.ones((2, 3)), dtype="bfloat16", name="made", trainable=False)
    assert (w.shape, w.dtype.name, w.ndim, w.size, w.trainable) == ((2, 3), "bfloat16", 2, 6, False)
    assert repr(w).startswith("Variable('made', bf16[2,3]")


@pytest.mark.parametrize("value", [xp.ones((3,)), xp.ones((1, 2))])
def test_shapes_must_fit(value):
    with pytest.raises(TypeInferenceError, match="Reshape the value"):
        Variable([1.0, 2.0], name="v").assign(value)


def test_values_broadcast_and_convert_but_never_to_a_lower_kind():
    w = Variable(np.zeros((2, 2), np.float32), name="converted")
    w.assign(3)
    w.assign_add(np.array([1, 2], np.int64))
    w.assign_add(np.float64(0.5))
    assert w.value.tolist() == [[4.5, 5.5], [4.5, 5.5]]
    counter = Variable(np.zeros((), np.int32), name="counter")
    counter.assign_add(np.int64(1))
    with pytest.raises(TypeInferenceError, match="Convert the value with"):
        counter.assign(0.5)


def test_state_of_traced_functions():
    w = Variable(0.0, name="count")

    @function
    def step(x):
        w.assign_add(x)
        first = w.value
        w.assign(w * 2)
        return first, w.value

    assert [float(v) for v in step(xp.asarray(1.0))] == [1, 2]
    assert [float(v) for v in step(xp.asarray(1.0))] == [3, 6]
    assert float(w) == 6
    assert step.trace_count == 1
    w.assign(0.0)
    assert [float(v) for v in step(xp.asarray(5.0))] == [5, 10]


def test_a_returned_variable_is_its_value():
    w = Variable([1.0], name="returned")
    assert function(lambda: w)().tolist() == [1]
    assert function(lambda: {"w": w.assign_add(1.0)})()["w"].tolist() == [2]


def test_made_inside_a_traced_function():
    with pytest.raises(TracingError, match="Variables outlive calls"):
        function(lambda x: Variable(x).value)(xp.ones((2,)))
    made = []
    f = function(lambda x: (made.append(Variable(np.ones(2), name="inner")), x + made[0])[1])
    assert f(xp.ones((2,))).tolist() == [2, 2]
