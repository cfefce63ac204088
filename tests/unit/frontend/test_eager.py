"""Eager computation: what is compiled, and how often."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.reference.compiler import ReferenceCompiler
from thalweg.dialects.ops import elementwise
from thalweg.frontend import array as xp
from thalweg.frontend import program
from thalweg.frontend.eager import emit, run_traced
from thalweg.frontend.variable import Variable


class Counting(ReferenceCompiler):
    """The reference compiler, which remembers what it compiled."""

    names: list[str] = []  # noqa: RUF012

    def compile(self, program):
        self.names.append(program.name)
        return super().compile(program)


@pytest.fixture
def compiled():
    Counting.names = []
    program.install(Counting)
    return Counting.names


def test_one_program_per_function_types_and_options(compiled):
    x = xp.ones((2, 3))
    for _ in range(3):
        xp.softmax(x)
        xp.sum(x, axis=0)
    assert compiled == ["softmax", "sum"], "a function of many ops is one program, compiled once"
    xp.sum(x, axis=1)
    xp.sum(x, axis=-1)
    xp.sum(xp.ones((2, 2)), axis=1)
    xp.sum(xp.ones((2, 3), dtype="float64"), axis=0)
    assert compiled == ["softmax", *["sum"] * 5]


def test_numbers_are_data(compiled):
    x = xp.ones((2,))
    assert [float((x * rate)[0]) for rate in (0.5, 0.25, 2.0)] == [0.5, 0.25, 2.0]
    assert compiled == ["multiply"]
    assert (x * 3).tolist() == [3, 3]
    assert compiled == ["multiply"] * 2, "an integer is another kind of data"


def test_options_of_equal_value_and_different_type_differ(compiled):
    x = xp.ones((2,))
    assert (x**2).dtype == (x**2.0).dtype
    assert len(compiled) == 2


def test_sequences_of_arrays(compiled):
    x = xp.ones((2, 1))
    for _ in range(2):
        assert xp.concat([x, x, x]).shape == (6, 1)
        assert xp.concat([x, x]).shape == (4, 1)
    assert compiled == ["concat", "concat"]


def test_variables_are_read_without_a_copy(compiled):
    w = Variable(np.ones(2, np.float32), name="w")
    assert (w + 1).tolist() == [2, 2]
    w.assign([5.0, 6.0])
    assert (w + 1).tolist() == [6, 7]
    assert compiled == ["add"]


def test_creation_and_indexing_run_no_program(compiled):
    x = xp.zeros((3, 4))
    assert x[1:, 0].shape == (2,)
    assert xp.arange(3).tolist() == [0, 1, 2]
    assert compiled == []


def test_single_ops(compiled):
    x = xp.asarray([1.0, 4.0])
    for _ in range(2):
        assert emit(elementwise.sqrt, x).tolist() == [1, 2]
        assert emit(elementwise.convert, x, dtype=xp.arange(1).dtype).tolist() == [1, 4]
    assert compiled == ["sqrt", "convert"]


def test_programs_traced_on_the_spot_are_compiled_once(compiled):
    for scale in (1.0, 2.0):
        x = xp.full((2,), scale)
        assert run_traced("double", lambda x=x: x * 2).tolist() == [2 * scale] * 2
    assert compiled == ["double"]


def test_errors_leave_nothing_behind(compiled):
    for _ in range(2):
        with pytest.raises(ValueError, match="do not broadcast"):
            xp.add(xp.ones((2,)), xp.ones((3,)))
    assert compiled == []
    assert xp.add(xp.ones((2,)), xp.ones((2,))).tolist() == [2, 2]
