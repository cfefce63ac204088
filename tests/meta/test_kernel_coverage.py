"""Every op that runs on the host has a kernel, and every kernel an op."""

from __future__ import annotations

import thalweg.dialects.ops  # noqa: F401  (fills the table)
from thalweg.dialects.opdef import rows
from thalweg.runtime.kernels import registered
from thalweg.runtime.plan import DATAFLOW

HANDED_OVER = {"variable_handle"}  # compiled ops take variables by name, host ops as what this kernel gives


def test_every_host_row_has_a_kernel() -> None:
    host = {row.name for row in rows() if row.runs == "host"} - DATAFLOW  # which the executor's frames do
    assert host - registered() == set(), "register a kernel in runtime/kernels/"


def test_every_kernel_is_that_of_a_host_row() -> None:
    host = {row.name for row in rows() if row.runs == "host"}
    assert registered() - host - HANDED_OVER == set(), "kernels without a row"


def test_dataflow_ops_are_rows() -> None:
    known = {row.name for row in rows()}
    assert DATAFLOW - known == set()
