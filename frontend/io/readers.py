"""Readers: records out of files whose names come from a queue."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.dialects.location import user_frame
from thalweg.dialects.ops import reader as rows
from thalweg.dialects.types import VARIES, TensorType, as_dtype, string, types_to_text
from thalweg.frontend.queues import QueueBase, fresh
from thalweg.frontend.resource import Resource, emit_host
from thalweg.frontend.spec import TensorSpec
from thalweg.frontend.tensor import Tensor

Record = Any  # a tensor, or a tuple of them
TEXT = TensorType((), string)


class ReaderBase(Resource):
    """What all readers do. A reader has a place in one file, shared by all who use it; to read several files at once,
    make several readers."""

    format = ""

    def __init__(
        self,
        types: Sequence[TensorType],
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        shared_name: str | None = None,
        container: str = "",
    ) -> None:
        attrs = {"format": self.format, "types": types_to_text(types), "options": json.dumps(options or {})}
        super().__init__(rows.reader_handle, attrs, name or f"{self.format}_reader", shared_name, container)
        self.components = tuple(types)

    def read(self, files: QueueBase, timeout: float = 0, name: str | None = None) -> Record:
        """The next record, a tensor per component.

        Args:
            files: a queue of file names.
            timeout: seconds to wait for a file's name; 0 for any time.

        Raises:
            OutOfRangeError: the queue is closed and all files are read.
            StepError: a file cannot be read, or is damaged; with its name and place.
        """
        return self._records(rows.reader_read, files, self._varying(), timeout, name)

    def read_many(self, files: QueueBase, count: int, timeout: float = 0, name: str | None = None) -> Record:
        """The next `count` records, each component stacked along a new first dimension; all or none."""
        return self._records(rows.reader_read_many, files, self._varying(), timeout, name, count=count)

    def read_up_to(self, files: QueueBase, count: int, timeout: float = 0, name: str | None = None) -> Record:
        """As `read_many`, but at the end of the files what is left, at least one."""
        return self._records(rows.reader_read_up_to, files, 1 + self._varying(), timeout, name, count=count)

    def _varying(self) -> int:
        return sum(t.shape.count(VARIES) for t in self.components)

    def _records(
        self, row: Any, files: QueueBase, extents: int, timeout: float, name: str | None, **attrs: Any
    ) -> Record:
        found = self._get(row, files, timeout=timeout, name=name, extents=fresh(extents), **attrs)
        return found[0] if len(found) == 1 else found


class _KeyedReader(ReaderBase):
    """Gives pairs (key, value) of strings; the key is `file:number`."""

    def __init__(
        self,
        options: Mapping[str, Any] | None = None,
        name: str | None = None,
        shared_name: str | None = None,
        container: str = "",
    ) -> None:
        super().__init__([TEXT, TEXT], options, name, shared_name, container)


class TextLineReader(_KeyedReader):
    """Lines of text files (also `.gz`), without their ends.

    Args:
        skip_header_lines: lines at the start of each file that are left out.

    Example:
        >>> key, line = tw.io.TextLineReader(skip_header_lines=1).read(files)
    """

    format = "text"

    def __init__(self, skip_header_lines: int = 0, name: str | None = None, **where: Any) -> None:
        super().__init__({"skip": skip_header_lines}, name, **where)


class WholeFileReader(_KeyedReader):
    """Whole files: (name, content)."""

    format = "whole"

    def __init__(self, name: str | None = None, **where: Any) -> None:
        super().__init__({}, name, **where)


class TFRecordReader(_KeyedReader):
    """Records of TFRecord files (also `.gz`). Their checksums are checked. See `parse_example`."""

    format = "tfrecord"

    def __init__(self, name: str | None = None, **where: Any) -> None:
        super().__init__({}, name, **where)


class FixedLengthReader(_KeyedReader):
    """Records of `record_bytes` each, between a header and a footer that are left out. See `decode_raw`."""

    format = "fixed"

    def __init__(
        self, record_bytes: int, header_bytes: int = 0, footer_bytes: int = 0, name: str | None = None, **where: Any
    ) -> None:
        if record_bytes < 1 or header_bytes < 0 or footer_bytes < 0:
            raise ValueError(f"{user_frame()} a record has at least one byte, a header and a footer none or more.")
        options = {"record_bytes": record_bytes, "header_bytes": header_bytes, "footer_bytes": footer_bytes}
        super().__init__(options, name, **where)


class CSVReader(ReaderBase):
    """Typed columns of CSV files (also `.gz`). A cell that does not fit is an error with file, line and column.

    Args:
        columns: dtypes by the names in the first line; a list of dtypes where there is no such line.
        defaults: what empty cells stand for, by name or (of a list) in order; without one they are errors.
        delimiter: between cells.

    Example:
        >>> reader = tw.io.CSVReader({"age": tw.int32, "height": tw.float32}, defaults={"height": 0.0})
        >>> age, height = reader.read_up_to(files, 100)
    """

    format = "csv"

    def __init__(
        self,
        columns: Mapping[str, Any] | Sequence[Any],
        defaults: Mapping[str, Any] | Sequence[Any] | None = None,
        delimiter: str = ",",
        name: str | None = None,
        **where: Any,
    ) -> None:
        named = isinstance(columns, Mapping)
        labels: list[Any] = list(columns) if named else list(range(len(columns)))
        dtypes = [as_dtype(d) for d in (columns.values() if isinstance(columns, Mapping) else columns)]
        if isinstance(defaults, Mapping):
            unknown = [n for n in defaults if n not in labels]
            if unknown:
                raise ValueError(f"{user_frame()} there is a default for '{unknown[0]}', which is no column.")
        given = [defaults.get(n) if isinstance(defaults, Mapping) else None for n in labels]
        if isinstance(defaults, list | tuple):
            given = list(defaults)
        options = {"columns": labels, "header": named, "delimiter": delimiter, "defaults": given}
        super().__init__([TensorType((), d) for d in dtypes], options, name, **where)


class ParquetReader(ReaderBase):
    """Columns of Parquet files, batch by batch (extra `[pipeline]`).

    Args:
        columns: by name a dtype, or a `tw.spec` for columns whose cells are lists of one length.

    Example:
        >>> reader = tw.io.ParquetReader({"pixels": tw.spec((784,), tw.float32), "label": tw.int32})
        >>> pixels, labels = reader.read_many(files, 32)
    """

    format = "parquet"

    def __init__(self, columns: Mapping[str, Any], name: str | None = None, **where: Any) -> None:
        types = [c.type if isinstance(c, TensorSpec) else TensorType((), as_dtype(c)) for c in columns.values()]
        super().__init__(types, {"columns": list(columns)}, name, **where)


def matching_files(
    patterns: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    shuffle: bool = False,
    seed: int = 0,
    num_epochs: int | None = None,
    name: str = "file_list",
) -> Tensor:
    """The names of the files that fit some patterns (`*`, `?`, `**`), where the op runs: string[n].

    Each time it runs is an epoch. `shuffle` orders the names by the seed and the number of the epoch.

    Raises:
        StepError: no file fits.
        OutOfRangeError: it ran `num_epochs` times.
    """
    listed = [patterns] if isinstance(patterns, str | os.PathLike) else list(patterns)
    if not listed:
        raise ValueError(f"{user_frame()} give at least one file.")
    owner = Resource.claim_name(name)
    attrs = {
        "name": owner, "container": "", "patterns": "\n".join(os.fspath(p) for p in listed), "shuffle": shuffle,
        "seed": seed, "epochs": num_epochs or 0, "extents": fresh(1),
    }  # fmt: skip
    (names,) = emit_host(rows.file_list, [], attrs)
    return names

