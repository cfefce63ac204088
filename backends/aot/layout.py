"""The state of a model as one block of bytes: variables and constants at fixed places, which is also its checkpoint.

On disk the block is the data of a safetensors file, so that every tool reads it; holes between tensors are named
`__pad.…`, since the format knows none. The file's first metadata entry is the layout's hash, at a fixed place where the
library compares it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.dialects.types import TensorType

ALIGNMENT = 64
Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Entry:
    """A tensor of the state. `offset` is in bytes; what is not `mutable` no signature changes."""

    name: str
    type: TensorType
    offset: int
    mutable: bool


@dataclass(frozen=True)
class Layout:
    """Where everything is."""

    entries: tuple[Entry, ...]

    @staticmethod
    def of(tensors: Mapping[str, tuple[TensorType, bool]]) -> Layout:
        """One entry per name (type, mutable), in the order of the names."""
        entries, offset = [], 0
        for name in sorted(tensors):
            kind, mutable = tensors[name]
            entries.append(Entry(name, kind, offset, mutable))
            offset += -(-kind.nbytes // ALIGNMENT) * ALIGNMENT
        return Layout(tuple(entries))

    @property
    def nbytes(self) -> int:
        """Of the whole block, a multiple of the alignment."""
        if not self.entries:
            return 0
        last = self.entries[-1]
        return last.offset + -(-last.type.nbytes // ALIGNMENT) * ALIGNMENT

    @property
    def hash(self) -> str:
        """64 hexadecimal digits; equal for equal names, types and places."""
        rows = [[e.name, list(e.type.shape), e.type.dtype.name, e.offset] for e in self.entries]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def __getitem__(self, name: str) -> Entry:
        return next(e for e in self.entries if e.name == name)

    def block(self, arrays: Mapping[str, Array]) -> bytes:
        """The state's bytes."""
        out = bytearray(self.nbytes)
        for entry in self.entries:
            array = np.ascontiguousarray(arrays[entry.name])
            assert array.nbytes == entry.type.nbytes
            out[entry.offset : entry.offset + array.nbytes] = array.tobytes()
        return bytes(out)


PREFIX = b'{"__metadata__":{"thalweg.layout":"'
HASH_AT = 8 + len(PREFIX)  # of a file: 8 bytes of length, then the header


def file_header(layout: Layout) -> bytes:
    """What stands in the file before the state: a multiple of the alignment, so that a mapped file is the state."""
    header: dict[str, Any] = {"__metadata__": {"thalweg.layout": layout.hash, "format": "thalweg"}}
    for entry in layout.entries:
        end = entry.offset + entry.type.nbytes
        header[entry.name] = {
            "dtype": entry.type.dtype.short.upper(), "shape": list(entry.type.shape),
            "data_offsets": [entry.offset, end],
        }  # fmt: skip
        rest = -end % ALIGNMENT
        if rest:
            header[f"__pad.{entry.name}"] = {"dtype": "U8", "shape": [rest], "data_offsets": [end, end + rest]}
    text = json.dumps(header, separators=(",", ":")).encode()
    assert text.startswith(PREFIX)
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def to_safetensors(layout: Layout, block: bytes) -> bytes:
    """The file."""
    return file_header(layout) + block
