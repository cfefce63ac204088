"""Formats of files: each opens a file and gives its records, some at a time, as columns."""

from __future__ import annotations

import contextlib
import gzip
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any

import numpy as np

from thalweg.dialects.diagnostics import StepError
from thalweg.dialects.types import TensorType
from thalweg.runtime.plan import Array
from thalweg.runtime.readers.columns import csv_chunks, parquet_chunks
from thalweg.runtime.readers.reader import Chunk
from thalweg.runtime.readers.records import records

Options = Mapping[str, Any]
Format = Callable[[str, Options, Sequence[TensorType]], Iterator[Chunk]]

ROWS = 256  # records of a chunk


@contextlib.contextmanager
def opened(name: str) -> Iterator[IO[bytes]]:
    """A file, unpacked if its name ends in `.gz`.

    Raises:
        StepError: it cannot be read.
    """
    try:
        with gzip.open(name) if name.endswith(".gz") else open(name, "rb") as file:
            yield file  # type: ignore[misc]
    except FileNotFoundError:
        raise StepError(f"there is no file {name}.") from None
    except (OSError, EOFError) as error:
        raise StepError(f"{name} cannot be read: {error}.") from None


def objects(values: Sequence[bytes]) -> Array:
    """Strings as an array."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _keyed(name: str, values: Iterator[bytes], first: int = 0) -> Iterator[Chunk]:
    """Chunks of (key, value); the key is `file:number`."""
    number = first
    while part := list(islice(values, ROWS)):
        keys = [f"{name}:{number + i}".encode() for i in range(len(part))]
        yield objects(keys), objects(part)
        number += len(part)


def text(name: str, options: Options, types: Sequence[TensorType]) -> Iterator[Chunk]:
    """Lines without their ends. Keys count from 1; the first `skip` lines are left out."""
    skip = options.get("skip", 0)
    with opened(name) as file:
        lines = (line.rstrip(b"\n").removesuffix(b"\r") for line in islice(file, skip, None))
        yield from _keyed(name, lines, skip + 1)


def whole(name: str, options: Options, types: Sequence[TensorType]) -> Iterator[Chunk]:
    """One record: (name, content)."""
    with opened(name) as file:
        yield objects([os.fsencode(name)]), objects([file.read()])


def fixed(name: str, options: Options, types: Sequence[TensorType]) -> Iterator[Chunk]:
    """Records of `record_bytes` between a header and a footer, which are left out.

    Raises:
        StepError: what lies between is no whole number of records.
    """
    size, header, footer = options["record_bytes"], options.get("header_bytes", 0), options.get("footer_bytes", 0)
    with opened(name) as file:
        data = file.read()
    body = len(data) - header - footer
    if body < 0 or body % size:
        raise StepError(
            f"{name} has {len(data)} bytes: without {header} of a header and {footer} of a footer that is no whole "
            f"number of records of {size}."
        )
    yield from _keyed(name, (data[at : at + size] for at in range(header, header + body, size)))


def tfrecord(name: str, options: Options, types: Sequence[TensorType]) -> Iterator[Chunk]:
    """Records of a TFRecord file."""
    with opened(name) as file:
        yield from _keyed(name, records(file, name))


def csv(name: str, options: Options, types: Sequence[TensorType]) -> Iterator[Chunk]:
    """Typed columns of a CSV file."""
    with opened(name) as file:
        yield from csv_chunks(file, name, options, types, ROWS)


def parquet(name: str, options: Options, types: Sequence[TensorType]) -> Iterator[Chunk]:
    """Typed columns of a Parquet file."""
    return parquet_chunks(name, options, types)


FORMATS: Mapping[str, Format] = {
    "text": text, "whole": whole, "fixed": fixed, "tfrecord": tfrecord, "csv": csv, "parquet": parquet,
}  # fmt: skip
