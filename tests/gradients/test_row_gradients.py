"""Every differentiable row against finite differences, on the samples that its row carries, to second order."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_checks import check

import thalweg.dialects.ops  # noqa: F401  (fills the table)
from thalweg.dialects.opdef import OpDef, Sample, rows
from thalweg.dialects.types import float64
from thalweg.passes.gradients import Rule, rule_of

NOT_TWICE = {"lgamma"}  # its derivative has none
ONCE = {"stop_gradient"}


def _cases() -> list:
    cases = []
    for row in rows():
        if not isinstance(rule_of(row), Rule) or row.regions:
            continue
        for number, sample in enumerate(row.samples):
            if any(a.dtype is None for a in sample.operands) and _stays_float(row, sample):
                cases.append(pytest.param(row, sample, id=f"{row.name}-{number}"))
    return cases


def _stays_float(row: OpDef, sample: Sample) -> bool:
    dtype = sample.attrs.get("dtype")
    return dtype is None or dtype == float64


@pytest.mark.parametrize(("row", "sample"), _cases())
def test_vjp_rule_agrees_with_finite_differences(row: OpDef, sample: Sample) -> None:
    rng = np.random.default_rng(3)
    arrays = [np.asarray(a.make(rng, float64)) for a in sample.operands]
    check(lambda *xs: row(*xs, **sample.attrs), arrays, orders=1 if row.name in NOT_TWICE else 2)
