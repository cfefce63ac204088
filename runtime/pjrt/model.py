"""Exported models on TPUs: `model = tw.load("dist", device="tpu:0"); model.infer(x)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.dialects.devices import parse
from thalweg.dialects.diagnostics import BundleError, UnavailableError, did_you_mean
from thalweg.runtime.config import config
from thalweg.runtime.interface import Interface
from thalweg.runtime.locks import SharedLock
from thalweg.runtime.pjrt.client import DeviceArray, Program, client_for
from thalweg.runtime.tensorfile import TensorFile, TensorFileError, replacing

Array = np.ndarray[Any, Any]
_LAYOUT = "thalweg.layout"


class Model:
    """An exported model with a state of its own, which stays on its devices between calls. Its signatures are methods,
    safe to call from several threads.

    Args:
        manifest: what the export wrote.
        root: the folder of the export.
        devices: TPUs of this process by name; as many as the model was exported for.

    Raises:
        BundleError: it was not exported for TPUs or for another number of them; weights that do not fit.
        UnavailableError: there are no such TPUs.
    """

    def __init__(self, manifest: Mapping[str, Any], root: Path, devices: Sequence[str]) -> None:
        if "tpu" not in manifest:
            raise BundleError(
                f"{root} has no program for TPUs; it has {', '.join(manifest['targets'])}. Export with targets=['tpu']."
            )
        self.name: str = manifest["name"]
        row = manifest["tpu"]
        self._devices = _numbers(devices, row["shards"])
        self._client = client_for(virtual=bool(config.virtual_tpus))
        self._entries = manifest["state"]["entries"]
        self._layout: str = manifest["state"]["layout"]
        self._weights = root / "weights.safetensors"
        self._lock = SharedLock()  # an updated variable's old memory is gone: nobody may be about to read it
        self._state: dict[str, DeviceArray] = {}
        self.restore(self._weights)
        self._signatures = {
            name: _Signature(self, Interface(name, manifest["signatures"][name]), [_Piece(root, p) for p in pieces])
            for name, pieces in row["programs"].items()
        }

    @property
    def signatures(self) -> tuple[str, ...]:
        """The names of what can be called."""
        return tuple(self._signatures)

    @property
    def state(self) -> dict[str, Array]:
        """Copies of the variables' values by name."""
        with self._lock.reading():
            return {name: np.array(value) for name, value in self._state.items()}

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Take the state from a weights file; all or nothing.

        Raises:
            BundleError: no such file, or not one of this model.
        """
        try:
            with TensorFile(Path(path)) as file:
                if file.metadata.get(_LAYOUT) != self._layout:
                    raise BundleError(f"{os.fspath(path)} does not hold the weights of this model.")
                found = {e["name"]: file.read(e["name"]) for e in self._entries}
        except (OSError, TensorFileError, KeyError) as error:
            raise BundleError(f"{os.fspath(path)} cannot be read: {error}") from None
        state = {name: self._client.put(array, self._devices) for name, array in found.items()}
        with self._lock.writing():
            self._state = state

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a weights file, which the model's libraries read, too."""
        data = bytearray(self._weights.read_bytes())
        start = 8 + int.from_bytes(data[:8], "little")
        for name, array in self.state.items():
            begin = start + next(e["offset"] for e in self._entries if e["name"] == name)
            data[begin : begin + array.nbytes] = array.tobytes()
        with replacing(Path(path)) as file:
            file.write(data)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        signatures = self.__dict__.get("_signatures", {})
        if name not in signatures:
            raise AttributeError(f"the model has no signature '{name}'{did_you_mean(name, signatures) or '.'} "
                                 f"It has {', '.join(signatures)}.")  # fmt: skip
        found: Callable[..., Any] = signatures[name]
        return found

    def _compiled(self, piece: _Piece) -> Program:
        return self._client.compile(piece.data, self._devices, piece.split_outputs if len(self._devices) > 1 else ())

    def _run(self, piece: _Piece, program: Program, inputs: Sequence[Array]) -> list[DeviceArray]:
        """One run of a program; the state that it changes is changed when this returns."""
        pairs = zip(inputs, piece.split_inputs, strict=True)
        given = [self._client.put(array, self._devices, split) for array, split in pairs]
        with self._lock.writing() if piece.updates else self._lock.reading():
            results = program([*given, *(self._state[name] for name in piece.state)])
            for number, name in piece.updates.items():
                self._state[name] = results[number]
        return results[: len(results) - len(piece.updates)]


