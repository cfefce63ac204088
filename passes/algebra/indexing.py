"""Laws of indexing: what is written into zeros and then added can be added in place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops import indexing
from thalweg.passes.algebra.laws import law, made_by
from thalweg.passes.rewriting import constant_number, has_one_use

V: TypeAlias = ir.Value


@law("the whole of a dynamic slice = x", indexing.dynamic_slice)
def _(x: V, *starts: V, sizes: Sequence[int]) -> V | None:
    return x if tensor_type_of(x).shape == tuple(sizes) else None


@law("all of x updated = the update", indexing.dynamic_update_slice)
def _(x: V, update: V, *starts: V) -> V | None:
    return update if x.type == update.type else None


@law("a slice of what was just written = the update", indexing.dynamic_slice)
def _(x: V, *starts: V, sizes: Sequence[int]) -> V | None:
    inner = made_by(x, indexing.dynamic_update_slice)
    if inner is None:
        return None
    _, update, *written = inner.operands
    return update if written == list(starts) and tensor_type_of(update).shape == tuple(sizes) else None


@law("a + (zeros with u at i) = a with u added at i", ew.add)
def _(x: V, y: V) -> V | None:
    for total, part in ((x, y), (y, x)):
        inner = made_by(part, indexing.dynamic_update_slice)
        if inner is None or not has_one_use(part) or constant_number(inner.operands[0]) != 0:
            continue
        _, update, *starts = inner.operands
        present = indexing.dynamic_slice(total, *starts, sizes=tensor_type_of(update).shape)
        return indexing.dynamic_update_slice(total, ew.add(present, update), *starts)
    return None


@law("a + (zeros with u scattered) = a with u scattered", ew.add)
def _(x: V, y: V) -> V | None:
    for total, part in ((x, y), (y, x)):
        inner = made_by(part, indexing.scatter)
        if inner is None or not has_one_use(part) or constant_number(inner.operands[0]) != 0:
            continue
        attrs = attributes_of(indexing.scatter, inner)
        if attrs["mode"] == "add":
            return indexing.scatter(total, *list(inner.operands)[1:], **attrs)
    return None
