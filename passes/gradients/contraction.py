"""Rules of contractions: contractions again, dimension numbers doing the work of transposes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from thalweg.dialects.context import tensor_type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import contraction, shape
from thalweg.dialects.ops.checks import dilated
from thalweg.dialects.ops.contraction import conv_general, dot_general, free_dimensions
from thalweg.dialects.ops.elementwise import convert
from thalweg.dialects.types import DType
from thalweg.passes.gradients.rules import vjp
from thalweg.passes.gradients.shape import inverse, transposed
from thalweg.passes.rewriting import full_like

V: TypeAlias = ir.Value


def as_type(x: V, dtype: DType) -> V:
    """x converted, or x itself where it is of that dtype."""
    return x if tensor_type_of(x).dtype == dtype else convert(x, dtype=dtype)


@vjp(contraction.dot_general)
def _(
    g: V,
    lhs: V,
    rhs: V,
    *,
    lhs_batch: Sequence[int],
    rhs_batch: Sequence[int],
    lhs_contract: Sequence[int],
    rhs_contract: Sequence[int],
) -> Sequence[Any]:
    batch = len(lhs_batch)
    lhs_free = free_dimensions(tensor_type_of(lhs).rank, lhs_batch, lhs_contract)
    rhs_free = free_dimensions(tensor_type_of(rhs).rank, rhs_batch, rhs_contract)
    # dimensions of g: batch, then those left of lhs, then those left of rhs
    from_lhs = tuple(range(batch, batch + len(lhs_free)))
    from_rhs = tuple(range(batch + len(lhs_free), batch + len(lhs_free) + len(rhs_free)))
    return (
        lambda: _dot_operand(g, from_rhs, from_lhs, rhs, rhs_batch, rhs_free, rhs_contract, lhs, lhs_batch, lhs_free,
                             lhs_contract),
        lambda: _dot_operand(g, from_lhs, from_rhs, lhs, lhs_batch, lhs_free, lhs_contract, rhs, rhs_batch, rhs_free,
                             rhs_contract),
    )


def _dot_operand(
    g: V,
    g_contract: Sequence[int],
    g_free: Sequence[int],
    other: V,
    other_batch: Sequence[int],
    other_free: Sequence[int],
    other_contract: Sequence[int],
    this: V,
    batch: Sequence[int],
    free: Sequence[int],
    contract: Sequence[int],
) -> V:
    """The cotangent of one operand, `this`: g times `other`, summed over what is left of `other`.

    The dimensions come out as batch, those from g, those from `other` (or the last two the other way round): of the two
    orders of the operands take the one that needs no transpose, if there is one.
    """
    dtype = tensor_type_of(g).dtype
    other = as_type(other, dtype)
    g_batch = range(len(batch))
    # which dimension of `this` each dimension of the product is; those from `other` come in its own order
    partner = dict(zip(other_contract, contract, strict=True))
    from_other = [partner[d] for d in sorted(other_contract)]
    if [*batch, *from_other, *free] == sorted([*batch, *from_other, *free]):
        product = dot_general(other, g, lhs_batch=other_batch, rhs_batch=g_batch, lhs_contract=other_free,
                              rhs_contract=g_contract)
        order = [*batch, *from_other, *free]
    else:
        product = dot_general(g, other, lhs_batch=g_batch, rhs_batch=other_batch, lhs_contract=g_contract,
                              rhs_contract=other_free)
        order = [*batch, *free, *from_other]
    return as_type(transposed(product, inverse(order)), tensor_type_of(this).dtype)


@vjp(contraction.conv_general)
def _(
    g: V,
    lhs: V,
    rhs: V,
    *,
    strides: Sequence[int],
    pad_low: Sequence[int],
    lhs_dilation: Sequence[int],
    rhs_dilation: Sequence[int],
    feature_groups: int,
    batch_groups: int,
    lhs_spec: Sequence[int],
    rhs_spec: Sequence[int],
    out_spec: Sequence[int],
) -> Sequence[Any]:
    """The image's cotangent is g convolved with the flipped kernel, the kernel's is the image convolved with g.

    Strides of one become dilations of the other, batch and channels change places.
    """
    types = tensor_type_of(g), tensor_type_of(lhs), tensor_type_of(rhs)
    image = [dilated(types[1].shape[d], n) for d, n in zip(lhs_spec[2:], lhs_dilation, strict=True)]
    kernel = [dilated(types[2].shape[d], n) for d, n in zip(rhs_spec[2:], rhs_dilation, strict=True)]
    result = [dilated(types[0].shape[d], n) for d, n in zip(out_spec[2:], strides, strict=True)]

    def wrt_lhs() -> V:
        if types[0].size == 0:
            return full_like(lhs, 0)
        flipped = shape.reverse(as_type(rhs, types[0].dtype), axes=rhs_spec[2:])
        groups = feature_groups * batch_groups  # one of them is 1
        if groups > 1:
            flipped = _merge_axis(_split_axis(flipped, rhs_spec[0], groups), rhs_spec[0], rhs_spec[1])
        low = [k - lo - 1 for k, lo in zip(kernel, pad_low, strict=True)]
        high = [i + k - 1 - r - lo for i, k, r, lo in zip(image, kernel, result, low, strict=True)]
        made = conv_general(
            g, flipped, strides=lhs_dilation, pad_low=low, pad_high=high, lhs_dilation=strides,
            rhs_dilation=rhs_dilation, feature_groups=groups, lhs_spec=out_spec, rhs_spec=_exchanged(rhs_spec),
            out_spec=lhs_spec,
        )
        if batch_groups > 1:
            made = _merge_axis(_split_axis(made, lhs_spec[1], batch_groups), lhs_spec[1], lhs_spec[0])
        return as_type(made, types[1].dtype)

    def wrt_rhs() -> V:
        if types[0].size == 0:
            return full_like(rhs, 0)
        high = [r - i + k - lo - 1 for r, i, k, lo in zip(result, image, kernel, pad_low, strict=True)]
        made = conv_general(
            as_type(lhs, types[0].dtype), g, strides=rhs_dilation, pad_low=pad_low, pad_high=high,
            lhs_dilation=lhs_dilation, rhs_dilation=strides, feature_groups=batch_groups, batch_groups=feature_groups,
            lhs_spec=_exchanged(lhs_spec), rhs_spec=_exchanged(out_spec), out_spec=_exchanged(rhs_spec),
        )
        return as_type(made, types[2].dtype)

    return wrt_lhs, wrt_rhs


def _exchanged(spec: Sequence[int]) -> tuple[int, ...]:
    """Batch and channels (of a kernel: output and input channels) the other way round."""
    return (spec[1], spec[0], *spec[2:])


def _split_axis(x: V, axis: int, groups: int) -> V:
    """Axis `axis` as two: groups, and what is left of it."""
    extents = list(tensor_type_of(x).shape)
    return shape.reshape(x, shape=[*extents[:axis], groups, extents[axis] // groups, *extents[axis + 1 :]])


def _merge_axis(x: V, source: int, target: int) -> V:
    """Move axis `source` to stand before axis `target` (counted without it) and make the two one."""
    extents = list(tensor_type_of(x).shape)
    order = [d for d in range(len(extents)) if d != source]
    order.insert(target, source)
    moved = transposed(x, order)
    extents = list(tensor_type_of(moved).shape)
    merged = [*extents[:target], extents[target] * extents[target + 1], *extents[target + 2 :]]
    return shape.reshape(moved, shape=merged)
