"""TFRecord files: length, checksum of the length, data, checksum of the data.

    8 bytes: the length n · 4 bytes: CRC of these · n bytes: the record · 4 bytes: its CRC      all little endian

The checksum is CRC-32C, "masked": rotated and shifted, so that data which itself holds checksums is safe.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import IO

import numpy as np

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime.plan import Array

_POLYNOMIAL = 0x82F63B78  # CRC-32C (Castagnoli), bits reversed
_SHORT = 512  # bytes; longer data goes through NumPy
_ROW = 256  # bytes of a row there


def records(file: IO[bytes], name: str) -> Iterator[bytes]:
    """The records of an open file.

    Raises:
        StepError: a checksum is wrong, or the file ends within a record; names the file, the record and its offset.
    """
    number = offset = 0
    while header := file.read(12):
        place = f"{name}: record {number} at byte {offset}"
        if len(header) < 12:
            raise StepError(f"{place}: the file ends in the middle of it.")
        length, check = struct.unpack("<QI", header)
        if masked(crc32c(header[:8])) != check:
            raise StepError(f"{place}: its length is damaged (the checksum differs).")
        data = file.read(length + 4)
        if len(data) < length + 4:
            raise StepError(f"{place}: the file ends in the middle of it.")
        (check,) = struct.unpack_from("<I", data, length)
        data = data[:length]
        if masked(crc32c(data)) != check:
            raise StepError(f"{place}: its data is damaged (the checksum differs).")
        yield data
        number += 1
        offset += length + 16


def framed(data: bytes) -> bytes:
    """A record as it stands in a file."""
    length = struct.pack("<Q", len(data))
    return b"".join(
        (length, struct.pack("<I", masked(crc32c(length))), data, struct.pack("<I", masked(crc32c(data))))
    )


def masked(crc: int) -> int:
    """The checksum as files hold it."""
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(data: bytes) -> int:
    """CRC-32C of some bytes.

    Example:
        >>> hex(crc32c(b"123456789"))
        '0xe3069283'
    """
    if len(data) < _SHORT:
        return _bytewise(data, 0xFFFFFFFF) ^ 0xFFFFFFFF
    # The CRC is linear. Rows are done beside each other, then joined: each is shifted by the bytes that follow it.
    head = len(data) % _ROW
    rows = np.frombuffer(data, np.uint16, offset=head).reshape(-1, _ROW // 2)
    crcs = np.zeros(len(rows), np.uint32)
    crcs[0] = _bytewise(data[:head], 0xFFFFFFFF)
    table = _wide_table()
    for column in np.ascontiguousarray(rows.T):
        crcs = table[(crcs ^ column) & 0xFFFF] ^ (crcs >> 16)
    return _joined(crcs) ^ 0xFFFFFFFF


def _bytewise(data: bytes, crc: int) -> int:
    table = _table()
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc


def _joined(crcs: Array) -> int:
    """The CRC of rows of `_ROW` bytes in sequence, from each row's own."""
    shift = _shift_of_row()
    while len(crcs) > 1:
        if len(crcs) % 2:  # a row of zeros in front changes nothing
            crcs = np.concatenate([np.zeros(1, np.uint32), crcs])
        crcs = _apply(shift, crcs[0::2]) ^ crcs[1::2]
        shift = _apply(shift, shift)
    return int(crcs[0])


def _apply(matrix: Array, vectors: Array) -> Array:
    """A matrix over bits (32 columns as numbers) times vectors of 32 bits."""
    result = np.zeros_like(vectors)
    for bit in range(32):
        result ^= np.where(vectors >> np.uint32(bit) & np.uint32(1), matrix[bit], np.uint32(0))
    return result


@functools.cache
def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


@functools.cache
def _wide_table() -> Array:
    """The same for two bytes at once."""
    table = np.array(_table(), np.uint32)
    low, high = np.arange(65536, dtype=np.uint32) & 0xFF, np.arange(65536, dtype=np.uint32) >> 8
    first = table[low]
    wide: Array = table[(first ^ high) & 0xFF] ^ (first >> 8)
    return wide


@functools.cache
def _shift_of_row() -> Array:
    """What a row of zeros makes of each single bit."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    table = np.array(_table(), np.uint32)
    for _ in range(_ROW):
        bits = table[bits & 0xFF] ^ (bits >> 8)
    return bits
