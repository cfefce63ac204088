"""Input: files to records, records to tensors. It runs on the host of whoever holds the files; no client is involved.

A reader takes the names of files from a queue and gives records. Strings hold any bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thalweg.dialects.opdef import AttrKind, Attrs, Unsupported, define, fail
from thalweg.dialects.ops.queue import expect_resource, filled, rows_of
from thalweg.dialects.types import ResourceType, TensorType, Type, int64, string, types_from_text, uint8

_READS = Unsupported("reads files; the kernels are tested in tests/unit/runtime/readers")
_NAMED: Mapping[str, AttrKind] = {"name": "str", "container": "str"}
FORMATS = ("text", "whole", "fixed", "tfrecord", "csv", "parquet")


def _infer_reader(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    if attrs["format"] not in FORMATS:
        raise fail(f"the format must be one of {', '.join(FORMATS)}, got '{attrs['format']}'.")
    return [ResourceType("reader", types_from_text(attrs["types"]))]


reader_handle = define(
    "reader_handle", "",
    doc="The reader called `name`: text, whole, fixed, tfrecord, csv or parquet files to records of `types`. `options` "
        "is JSON that the format knows.",
    infer=_infer_reader, attrs={**_NAMED, "format": "str", "types": "str", "options": "str"},
    defaults={"container": "", "options": "{}"}, reference=_READS, runs="host",
)  # fmt: skip


def _records(operands: Sequence[Type], extents: Sequence[int]) -> list[TensorType]:
    reader, files = operands
    names = expect_resource(files, "queue") if isinstance(files, ResourceType) else None
    if names is None or names.components != (TensorType((), string),):
        raise fail(f"the second operand must be a queue of file names, queue<string[]>, got {files}.")
    return filled(expect_resource(reader, "reader").components, extents)


def _infer_read(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [*_records(operands, attrs["extents"])]


def _infer_read_many(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [*rows_of(attrs["count"], _records(operands, attrs["extents"]))]


def _infer_read_up_to(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    rows, *inner = attrs["extents"]
    return [*rows_of(rows, _records(operands, inner))]


_TAKES: Mapping[str, AttrKind] = {"extents": "ints", "timeout": "float"}
_DEFAULTS = {"extents": (), "timeout": 0.0}

reader_read = define("reader_read", "reader files", doc="The next record. Waits for the next file's name where one is "
                     "at its end.", infer=_infer_read, attrs=_TAKES, defaults=_DEFAULTS, reference=_READS,
                     effects="write", runs="host")  # fmt: skip
reader_read_many = define(
    "reader_read_many", "reader files", doc="The next `count` records, all or none, stacked along a new dimension.",
    infer=_infer_read_many, attrs={"count": "int", **_TAKES}, defaults=_DEFAULTS, reference=_READS, effects="write",
    runs="host",
)  # fmt: skip
reader_read_up_to = define(
    "reader_read_up_to", "reader files",
    doc="As `reader_read_many`; at the end of the files what is left. The first of the extents is how many.",
    infer=_infer_read_up_to, attrs={"count": "int", **_TAKES}, defaults=_DEFAULTS, reference=_READS, effects="write",
    runs="host",
)  # fmt: skip


def _infer_file_list(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    (count,) = attrs["extents"]
    return [TensorType((count,), string)]


file_list = define(
    "file_list", "",
    doc="The names of the files that fit `patterns` (one a line), each time it runs: one epoch. `shuffle` orders them "
        "by `seed` and the epoch. After `epochs` runs (0 for any number) it fails: out of range.",
    infer=_infer_file_list,
    attrs={**_NAMED, "patterns": "str", "shuffle": "bool", "seed": "int", "epochs": "int", "extents": "ints"},
    defaults={"container": "", "shuffle": False, "seed": 0, "epochs": 0}, reference=_READS, effects="write",
    runs="host",
)  # fmt: skip


def _infer_epoch(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [TensorType((), int64)]


count_up_to = define(
    "count_up_to", "", doc="0, 1, 2… each time it runs; after `limit` runs (0 for any number) it fails: out of range.",
    infer=_infer_epoch, attrs={**_NAMED, "limit": "int"}, defaults={"container": ""}, reference=_READS,
    effects="write", runs="host",
)  # fmt: skip


# Decoding


def _expect_strings(value: Type, name: str, rank: int | None = None) -> TensorType:
    if not isinstance(value, TensorType) or value.dtype != string or rank not in (None, value.rank):
        raise fail(f"the {name} must be {'strings' if rank is None else 'one string'}, got {value}.")
    return value


def _infer_read_file(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return [_expect_strings(operands[0], "file name", 0)]


read_file = define("read_file", "name", doc="The content of a file.", infer=_infer_read_file, reference=_READS,
                   effects="read", runs="host")  # fmt: skip


def _infer_decode_csv(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    lines = _expect_strings(operands[0], "lines")
    return [lines.with_dtype(t.dtype) for t in types_from_text(attrs["types"])]


decode_csv = define(
    "decode_csv", "lines",
    doc="Lines of comma-separated values to one tensor per column. `options` is JSON: `columns`, `delimiter`, "
        "`defaults`.",
    infer=_infer_decode_csv, attrs={"types": "str", "options": "str"}, defaults={"options": "{}"}, reference=_READS,
    runs="host",
)  # fmt: skip


def _infer_parse_example(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    serialized = _expect_strings(operands[0], "examples")
    if serialized.rank > 1:
        raise fail(f"takes one example or a vector of them, got {serialized}.")
    types = filled(types_from_text(attrs["types"]), attrs["extents"])
    return [t.with_shape((*serialized.shape, *t.shape)) for t in types]


parse_example = define(
    "parse_example", "serialized",
    doc="Features of one tf.train.Example, or of several, stacked. `features` is JSON: their names and defaults. "
        "Extents that vary are padded with zeros to the longest.",
    infer=_infer_parse_example, attrs={"types": "str", "features": "str", "extents": "ints"},
    defaults={"extents": ()}, reference=_READS, runs="host",
)  # fmt: skip


def _infer_decode_image(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    _expect_strings(operands[0], "content", 0)
    if attrs["channels"] not in (1, 3, 4):
        raise fail(f"the channels must be 1, 3 or 4, got {attrs['channels']}.")
    size = tuple(attrs["size"]) or tuple(attrs["extents"])
    if len(size) != 2 or (attrs["size"] and attrs["extents"]):
        raise fail("takes either a size to resize to, (height, width), or two extents.")
    return [TensorType((*size, attrs["channels"]), uint8)]


decode_image = define(
    "decode_image", "content",
    doc="An encoded image (PNG, JPEG and others) as u8[height, width, channels], resized to `size` if that is given.",
    infer=_infer_decode_image,
    attrs={"channels": "int", "size": "ints", "method": "str", "extents": "ints"},
    defaults={"size": (), "method": "bilinear", "extents": ()}, reference=_READS, runs="host",
)  # fmt: skip


def _infer_decode_raw(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    content = _expect_strings(operands[0], "content")
    (type_,) = filled(types_from_text(attrs["types"]), attrs["extents"])
    return [type_.with_shape((*content.shape, *type_.shape))]


decode_raw = define(
    "decode_raw", "content", doc="The bytes of each string as numbers: little endian, or big if so asked for.",
    infer=_infer_decode_raw, attrs={"types": "str", "big_endian": "bool", "extents": "ints"},
    defaults={"big_endian": False, "extents": ()}, reference=_READS, runs="host",
)  # fmt: skip
