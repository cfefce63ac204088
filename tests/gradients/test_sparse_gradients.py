"""Sparse cotangents of tables: indices and rows, never the table."""

from __future__ import annotations

import numpy as np
import pytest
from gradient_checks import vjp
from ir_programs import evaluate, program

from thalweg.dialects.attributes import array_type
from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import type_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, indexing, shape
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.types import int64

V = ir.Value
TABLE = np.random.default_rng(0).uniform(-1, 1, (1000, 4))
SOME, MORE = np.array([[3, 999], [3, -7]], np.int32), np.array([0, 2000], np.int64)
COTANGENT = np.random.default_rng(1).uniform(-1, 1, (6, 4))


def lookups(table: V, some: V, more: V) -> V:
    """Two lookups, one of them transformed: 6 rows."""
    first = shape.reshape(ew.tanh(indexing.take_rows(table, some)), shape=(4, 4))
    return shape.concatenate(first, indexing.take_rows(table, more), axis=0)


def both(table: V, some: V, more: V, g: V) -> list[V]:
    *_, tape = vjp(lambda t: lookups(t, some, more), [table])
    indices, rows = control.pullback(tape, g, wrt=(0,), rows=(6,))
    return [indices, rows, control.pullback(tape, g, wrt=(0,))]


def test_sparse_and_dense_agree() -> None:
    arrays = [TABLE, SOME, MORE, COTANGENT]
    indices, rows, dense = evaluate(program([array_type(a) for a in arrays], both), arrays)
    assert indices.dtype == np.int32 and indices.shape == (6,) and rows.shape == (6, 4)
    assert indices.min() >= 0 and indices.max() < 1000, "where lookups were outside, the rows that they took"
    summed = np.zeros_like(TABLE)
    np.add.at(summed, indices, rows)
    np.testing.assert_allclose(summed, dense)


def test_no_dense_table_is_made() -> None:
    def main(table: V, some: V, more: V, g: V) -> list[V]:
        return both(table, some, more, g)[:2]

    arrays = [TABLE, SOME, MORE, COTANGENT]
    module = program([array_type(a) for a in arrays], main)
    evaluate(module, arrays)
    body = str(module).splitlines()
    assert not [line for line in body if "-> tensor<1000x4xf64>" in line]
    assert "tw.scatter" not in str(module)


def test_a_table_that_is_not_looked_up_at_all() -> None:
    def main(table: V, g: V) -> list[V]:
        *_, tape = vjp(lambda t: ew.stop_gradient(indexing.take_rows(t, _zero())), [table])
        return list(control.pullback(tape, g, wrt=(0,), rows=(1,)))

    def _zero() -> V:
        return shape.constant(value=np.zeros(1, np.int32))

    indices, rows = evaluate(program([array_type(TABLE), array_type(COTANGENT[:1])], main), [TABLE, COTANGENT[:1]])
    np.testing.assert_array_equal(rows, np.zeros((1, 4)))
    assert indices.tolist() == [0]


def test_lookups_in_a_loop_have_a_dense_cotangent_only() -> None:
    def main(table: V, indices: V, g: V) -> list[V]:
        def body(t: V) -> list[V]:
            def look(h: V, index: V) -> list[V]:
                return [ew.add(h, indexing.take_rows(t, index))]

            init = shape.constant(value=np.zeros(4))
            types = [[type_of(init), type_of(indices).with_shape(())]]
            return list(build_with_regions(control.scan, [init, indices], {"carried": 1, "length": 2}, types, [look]))

        *_, tape = vjp(body, [table])
        return list(control.pullback(tape, g, wrt=(0,), rows=(2,)))

    indices = np.array([1, 2], int64.numpy)
    arrays = [TABLE, indices, COTANGENT[0]]
    with pytest.raises(PassError, match="Ask for a dense one"):
        evaluate(program([array_type(a) for a in arrays], main), arrays)
