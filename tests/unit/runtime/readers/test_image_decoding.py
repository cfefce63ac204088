"""Images, as Pillow writes them."""

from __future__ import annotations

import io

import numpy as np
import pytest

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime.readers.images import decode

Image = pytest.importorskip("PIL.Image")


def encoded(pixels: np.ndarray, format_: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, **options)
    return file.getvalue()


@pytest.fixture
def pixels() -> np.ndarray:
    y, x = np.mgrid[:20, :30]
    return np.stack([8 * x, 12 * y, 4 * (x + y)], axis=-1).astype(np.uint8)


def test_png_is_exact(pixels: np.ndarray) -> None:
    found = decode(encoded(pixels, "PNG"), 3)
    assert found.dtype == np.uint8 and np.array_equal(found, pixels)


def test_jpeg_is_close(pixels: np.ndarray) -> None:
    found = decode(encoded(pixels, "JPEG", quality=95), 3)
    assert found.shape == (20, 30, 3) and np.abs(found.astype(int) - pixels).mean() < 4


def test_channels(pixels: np.ndarray) -> None:
    assert decode(encoded(pixels[:, :, 0], "PNG"), 3).shape == (20, 30, 3)
    grey = decode(encoded(pixels, "PNG"), 1)
    assert grey.shape == (20, 30, 1) and abs(grey.mean() - (pixels @ [0.299, 0.587, 0.114]).mean()) < 1
    assert (decode(encoded(pixels, "PNG"), 4)[:, :, 3] == 255).all()


def test_resizing(pixels: np.ndarray) -> None:
    found = decode(encoded(pixels, "PNG"), 3, height=10, width=15, method="box")
    wanted = pixels.reshape(10, 2, 15, 2, 3).mean((1, 3))
    assert found.shape == (10, 15, 3) and np.abs(found - wanted).max() <= 1


def test_what_is_no_image(pixels: np.ndarray) -> None:
    with pytest.raises(StepError, match=r"5 bytes that begin with b'hello' are no image"):
        decode(b"hello", 3)
    with pytest.raises(StepError, match="are no image"):
        decode(encoded(pixels, "PNG")[:60], 3)
