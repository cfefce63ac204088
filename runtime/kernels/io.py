"""Checkpoints: copies of variables, files of them, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import StepError
from thalweg.runtime import checkpoints
from thalweg.runtime.checkpoints import Part, Piece
from thalweg.runtime.kernels import Call, kernel
from thalweg.runtime.locks import Held
from thalweg.runtime.plan import Array
from thalweg.runtime.resources import Buffer, uninitialised


class Snapshot:
    """Copies of variables, in the order of the variables."""

    def __init__(self, number: int, arrays: Sequence[Array]) -> None:
        self.number = number
        self.arrays = list(arrays)

    def close(self) -> None:
        """Let go of the copies."""
        self.arrays = []


@kernel("snapshot")
def snapshot(call: Call) -> Sequence[Array]:
    variables: Sequence[Buffer] = call.inputs[1:]
    for variable in variables:
        if not variable.initialised:
            raise uninitialised(variable.name)
    with Held((v.lock, False) for v in sorted(variables, key=lambda v: v.name)):
        copies = Snapshot(int(call.inputs[0]), [v.array.copy() for v in variables])
    resources, name = call.step.resources, call.attrs["name"]
    resources.drop("", "snapshot", name)  # of a save that failed before
    resources.get_or_create("", "snapshot", name, lambda: copies)
    return []


@kernel("save", blocking=True)
def save(call: Call) -> Sequence[Array]:
    resources, name = call.step.resources, call.attrs["name"]
    found = resources.find("", "snapshot", name)
    if not isinstance(found, Snapshot) or found.number != int(call.inputs[0]) or not found.arrays:
        raise StepError("what was to be saved is gone: the task was started anew since it was copied.")
    layout = json.loads(call.attrs["layout"])
    arrays = {entry["key"]: array for entry, array in zip(layout, found.arrays, strict=True)}
    parts = {entry["key"]: _part(entry["part"]) for entry in layout if entry["part"]}
    try:
        pieces = checkpoints.write_part(Path(_text(call.inputs[1])), call.attrs["file"], arrays, parts)
    finally:
        found.close()  # not by its name: if this save was given up, the copies of the next one may have it by now
    return [_string(json.dumps([piece.to_json() for piece in pieces]))]


@kernel("commit_checkpoint", blocking=True)
def commit_checkpoint(call: Call) -> Sequence[Array]:
    path, step, metrics, *records = call.inputs
    pieces = [Piece.from_json(fields) for record in records for fields in json.loads(_text(record))]
    checkpoints.commit(Path(_text(path)), pieces, int(step), json.loads(_text(metrics)))
    return []


@kernel("restore", blocking=True)
def restore(call: Call) -> Sequence[Array]:
    checkpoint = checkpoints.open_checkpoint(Path(_text(call.inputs[0])))
    rows = range(*call.attrs["rows"]) if call.attrs["rows"] else None
    value = checkpoint.read(call.attrs["tensor"], rows)
    wanted = tuple(call.attrs["shape"])
    if value.shape != wanted or value.dtype != call.attrs["dtype"].numpy:
        raise StepError(
            f"'{call.attrs['tensor']}' should be {call.attrs['dtype'].name}{list(wanted)}, {checkpoint.path} has "
            f"{value.dtype.name}{list(value.shape)}."
        )
    return [value]


def _part(fields: Mapping[str, Any]) -> Part:
    return Part(fields["name"], tuple(fields["shape"]), range(*fields["rows"]))


def _text(value: Array) -> str:
    text: bytes = value.item()
    return text.decode()


def _string(text: str) -> Array:
    array = np.empty((), object)
    array[()] = text.encode()
    return array
