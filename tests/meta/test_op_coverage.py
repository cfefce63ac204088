"""No op has an empty cell: what cannot be filled says why."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg.backends.stablehlo import rules  # noqa: F401  (fills the table)
from thalweg.backends.stablehlo.table import LOWERINGS
from thalweg.dialects import ops  # noqa: F401  (fills the table)
from thalweg.dialects.attributes import array_type
from thalweg.dialects.opdef import OpDef, Unsupported, rows
from thalweg.passes.gradients import VJP_RULES, NotDifferentiable

ROWS = list(rows())
COMPILED = [r for r in ROWS if r.runs == "compiled"]  # the others have a kernel in the runtime, see test_kernels.py


def _says_why(why: str) -> bool:
    return len(why.split()) >= 3


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_types_and_documentation(row: OpDef) -> None:
    assert (row.infer is None) != (row.infer_regions is None)
    assert row.doc.endswith(".") and len(row.doc) >= 10, "a sentence or two"
    assert row.dtypes, "dtypes of the first operand"
    assert set(row.defaults) <= set(row.attrs)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_reference_and_samples(row: OpDef) -> None:
    if isinstance(row.reference, Unsupported):
        assert _says_why(row.reference.why)
        return
    assert row.samples, "samples for conformance"
    assert len({str(s) for s in row.samples}) == len(row.samples), "a sample twice"
    for sample in row.samples:
        assert len(sample.operands) == len(row.operands) or row.variadic


@pytest.mark.parametrize("row", [r for r in ROWS if r.samples], ids=lambda r: r.name)
def test_reference_gives_the_inferred_types(row: OpDef) -> None:
    rng = np.random.default_rng(1)
    assert not isinstance(row.reference, Unsupported)
    for sample in row.samples:
        for dtype in row.dtypes:
            operands = [a.make(rng, dtype) for a in sample.operands]
            attrs = row.complete(sample.attrs)
            with np.errstate(all="ignore"):
                found = row.reference(*operands, **attrs)
            results = found if isinstance(found, tuple) else (found,)
            inferred = row.result_types([array_type(x) for x in operands], attrs)
            assert inferred == tuple(array_type(np.asarray(r)) for r in results), (dtype, sample)


@pytest.mark.parametrize("row", COMPILED, ids=lambda r: r.name)
def test_gradient(row: OpDef) -> None:
    assert row in VJP_RULES, "a rule, or NotDifferentiable(why), in passes/gradients/"
    rule = VJP_RULES[row]
    assert not isinstance(rule, NotDifferentiable) or _says_why(rule.why)


@pytest.mark.parametrize("row", COMPILED, ids=lambda r: r.name)
def test_stablehlo_lowering(row: OpDef) -> None:
    assert row in LOWERINGS, "a rule, or never(row, why), in backends/stablehlo/rules/"
    cell = LOWERINGS[row]
    assert not isinstance(cell, Unsupported) or _says_why(cell.why)
