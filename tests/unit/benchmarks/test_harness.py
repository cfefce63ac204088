"""The benchmark harness tells failures and disagreements instead of timing them; our side of the workloads runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks.harness import Workload, measure
from benchmarks.workloads import WORKLOADS


def test_turns_medians_and_agreement() -> None:
    values = {"thalweg": 1.0, "jax": 1.0001, "torch": 2.0}
    workload = Workload("w", "", {name: lambda value=value: lambda: value for name, value in values.items()})
    ours, near, far = measure(workload, ["thalweg", "jax", "torch", "tensorflow"], rounds=3, budget=0.01)
    assert len(ours.rounds) == 3 and ours.median > 0 and ours.error is None and near.error is None
    assert far.error == "differs from thalweg"


def test_an_implementation_that_fails_is_a_line_not_the_end() -> None:
    def broken() -> None:
        raise RuntimeError("no such layer")

    workload = Workload("w", "", {"thalweg": lambda: lambda: 1.0, "jax": broken})  # type: ignore[dict-item]
    ours, theirs = measure(workload, ["thalweg", "jax"], rounds=1, budget=0.01)
    assert ours.rounds and theirs.error == "RuntimeError: no such layer"


@pytest.mark.parametrize("name", ["mlp-step", "mlp-infer-1", "layernorm", "scalar-add", "null-step-100", "while-1000"])
def test_our_side_runs(name: str) -> None:
    workload = next(w for w in WORKLOADS if w.name == name)
    value = workload.makers["thalweg"]()()
    assert value is None or np.isfinite(np.asarray(value)).all()
