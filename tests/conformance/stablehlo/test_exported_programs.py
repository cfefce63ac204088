"""Programs that JAX exported, committed as text: read, compiled and interpreted here, against JAX's own results."""

from __future__ import annotations

import pytest
from foreign import compare, load, names, run_interpreted, run_native

# What StableHLO's reference interpreter cannot run.
NOT_INTERPRETED = {
    "batched_linear_algebra": "no cholesky",
    "cholesky": "no cholesky",
    "integer_division": "division by zero kills the process",
    "uint32": "division by zero kills the process",
    "random_bit_generator": "no rng_bit_generator",
}


def test_exceptions_exist() -> None:
    assert set(NOT_INTERPRETED) <= set(names())


@pytest.mark.parametrize("name", names())
def test_native(name: str) -> None:
    module, arguments, results = load(name)
    compare(run_native(module, arguments), results)


@pytest.mark.parametrize("name", [name for name in names() if name not in NOT_INTERPRETED])
def test_interpreted(name: str) -> None:
    module, arguments, results = load(name)
    compare(run_interpreted(module, arguments), results)
