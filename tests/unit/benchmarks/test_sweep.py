"""The sweep's rows have names of their own, and its summary counts them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import thalweg as tw
from benchmarks.sweep import summary, workloads
from benchmarks.sweep_names import thalweg_names
from benchmarks.sweep_rows import data, rows


def test_rows_have_names_of_their_own() -> None:
    names = Counter(workload.name for _, workload in workloads())
    assert len(names) >= 300
    assert not [name for name, count in names.items() if count > 1]


@pytest.mark.parametrize("dtype", ["f64", "f32", "f16", "bf16", "i32", "i64", "u8", "bool"])
def test_arguments_are_the_same_for_all(dtype: str) -> None:
    make = data((3, 4), (4,), dtype=dtype)
    for one, other in zip(make(), make(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_program_is_a_function_of_a_namespace() -> None:
    row = next(row for row in rows() if row.name == "sum f32 small")
    (x,) = row.arguments()
    np.testing.assert_allclose(np.asarray(row.program(thalweg_names(), tw.asarray(x))), x.sum(-1), rtol=1e-5)


def test_the_summary() -> None:
    text = summary([{"ratio": 2.0}, {"ratio": 0.5}, {"ratio": float("nan")}])
    assert text == "2 rows: 1 at 1.0x, 1 at 0.95x, 1 at 0.9x, 2 at 0.5x or better; geometric mean 1.00x"
