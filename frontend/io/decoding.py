"""From strings to tensors: CSV lines, tf.train.Examples, images, raw bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError
from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import reader as rows
from thalweg.dialects.types import VARIES, TensorType, as_dtype, types_to_text, uint8
from thalweg.frontend.queues import fresh
from thalweg.frontend.resource import emit_host, strings
from thalweg.frontend.tensor import ArrayLike, Tensor
from thalweg.runtime.readers.images import METHODS


def read_file(name: ArrayLike) -> Tensor:
    """The content of a file: string[]."""
    return emit_host(rows.read_file, [strings(os.fspath(name) if isinstance(name, os.PathLike) else name)], {})[0]


def decode_csv(
    lines: ArrayLike, dtypes: Sequence[Any], defaults: Sequence[Any] | None = None, delimiter: str = ","
) -> tuple[Tensor, ...]:
    """Lines of comma-separated values, as one tensor per column of the lines' shape.

    Args:
        defaults: what an empty cell of each column stands for, None where it is an error.

    Raises:
        StepError: a cell does not fit its dtype; names the line's number among these, and the column.

    Example:
        >>> x, y = tw.io.decode_csv("1.5,3", [tw.float32, tw.int32])
    """
    types = types_to_text([TensorType((), as_dtype(d)) for d in dtypes])
    options = json.dumps({"defaults": list(defaults) if defaults is not None else None, "delimiter": delimiter})
    return emit_host(rows.decode_csv, [strings(lines)], {"types": types, "options": options})


@dataclass(frozen=True)
class FixedFeature:
    """A feature with a fixed number of values.

    Args:
        default: what is taken where an example lacks it: a number or string for all values, or as many.
    """

    shape: tuple[int, ...]
    dtype: Any
    default: Any = None

    def type(self) -> TensorType:
        return TensorType(tuple(self.shape), as_dtype(self.dtype))


@dataclass(frozen=True)
class VarFeature:
    """A feature with any number of values: a row padded with zeros to the longest of the batch."""

    dtype: Any
    default: Any = ()

    def type(self) -> TensorType:
        return TensorType((VARIES,), as_dtype(self.dtype))


Features = Mapping[str, FixedFeature | VarFeature]


def parse_example(serialized: ArrayLike, features: Features) -> dict[str, Tensor]:
    """Features of serialised tf.train.Examples, a vector of them, stacked.

    Raises:
        StepError: one lacks a feature that has no default, or holds it in another type or number.

    Example:
        >>> found = tw.io.parse_example(records, {"image": tw.io.FixedFeature((784,), tw.float32)})
        >>> found["image"]                                 # f32[n,784]
    """
    types = [feature.type() for feature in features.values()]
    declared = [{"name": n, "default": _plain(f.default)} for n, f in features.items()]
    attrs = {
        "types": types_to_text(types), "features": json.dumps(declared),
        "extents": fresh(sum(t.shape.count(VARIES) for t in types)),
    }  # fmt: skip
    return dict(zip(features, emit_host(rows.parse_example, [strings(serialized)], attrs), strict=True))


def _plain(value: Any) -> Any:
    """A default as JSON holds it."""
    if isinstance(value, bytes):
        return value.decode()
    if value is None or isinstance(value, str | int | float):
        return value
    return np.asarray(value).tolist()


def parse_single_example(serialized: ArrayLike, features: Features) -> dict[str, Tensor]:
    """Features of one serialised tf.train.Example."""
    single = strings(serialized)
    if single.ndim:
        raise TypeInferenceError(f"{user_frame()} parse_single_example takes one string, got {single.type}.")
    return parse_example(single, features)


def decode_image(
    content: ArrayLike,
    channels: int = 3,
    size: tuple[int, int] | None = None,
    method: str = "bilinear",
) -> Tensor:
    """An encoded image (PNG, JPEG and what else Pillow reads) as u8[height, width, channels].

    Args:
        channels: 1 for grey, 3, or 4 with transparency.
        size: (height, width) to resize to; without it these extents are open.
        method: "nearest", "bilinear", "bicubic", "lanczos" or "box".

    Raises:
        StepError: it is no image.
        MissingExtraError: Pillow is missing (extra `[pipeline]`).
    """
    if method not in METHODS:
        raise ValueError(f"{user_frame()} method must be one of {', '.join(METHODS)}, got '{method}'.")
    attrs = {
        "channels": channels, "size": tuple(size or ()), "method": method, "extents": () if size else fresh(2),
    }  # fmt: skip
    return emit_host(rows.decode_image, [strings(content)], attrs)[0]


def decode_raw(content: ArrayLike, dtype: Any = uint8, shape: Any = (None,), big_endian: bool = False) -> Tensor:
    """The bytes of strings as numbers.

    Args:
        shape: of the numbers of one string; one extent may be None.

    Raises:
        StepError: the bytes do not make that shape, or strings have different lengths.
    """
    type_ = TensorType(tuple(VARIES if n is None else n for n in shape), as_dtype(dtype))
    extents = fresh(type_.shape.count(VARIES))
    attrs = {"types": types_to_text([type_]), "big_endian": big_endian, "extents": extents}
    return emit_host(rows.decode_raw, [strings(content)], attrs)[0]
