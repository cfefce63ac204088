"""Summaries: what a step tells about itself. Each gives a string, TensorBoard's protocol buffer, to be fetched."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.opdef import Attrs, Unsupported, define, fail
from thalweg.dialects.types import FLOATS, TensorType, Type, string, uint8

_ON_HOST = Unsupported("gives bytes of a file format; the kernels are tested against TensorBoard")
TEXT = TensorType((), string)


def _infer_scalar(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    (value,) = operands
    if not isinstance(value, TensorType) or value.rank or value.dtype == string:
        raise fail(f"takes one number, got {value}. Reduce it with tw.mean or another reduction.")
    return [TEXT]


scalar_summary = define("scalar_summary", "value", doc="A number under a tag.", infer=_infer_scalar,
                        attrs={"tag": "str"}, reference=_ON_HOST, runs="host")


def _infer_histogram(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    (values,) = operands
    if not isinstance(values, TensorType) or values.dtype == string:
        raise fail(f"takes numbers, got {values}.")
    return [TEXT]


histogram_summary = define("histogram_summary", "values", doc="The distribution of all elements under a tag.",
                           infer=_infer_histogram, attrs={"tag": "str"}, reference=_ON_HOST, runs="host")


def _infer_image(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    (images,) = operands
    if not isinstance(images, TensorType) or images.rank != 4 or images.shape[3] not in (1, 3, 4):
        raise fail(f"takes [n, height, width, channels] with 1, 3 or 4 channels, got {images}.")
    if images.dtype not in (*FLOATS, uint8):
        raise fail(f"takes u8, or floats from 0 to 1, got {images}.")
    return [TEXT]


image_summary = define("image_summary", "images", doc="Up to `most` pictures of a batch under a tag.",
                       infer=_infer_image, attrs={"tag": "str", "most": "int"}, defaults={"most": 3},
                       reference=_ON_HOST, runs="host")


def _infer_text(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    if operands[0] != TEXT:
        raise fail(f"takes {TEXT}, got {operands[0]}.")
    return [TEXT]


text_summary = define("text_summary", "value", doc="A string under a tag, shown as Markdown.", infer=_infer_text,
                      attrs={"tag": "str"}, reference=_ON_HOST, runs="host")


def _infer_merge(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    wrong = next((t for t in operands if t != TEXT), None)
    if wrong is not None:
        raise fail(f"takes summaries, {TEXT} each, got {wrong}.")
    return [TEXT]


merge_summary = define("merge_summary", "*summaries", doc="Several summaries as one; no two may have the same tag.",
                       infer=_infer_merge, reference=_ON_HOST, runs="host")
