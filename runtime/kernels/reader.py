"""Kernels of `dialects/ops/reader.py`."""

from __future__ import annotations

import csv
import functools
import glob
import json
import os
import random
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import OutOfRangeError, StepError
from thalweg.dialects.types import VARIES, types_from_text
from thalweg.runtime.kernels import Call, Done, async_kernel, kernel
from thalweg.runtime.plan import Array, Value
from thalweg.runtime.queues.waiting import start
from thalweg.runtime.readers.columns import decode_rows
from thalweg.runtime.readers.examples import Feature, parse_examples
from thalweg.runtime.readers.formats import FORMATS, objects
from thalweg.runtime.readers.images import decode
from thalweg.runtime.readers.reader import Reader


@functools.lru_cache(maxsize=256)
def _options(text: str) -> Any:
    return json.loads(text)


@kernel("reader_handle")
def reader_handle(call: Call) -> Sequence[Value]:
    attrs = call.attrs
    types, options = types_from_text(attrs["types"]), _options(attrs["options"])
    open_file = FORMATS[attrs["format"]]

    def make() -> Reader:
        return Reader(attrs["name"], types, lambda name: open_file(name, options, types))

    return (call.step.resources.get_or_create(attrs["container"], "reader", attrs["name"], make),)


@async_kernel("reader_read")
def reader_read(call: Call, done: Done) -> None:
    reader, files = call.inputs
    start(call, done, lambda then: reader.read(files, 1, then, batched=False))


@async_kernel("reader_read_many")
def reader_read_many(call: Call, done: Done) -> None:
    reader, files = call.inputs
    start(call, done, lambda then: reader.read(files, call.attrs["count"], then))


@async_kernel("reader_read_up_to")
def reader_read_up_to(call: Call, done: Done) -> None:
    reader, files = call.inputs
    start(call, done, lambda then: reader.read(files, call.attrs["count"], then, partial=True))


class _Epochs:
    """How often something was done."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._given = 0

    def next(self, limit: int) -> int:
        """The number of this epoch, from 0.

        Raises:
            OutOfRangeError: there were `limit`.
        """
        with self._lock:
            if limit and self._given >= limit:
                raise OutOfRangeError(f"there were {limit} epoch{'' if limit == 1 else 's'}.")
            self._given += 1
            return self._given - 1

    def close(self) -> None:
        """Its container is reset."""


@kernel("file_list", blocking=True)
def file_list(call: Call) -> Sequence[Value]:
    attrs = call.attrs
    epochs = call.step.resources.get_or_create(attrs["container"], "file_list", attrs["name"], _Epochs)
    names: list[str] = []
    for pattern in attrs["patterns"].split("\n"):
        found = sorted(glob.glob(pattern, recursive=True)) if glob.has_magic(pattern) else [pattern]
        names += found
    if not names:
        raise StepError(f"no file fits {', '.join(attrs['patterns'].split(chr(10)))}.")
    epoch = epochs.next(attrs["epochs"])
    if attrs["shuffle"]:
        random.Random(f"{attrs['seed']}:{epoch}").shuffle(names)
    return (objects([os.fsencode(name) for name in names]),)


@kernel("count_up_to")
def count_up_to(call: Call) -> Sequence[Value]:
    attrs = call.attrs
    epochs = call.step.resources.get_or_create(attrs["container"], "count_up_to", attrs["name"], _Epochs)
    return (np.array(epochs.next(attrs["limit"]), np.int64),)


@kernel("read_file", blocking=True)
def read_file(call: Call) -> Sequence[Value]:
    name = os.fsdecode(call.inputs[0].item())
    try:
        with open(name, "rb") as file:
            return (_scalar(file.read()),)
    except OSError as error:
        raise StepError(f"{name} cannot be read: {error.strerror}.") from None


def _scalar(value: bytes) -> Array:
    array = np.empty((), object)
    array[()] = value
    return array


@kernel("decode_csv")
def decode_csv(call: Call) -> Sequence[Value]:
    (lines,) = call.inputs
    types, options = types_from_text(call.attrs["types"]), _options(call.attrs["options"])
    flat = [line.decode() for line in lines.reshape(-1)]
    rows = list(enumerate(csv.reader(flat, delimiter=options.get("delimiter", ","))))
    if len(rows) != len(flat):
        raise StepError("a quoted cell goes over the end of its line.")
    places = options.get("columns") or list(range(len(types)))
    columns = decode_rows(rows, places, types, options.get("defaults"), "line", places)
    return [column.reshape(lines.shape) for column in columns]


@kernel("parse_example")
def parse_example(call: Call) -> Sequence[Value]:
    (serialized,) = call.inputs
    types = types_from_text(call.attrs["types"])
    declared = _options(call.attrs["features"])
    features = [
        Feature(f["name"], type_, f["default"].encode() if isinstance(f["default"], str) else f["default"])
        for f, type_ in zip(declared, types, strict=True)
    ]
    columns = parse_examples(serialized.reshape(-1).tolist(), features)
    return [column.reshape(*serialized.shape, *column.shape[1:]) for column in columns]


@kernel("decode_image", blocking=True)
def decode_image(call: Call) -> Sequence[Value]:
    attrs = call.attrs
    height, width = attrs["size"] or (0, 0)
    return (decode(call.inputs[0].item(), attrs["channels"], height, width, attrs["method"]),)


@kernel("decode_raw")
def decode_raw(call: Call) -> Sequence[Value]:
    (content,) = call.inputs
    (type_,) = types_from_text(call.attrs["types"])
    dtype = type_.dtype.numpy.newbyteorder(">" if call.attrs["big_endian"] else "<")
    lengths = {len(element) for element in content.reshape(-1)}
    if len(lengths) > 1:
        raise StepError(f"the strings have different lengths, {min(lengths)} to {max(lengths)} bytes.")
    numbers = np.frombuffer(b"".join(content.reshape(-1).tolist()), dtype).astype(type_.dtype.numpy)
    shape = tuple(-1 if n == VARIES else n for n in type_.shape)
    try:
        return (numbers.reshape(*content.shape, *shape),)
    except ValueError:
        (length,) = lengths
        shown = str(list(type_.shape)).replace(str(VARIES), "?")
        raise StepError(f"{length} bytes do not make {type_.dtype.name}{shown}.") from None
