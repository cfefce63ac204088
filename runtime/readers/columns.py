"""Typed columns: CSV and Parquet. What does not fit is told with file, line and column."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import IO, Any

import numpy as np

from thalweg.dialects.diagnostics import MissingExtraError, StepError, did_you_mean
from thalweg.dialects.types import DType, TensorType
from thalweg.runtime.plan import Array

_TRUE, _FALSE = frozenset({"1", "true", "t", "yes"}), frozenset({"0", "false", "f", "no"})
Row = tuple[int, Sequence[str]]  # a line's number and its cells


def csv_chunks(
    file: IO[bytes], name: str, options: Mapping[str, Any], types: Sequence[TensorType], rows: int
) -> Iterator[tuple[Array, ...]]:
    """Columns of a CSV file, `rows` lines at a time.

    Args:
        options: `columns` (names from the first line, if `header`; else positions, from 0), `header`, `delimiter`,
            `defaults` (what an empty cell stands for, None where it is an error).

    Raises:
        StepError: a cell that does not parse, a line with too few cells, a column that is not there.
    """
    lines = csv.reader(io.TextIOWrapper(file, "utf-8", newline=""), delimiter=options.get("delimiter", ","))
    wanted = options.get("columns") or list(range(len(types)))
    if options.get("header", True):
        places = _places(next(lines, []), wanted, name)
    else:
        places = [int(c) for c in wanted]
    table = ((lines.line_num, cells) for cells in lines if cells)
    while part := list(islice(table, rows)):
        yield decode_rows(part, places, types, options.get("defaults"), name, wanted)


def _places(header: Sequence[str], wanted: Sequence[str | int], name: str) -> list[int]:
    names = [cell.strip() for cell in header]
    for column in wanted:
        if isinstance(column, str) and column not in names:
            hint = did_you_mean(column, names) or f"; it has {', '.join(names) or 'none'}."
            raise StepError(f"{name}:1: there is no column '{column}'{hint}")
    return [names.index(c) if isinstance(c, str) else c for c in wanted]


def decode_rows(
    part: Sequence[Row], places: Sequence[int], types: Sequence[TensorType], defaults: Sequence[Any] | None,
    name: str, labels: Sequence[str | int],
) -> tuple[Array, ...]:  # fmt: skip
    """Cells of some lines as one array per column."""
    columns = []
    for index, (place, type_) in enumerate(zip(places, types, strict=True)):
        default = defaults[index] if defaults else None
        cells = [_cell(line, row, place, default, name, labels[index]) for line, row in part]
        columns.append(_column(cells, type_.dtype, part, name, labels[index]))
    return tuple(columns)


def _cell(line: int, cells: Sequence[str], place: int, default: Any, name: str, label: str | int) -> str:
    if place >= len(cells):
        raise StepError(f"{name}:{line}: the line has {len(cells)} cells, column '{label}' is number {place}.")
    if cells[place] == "" and default is not None:
        return str(default)
    return cells[place]


def _column(cells: Sequence[str], dtype: DType, part: Sequence[Row], name: str, label: str | int) -> Array:
    try:
        return _parsed(cells, dtype)
    except (ValueError, OverflowError):
        for (line, _), cell in zip(part, cells, strict=True):
            try:
                _parsed([cell], dtype)
            except (ValueError, OverflowError):
                what = f"is not of {dtype.name}" if cell else "is empty and has no default"
                shown = f" '{cell:.40}'" if cell else ""
                raise StepError(f"{name}:{line}: column '{label}':{shown} {what}.") from None
        raise


def _parsed(cells: Sequence[str], dtype: DType) -> Array:
    if dtype.kind == "s":
        array = np.empty(len(cells), object)
        array[:] = [cell.encode() for cell in cells]
        return array
    if dtype.kind == "f":
        return np.array([float(cell) for cell in cells], np.float64).astype(dtype.numpy)
    if dtype.kind == "b":
        lowered = [cell.strip().lower() for cell in cells]
        if any(cell not in _TRUE | _FALSE for cell in lowered):
            raise ValueError
        return np.array([cell in _TRUE for cell in lowered])
    return np.array([int(cell) for cell in cells], dtype.numpy)


def parquet_chunks(
    name: str, options: Mapping[str, Any], types: Sequence[TensorType]
) -> Iterator[tuple[Array, ...]]:
    """Columns of a Parquet file, a batch at a time.

    Args:
        options: `columns`, their names, in the order of the types.

    Raises:
        StepError: a column is not there, holds nulls, or does not fit its type.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("Parquet files", "pipeline") from None
    try:
        file = pyarrow.parquet.ParquetFile(name)
    except FileNotFoundError:
        raise StepError(f"there is no file {name}.") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise StepError(f"{name} is no Parquet file that can be read: {error}") from None
    with file:
        present = file.schema_arrow.names
        for column in options["columns"]:
            if column not in present:
                hint = did_you_mean(column, present) or f"; it has {', '.join(present)}."
                raise StepError(f"{name}: there is no column '{column}'{hint}")
        first = 0
        for batch in file.iter_batches(batch_size=1024, columns=list(options["columns"])):
            place = f"{name}: rows {first} to {first + batch.num_rows - 1}"
            yield tuple(
                _arrow(batch.column(batch.schema.get_field_index(column)), type_, place, column)
                for column, type_ in zip(options["columns"], types, strict=True)
            )
            first += batch.num_rows


def _arrow(column: Any, type_: TensorType, place: str, label: str) -> Array:
    """An Arrow column as rows of a type; lists are rows of vectors."""
    if column.null_count:
        raise StepError(f"{place}: column '{label}' has {column.null_count} nulls.")
    rows = len(column)
    if type_.dtype.kind == "s":
        array = np.empty(rows, object)
        array[:] = [v.encode() if isinstance(v, str) else v for v in column.to_pylist()]
        if not all(isinstance(v, bytes) for v in array):
            raise StepError(f"{place}: column '{label}' is {column.type}, not string.")
        return array
    flat = column
    while hasattr(flat.type, "value_type"):
        flat = flat.flatten()
    values = flat.to_numpy(zero_copy_only=False)
    if len(values) != rows * type_.size:
        raise StepError(f"{place}: column '{label}' ({column.type}) does not give rows of {type_}.")
    wanted = type_.dtype.numpy
    integers = values.dtype.kind in "iu" and wanted.kind in "iu"
    if values.dtype.kind not in "biuf" or not (integers or np.can_cast(values.dtype, wanted, "same_kind")):
        raise StepError(f"{place}: column '{label}' is {column.type}, not {type_.dtype.name}.")
    with np.errstate(over="ignore"):
        result: Array = values.astype(wanted)
    if wanted.kind in "iu" and not np.array_equal(result, values):
        raise StepError(f"{place}: column '{label}' ({column.type}) has numbers outside {type_.dtype.name}.")
    return result.reshape(rows, *type_.shape)
