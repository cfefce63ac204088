"""Rules of rows of tables: what is looked up is summed where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import tables
from thalweg.passes.gradients.rules import no_vjp, vjp

V: TypeAlias = ir.Value


@vjp(tables.lookup_rows)
def _(g: V, table: V, ids: V, *, clamp: bool) -> Sequence[Any]:
    return (lambda: tables.sum_rows(table, ids, g, clamp=clamp)), None


@vjp(tables.sum_rows)
def _(g: V, like: V, ids: V, rows: V, *, clamp: bool) -> Sequence[Any]:
    return None, None, lambda: tables.lookup_rows(g, ids, clamp=clamp)


no_vjp("gradients are combined after they have been taken", tables.combine_rows, error=True)
no_vjp("rows are put into a table after its gradient has been taken", tables.put_rows, error=True)
no_vjp(
    "reads and writes of variables must stand outside what is differentiated: look rows up with tw.lookup",
    tables.lookup, tables.update_rows, error=True,
)
