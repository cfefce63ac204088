"""Contractions: products summed over shared dimensions.

Floats narrower than float32 are multiplied and accumulated in float32 and rounded once, to `dtype` (default: the
operands'). The two formats of 8 bits go together, as gradients need them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.opdef import Arg, Attrs, Sample, define, fail
from thalweg.dialects.ops.checks import (
    dilated,
    expect_axes,
    expect_dtype,
    expect_equal_dtypes,
    expect_per_dimension,
    windows,
)
from thalweg.dialects.types import FLOATS, FLOATS8, INTEGERS, DType, TensorType, as_dtype, float32

NUMERIC = FLOATS + INTEGERS


def _result_dtype(operands: Sequence[TensorType], attrs: Attrs) -> DType:
    """The dtype of the result: `dtype` if given, which must hold what the operands hold."""
    lhs, rhs = operands
    dtype: DType = attrs["dtype"] or lhs.dtype
    if lhs.dtype != rhs.dtype and lhs.dtype in FLOATS8 and rhs.dtype in FLOATS8:
        if attrs["dtype"] is None:
            raise fail(f"{lhs} and {rhs} need a `dtype` for the result. Give one, float32 for example.")
    else:
        expect_equal_dtypes(operands)
    expect_dtype(lhs, NUMERIC, "lhs")
    if dtype.kind != lhs.dtype.kind or dtype.itemsize < lhs.dtype.itemsize:
        raise fail(
            f"cannot accumulate {lhs.dtype.short} in {dtype.short}. Take a dtype of the same kind, at least as wide."
        )
    return dtype


def _wide(x: np.ndarray, dtype: DType) -> np.ndarray:
    """`x` in the dtype that the sum is made in."""
    return x.astype(dtype.computed.numpy)


def free_dimensions(rank: int, batch: Sequence[int], contract: Sequence[int]) -> tuple[int, ...]:
    """Dimensions that are neither batch nor contracted, in order."""
    return tuple(i for i in range(rank) if i not in batch and i not in contract)


def _infer_dot(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    lhs, rhs = operands
    dtype = _result_dtype(operands, attrs)
    lhs_batch, rhs_batch = attrs["lhs_batch"], attrs["rhs_batch"]
    lhs_contract, rhs_contract = attrs["lhs_contract"], attrs["rhs_contract"]
    expect_axes((*lhs_batch, *lhs_contract), lhs, "lhs_batch and lhs_contract")
    expect_axes((*rhs_batch, *rhs_contract), rhs, "rhs_batch and rhs_contract")
    for kind, left, right in (("batch", lhs_batch, rhs_batch), ("inner", lhs_contract, rhs_contract)):
        if len(left) != len(right):
            raise fail(f"{kind} dimensions must come in pairs, got {list(left)} of lhs and {list(right)} of rhs.")
        for i, j in zip(left, right, strict=True):
            if lhs.shape[i] != rhs.shape[j]:
                raise fail(
                    f"{kind} dimensions differ: lhs {lhs} has {lhs.shape[i]}, rhs {rhs} has {rhs.shape[j]}. "
                    "Transpose or reshape one of them."
                )
    return [
        TensorType(
            (
                *(lhs.shape[i] for i in lhs_batch),
                *(lhs.shape[i] for i in free_dimensions(lhs.rank, lhs_batch, lhs_contract)),
                *(rhs.shape[i] for i in free_dimensions(rhs.rank, rhs_batch, rhs_contract)),
            ),
            dtype,
        )
    ]


def _dot(
    lhs: np.ndarray,
    rhs: np.ndarray,
    lhs_batch: Sequence[int],
    rhs_batch: Sequence[int],
    lhs_contract: Sequence[int],
    rhs_contract: Sequence[int],
    dtype: DType | None,
) -> np.ndarray:
    dtype = dtype or as_dtype(lhs.dtype)
    fresh = itertools.count()
    left = [next(fresh) for _ in range(lhs.ndim)]
    right = [next(fresh) for _ in range(rhs.ndim)]
    for i, j in zip((*lhs_batch, *lhs_contract), (*rhs_batch, *rhs_contract), strict=True):
        right[j] = left[i]
    result = [left[i] for i in lhs_batch]
    result += [left[i] for i in free_dimensions(lhs.ndim, lhs_batch, lhs_contract)]
    result += [right[j] for j in free_dimensions(rhs.ndim, rhs_batch, rhs_contract)]
    return np.asarray(np.einsum(_wide(lhs, dtype), left, _wide(rhs, dtype), right, result)).astype(dtype.numpy)


def _dims(lhs_contract: Sequence[int], rhs_contract: Sequence[int], lhs_batch: Sequence[int] = (),
          rhs_batch: Sequence[int] = (), **more: Any) -> dict[str, Any]:
    return {"lhs_contract": lhs_contract, "rhs_contract": rhs_contract, "lhs_batch": lhs_batch,
            "rhs_batch": rhs_batch, **more}


dot_general = define(
    "dot_general",
    "lhs rhs",
    doc="Products of lhs and rhs summed over the pairs of contracted dimensions, once per index of the batch pairs. "
        "The result has the batch dimensions, then what is left of lhs, then of rhs. `dtype` is that of the result.",
    infer=_infer_dot,
    attrs={"lhs_batch": "ints", "rhs_batch": "ints", "lhs_contract": "ints", "rhs_contract": "ints",
           "dtype": "dtype"},
    defaults={"lhs_batch": (), "rhs_batch": (), "dtype": None},
    reference=_dot,
    samples=[
        Sample((Arg((3, 5), -0.5), Arg((5, 4), -0.5)), _dims((1,), (0,))),
        Sample((Arg((5, 3), -0.5), Arg((4, 5), -0.5)), _dims((0,), (1,))),
        Sample((Arg((2, 3, 5), -0.5), Arg((2, 4, 5), -0.5)), _dims((2,), (2,), (0,), (0,))),
        Sample((Arg((3, 2, 5), -0.5), Arg((5, 4, 2), -0.5)), _dims((2,), (0,), (1,), (2,))),
        Sample((Arg((5,), -0.5), Arg((5,), -0.5)), _dims((0,), (0,))),
        Sample((Arg((2, 3), -0.5), Arg((3, 2), -0.5)), _dims((0, 1), (1, 0))),
        Sample((Arg((3,), -1), Arg((2,), -1)), _dims((), ())),
        Sample((Arg((2, 0), -1), Arg((0, 3), -1)), _dims((1,), (0,))),
        Sample((Arg((17, 33), -0.5), Arg((33, 19), -0.5)), _dims((1,), (0,))),
        *(Sample((Arg((17, 33), -0.5, dtype=a), Arg((19, 33), -0.5, dtype=b)), _dims((1,), (1,), dtype=float32))
          for a in FLOATS8 for b in FLOATS8),
    ],
    dtypes=NUMERIC,
    tolerance=64,
)


def _infer_conv(operands: Sequence[TensorType], attrs: Attrs) -> list[TensorType]:
    lhs, rhs = operands
    dtype = _result_dtype(operands, attrs)
    spatial = lhs.rank - 2
    if rhs.rank != lhs.rank or not 1 <= spatial <= 3:
        raise fail(f"takes lhs and rhs of the same rank, 3 to 5 (1 to 3 spatial dimensions), got {lhs} and {rhs}.")
    for name in ("lhs_spec", "rhs_spec", "out_spec"):
        if sorted(attrs[name]) != list(range(lhs.rank)):
            raise fail(f"{name} {list(attrs[name])} is not a permutation of the {lhs.rank} dimensions.")
    for name, least in (("strides", 1), ("lhs_dilation", 1), ("rhs_dilation", 1), ("pad_low", None),
                        ("pad_high", None)):
        expect_per_dimension(attrs[name], spatial, name, least)
    batch, channels, *extents = (lhs.shape[i] for i in attrs["lhs_spec"])
    out_channels, kernel_channels, *kernel = (rhs.shape[i] for i in attrs["rhs_spec"])
    groups, batch_groups = attrs["feature_groups"], attrs["batch_groups"]
    if groups < 1 or batch_groups < 1 or (groups > 1 and batch_groups > 1):
        raise fail(f"one of feature_groups {groups} and batch_groups {batch_groups} must be 1, the other positive.")
    if channels != kernel_channels * groups:
        raise fail(
            f"lhs {lhs} has {channels} input channels, rhs {rhs} takes {kernel_channels} in each of {groups} groups. "
            "Check lhs_spec and rhs_spec."
        )
    if out_channels % groups or out_channels % batch_groups or batch % batch_groups:
        raise fail(f"{out_channels} output channels and a batch of {batch} must divide into {groups * batch_groups} "
                   "groups.")
    shape = [0] * lhs.rank
    out_extents = _conv_extents(extents, kernel, attrs)
    for dim, extent in zip(attrs["out_spec"], (batch // batch_groups, out_channels, *out_extents), strict=True):
        shape[dim] = extent
    return [TensorType(tuple(shape), dtype)]


def _conv_extents(extents: Sequence[int], kernel: Sequence[int], attrs: Attrs) -> list[int]:
    names = ("lhs_dilation", "pad_low", "pad_high", "strides", "rhs_dilation")
    out = []
    for n, k, *geometry in zip(extents, kernel, *(attrs[a] for a in names), strict=True):
        lhs_dilation, low, high, stride, rhs_dilation = geometry
        padded = dilated(n, lhs_dilation) + low + high
        if padded < 0:
            raise fail(f"padding {low} and {high} cuts off more than the {n} elements that there are.")
        out.append(windows(padded, k, stride, rhs_dilation))
    return out


def _conv(lhs: np.ndarray, rhs: np.ndarray, **attrs: Any) -> np.ndarray:
    from thalweg.dialects.ops.shape import pad

    dtype = attrs["dtype"] or as_dtype(lhs.dtype)
    groups, batch_groups = attrs["feature_groups"], attrs["batch_groups"]
    image = np.transpose(_wide(lhs, dtype), attrs["lhs_spec"])
    kernel = np.transpose(_wide(rhs, dtype), attrs["rhs_spec"])
    if batch_groups > 1:  # the same as feature groups with the batch's groups moved to the channels
        image = np.concatenate(np.split(image, batch_groups, 0), 1)
        groups = batch_groups
    extents = _conv_extents(image.shape[2:], kernel.shape[2:], attrs)
    low, high = (0, 0, *attrs["pad_low"]), (0, 0, *attrs["pad_high"])
    assert callable(pad.reference)
    image = pad.reference(image, image.dtype.type(0), low, high, (0, 0, *(d - 1 for d in attrs["lhs_dilation"])))
    result = np.zeros((image.shape[0], kernel.shape[0], *extents), image.dtype)
    ins, outs = np.split(image, groups, 1), np.split(kernel, groups, 0)
    for place in np.ndindex(*kernel.shape[2:]):
        first = [p * d for p, d in zip(place, attrs["rhs_dilation"], strict=True)]
        cut = tuple(np.s_[f : f + (n - 1) * s + 1 : s] if n else np.s_[:0]
                    for f, n, s in zip(first, extents, attrs["strides"], strict=True))
        parts = [np.einsum("bi...,oi->bo...", x[(..., *cut)], k[(..., *place)])
                 for x, k in zip(ins, outs, strict=True)]
        result += np.concatenate(parts, 1)
    return np.transpose(result, np.argsort(attrs["out_spec"])).astype(dtype.numpy)


def _geometry(spatial: int, **changes: Any) -> dict[str, Any]:
    """Attributes of a convolution in channels-last order, stride 1, no padding, with `changes`."""
    last = (0, spatial + 1, *range(1, spatial + 1))
    return {
        "strides": (1,) * spatial, "pad_low": (0,) * spatial, "pad_high": (0,) * spatial,
        "lhs_dilation": (1,) * spatial, "rhs_dilation": (1,) * spatial,
        "lhs_spec": last, "rhs_spec": (spatial + 1, spatial, *range(spatial)), "out_spec": last, **changes,
    }


def _conv_sample(lhs: tuple[int, ...], rhs: tuple[int, ...], **changes: Any) -> Sample:
    return Sample((Arg(lhs, -0.5), Arg(rhs, -0.5)), _geometry(len(lhs) - 2, **changes))


_FIRST = {"lhs_spec": (0, 1, 2, 3), "rhs_spec": (0, 1, 2, 3), "out_spec": (0, 1, 2, 3)}

conv_general = define(
    "conv_general",
    "lhs rhs",
    doc="Convolution (cross-correlation) with 1 to 3 spatial dimensions. lhs_spec and out_spec list which dimensions "
        "are batch, channel and the spatial ones; rhs_spec output channel, input channel and the spatial ones. "
        "`lhs_dilation` puts zeros between elements of lhs (transposed convolution), `rhs_dilation` between those of "
        "the kernel; negative padding cuts off. `dtype` is that of the result.",
    infer=_infer_conv,
    attrs={"strides": "ints", "pad_low": "ints", "pad_high": "ints", "lhs_dilation": "ints", "rhs_dilation": "ints",
           "feature_groups": "int", "batch_groups": "int", "lhs_spec": "ints", "rhs_spec": "ints",
           "out_spec": "ints", "dtype": "dtype"},
    defaults={"feature_groups": 1, "batch_groups": 1, "dtype": None},
    reference=_conv,
    samples=[
        _conv_sample((2, 7, 3), (3, 3, 4)),
        _conv_sample((1, 8, 2), (3, 2, 4), strides=(2,), pad_low=(2,), pad_high=(1,), rhs_dilation=(2,)),
        _conv_sample((2, 6, 5, 3), (3, 2, 3, 4), pad_low=(1, 0), pad_high=(1, 1), strides=(2, 1)),
        _conv_sample((1, 3, 6, 5), (4, 3, 3, 3), **_FIRST, pad_low=(1, 1), pad_high=(1, 1)),
        _conv_sample((1, 4, 4, 4), (3, 3, 2, 6), feature_groups=2),
        _conv_sample((1, 4, 4, 4), (2, 2, 1, 4), feature_groups=4),
        _conv_sample((4, 4, 4, 2), (2, 2, 2, 4), batch_groups=2),
        _conv_sample((1, 3, 3, 2), (3, 3, 2, 3), lhs_dilation=(2, 2), pad_low=(2, 1), pad_high=(1, 2)),
        _conv_sample((1, 5, 5, 1), (3, 3, 1, 1), pad_low=(-1, 0), pad_high=(0, -1)),
        _conv_sample((1, 4, 3, 4, 2), (2, 2, 2, 2, 3), strides=(1, 1, 2), pad_low=(1, 0, 0), pad_high=(0, 0, 1)),
        _conv_sample((0, 4, 2), (2, 2, 3)),
    ],
    dtypes=NUMERIC,
    tolerance=128,
)
