"""Files of named arrays in the safetensors format, written so that they are there whole or not at all.

    8 bytes, little endian: the header's length · the header, JSON · the arrays' bytes, one after the other

Arrays go from memory to the file and back without a copy of the whole in between, which is why the format is read and
written here: checkpoints are as large as memory allows, and a task may want a few rows of a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, TypeAlias

import numpy as np

from thalweg.dialects.types import DTYPES, DType, TensorType, as_dtype

Array: TypeAlias = np.ndarray[Any, Any]

# Element types by the names that safetensors files use.
_CODES: dict[str, DType] = {d.short.upper().removesuffix("FN"): d for d in DTYPES}
_NAMES = {dtype: code for code, dtype in _CODES.items()}
_PIECE = 16 << 20  # bytes that are written at once
_HEADER_LIMIT = 100 << 20  # bytes; what other readers of the format accept


class TensorFileError(ValueError):
    """A file is not of the safetensors format, or only a part of one."""


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name only when it is complete and on disk.

    Until then, and if anything fails, whatever had the name before keeps it; a process that is killed leaves at most a
    hidden file `.NAME.….part` behind.

    Raises:
        OSError: the disk is full, the folder may not be written to.
    """
    # In the same folder, so that the last step is a rename within one file system.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename or a removal last: the entry is data of the folder."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # systems where a folder cannot be opened keep the rename by themselves
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: Path, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> dict[str, str]:
    """Write arrays to a file, atomically. Returns the SHA-256 of each array's bytes, as hexadecimal digits.

    Raises:
        TypeError: an array is of a dtype that is not ours.
        OSError: see `replacing`.
    """
    ordered = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    digests = {}
    with replacing(path) as file:
        file.write(_header(ordered, {"format": "thalweg", **(metadata or {})}))
        for name, array in ordered.items():
            digest = hashlib.sha256()
            data = array.reshape(-1).view(np.uint8).data
            for begin in range(0, len(data), _PIECE):
                piece = data[begin : begin + _PIECE]
                file.write(piece)
                digest.update(piece)
            digests[name] = digest.hexdigest()
    return digests


def _header(arrays: Mapping[str, Array], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        code = _NAMES[as_dtype(array.dtype)]
        entries[name] = {"dtype": code, "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that arrays are aligned
    return len(text).to_bytes(8, "little") + text


@dataclass(frozen=True)
class Entry:
    """Where an array is in a file: its type, and the offset of its first byte."""

    type: TensorType
    begin: int


class TensorFile:
    """A file of named arrays, open for reading.

    Raises:
        FileNotFoundError: no such file.
        TensorFileError: it is not of the format, or a part is missing.

    Example:
        >>> with TensorFile(path) as file:
        ...     file.entries["w"].type, file.read("w")
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "rb")  # noqa: SIM115  (closed by `close`)
        try:
            self.entries, self.metadata = self._read_header()
        except BaseException:
            self.close()
            raise

    def _read_header(self) -> tuple[dict[str, Entry], dict[str, str]]:
        size = os.fstat(self._file.fileno()).st_size
        length = int.from_bytes(self._file.read(8), "little")
        if size < 8 or length > min(size - 8, _HEADER_LIMIT):
            raise TensorFileError("it does not begin with the length of a header that it could hold.")
        try:
            raw = json.loads(self._file.read(length))
            metadata = raw.pop("__metadata__", {})
            entries = {name: _entry(fields, 8 + length) for name, fields in raw.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TensorFileError(f"its header cannot be read: {error}.") from None
        end = max((e.begin + e.type.nbytes for e in entries.values()), default=8 + length)
        if end > size:
            raise TensorFileError(f"it has {size} bytes, its header tells of {end}.")
        return entries, metadata

    def read(self, name: str) -> Array:
        """An array of the file, in memory of its own."""
        entry = self.entries[name]
        array = np.empty(entry.type.shape, entry.type.dtype.numpy)
        self._file.seek(entry.begin)
        if self._file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
            raise TensorFileError(f"'{name}' ends before its {array.nbytes} bytes.")
        return array

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def __enter__(self) -> TensorFile:
        return self

    def __exit__(self, *error: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def _entry(fields: Mapping[str, Any], start: int) -> Entry:
    begin, end = (int(n) for n in fields["data_offsets"])
    shape = tuple(int(n) for n in fields["shape"])
    type_ = TensorType(shape, _CODES[fields["dtype"]])
    if min(shape, default=0) < 0 or begin < 0 or end - begin != type_.nbytes:
        raise ValueError(f"{type_} cannot be at bytes {begin} to {end}")
    return Entry(type_, start + begin)


def digest_of(array: Array) -> str:
    """The SHA-256 of an array's bytes, as `write` gives it."""
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()
