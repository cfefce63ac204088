"""Checkpoints on disk: a folder each, of files that several tasks wrote and an index that makes them one.

    checkpoints/
        step-00000120/
            part-0.safetensors      written by one task, atomically
            part-1.safetensors      by another one
            index.json              written last: without it there is no checkpoint

A tensor may be in pieces: `Part("table", (1000, 32), range(1, 1000, 2))` is every second row of a table. What reads it
asks for other rows than were written together, so state that was spread over two tasks can be restored over three. The
index has the SHA-256 of every piece, and nothing is handed out that has not been compared with it.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from thalweg.dialects.diagnostics import CheckpointError, did_you_mean
from thalweg.dialects.types import TensorType, as_dtype
from thalweg.runtime import tensorfile
from thalweg.runtime.tensorfile import TensorFile, TensorFileError, digest_of

Array: TypeAlias = np.ndarray[Any, Any]

INDEX = "index.json"
FORMAT = "thalweg-checkpoint-1"


@dataclass(frozen=True)
class Part:
    """Rows of a tensor that is kept in several pieces.

    Args:
        name: of the whole tensor.
        shape: of the whole tensor.
        rows: which of its rows the piece has, in order.
    """

    name: str
    shape: tuple[int, ...]
    rows: range


@dataclass(frozen=True)
class Piece:
    """Where some rows of a tensor are: a record of the index."""

    tensor: str
    dtype: str
    shape: tuple[int, ...]  # of the whole tensor
    rows: range | None  # None: all of it
    file: str
    key: str  # its name in the file
    sha256: str

    @property
    def type(self) -> TensorType:
        """Shape and dtype of the whole tensor."""
        return TensorType(self.shape, as_dtype(self.dtype))

    @property
    def stored(self) -> tuple[int, ...]:
        """The shape of the piece itself."""
        return self.shape if self.rows is None else (len(self.rows), *self.shape[1:])

    def to_json(self) -> dict[str, Any]:
        """As the index has it."""
        rows = None if self.rows is None else [self.rows.start, self.rows.stop, self.rows.step]
        return {**vars(self), "shape": list(self.shape), "rows": rows}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Piece:
        """What `to_json` gave."""
        rows = None if fields["rows"] is None else range(*fields["rows"])
        return cls(**{**fields, "shape": tuple(fields["shape"]), "rows": rows})


def write_part(
    folder: Path, file: str, arrays: Mapping[str, Array], parts: Mapping[str, Part] | None = None
) -> list[Piece]:
    """Write one file of a checkpoint; what it returns goes into `commit`.

    Args:
        folder: of the checkpoint; made if it is not there.
        arrays: by name.
        parts: what the arrays are pieces of, for those that are.

    Raises:
        OSError: the disk is full, the folder may not be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    digests = tensorfile.write(folder / file, arrays)
    pieces = []
    for key, array in arrays.items():
        part = (parts or {}).get(key) or Part(key, tuple(array.shape), range(0))
        rows = part.rows if parts and key in parts else None
        pieces.append(Piece(part.name, as_dtype(array.dtype).name, part.shape, rows, file, key, digests[key]))
    return pieces


def commit(
    folder: Path, pieces: Iterable[Piece], step: int, metrics: Mapping[str, float] | None = None
) -> Checkpoint:
    """Make the files that were written into `folder` a checkpoint. It is complete from here on.

    Raises:
        CheckpointError: a tensor's pieces overlap, leave rows out, or differ in type.
    """
    pieces = list(pieces)
    for name, found in _by_tensor(pieces).items():
        _expect_whole(name, found)
    index = {
        "format": FORMAT,
        "step": step,
        "time": time.time(),
        "metrics": {name: float(value) for name, value in (metrics or {}).items()},
        "pieces": [piece.to_json() for piece in pieces],
    }
    with tensorfile.replacing(folder / INDEX) as file:
        file.write(json.dumps(index, indent=1).encode())
    tensorfile.sync_folder(folder.parent)
    return open_checkpoint(folder)


def _by_tensor(pieces: Iterable[Piece]) -> dict[str, list[Piece]]:
    found: dict[str, list[Piece]] = {}
    for piece in pieces:
        found.setdefault(piece.tensor, []).append(piece)
    return found


