"""Summaries: numbers, distributions and pictures of a step as TensorBoard reads them, in its own protocol buffers.

Needs the extra `[tensorboard]`, which is imported where it is used.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import MissingExtraError

Array = np.ndarray[Any, Any]


def scalar(tag: str, value: Array) -> bytes:
    """One number."""
    return _summary(tag, simple_value=float(value))


def histogram(tag: str, values: Array) -> bytes:
    """The distribution of all finite elements, in buckets that grow by 10% (those of TensorFlow).

    Raises:
        ValueError: an element is not finite; says how many.
    """
    data = np.asarray(values, np.float64).ravel()
    wrong = int(np.count_nonzero(~np.isfinite(data)))
    if wrong:
        raise ValueError(f"histogram '{tag}': {wrong} of {data.size} elements are NaN or infinite")
    limits = _bucket_limits()
    counts = np.bincount(np.searchsorted(limits, data, side="left"), minlength=limits.size)
    kept = np.flatnonzero(counts)
    first, last = (kept[0], kept[-1]) if kept.size else (0, 0)
    start = max(int(first) - 1, 0)  # an empty bucket in front says where the first one begins
    proto = _protos().HistogramProto(
        min=data.min() if data.size else 0.0,
        max=data.max() if data.size else 0.0,
        num=data.size,
        sum=float(data.sum()),
        sum_squares=float(np.square(data).sum()),
        bucket_limit=limits[start : last + 1],
        bucket=counts[start : last + 1],
    )
    return _summary(tag, histo=proto)


def image(tag: str, images: Array, most: int) -> bytes:
    """Up to `most` pictures of a batch [n, height, width, 1, 3 or 4]: uint8, or floats in [0, 1]."""
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise ValueError(f"image '{tag}': takes [n, height, width, 1, 3 or 4 channels], got {images.shape}")
    pillow = _pillow()
    values = []
    for index, picture in enumerate(images[:most]):
        pixels: Array = picture
        if picture.dtype != np.uint8:
            pixels = (np.clip(np.nan_to_num(picture), 0, 1) * 255 + 0.5).astype(np.uint8)
        encoded = io.BytesIO()
        pillow.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(encoded, "PNG")
        height, width, channels = picture.shape
        proto = _protos().Summary.Image(
            height=height, width=width, colorspace=channels, encoded_image_string=encoded.getvalue()
        )
        values.append(_protos().Summary.Value(tag=f"{tag}/{index}" if most > 1 else tag, image=proto))
    return bytes(_protos().Summary(value=values).SerializeToString())


def text(tag: str, value: Array) -> bytes:
    """A string, shown as Markdown."""
    from tensorboard.plugins.text.summary_v2 import text_pb

    return bytes(text_pb(tag, value.item()).SerializeToString())


def merge(summaries: Sequence[bytes]) -> bytes:
    """Several summaries as one.

    Raises:
        ValueError: two of them have the same tag, so that one would hide the other.
    """
    merged = _protos().Summary()
    for data in summaries:
        merged.MergeFromString(data)
    tags = [value.tag for value in merged.value]
    twice = next((tag for tag in tags if tags.count(tag) > 1), None)
    if twice is not None:
        raise ValueError(f"two summaries are tagged '{twice}'. Rename one of them")
    return bytes(merged.SerializeToString())


def _summary(tag: str, **value: Any) -> bytes:
    protos = _protos()
    return bytes(protos.Summary(value=[protos.Summary.Value(tag=tag, **value)]).SerializeToString())


def _bucket_limits() -> Array:
    """±1e-12 · 1.1^k up to 1e20, and the largest number."""
    positive = 1e-12 * 1.1 ** np.arange(int(np.log(1e32) / np.log(1.1)) + 1)
    most = np.finfo(np.float64).max
    return np.concatenate([[-most], -positive[::-1], [0.0], positive, [most]])


def _protos() -> Any:
    try:
        from tensorboard.compat.proto import summary_pb2
    except ImportError:
        raise MissingExtraError("summaries", "tensorboard") from None
    return summary_pb2


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtraError("image summaries", "tensorboard") from None
    return Image
