"""Compiled programs: called with NumPy arrays, written to and read from bytes."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.backends.cpu.dispatch import Box, Direct, Words, available
from thalweg.backends.cpu.jit import Code, host_cpu
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.threads import PARALLEL_FOR, parallel_for_address
from thalweg.backends.cpu.weights import PackedWeights, Preparation
from thalweg.dialects.diagnostics import ExecutionError
from thalweg.dialects.types import TensorType, as_dtype

ENTRY, PREPARE = "tw_entry", "tw_prepare"
MAGIC = b"thalweg-cpu-2\n"
ALIGNMENT = 64

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Signature:
    """What a program takes and gives.

    `aliases[k] = j`: result k is the new value of argument j, written into the argument's own array. `preparation`:
    what it reads beside its inputs, and where that comes from.
    """

    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    aliases: Mapping[int, int]
    arena_bytes: int
    preparation: Preparation | None = None

    def to_json(self) -> dict[str, Any]:
        made = self.preparation
        return {
            "inputs": _types_to_json(self.inputs),
            "outputs": _types_to_json(self.outputs),
            "aliases": sorted(self.aliases.items()),
            "arena_bytes": self.arena_bytes,
            "preparation": None if made is None else [_types_to_json(made.made), made.sources, made.arena_bytes],
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Signature:
        preparation = None
        if data["preparation"] is not None:
            made, sources, arena_bytes = data["preparation"]
            preparation = Preparation(_types_from_json(made), tuple(sources), arena_bytes)
        inputs, outputs = _types_from_json(data["inputs"]), _types_from_json(data["outputs"])
        return Signature(inputs, outputs, dict(map(tuple, data["aliases"])), data["arena_bytes"], preparation)


def _types_to_json(types: Sequence[TensorType]) -> list[Any]:
    return [[list(t.shape), t.dtype.name] for t in types]


def _types_from_json(data: Sequence[Any]) -> tuple[TensorType, ...]:
    return tuple(TensorType(tuple(shape), as_dtype(name)) for shape, name in data)


class _Frame:
    """What one running call needs: the table of pointers and an arena of its own."""

    def __init__(self, slots: int, arena_bytes: int) -> None:
        self._memory = np.empty(arena_bytes + ALIGNMENT, np.uint8)
        self.table = (ctypes.c_void_p * (slots + 1))()
        start = self._memory.ctypes.data
        self.table[slots] = start + -start % ALIGNMENT


class Executable:
    """A program in native code. May be called from several threads at once.

    Example:
        >>> executable([x, y])
        [array([...], dtype=float32)]
    """

    def __init__(self, signature: Signature, object_code: bytes, options: CpuOptions, *exports: str) -> None:
        self.signature = signature
        self.options = options
        self.object_code = object_code
        workers = options.worker_count()
        imports = {PARALLEL_FOR: parallel_for_address(workers)} if workers > 1 else {}
        if signature.preparation is not None:
            exports = (PREPARE, *exports)
        self._code = Code(object_code, ENTRY, *exports, imports=imports)
        self._run: Callable[[Any], None] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._code.address(ENTRY))
        self._fresh = [
            (number, t.shape, t.dtype.numpy) for number, t in enumerate(self.outputs) if number not in self.aliases
        ]
        self._written = frozenset(self.aliases.values())
        self._checks = [(t.shape, t.dtype.numpy) for t in self.inputs]
        self._packed = len(signature.preparation.made) if signature.preparation is not None else 0
        self._slots = len(self.inputs) + self._packed + len(self._fresh)
        self._frames: list[_Frame] = []  # not in use; list.pop and append are atomic

    @property
    def inputs(self) -> tuple[TensorType, ...]:
        return self.signature.inputs

    @property
    def outputs(self) -> tuple[TensorType, ...]:
        return self.signature.outputs

    @property
    def aliases(self) -> Mapping[int, int]:
        return self.signature.aliases

    def address(self, name: str) -> int:
        """The address of the program's entry, or of another function given as an export."""
        return self._code.address(name)

    @property
    def arena_bytes(self) -> int:
        return self.signature.arena_bytes

    def weights(self, arrays: Sequence[Array | None], locks: Sequence[Words | None]) -> PackedWeights | None:
        """Where the program's weights are kept packed, if it reads any so.

        Args:
            arrays: the program's last arguments: those that are packed must be exact, and stay where they are.
            locks: for each of them the words of its variable's lock; None for what never changes.
        """
        preparation = self.signature.preparation
        if preparation is None:
            return None
        free = len(self.inputs) - len(arrays)
        run: Callable[[Any], None] = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._code.address(PREPARE))
        sources = [locks[number - free] for number in preparation.sources]
        return PackedWeights(run, preparation, [*[None] * free, *arrays], sources)

    def __call__(self, arrays: Sequence[Array], weights: PackedWeights | None = None) -> list[Array]:
        """Run the program.

        Args:
            arrays: one for each input, of exactly its shape and dtype. Those that a result aliases are modified.
            weights: those among them that are kept packed; without, they are packed for this call.

        Returns:
            One array for each output; for an aliased output, the argument itself.

        Raises:
            ExecutionError: a wrong number of arrays, shape or dtype; an aliased argument that cannot be written in
            place.
        """
        if len(arrays) != len(self._checks):
            raise ExecutionError(f"the program takes {len(self._checks)} arrays, but was called with {len(arrays)}.")
        frame = self._frames.pop() if self._frames else _Frame(self._slots, self.arena_bytes)
        table = frame.table
        kept: list[Any] = []
        slot = 0
        for array, (shape, dtype) in zip(arrays, self._checks, strict=True):
            if type(array) is not np.ndarray or array.shape != shape or array.dtype != dtype:
                array = self._converted(slot, array)
            if not array.flags.c_contiguous or (slot in self._written and not array.flags.writeable):
                array = self._contiguous(slot, array)
            kept.append(array)
            table[slot] = array.ctypes.data
            slot += 1
        if self._packed:
            packed = weights if weights is not None else self.weights(kept, [None] * len(kept))
            assert packed is not None
            kept.append(packed)
            for array in packed.current():
                table[slot] = array.ctypes.data
                slot += 1
        results: list[Array] = [kept[self.aliases[k]] if k in self.aliases else None for k in range(len(self.outputs))]  # type: ignore[misc]
        for number, shape, dtype in self._fresh:
            result = results[number] = np.empty(shape, dtype)
            table[slot] = result.ctypes.data
            slot += 1
        self._run(table)
        self._frames.append(frame)
        return results

    def _converted(self, slot: int, array: Any) -> Array:
        """An argument that is not exactly as wanted: array-likes of the right type are taken, all else refused."""
        wanted = self.inputs[slot]
        found = np.asarray(array)
        if found.shape != wanted.shape or found.dtype != wanted.dtype.numpy:
            kind = f"{found.dtype.name}[{','.join(map(str, found.shape))}]"
            raise ExecutionError(f"argument {slot} must be {wanted}, but is {kind}. Convert it before the call.")
        if slot in self._written and found is not array and not np.shares_memory(found, array):
            raise ExecutionError(
                f"argument {slot} is modified by the program: pass a NumPy array, not {type(array).__name__}."
            )
        return found

    def _contiguous(self, slot: int, array: Array) -> Array:
        if slot in self._written:
            raise ExecutionError(
                f"argument {slot} is modified in place and must be a writable, C-contiguous array. Pass a copy of it."
            )
        return np.ascontiguousarray(array)

    def direct(
        self,
        bound: Sequence[Array],
        locks: Sequence[tuple[Words, bool]] = (),
        box: Box | None = None,
        weights: PackedWeights | None = None,
    ) -> Direct | None:
        """The quick way into this program with its last arguments bound, None where there is none (`dispatch.py`). It
        holds `locks` while it runs, and is closed while `weights` are not packed as they are now.

        The arrays must be exact, writable where they are updated, and stay where they are; fresh results come back in
        order.
        """
        free = len(self.inputs) - len(bound)
        if not available() or any(argument < free for argument in self._written):
            return None
        if self._packed and weights is None:
            return None
        packed = weights.arrays if weights is not None else []
        frame = _Frame(self._slots, self.arena_bytes)
        first = len(self.inputs) + len(packed)
        results = [(self.outputs[k], first + place) for place, (k, _, _) in enumerate(self._fresh)]
        arena, versions = frame.table[self._slots] or 0, weights.rows if weights is not None else None
        kept = (self, frame, weights)
        address = self.address(ENTRY)
        return Direct(address, self.inputs[:free], [*bound, *packed], results, arena, locks, kept, box, versions)

    # Files.

    def serialize(self) -> bytes:
        """Object code and signature, for the disk cache. Only for machines with the same processor."""
        cpu, features = host_cpu()
        header = json.dumps(
            {
                "signature": self.signature.to_json(),
                "cpu": self.options.cpu or cpu,
                "features": self.options.features or features,
                "options": self.options.to_json(),
                "object_bytes": len(self.object_code),
            }
        ).encode()
        return MAGIC + len(header).to_bytes(8, "little") + header + self.object_code

    @staticmethod
    def deserialize(data: bytes) -> Executable:
        """The executable that `serialize` wrote.

        Raises:
            ExecutionError: the bytes are truncated or not ours, or were made for another processor.
        """
        start = len(MAGIC) + 8
        if data[: len(MAGIC)] != MAGIC or len(data) < start:
            raise ExecutionError("not a compiled CPU program of this version of Thalweg. Compile it again.")
        size = int.from_bytes(data[len(MAGIC) : start], "little")
        try:
            header = json.loads(data[start : start + size])
            signature = Signature.from_json(header["signature"])
            options = CpuOptions(**header["options"])
        except (ValueError, KeyError, TypeError) as error:
            raise ExecutionError(
                f"the header of a compiled CPU program is damaged: {error}. Compile it again."
            ) from error
        object_code = data[start + size :]
        if len(object_code) != header["object_bytes"]:
            raise ExecutionError("a compiled CPU program is truncated. Compile it again.")
        if (header["cpu"], header["features"]) != host_cpu():
            raise ExecutionError(
                f"a compiled CPU program is for a {header['cpu']}, this is a {host_cpu()[0]}. Compile it again."
            )
        return Executable(signature, object_code, options)
