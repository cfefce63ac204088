"""tw.function: what makes it trace, what it returns, methods, threads, errors."""

from __future__ import annotations

import gc
import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from thalweg.dialects.diagnostics import ExecutionError, LeakedTensorError, TracingError
from thalweg.frontend import array as xp
from thalweg.frontend.function import MANY_TRACES, Function, function
from thalweg.frontend.spec import spec
from thalweg.frontend.tensor import EagerTensor, TracedTensor
from thalweg.frontend.variable import Variable

LEVEL = 1.0


def counted(f, *calls):
    """How many traces these calls take, each a tuple of arguments."""
    traced = function(f)
    for call in calls:
        traced(*call)
    return traced.trace_count


def test_traces_once_per_shape_and_dtype():
    x = xp.ones((2,))
    assert counted(lambda x: x + 1, (x,), (x * 2,), (np.ones(2, np.float32),)) == 1
    assert counted(lambda x: x + 1, (x,), (xp.ones((3,)),), (xp.ones((2,), dtype="int32"),), (x,)) == 3


def test_traces_once_per_structure():
    x = xp.ones((2,))
    assert counted(lambda t: xp.add(*t.values()), ({"a": x, "b": x},), ({"a": x, "b": x * 2},)) == 1
    assert counted(lambda t: t[0], ((x, x),), ([x, x],), ((x, None),)) == 3


def test_python_numbers_are_data():
    f = function(lambda x, n: x * n)
    x = xp.ones((2,))
    assert [f(x, n).tolist() for n in (1, 2, 3)] == [[1, 1], [2, 2], [3, 3]]
    assert f.trace_count == 1
    assert f(x, 0.5).tolist() == [0.5, 0.5]
    assert f.trace_count == 2, "a float is another kind of data than an int"
    assert function(lambda n: n)(3).dtype.name == "int32"
    assert function(lambda n: n)(2.5).dtype.name == "float32"


def test_defaults_that_are_scalars_make_options():
    @function
    def f(x, scale=2.0, *, name="none", training=False):
        assert isinstance(scale, float) and isinstance(training, bool) and isinstance(name, str)
        return x * scale if training else x

    x = xp.ones((1,))
    assert f(x, training=True).tolist() == f(x, 2.0, training=True).tolist() == [2]
    assert f(x).tolist() == [1]
    assert f(x, 3.0, training=True).tolist() == [3]
    assert f.trace_count == 3


def test_an_option_may_be_given_an_array():
    @function
    def f(x, scale=2.0):
        return x * scale

    assert [f(xp.ones((1,)), xp.asarray(s)).tolist() for s in (3.0, 4.0)] == [[3], [4]]
    assert f.trace_count == 1


def test_static_names():
    @function(static=("shape", "act"))
    def f(x, shape, act):
        return act(xp.reshape(x, shape))

    x = xp.ones((4,))
    assert f(x, (2, 2), xp.negative).tolist() == [[-1, -1], [-1, -1]]
    assert f(x, [4], xp.abs).shape == (4,)
    f(x, (2, 2), xp.negative)
    assert f.trace_count == 2


def test_one_and_true_are_different_options():
    f = function(lambda x, n: x * int(n), static=("n",))
    for n in (1, True, 1.0):
        f(xp.ones((1,)), n)
    assert f.trace_count == 3


@dataclass
class Level:
    LEVEL: Any


@dataclass
class Batch:
    images: Any
    labels: Any


def test_nested_structures_in_and_out():
    @function
    def f(batch, pair):
        return {"batch": Batch(batch.images + 1, batch.labels), "rest": [pair[0], (None, "text", 7)]}

    result = f(Batch(xp.ones((2,)), np.arange(2)), (xp.zeros((1,)), None))
    assert isinstance(result["batch"], Batch)
    assert result["batch"].images.tolist() == [2, 2]
    assert result["batch"].labels.tolist() == [0, 1]
    assert result["rest"][1] == (None, "text", 7), "what is no tensor is returned as it was"


def test_closures_and_globals_that_change_are_traced_again():
    scale = 2.0
    weights = xp.ones((2,))

    @function
    def f(x):
        return x * scale * LEVEL + weights

    x = xp.ones((2,))
    assert f(x).tolist() == [3, 3]
    scale = 3.0
    assert f(x).tolist() == [4, 4]
    scale = 2.0
    assert f(x).tolist() == [3, 3]
    assert f.trace_count == 2, "both programs are kept"
    weights = xp.zeros((2,))
    assert f(x).tolist() == [2, 2]
    globals()["LEVEL"] = 10.0
    try:
        assert f(x).tolist() == [20, 20]
    finally:
        globals()["LEVEL"] = 1.0


