"""Ops that run on the host: their kernels against the NumPy references, on the rows' samples and on random operands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from op_programs import Case, cases, compare

from thalweg.dialects.diagnostics import StepError
from thalweg.dialects.opdef import Unsupported, find
from thalweg.dialects.types import float32
from thalweg.runtime import kernels
from thalweg.runtime.kernels import Call
from thalweg.runtime.plan import Node
from thalweg.runtime.rendezvous import LocalRendezvous
from thalweg.runtime.resources import Resources
from thalweg.runtime.step import Step

OPEN = 1 << 50  # an extent that is not known when a program is built


def run(op: str, inputs: Sequence[Any], **attrs: Any) -> list[np.ndarray]:
    """What the kernel of an op gives."""
    kernel = kernels.find(op)
    assert kernel.run is not None
    step = Step(0, Resources(), LocalRendezvous())
    return list(kernel.run(Call(Node(0, op, op, find(op).complete(attrs)), inputs, step)))


@pytest.mark.parametrize("case", [c for c in cases() if c.row.runs == "host"], ids=str)
def test_samples(case: Case) -> None:
    found = []
    for operands, attrs in zip(case.inputs(), case.attrs(), strict=True):
        before = [x.copy() for x in operands]
        found += run(case.row.name, operands, **attrs)
        assert all(np.array_equal(x, y) for x, y in zip(before, operands, strict=True)), "operands are left alone"
    compare(case, found)


def expect(op: str, inputs: Sequence[np.ndarray], **attrs: Any) -> None:
    """Kernel and reference agree."""
    reference = find(op).reference
    assert not isinstance(reference, Unsupported)
    wanted = reference(*inputs, **find(op).complete(attrs))
    for got, want in zip(run(op, inputs, **attrs), wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(20))
def test_random_operands(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, count, width = int(rng.integers(0, 200)), int(rng.integers(1, 6)), int(rng.integers(1, 5))
    data = rng.normal(size=(n, width)).astype(np.float32)
    partitions = rng.integers(0, count, n).astype(np.int32)
    extents = (OPEN,) * count
    expect("dynamic_partition", [data, partitions], extents=extents)
    pieces = run("dynamic_partition", [data, partitions], extents=extents)
    expect("merge_partitions", [partitions, *pieces], extents=extents)
    np.testing.assert_array_equal(run("merge_partitions", [partitions, *pieces], extents=extents)[0], data)
    places = run("dynamic_partition", [rng.permutation(n).astype(np.int32), partitions], extents=extents)
    (stitched,) = run("dynamic_stitch", [*places, *pieces], extents=(OPEN,))
    np.testing.assert_array_equal(stitched[np.concatenate(places)], np.concatenate(pieces))
    some = [rng.integers(0, n + 3, len(p)) for p in pieces]
    expect("dynamic_stitch", [*some, *pieces], extents=(n + 3,))
    expect("unstitch", [rng.normal(size=(n + 3, 2)), *some])
    mask = rng.random(n) < 0.5
    expect("boolean_mask", [data, mask], extents=(OPEN,))
    expect("fill_mask", [mask, data[mask]])
    expect("unique", [partitions], extents=(OPEN,))
    expect("combine_rows", [partitions, data], extents=(OPEN,), past=count)
    expect("sum_rows", [np.zeros((count, width), np.float32), partitions, data])
    outside = (partitions - 1).astype(np.int64)
    for mode in ("set", "add", "mul", "min", "max"):
        expect("put_rows", [rng.normal(size=(count, width)).astype(np.float32), outside, data], mode=mode)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "message"),
    [
        ("dynamic_partition", [np.zeros((2, 1)), np.array([0, 3])], {"extents": (OPEN,) * 3},
         "row 1 asks for partition 3 of 3"),
        ("dynamic_partition", [np.zeros((2, 1)), np.array([-1, 0])], {"extents": (OPEN,)},
         "row 0 asks for partition -1 of 1"),
        ("merge_partitions", [np.array([0, 0]), np.zeros((1, 1))], {"extents": (OPEN,)},
         "partition 0 has 2 rows, its piece 1"),
        ("dynamic_stitch", [np.array([0, 0]), np.zeros((2, 1))], {"extents": (OPEN,)}, "do not fill 2 rows"),
        ("dynamic_stitch", [np.array([0, 9]), np.zeros((2, 1))], {"extents": (4,)}, "id 9 is outside"),
        ("fill_mask", [np.array([True, False]), np.zeros((2, 1))], {}, "true at 1 places, but there are 2 rows"),
        ("lookup_rows", [np.zeros((4, 2)), np.array([1, -1])], {}, "id -1 is outside the table, which has 4 rows"),
        ("split_rows", [np.zeros((4, 2)), np.zeros(3)], {}, "4 rows cannot be split into 3"),
    ],
)
def test_data_that_does_not_fit(op: str, inputs: list[Any], attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(StepError, match=message):
        run(op, inputs, **attrs)


def test_rows_of_variables() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(50, 3)).astype(float32.numpy)
    variable = Resources().bind("w", table.copy())
    ids = rng.integers(0, 50, 20)
    np.testing.assert_array_equal(run("lookup", [variable, ids])[0], table[ids])
    rows = rng.normal(size=(20, 3)).astype(np.float32)
    assert run("update_rows", [variable, ids, rows], mode="add") == []
    np.add.at(table, ids, rows)
    np.testing.assert_allclose(variable.array, table, rtol=1e-5)
    with pytest.raises(StepError, match="id 50 is outside variable 'w'"):
        run("lookup", [variable, np.array([50])])
