"""TFRecord files: checksums, files that TensorBoard's library writes, damage."""

from __future__ import annotations

import io
import os

import pytest

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime.readers.records import crc32c, framed, masked, records


def test_checksums_of_the_standard() -> None:
    """RFC 3720, B.4."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@pytest.mark.parametrize("size", [511, 512, 513, 767, 768, 1023, 4096, 70_001])
def test_long_data_gives_the_checksum_of_a_plain_loop(size: int) -> None:
    data = os.urandom(size)
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


def test_files_of_tensorboards_writer() -> None:
    writer_module = pytest.importorskip("tensorboard.summary.writer.record_writer")
    written = [b"", b"a", os.urandom(100), os.urandom(5000)]
    file = io.BytesIO()
    writer = writer_module.RecordWriter(file)
    for data in written:
        writer.write(data)
    writer.flush()
    assert list(records(io.BytesIO(file.getvalue()), "f")) == written
    assert b"".join(map(framed, written)) == file.getvalue()


def damaged(at: int) -> bytes:
    data = bytearray(framed(b"first") + framed(b"second"))
    data[at] ^= 1
    return bytes(data)


@pytest.mark.parametrize(("content", "message"), [
    (damaged(0), "f: record 0 at byte 0: its length is damaged"),
    (damaged(13), "f: record 0 at byte 0: its data is damaged"),
    (damaged(21 + 14), "f: record 1 at byte 21: its data is damaged"),
    (damaged(21 + 20), "f: record 1 at byte 21: its data is damaged"),
    (framed(b"first") + framed(b"second")[:-1], "f: record 1 at byte 21: the file ends in the middle of it"),
    (framed(b"first") + b"abc", "f: record 1 at byte 21: the file ends in the middle of it"),
])  # fmt: skip
def test_damage_is_told_with_its_place(content: bytes, message: str) -> None:
    with pytest.raises(StepError, match=message):
        list(records(io.BytesIO(content), "f"))


def test_every_flipped_bit_is_found() -> None:
    data = framed(b"some data")
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StepError):
            list(records(io.BytesIO(bytes(flipped)), "f"))


def test_masking() -> None:
    assert masked(0) == 0xA282EAD8 and masked(0xFFFFFFFF) == 0xA282EAD7