def test_an_attribute_is_not_the_global_of_that_name():
    f = function(lambda layer: layer.LEVEL * 2)
    x = Level(xp.ones((2,)))
    for level in (1.0, 2.0, 1.0):
        globals()["LEVEL"] = level
        f(x)
    assert f.trace_count == 1


def test_globals_of_nested_functions_are_watched():
    def f(x):
        def scaled(x):
            return x * LEVEL

        return scaled(x)

    traced = function(f)
    assert float(traced(xp.asarray(1.0))) == 1
    globals()["LEVEL"] = 5.0
    try:
        assert float(traced(xp.asarray(1.0))) == 5
    finally:
        globals()["LEVEL"] = 1.0


def test_a_closure_that_the_function_itself_changes():
    count = 0

    @function
    def f(x):
        nonlocal count
        count += 1
        return x

    for _ in range(3):
        f(xp.ones((1,)))
    assert count == 1


def test_variables_are_shared_by_reference():
    w = Variable(np.ones(2, np.float32), name="shared")
    f = function(lambda x: x * w)
    assert f(xp.ones((2,))).tolist() == [1, 1]
    w.assign([2.0, 3.0])
    assert f(xp.ones((2,))).tolist() == [2, 3]
    assert f.trace_count == 1


def test_variables_as_arguments():
    f = function(lambda w, x: w.assign_add(x).value)
    a, b = Variable(1.0, name="a"), Variable(10.0, name="b")
    assert [float(f(v, xp.asarray(1.0))) for v in (a, b, a)] == [2, 11, 3]
    assert f.trace_count == 2


def test_big_captured_arrays():
    table = xp.asarray(np.arange(1000, dtype=np.float32))
    f = function(lambda i: table[i])
    assert float(f(np.int32(7))) == 7


def test_captured_numpy_arrays_are_as_they_were_when_traced():
    table = np.arange(1000, dtype=np.float32)
    f = function(lambda i: xp.take(table, i, axis=0) + xp.sum(table) * 0 + xp.asarray(table)[i] * 0)
    assert float(f(np.int32(7))) == 7
    table[7] = 100
    assert float(f(np.int32(7))) == 7
    shared = xp.asarray(np.arange(1000, dtype=np.float32))
    program = function(lambda i: shared[i] + shared[i + 1]).program(np.int32(7))
    assert len(program.constants) == 1 and program.constants[0] is shared.data, "tensors are not copied"


def test_nested_functions_become_calls():
    inner = function(lambda x, scale=1.0: {"y": x * scale})
    outer = function(lambda x: inner(x, scale=3.0)["y"] + inner(x)["y"])
    assert outer(xp.ones((2,))).tolist() == [4, 4]
    assert outer.ir("tw", xp.ones((2,))).count('"tw.call"') == 2
    assert inner.trace_count == 0


class Model:
    def __init__(self, scale):
        self.scale = scale

    @function
    def __call__(self, x):
        return x * self.scale

    @function(static=("n",))
    def power(self, x, n):
        return x**n * self.scale


def test_methods_have_a_cache_per_instance():
    double, triple = Model(2.0), Model(3.0)
    x = xp.ones((2,))
    assert (double(x).tolist(), triple(x).tolist()) == ([2, 2], [3, 3])
    assert double.power(x * 2, 3).tolist() == [16, 16]
    assert double.power is double.power
    assert double.__call__.trace_count == 1
    assert isinstance(Model.power, Function)
    assert double.power.name == "Model.power"


def test_methods_do_not_keep_their_instance():
    model = Model(2.0)
    model(xp.ones((1,)))
    reference = weakref.ref(model)
    del model
    gc.collect()
    assert reference() is None


def test_methods_of_classes_with_slots():
    class Slotted:
        __slots__ = ()

        @function
        def double(self, x):
            return x * 2

    with pytest.raises(TypeError, match=r"test_function.py:\d+:.*Slotted.double.*'__weakref__'"):
        Slotted().double(xp.ones((1,)))


