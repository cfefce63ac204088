"""PNG, JPEG and whatever else Pillow reads, as arrays of bytes."""

from __future__ import annotations

import io

import numpy as np

from thalweg.dialects.diagnostics import MissingExtraError, StepError
from thalweg.runtime.plan import Array

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}
METHODS = ("nearest", "bilinear", "bicubic", "lanczos", "box")


def decode(content: bytes, channels: int, height: int = 0, width: int = 0, method: str = "bilinear") -> Array:
    """An encoded image as u8[height, width, channels].

    Args:
        channels: 1 (grey), 3 or 4 (with transparency); the image is converted.
        height, width: resized to these, unless both are 0.
        method: of resizing; one of METHODS.

    Raises:
        StepError: it is no image.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise MissingExtraError("images", "pipeline") from None
    try:
        with Image.open(io.BytesIO(content)) as image:
            picture = image.convert(_MODES[channels])
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise StepError(f"{len(content)} bytes that begin with {content[:8]!r} are no image: {error}.") from None
    if (height or width) and picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling[method.upper()])
    return np.array(picture, np.uint8).reshape(picture.height, picture.width, channels)
