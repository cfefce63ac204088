"""Relocations: the few that self-contained, position-independent code has, by processor."""

from __future__ import annotations

import struct

from thalweg.dialects.diagnostics import ExportError

ARM, X86_64, AARCH64 = 40, 62, 183


def apply(machine: int, out: bytearray, at: int, place: int, kind: int, value: int, addend: int | None) -> None:
    """Fix the code at offset `at`, which will be at address `place`, for a symbol at address `value`.

    Args:
        addend: None where it is in the code (ARM).

    Raises:
        ExportError: a kind that self-contained code does not have.
    """
    if machine == X86_64 and addend is not None:
        _x86(out, at, place, kind, value + addend)
    elif machine == AARCH64 and addend is not None:
        _aarch64(out, at, place, kind, value + addend)
    elif machine == ARM and addend is None:
        _arm(out, at, place, kind, value)
    else:
        raise ExportError(f"no relocations are known for ELF machine {machine}.")


def _x86(out: bytearray, at: int, place: int, kind: int, value: int) -> None:
    if kind not in (2, 4):  # PC32, PLT32
        raise ExportError(f"x86-64 relocation {kind} does not occur in self-contained code.")
    struct.pack_into("<i", out, at, value - place)


_SCALED = {278: 0, 284: 1, 285: 2, 286: 3, 299: 4}  # LDST8…LDST128_ABS_LO12_NC: the low bits in units of the access


def _aarch64(out: bytearray, at: int, place: int, kind: int, value: int) -> None:
    (word,) = struct.unpack_from("<I", out, at)
    if kind in (275, 276):  # ADR_PREL_PG_HI21, _NC
        pages = (value >> 12) - (place >> 12)
        word = (word & 0x9F00001F) | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
    elif kind == 277:  # ADD_ABS_LO12_NC
        word = (word & ~(0xFFF << 10)) | (value & 0xFFF) << 10
    elif kind in _SCALED:
        scale = _SCALED[kind]
        if value & ((1 << scale) - 1):
            raise ExportError(f"AArch64 relocation {kind} to an address that is not aligned to {1 << scale} bytes.")
        word = (word & ~(0xFFF << 10)) | ((value & 0xFFF) >> scale) << 10
    elif kind in (282, 283):  # JUMP26, CALL26
        word = (word & 0xFC000000) | (value - place >> 2 & 0x3FFFFFF)
    elif kind == 261:  # PREL32
        word = value - place & 0xFFFFFFFF
    else:
        raise ExportError(f"AArch64 relocation {kind} does not occur in self-contained code.")
    struct.pack_into("<I", out, at, word)


def _arm(out: bytearray, at: int, place: int, kind: int, value: int) -> None:
    (word,) = struct.unpack_from("<I", out, at)
    if kind == 3:  # REL32
        word = value + word - place & 0xFFFFFFFF
    elif kind in (28, 29):  # CALL, JUMP24: a signed number of words
        words = word & 0xFFFFFF
        offset = (words - (1 << 24) if words >> 23 else words) << 2
        word = (word & 0xFF000000) | (value + offset - place >> 2 & 0xFFFFFF)
    else:
        raise ExportError(f"ARM relocation {kind} does not occur in self-contained code.")
    struct.pack_into("<I", out, at, word)