def test_signature_is_a_contract():
    f = function(lambda x, y: x @ y, signature=[spec((None, 3)), spec((3, None))])
    assert f(xp.ones((2, 3)), xp.ones((3, 4))).shape == (2, 4)
    assert f(xp.ones((5, 3)), xp.ones((3, 1))).shape == (5, 1)
    for bad in [
        (xp.ones((2, 4)), xp.ones((3, 4))),
        (xp.ones((2, 3), dtype="int32"), xp.ones((3, 4))),
        (xp.ones((2, 3)),),
    ]:
        with pytest.raises((ExecutionError, TypeError), match=r"test_function.py:\d+:"):
            f(*bad)


def test_ir_from_specs():
    f = function(lambda x: x + 1)
    text = f.ir("tw", spec((2, 3)))
    assert "tensor<2x3xf32>" in text and '"tw.add"' in text
    assert f(xp.ones((2, 3))).tolist() == [[2, 2, 2]] * 2
    assert f.trace_count == 1
    assert "tensor<4xf32>" in function(lambda x: x, signature=[spec((4,))]).ir("tw")


def test_an_exception_while_tracing_leaves_the_function_usable():
    fail = True

    @function
    def f(x):
        if fail:
            raise ZeroDivisionError
        return x + 1

    with pytest.raises(ZeroDivisionError):
        f(xp.ones((2,)))
    fail = False
    assert f(xp.ones((2,))).tolist() == [2, 2]


def test_leaks():
    kept = []
    f = function(lambda x: kept.append(x * 2) or x)
    f(xp.ones((2,)))
    assert isinstance(kept[0], TracedTensor)
    for use in (lambda: kept[0] + 1, lambda: f(kept[0]), lambda: function(lambda: kept[0])(), lambda: xp.sum(kept[0])):
        with pytest.raises(LeakedTensorError, match=r"test_function.py:\d+:.*lambda\(\)"):
            use()


def test_many_threads_trace_once():
    f = function(lambda x: xp.sum(x * 2))
    start, results = threading.Barrier(8), []

    def work():
        start.wait()
        for _ in range(5):
            results.append(float(f(xp.ones((3,)))))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert results == [6.0] * 40
    assert f.trace_count == 1


def test_tracing_in_one_thread_does_not_concern_another():
    inside, go_on, seen = threading.Event(), threading.Event(), []

    @function
    def f(x):
        inside.set()
        assert go_on.wait(30)
        return x + 1

    thread = threading.Thread(target=lambda: seen.append(f(xp.ones((1,)))))
    thread.start()
    assert inside.wait(30)
    assert isinstance(xp.ones((1,)) + 1, EagerTensor)
    go_on.set()
    thread.join(30)
    assert seen[0].tolist() == [2]


def test_too_many_traces_are_told():
    f = function(lambda x: x)
    with pytest.warns(RuntimeWarning, match=rf"test_function.py:\d+:.*traced {MANY_TRACES} times.*explain"):
        for size in range(MANY_TRACES):
            f(np.zeros(size, np.float32))


@pytest.mark.parametrize(("call", "error"), [
    (lambda: function(lambda x: x)(object()), TracingError), (lambda: function(lambda x: x)({1, 2}), TracingError),
    (lambda: function(lambda x: x)(), TypeError), (lambda: function(3), TypeError),
    (lambda: function(lambda x: x, static=("y",)), TypeError),
])  # fmt: skip
def test_misuse(call, error):
    with pytest.raises(error, match=r"test_function.py:\d+:"):
        call()


def test_it_looks_like_the_function():
    @function(name="better")
    def f(x):
        """Documented."""

    assert (f.__name__, f.__doc__, f.name) == ("f", "Documented.", "better")
    assert repr(f).startswith("<tw.function better at ")
    assert function(f).fn is f.fn


def test_functions_of_any_number_of_arrays():
    """Each number is a kind of call of its own; options and Python numbers beside them count, too."""
    traced = []

    @function
    def total(x, *others, scale=2.0):
        traced.append(len(others))
        return xp.sum(x) * scale + sum((xp.sum(y) for y in others), 0.0)

    ones = np.ones(3, np.float32)
    for count in (0, 1, 3, 1, 0, 3):
        assert float(total(ones, *[ones] * count)) == 6 + 3 * count
    assert traced == [0, 1, 3]
    assert float(total(ones, ones, scale=5.0)) == 18
    assert float(total(ones, 2.0)) == 8
    with pytest.raises(TypeError, match="keyword"):
        total(ones, other=ones)
