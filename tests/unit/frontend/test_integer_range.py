"""Python integers beside integer tensors: those that do not fit are errors, eager as well as traced, and never wrap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects.diagnostics import TypeInferenceError

TOO_BIG: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "int8 + 300": (np.int8, lambda x: x + 300),
    "300 + int8": (np.int8, lambda x: 300 + x),
    "int8 - 129": (np.int8, lambda x: x - 129),
    "uint8 < -1": (np.uint8, lambda x: x < -1),
    "int32 + 2**40": (np.int32, lambda x: x + 2**40),
    "where": (np.int16, lambda x: tw.where(x > 0, x, 40_000)),
}


@pytest.mark.parametrize("name", TOO_BIG)
def test_a_number_that_does_not_fit_is_an_error(name: str) -> None:
    dtype, compute = TOO_BIG[name]
    x = tw.asarray(np.ones(2, dtype))
    for run in (compute, tw.function(compute)):
        for _ in range(2):  # not only at the first call of a kind
            with pytest.raises(TypeInferenceError, match=r"test_integer_range\.py:\d+.*outside the range"):
                run(x)


def test_numbers_that_fit_do_not_compile_anew_for_each_value() -> None:
    from thalweg.frontend.program import eager_programs

    x = tw.asarray(np.zeros(2, np.int32))
    assert [int((x + n)[0]) for n in (1, 127, 128, 255, 256, 40_000, -1, -128, -129)] == [
        1, 127, 128, 255, 256, 40_000, -1, -128, -129,
    ]
    before = len(eager_programs())
    for number in range(300, 400):
        assert int((x + number)[1]) == number
    assert len(eager_programs()) == before


def test_floats_take_any_integer_and_indices_any_position() -> None:
    x = tw.asarray(np.full(1000, 2, np.float32))
    assert float((x * 100_000)[999]) == 200_000
    assert int(tw.asarray(np.arange(500, dtype=np.int16))[400]) == 400
    assert int(tw.take(tw.asarray(np.ones(600, np.uint8)), 599)) == 1
