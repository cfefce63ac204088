"""Formats of files, written by Python's own library and by pyarrow."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest

from thalweg.dialects.diagnostics import StepError
from thalweg.dialects.types import TensorType, bool_, float32, float64, int8, int32, int64, string, uint8
from thalweg.runtime.readers.formats import FORMATS


def read(format_: str, path: Path, options=None, *types) -> list:
    """All records of a file, column by column."""
    chunks = list(FORMATS[format_](str(path), options or {}, types))
    return [np.concatenate(column) for column in zip(*chunks, strict=True)]


def scalar(*dtypes):
    return [TensorType((), d) for d in dtypes]


def test_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"head\nfirst\r\n\n\xffthird\nlast without end")
    keys, lines = read("text", path, {"skip": 1})
    assert lines.tolist() == [b"first", b"", b"\xffthird", b"last without end"]
    assert keys[0] == f"{path}:2".encode() and keys[-1] == f"{path}:5".encode()


def test_text_of_many_chunks_and_packed(tmp_path: Path) -> None:
    lines = [f"line {n}".encode() for n in range(1000)]
    with gzip.open(tmp_path / "a.txt.gz", "wb") as file:
        file.write(b"\n".join(lines))
    keys, found = read("text", tmp_path / "a.txt.gz")
    assert found.tolist() == lines and len(set(keys.tolist())) == 1000


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    assert read("text", tmp_path / "a") == [] == read("tfrecord", tmp_path / "a")


def test_whole(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"\0\1\2")
    keys, contents = read("whole", tmp_path / "a.bin")
    assert keys.tolist() == [str(tmp_path / "a.bin").encode()] and contents.tolist() == [b"\0\1\2"]


def test_fixed(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"HEAD" + b"aabbcc" + b"F")
    options = {"record_bytes": 2, "header_bytes": 4, "footer_bytes": 1}
    assert read("fixed", tmp_path / "a.bin", options)[1].tolist() == [b"aa", b"bb", b"cc"]
    with pytest.raises(StepError, match=r"a\.bin has 11 bytes: without 4 of a header and 1 of a footer that"):
        read("fixed", tmp_path / "a.bin", {**options, "record_bytes": 4})


def test_missing_files_are_named(tmp_path: Path) -> None:
    for format_ in FORMATS:
        with pytest.raises(StepError, match=r"there is no file .*nowhere"):
            read(format_, tmp_path / "nowhere", {"columns": ["a"], "record_bytes": 1}, *scalar(int32))
    (tmp_path / "bad.gz").write_bytes(b"not packed")
    with pytest.raises(StepError, match=r"bad\.gz cannot be read"):
        read("text", tmp_path / "bad.gz")


def test_csv_as_pythons_writer_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [(n, n / 7, f'text, "quoted"\n{n}', n % 2 == 0) for n in range(600)]
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["n", "x", "s", "even"])
        writer.writerows(rows)
    options = {"columns": ["x", "n", "s", "even"], "header": True}
    x, n, s, even = read("csv", path, options, *scalar(float64, int32, string, bool_))
    assert n.tolist() == list(range(600)) and n.dtype == np.int32
    assert x.tolist() == [r[1] for r in rows] and s.tolist() == [r[2].encode() for r in rows]
    assert even.tolist() == [r[3] for r in rows]


def test_csv_without_names_with_defaults_and_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("1\t2\t\n3\t\t5\n\n")
    options = {"columns": [2, 0], "header": False, "delimiter": "\t", "defaults": [-1, None]}
    last, first = read("csv", tmp_path / "a.csv", options, *scalar(int32, int64))
    assert last.tolist() == [-1, 5] and first.tolist() == [1, 3]


@pytest.mark.parametrize(("content", "dtype", "message"), [
    ("age\n3\nold\n", int32, "a.csv:3: column 'age': 'old' is not of int32"),
    ("age\n3\n1.5\n", int32, "a.csv:3: column 'age': '1.5' is not of int32"),
    ("age\n3\n300\n", int8, "a.csv:3: column 'age': '300' is not of int8"),
    ("age\n3\n-1\n", uint8, "a.csv:3: column 'age': '-1' is not of uint8"),
    ("age\n3\nmaybe\n", bool_, "a.csv:2: column 'age': '3' is not of bool"),
    ('age,x\n3,"a\nb"\n,c\n', int32, "a.csv:4: column 'age': is empty and has no default"),
    ("x,age\n3,4\n5\n", int32, "a.csv:3: the line has 1 cells, column 'age' is number 1"),
    ("agee\n3\n", int32, "a.csv:1: there is no column 'age'; did you mean 'agee'"),
])  # fmt: skip
def test_csv_mistakes_are_told_with_file_line_and_column(tmp_path: Path, content, dtype, message) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(StepError, match=message):
        read("csv", tmp_path / "a.csv", {"columns": ["age"], "header": True}, *scalar(dtype))


# Parquet

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def write(path: Path, **columns) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=500)
    return path


def test_parquet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, n = rng.normal(size=3000).astype(np.float32), np.arange(3000)
    vectors = pa.array([[i, i + 1] for i in range(3000)], pa.list_(pa.int32(), 2))
    path = write(tmp_path / "a.parquet", x=x, n=n, s=[f"s{i}" for i in range(3000)], v=vectors, unused=n)
    types = [TensorType((2,), float32), *scalar(string, float32, int32)]
    v, s, found, numbers = read("parquet", path, {"columns": ["v", "s", "x", "n"]}, *types)
    np.testing.assert_array_equal(found, x)
    assert numbers.dtype == np.int32 and numbers.tolist() == n.tolist()
    assert v.shape == (3000, 2) and v[7].tolist() == [7, 8] and s[2999] == b"s2999"


@pytest.mark.parametrize(("column", "type_", "message"), [
    (pa.array([1, None]), TensorType((), int64), "rows 0 to 1: column 'c' has 1 nulls"),
    (pa.array([1.5, 2.0]), TensorType((), int64), "column 'c' is double, not int64"),
    (pa.array([1, 300]), TensorType((), int8), "has numbers outside int8"),
    (pa.array(["a", "b"]), TensorType((), float32), "column 'c' is string, not float32"),
    (pa.array([1, 2]), TensorType((), string), "column 'c' is int64, not string"),
    (pa.array([[1, 2], [3]]), TensorType((2,), int64), "does not give rows of"),
])  # fmt: skip
def test_parquet_mistakes(tmp_path: Path, column, type_, message) -> None:
    path = write(tmp_path / "a.parquet", c=column)
    with pytest.raises(StepError, match=message):
        read("parquet", path, {"columns": ["c"]}, type_)


def test_parquet_files_that_are_none_or_lack_a_column(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", pixels=[1])
    with pytest.raises(StepError, match="there is no column 'pixel'; did you mean 'pixels'"):
        read("parquet", path, {"columns": ["pixel"]}, *scalar(int64))
    (tmp_path / "b.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(StepError, match=r"b.parquet is no Parquet file that can be read"):
        read("parquet", tmp_path / "b.parquet", {"columns": ["a"]}, *scalar(int64))
