"""Static libraries: `ar` archives with a symbol index, in the GNU form and in Apple's."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_MAGIC = b"!<arch>\n"


def _header(name: str, size: int, mode: str) -> bytes:
    """60 bytes of text; no owner and no time, so that equal objects give equal archives."""
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{mode:<8}{size:<10}`\n".encode()


def gnu_archive(name: str, code: bytes, symbols: Sequence[str]) -> bytes:
    """An archive of one object, for the linkers of Linux, Android and Windows.

    Args:
        symbols: those that the object defines for others.
    """
    strings = b"".join(s.encode() + b"\0" for s in symbols)
    size = 4 + 4 * len(symbols) + len(strings)
    size += size % 2
    at = len(_MAGIC) + 60 + size
    index = struct.pack(f">I{len(symbols)}I", len(symbols), *[at] * len(symbols)) + strings
    member = _header(f"{name}/", len(code), "644") + code + b"\n" * (len(code) % 2)
    return _MAGIC + _header("/", size, "0") + index.ljust(size, b"\0") + member


def apple_archive(name: str, code: bytes, symbols: Sequence[str]) -> bytes:
    """An archive of one Mach-O object, for Apple's linker. `symbols` are C names; the file's begin with '_'."""
    table, strings = [], b""
    for symbol in sorted(f"_{s}" for s in symbols):
        table.append(len(strings))
        strings += symbol.encode() + b"\0"
    strings += b"\0" * (-len(strings) % 8)

    def index(at: int) -> bytes:
        places = b"".join(struct.pack("<II", string, at) for string in table)
        return struct.pack("<I", len(places)) + places + struct.pack("<I", len(strings)) + strings

    first = _apple_member("__.SYMDEF SORTED", index(0), len(_MAGIC))
    at = len(_MAGIC) + len(first)
    return _MAGIC + _apple_member("__.SYMDEF SORTED", index(at), len(_MAGIC)) + _apple_member(name, code, at)


def _apple_member(name: str, data: bytes, at: int) -> bytes:
    """A member whose name stands before its data, padded so that the data begins at a multiple of 8."""
    text = name.encode() + b"\0"
    text += b"\0" * (-(at + 60 + len(text)) % 8)
    body = text + data + b"\n" * (-len(data) % 8)
    return _header(f"#1/{len(text)}", len(body), "100644") + body
