"""MLIR bytecode, edited without the dialects that it mentions.

JAX annotates calls of LAPACK with attributes of the Shardy dialect (`sdy.sharding_rule`) and stores them in Shardy's
own encoding, which only a build with that dialect can read. They are hints to a partitioner: `without_attributes` puts
`unit` in the place of each, after which the file reads everywhere. MLIR documents the format ("MLIR Bytecode Format").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from thalweg.dialects.diagnostics import VerificationError

_STRINGS, _DIALECTS, _ATTRIBUTES, _OFFSETS = 0, 1, 2, 3
_PADDING = 0xCB
_UNIT = b"unit\0"  # an attribute in MLIR's text form


@dataclass
class _Section:
    number: int
    alignment: int  # 0: none
    content: bytes


class _Reader:
    """Reads the bytes of one section."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self) -> int:
        """A variable-width integer: the zeros at the low end of the first byte count the bytes that follow."""
        first = self.data[self.at]
        if first == 0:
            self.at += 1
            return int.from_bytes(self.take(8), "little")
        count = (first & -first).bit_length()
        return int.from_bytes(self.take(count), "little") >> count

    @property
    def done(self) -> bool:
        return self.at >= len(self.data)


def _encoded(value: int) -> bytes:
    """The inverse of `_Reader.number`."""
    for count in range(1, 9):
        if value < 1 << (7 * count):
            return ((value << 1 | 1) << (count - 1)).to_bytes(count, "little")
    return b"\0" + value.to_bytes(8, "little")


def without_attributes(data: bytes, dialect: str) -> bytes:
    """The same bytecode with every attribute of `dialect` replaced by `unit`; unchanged where it has none.

    Raises:
        VerificationError: the bytes are not MLIR bytecode.
    """
    try:
        head = data.index(b"\0", 5) + 1  # magic, version, producer
        sections = list(_sections(data, head))
        content = {section.number: section for section in sections}
        names = _dialect_names(content[_STRINGS].content, content[_DIALECTS].content)
        if dialect.encode() not in names:
            return data
        offsets, attributes = content[_OFFSETS], content[_ATTRIBUTES]
        position = names.index(dialect.encode())
        offsets.content, attributes.content = _replaced(offsets.content, attributes.content, position)
        return _written(data[:head], sections)
    except (IndexError, KeyError, ValueError) as error:
        raise VerificationError(f"the data is not MLIR bytecode, or it is damaged: {error!r}") from error


def _sections(data: bytes, at: int) -> Iterator[_Section]:
    reader = _Reader(data, at)
    while not reader.done:
        number = reader.byte()
        length, alignment = reader.number(), 0
        if number & 0x80:
            alignment = reader.number()
            while reader.at % alignment:
                reader.byte()
        yield _Section(number & 0x7F, alignment, reader.take(length))


def _written(head: bytes, sections: list[_Section]) -> bytes:
    out = bytearray(head)
    for section in sections:
        out.append(section.number | (0x80 if section.alignment else 0))
        out += _encoded(len(section.content))
        if section.alignment:
            out += _encoded(section.alignment)
            out += bytes([_PADDING]) * (-len(out) % section.alignment)
        out += section.content
    return bytes(out)


def _dialect_names(strings: bytes, dialects: bytes) -> list[bytes]:
    """The dialects by number. Strings are stored behind their lengths, which are listed last string first."""
    reader = _Reader(strings)
    lengths = [reader.number() for _ in range(reader.number())][::-1]
    texts = [reader.take(length)[:-1] for length in lengths]
    reader = _Reader(dialects)
    names = []
    for _ in range(reader.number()):
        entry = reader.number()
        names.append(texts[entry >> 1])
        if entry & 1:  # a section with the dialect's version
            reader.byte()
            reader.take(reader.number())
    return names


def _replaced(offsets: bytes, attributes: bytes, dialect: int) -> tuple[bytes, bytes]:
    """Both sections with the attributes of a dialect replaced: sizes (and whether in own encoding) and contents."""
    reader, source = _Reader(offsets), _Reader(attributes)
    attribute_count, type_count = reader.number(), reader.number()
    sizes = bytearray(_encoded(attribute_count) + _encoded(type_count))
    contents = bytearray()
    seen = 0
    while seen < attribute_count + type_count:
        owner, count = reader.number(), reader.number()
        sizes += _encoded(owner) + _encoded(count)
        for _ in range(count):
            entry = reader.number()
            content = source.take(entry >> 1)
            if owner == dialect and seen < attribute_count:
                content, entry = _UNIT, len(_UNIT) << 1
            sizes += _encoded(entry)
            contents += content
        seen += count
    return bytes(sizes), bytes(contents)
