"""tf.train.Example without TensorFlow: the protocol buffer's few fields, read from its bytes.

    Example { features = 1: Features { feature = 1: map<string, Feature> } }
    Feature { bytes_list = 1 | float_list = 2 | int64_list = 3 },  each { value = 1, repeated }
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import StepError, did_you_mean
from thalweg.dialects.types import VARIES, TensorType
from thalweg.runtime.plan import Array
from thalweg.runtime.queues.stacking import stacked

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_HELD_AS = {"f": "f", "i": "i", "u": "i", "b": "i", "s": "O"}  # kinds of our dtypes by those of an example
_DTYPES = {"f": np.float32, "i": np.int64, "O": object}
_KINDS = {1: "bytes", 2: "float", 3: "int64"}


@dataclass(frozen=True)
class Feature:
    """What to read of each example: a type (one extent may vary), and what to take where it is missing."""

    name: str
    type: TensorType
    default: Any = None


def parse_examples(serialized: Sequence[bytes], features: Sequence[Feature]) -> tuple[Array, ...]:
    """The features of some examples, stacked; where extents vary they are padded with zeros.

    Raises:
        StepError: an example is no example, lacks a feature, or has it in another type or number.
    """
    rows = [_row(data, features, number) for number, data in enumerate(serialized)]
    return stacked(rows, [f.type for f in features], pad=True)


def _row(data: bytes, features: Sequence[Feature], number: int) -> tuple[Array, ...]:
    try:
        found = example(data)
    except (IndexError, ValueError, struct.error) as error:
        raise StepError(f"example {number} is no tf.train.Example: {error}.") from None
    return tuple(_value(found, feature, number) for feature in features)


def _value(found: Mapping[str, Array], feature: Feature, number: int) -> Array:
    wanted, array = feature.type, found.get(feature.name)
    place = f"example {number}: feature '{feature.name}'"
    if array is None or (array.size == 0 and feature.default is not None):
        if feature.default is None:
            hint = did_you_mean(feature.name, found) or f"; it has {', '.join(sorted(found)) or 'none'}."
            raise StepError(f"{place} is missing, and has no default{hint}")
        array = np.asarray(feature.default, _DTYPES[_HELD_AS[wanted.dtype.kind]]).reshape(-1)
        if VARIES not in wanted.shape and array.size == 1:
            array = np.full(int(np.prod(wanted.shape)), array[0], array.dtype)
    if array.dtype.kind != _HELD_AS[wanted.dtype.kind]:
        held = "bytes" if array.dtype.kind == "O" else array.dtype.name
        raise StepError(f"{place} holds {held}, not {wanted.dtype.name}.")
    fixed = int(np.prod([n for n in wanted.shape if n != VARIES]))
    if (VARIES in wanted.shape and array.size % max(fixed, 1)) or (VARIES not in wanted.shape and array.size != fixed):
        shape = str(list(wanted.shape)).replace(str(VARIES), "?")
        raise StepError(f"{place} has {array.size} values, which do not make {shape}.")
    return array.astype(wanted.dtype.numpy).reshape(wanted.shape)


def example(data: bytes) -> dict[str, Array]:
    """All features of one example by name: float32, int64 or objects (bytes), one-dimensional.

    Raises:
        ValueError: the bytes are none.
    """
    features: dict[str, Array] = {}
    for field, _, value in _fields(data):
        if field == 1:
            for inner, _, entry in _fields(_message(value)):
                if inner == 1:
                    name, array = _entry(_message(entry))
                    features[name] = array
    return features


def _entry(data: bytes) -> tuple[str, Array]:
    name, feature = "", b""
    for field, _, value in _fields(data):
        if field == 1:
            name = _message(value).decode()
        elif field == 2:
            feature = _message(value)
    array = np.zeros(0, np.float32)
    for field, _, value in _fields(feature):
        if field in _KINDS:
            array = _list(_KINDS[field], _message(value))
    return name, array


def _list(kind: str, data: bytes) -> Array:
    if kind == "bytes":
        parts = [_message(value) for field, _, value in _fields(data) if field == 1]
        array = np.empty(len(parts), object)
        array[:] = parts
        return array
    pieces: list[Array] = []
    for field, wire, value in _fields(data):
        if field != 1:
            continue
        if kind == "float":
            raw = _message(value) if wire == _BYTES else struct.pack("<I", value)
            pieces.append(np.frombuffer(raw, "<f4"))
        else:
            numbers = list(_varints(_message(value))) if wire == _BYTES else [value]
            pieces.append(np.array(numbers, np.uint64).view(np.int64))
    empty = np.zeros(0, np.float32 if kind == "float" else np.int64)
    return np.concatenate(pieces) if pieces else empty


def _message(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a field has another type than it should")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int, Any]]:
    """The fields of a message: number, wire type, value (bytes, or a number)."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        wire = tag & 7
        value: Any
        if wire == _VARINT:
            value, at = _varint(data, at)
        elif wire == _BYTES:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
            value, at = int.from_bytes(data[at : at + size], "little"), at + size
        else:
            raise ValueError(f"there is no wire type {wire}")
        if at > len(data):
            raise ValueError("it ends in the middle of a field")
        yield tag >> 3, wire, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("it ends in the middle of a number")
        byte = data[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def _varints(data: bytes) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value
