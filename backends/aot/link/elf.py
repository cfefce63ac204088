"""One self-contained ELF object to a shared library.

    object (x86-64, AArch64, ARM)  ->  lib.so: [headers, dynamic symbols, constants | code | dynamic section]

There is no writable data and nothing undefined, so there is little left of what a linker does: place the sections,
resolve the relocations between them, and write the tables that a loader looks at (System V ABI, ELF chapter, and the
processors' supplements). Anything else in the object is an error, not a guess.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from thalweg.backends.aot.link.relocations import apply
from thalweg.dialects.diagnostics import ExportError

ARM, X86_64, AARCH64 = 40, 62, 183
_SYMTAB, _RELA, _NOBITS, _REL = 2, 4, 8, 9
_WRITE, _ALLOC, _EXEC = 1, 2, 4


@dataclass(frozen=True)
class Class:
    """The sizes and struct formats of 32 or 64-bit ELF."""

    bits: int
    header: str
    section: str
    program: str
    symbol: str
    relocation: str
    word: str

    @property
    def is64(self) -> bool:
        return self.bits == 64


CLASSES = {
    2: Class(64, "<16sHHIQQQIHHHHHH", "<IIQQQQIIQQ", "<IIQQQQQQ", "<IBBHQQ", "<QQq", "<QQ"),
    1: Class(32, "<16sHHIIIIIHHHHHH", "<10I", "<8I", "<IIIBBH", "<II", "<II"),
}


@dataclass
class Section:
    """A section of the object; `offset` and `address` are its place in the library, once it has one."""

    name: str
    type: int
    flags: int
    data: bytes
    align: int
    link: int
    info: int
    size: int
    offset: int = 0
    address: int = 0
    placed: bool = False


@dataclass(frozen=True)
class Symbol:
    """A symbol of the object: a value in a section, 0 for none."""

    name: str
    section: int
    value: int
    size: int


class Object:
    """A relocatable object.

    Raises:
        ExportError: not an object that we know, or one with undefined symbols or writable data.
    """

    def __init__(self, data: bytes) -> None:
        if data[:4] != b"\x7fELF" or data[4] not in CLASSES or data[5] != 1:
            raise ExportError("not a little-endian ELF object.")
        self.kind = CLASSES[data[4]]
        header = struct.unpack_from(self.kind.header, data)
        self.machine, self.flags = header[2], header[7]
        start, count, names = header[6], header[12], header[13]
        size = struct.calcsize(self.kind.section)
        rows = [struct.unpack_from(self.kind.section, data, start + size * k) for k in range(count)]
        strings = rows[names][4]
        self.sections = [
            Section(text_at(data, strings + r[0]), r[1], r[2], b"" if r[1] == _NOBITS else data[r[4] : r[4] + r[5]],
                    max(1, r[8]), r[6], r[7], r[5])
            for r in rows
        ]  # fmt: skip
        self.symbols = list(self._symbols())
        undefined = sorted({s.name for s in self.symbols if s.section == 0 and s.name})
        if undefined:
            raise ExportError(f"the code calls what is not there: {', '.join(undefined)}.")
        writable = [s.name for s in self.sections if s.flags & _ALLOC and s.flags & _WRITE and s.size]
        if writable:
            raise ExportError(f"the code has writable data, in {', '.join(writable)}.")

    def _symbols(self) -> Iterator[Symbol]:
        table = next(s for s in self.sections if s.type == _SYMTAB)
        strings = self.sections[table.link].data
        for row in struct.iter_unpack(self.kind.symbol, table.data):
            name, section, value, size = (
                (row[0], row[3], row[4], row[5]) if self.kind.is64 else (row[0], row[5], row[1], row[2])
            )
            yield Symbol(text_at(strings, name), section, value, size)

    def kept(self, executable: bool) -> list[Section]:
        """The sections that are loaded; tables for unwinding are of no use to code that cannot throw."""
        return [
            s for s in self.sections
            if s.flags & _ALLOC and bool(s.flags & _EXEC) == executable and s.size
            and not s.name.startswith((".eh_frame", ".ARM.ex"))
        ]  # fmt: skip

    def relocations(self) -> Iterator[tuple[Section, int, int, int, int | None]]:
        """(section, offset in it, type, symbol, addend; None where the addend is in the code)."""
        for table in self.sections:
            if table.type not in (_RELA, _REL) or not self.sections[table.info].placed:
                continue
            target = self.sections[table.info]
            if table.type == _RELA:
                for offset, info, addend in struct.iter_unpack(self.kind.relocation, table.data):
                    yield target, offset, info & 0xFFFFFFFF, info >> 32, addend
            else:
                for offset, info in struct.iter_unpack("<II", table.data):
                    yield target, offset, info & 0xFF, info >> 8, None

    def address(self, symbol: Symbol) -> int:
        """Where a symbol is in the library."""
        section = self.sections[symbol.section]
        if not section.placed:
            raise ExportError(f"'{symbol.name or section.name}' lies in a section that is not loaded.")
        return section.address + symbol.value


def text_at(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


def shared_library(code: bytes, exports: Sequence[str], soname: str, page: int) -> bytes:
    """Link an object.

    Args:
        exports: functions that the library offers.
        soname: its name for those who link against it.
        page: segments begin at multiples of it.

    Raises:
        ExportError: the object is not self-contained, or lacks an export.
    """
    found = Object(code)
    by_name = {s.name: s for s in found.symbols}
    missing = [e for e in exports if e not in by_name]
    if missing:
        raise ExportError(f"the code does not define {', '.join(missing)}.")
    return _Library(found, [by_name[e] for e in exports], soname, page).write()


class _Library:
    """The library in the making. File and memory are alike but for the gaps between segments."""

    def __init__(self, found: Object, exports: Sequence[Symbol], soname: str, page: int) -> None:
        self.object, self.exports, self.soname, self.page = found, exports, soname, page
        self.kind = found.kind
        self.out = bytearray()

    def write(self) -> bytes:
        kind, wide = self.kind, 8 if self.kind.is64 else 4
        header, program = struct.calcsize(kind.header), struct.calcsize(kind.program)
        strings, names = _strings([*(s.name for s in self.exports), self.soname])
        symbol_size = struct.calcsize(kind.symbol)
        symbols_at = _up(header + 5 * program, wide)
        strings_at = symbols_at + symbol_size * (1 + len(self.exports))
        hash_at = _up(strings_at + len(strings), 4)
        hash_ = _hash_table([s.name for s in self.exports])
        constants_end = self._place(self.object.kept(executable=False), hash_at + len(hash_), 0)
        code_at = _up(constants_end, 64)
        code_address = _up(constants_end, self.page) + code_at % self.page
        code_end = self._place(self.object.kept(executable=True), code_at, code_address - code_at)
        dynamic_at = _up(code_end, 16)
        dynamic_address = _up(code_end + code_address - code_at, self.page) + dynamic_at % self.page
        tags = [(5, strings_at), (6, symbols_at), (4, hash_at), (10, len(strings)), (11, symbol_size),
                (14, names[self.soname]), (0, 0)]  # fmt: skip
        dynamic = b"".join(struct.pack(kind.word, *tag) for tag in tags)
        self.out = bytearray(dynamic_at + len(dynamic))
        self._copy_sections()
        for target, offset, type_, symbol, addend in self.object.relocations():
            value = self.object.address(self.object.symbols[symbol])
            apply(self.object.machine, self.out, target.offset + offset, target.address + offset, type_, value, addend)
        table = b"\0" * symbol_size + b"".join(self._symbol(s, names[s.name]) for s in self.exports)
        for at, data in ((symbols_at, table), (strings_at, strings), (hash_at, hash_), (dynamic_at, dynamic)):
            self.out[at : at + len(data)] = data
        segments = [
            (1, 4, 0, 0, constants_end, self.page), (1, 5, code_at, code_address, code_end - code_at, self.page),
            (1, 6, dynamic_at, dynamic_address, len(dynamic), self.page),
            (2, 6, dynamic_at, dynamic_address, len(dynamic), wide), (0x6474E551, 6, 0, 0, 0, 16),
        ]  # fmt: skip
        self._headers(segments, [
            (".dynsym", 11, 2, symbols_at, symbols_at, len(table), 2, 1, wide, symbol_size),
            (".dynstr", 3, 2, strings_at, strings_at, len(strings), 0, 0, 1, 0),
            (".hash", 5, 2, hash_at, hash_at, len(hash_), 1, 0, 4, 4),
            (".rodata", 1, 2, hash_at + len(hash_), hash_at + len(hash_), constants_end - hash_at - len(hash_), 0, 0,
             1, 0),
            (".text", 1, 6, code_address, code_at, code_end - code_at, 0, 0, 16, 0),
            (".dynamic", 6, 3, dynamic_address, dynamic_at, len(dynamic), 2, 0, wide, 2 * wide),
        ])  # fmt: skip
        return bytes(self.out)

    def _place(self, sections: Sequence[Section], at: int, skew: int) -> int:
        """Give sections their places, one after the other; addresses are `skew` above offsets. Where they end."""
        for section in sections:
            at = _up(at, section.align)
            section.offset, section.address, section.placed = at, at + skew, True
            at += section.size
        return at

    def _copy_sections(self) -> None:
        for section in self.object.sections:
            if section.placed:
                self.out[section.offset : section.offset + len(section.data)] = section.data

    def _symbol(self, symbol: Symbol, name: int) -> bytes:
        address, text = self.object.address(symbol), 5
        if self.kind.is64:
            return struct.pack(self.kind.symbol, name, 0x12, 0, text, address, symbol.size)
        return struct.pack(self.kind.symbol, name, address, symbol.size, 0x12, 0, text)

    def _headers(self, segments: Sequence[tuple[int, ...]], sections: Sequence[tuple[str, *tuple[int, ...]]]) -> None:
        strings, names = _strings([*(s[0] for s in sections), ".shstrtab"])
        at = len(self.out)
        self.out += strings
        self.out += b"\0" * (-len(self.out) % 8)
        start, size = len(self.out), struct.calcsize(self.kind.section)
        self.out += b"\0" * size
        for name, *row in [*sections, (".shstrtab", 3, 0, 0, at, len(strings), 0, 0, 1, 0)]:
            self.out += struct.pack(self.kind.section, names[name], *row)
        header = struct.calcsize(self.kind.header)
        identity = b"\x7fELF" + bytes([2 if self.kind.is64 else 1, 1, 1])
        struct.pack_into(
            self.kind.header, self.out, 0, identity, 3, self.object.machine, 1, 0, header, start, self.object.flags,
            header, struct.calcsize(self.kind.program), len(segments), size, len(sections) + 2, len(sections) + 1,
        )  # fmt: skip
        for number, (type_, flags, offset, address, length, align) in enumerate(segments):
            wide = (type_, flags, offset, address, address, length, length, align)
            narrow = (type_, offset, address, address, length, length, flags, align)
            place = header + number * struct.calcsize(self.kind.program)
            struct.pack_into(self.kind.program, self.out, place, *(wide if self.kind.is64 else narrow))


def _up(value: int, align: int) -> int:
    return -(-value // align) * align


def _strings(names: Sequence[str]) -> tuple[bytes, dict[str, int]]:
    """A string table, and where each name is in it."""
    out, places = b"\0", {}
    for name in names:
        places[name] = len(out)
        out += name.encode() + b"\0"
    return out, places


def _hash_table(names: Sequence[str]) -> bytes:
    """The System V hash table of symbols 1, 2, ..."""
    buckets = [0] * max(1, len(names))
    chains = [0] * (1 + len(names))
    for number, name in enumerate(names, 1):
        bucket = _hash(name) % len(buckets)
        chains[number], buckets[bucket] = buckets[bucket], number
    return struct.pack(f"<{2 + len(buckets) + len(chains)}I", len(buckets), len(chains), *buckets, *chains)


def _hash(name: str) -> int:
    value = 0
    for character in name.encode():
        value = (value << 4) + character
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value & 0xFFFFFFFF