class _Piece:
    """A program of a signature; of a batched one, for `rows` rows."""

    def __init__(self, root: Path, row: Mapping[str, Any]) -> None:
        try:
            self.data = (root / row["file"]).read_bytes()
        except OSError as error:
            raise BundleError(f"{root / row['file']} cannot be read: {error}") from None
        self.rows: int = row["rows"]
        self.state: list[str] = row["state"]
        self.updates: dict[int, str] = {int(number): name for number, name in row["updates"].items()}
        self.split_inputs: list[bool] = row["split_inputs"]
        self.split_outputs: list[bool] = row["split_outputs"]
        self.program: Program | None = None  # compiled when it is first needed


@dataclass(frozen=True)
class _Signature:
    """One signature of a model."""

    model: Model
    interface: Interface
    pieces: Sequence[_Piece]

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """Run on arrays of exactly the signature's types, by position or name; one array, a dict of them, or None."""
        inputs, rows = self.interface.checked(arrays, named)
        if not self.interface.batched:
            outputs = [np.array(a) for a in self._run(self.pieces[0], inputs)]
        else:
            parts = list(self._parts(inputs, rows))
            outputs = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else self._nothing()
        return self.interface.results(outputs)

    def _run(self, piece: _Piece, inputs: Sequence[Array]) -> list[DeviceArray]:
        if piece.program is None:
            piece.program = self.model._compiled(piece)
        return self.model._run(piece, piece.program, inputs)

    def _parts(self, inputs: Sequence[Array], rows: int) -> Iterator[list[Array]]:
        """The results of a batch in turn: as often as can be with the program for the most rows, then once with that
        for the fewest that hold the rest, which is filled up with zeros."""
        batched = [None in shape for _, shape, _ in self.interface.inputs]
        largest = max(piece.rows for piece in self.pieces)
        for begin in range(0, rows, largest):
            count = min(largest, rows - begin)
            piece = min((p for p in self.pieces if p.rows >= count), key=lambda p: p.rows)
            given = [
                _filled(array[begin : begin + count], piece.rows) if open_ else array
                for array, open_ in zip(inputs, batched, strict=True)
            ]
            yield [np.array(a)[:count] for a in self._run(piece, given)]

    def _nothing(self) -> list[Array]:
        return [np.empty([0 if n is None else n for n in shape], d.numpy) for _, shape, d in self.interface.outputs]


def _filled(array: Array, rows: int) -> Array:
    missing = rows - len(array)
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) if missing else array


def _numbers(devices: Sequence[str], shards: int) -> list[int]:
    """The numbers of TPUs; "tpu" alone stands for as many as are needed."""
    wanted = [parse(device) for device in devices]
    if len(wanted) == 1 and wanted[0].index is None:
        wanted = [parse(f"tpu:{number}") for number in range(shards)]
    if len(wanted) != shards:
        raise BundleError(f"the model was exported with shards={shards}; {len(wanted)} devices are given for it.")
    known = [parse(name) for name in config.devices]
    for device in wanted:
        if not any(one.satisfies(device) for one in known):
            raise UnavailableError(
                f"there is no device {device} here; this process has {', '.join(map(str, known))}. "
                "tw.config.set_virtual_devices(tpu=…) tries programs for TPUs on PJRT's CPU devices."
            )
    return [device.index or 0 for device in wanted]