def _expect_whole(name: str, pieces: Sequence[Piece]) -> None:
    types = {piece.type for piece in pieces}
    if len(types) > 1:
        raise CheckpointError(f"the pieces of '{name}' are of different tensors: {', '.join(sorted(map(str, types)))}.")
    if len(pieces) == 1 and pieces[0].rows is None:
        return
    (type_,) = types
    times = np.zeros(type_.shape[0], np.uint8)
    for piece in pieces:
        rows = range(type_.shape[0]) if piece.rows is None else piece.rows
        times[rows.start : rows.stop : rows.step] += 1
    if times.size and (times != 1).any():
        row = int(np.argmax(times != 1))
        raise CheckpointError(f"row {row} of '{name}' is in {int(times[row])} pieces. It must be in one.")


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint.

    `path` is its folder, or a single safetensors file of other origin, which has no digests to compare with.
    """

    path: Path
    step: int
    time: float  # seconds since 1970
    metrics: Mapping[str, float] = field(default_factory=dict)
    pieces: Mapping[str, Sequence[Piece]] = field(default_factory=dict, repr=False)

    @property
    def types(self) -> dict[str, TensorType]:
        """The tensors in it, by name."""
        return {name: found[0].type for name, found in self.pieces.items()}

    def read(self, name: str, rows: range | None = None) -> Array:
        """A tensor, or some of its rows, compared with the digests of the index.

        Raises:
            CheckpointError: there is none of that name, or it is damaged; says which file.
        """
        if name not in self.pieces:
            raise CheckpointError(f"{self.path} has no tensor '{name}'{did_you_mean(name, self.pieces) or '.'}")
        found = self.pieces[name]
        if rows is None and found[0].rows is None:
            return self._piece(found[0])
        type_ = found[0].type
        wanted = range(type_.shape[0]) if rows is None else rows
        result = np.empty((len(wanted), *type_.shape[1:]), type_.dtype.numpy)
        numbers = np.arange(wanted.start, wanted.stop, wanted.step)
        for piece in found:
            held = range(type_.shape[0]) if piece.rows is None else piece.rows
            places, remainders = np.divmod(numbers - held.start, held.step)
            here = (remainders == 0) & (places >= 0) & (places < len(held))
            if here.any():
                result[here] = self._piece(piece)[places[here]]
        return result

    def verify(self) -> None:
        """Read everything once.

        Raises:
            CheckpointError: something is damaged; names the file.
        """
        for pieces in self.pieces.values():
            for piece in pieces:
                self._piece(piece)

    def _piece(self, piece: Piece) -> Array:
        path = self.path / piece.file if piece.file else self.path
        try:
            with TensorFile(path) as file:
                found = file.entries.get(piece.key)
                if found is None or found.type != TensorType(piece.stored, as_dtype(piece.dtype)):
                    raise TensorFileError(f"it has {'no' if found is None else found.type} '{piece.key}'.")
                array = file.read(piece.key)
        except (OSError, TensorFileError) as error:
            raise CheckpointError(f"{path} is damaged: {error}") from None
        if piece.sha256 and digest_of(array) != piece.sha256:
            raise CheckpointError(f"{path} is damaged: the bytes of '{piece.key}' are not those that were written.")
        return array


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in a folder, or a single safetensors file as one.

    Raises:
        CheckpointError: there is none, or its index cannot be read.
    """
    if path.is_file():
        return _single_file(path)
    try:
        index = json.loads((path / INDEX).read_bytes())
        if index["format"] != FORMAT:
            raise CheckpointError(f"{path} is of the format '{index['format']}', this version reads '{FORMAT}'.")
        pieces = _by_tensor(Piece.from_json(fields) for fields in index["pieces"])
        return Checkpoint(path, int(index["step"]), float(index["time"]), index["metrics"], pieces)
    except FileNotFoundError:
        near = did_you_mean(path.name, os.listdir(path.parent)) if path.parent.is_dir() else ""
        why = "was never completed" if path.is_dir() else f"is not there{near}"
        raise CheckpointError(f"no checkpoint: {path} {why}") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path / INDEX} is damaged: {error}") from None


def _single_file(path: Path) -> Checkpoint:
    try:
        with TensorFile(path) as file:
            pieces = [
                Piece(name, entry.type.dtype.name, entry.type.shape, None, "", name, "")
                for name, entry in file.entries.items()
            ]
    except TensorFileError as error:
        raise CheckpointError(f"{path} is not a checkpoint: {error}") from None
    return Checkpoint(path, 0, path.stat().st_mtime, {}, _by_tensor(pieces))


def folders(folder: Path) -> list[Path]:
    """Where the completed checkpoints of a folder are, the oldest step first."""
    found = [p for p in folder.glob("step-*") if (p / INDEX).is_file()] if folder.is_dir() else []
    return sorted(found, key=_order)


def _order(path: Path) -> tuple[int, ...]:
    """`step-00000120.1` as (120, 1)."""
    return tuple(int(n) if n.isdigit() else 0 for n in path.name.removeprefix("step-").split("."))


def complete(folder: Path) -> list[Checkpoint]:
    """The checkpoints in a folder, the oldest step first, but for those whose index is damaged."""
    found = []
    for path in folders(folder):
        with suppress(CheckpointError):
            found.append(open_checkpoint(path))
    return found


def new_folder(folder: Path, step: int) -> Path:
    """A folder for the checkpoint of a step that no other one has."""
    path, number = folder / f"step-{step:08d}", 0
    while path.exists():
        number += 1
        path = folder / f"step-{step:08d}.{number}"
    return path


def remove(path: Path) -> None:
    """Remove a checkpoint; the index goes first, so that it never looks complete when it is not."""
    (path / INDEX).unlink(missing_ok=True)
    with suppress(OSError):  # the disk may be the reason for removing it
        tensorfile.sync_folder(path)
    shutil.rmtree(path, ignore_errors=True)


def remove_incomplete(folder: Path) -> list[Path]:
    """Remove what saves that were cut off have left behind; for the one who writes to the folder."""
    found = [p for p in sorted(folder.glob("step-*")) if p.is_dir() and not (p / INDEX).exists()]
    for path in found:
        shutil.rmtree(path, ignore_errors=True)
    return found
