"""How big the parts of a library are: its sections and functions, read from any of the file formats.

    sections(Path("libmodel.so").read_bytes())   ->  {".rodata": 1216, ".text": 9872, …}
    functions(object_code)                       ->  {"k0_contract.infer": 2304, "model_infer": 412, …}

A static library is looked into: it holds one object.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from thalweg.backends.aot.link.elf import CLASSES, text_at
from thalweg.backends.aot.link.wasm import Reader, function_numbers
from thalweg.dialects.diagnostics import ExportError

_ARCHIVE, _ELF, _WASM, _MACHO, _COFF = b"!<arch>\n", b"\x7fELF", b"\0asm", b"\xcf\xfa\xed\xfe", b"\x64\x86"
_WASM_SECTIONS = {1: "types", 2: "imports", 3: "functions", 4: "tables", 5: "memory", 6: "globals", 7: "exports",
                  9: "elements", 10: "code", 11: "data", 12: "data count"}  # fmt: skip


class _Section(NamedTuple):
    name: str
    start: int  # address of its first byte
    size: int
    is_code: bool


class _Symbol(NamedTuple):
    name: str
    section: int  # by number; 0 for none
    address: int
    size: int | None  # None where the format does not tell


_Parsed = tuple[Sequence[_Section], Sequence[_Symbol]]


def sections(data: bytes) -> dict[str, int]:
    """Bytes of each section that is not empty, in the file's order; those of one name together.

    Raises:
        ExportError: none of the formats that are exported.
    """
    found: dict[str, int] = {}
    for section in _parse(data)[0]:
        if section.size and section.name:
            found[section.name] = found.get(section.name, 0) + section.size
    return found


def functions(data: bytes) -> dict[str, int]:
    """Bytes of the code of each function of an object or static library, the biggest first. Linked libraries do not
    name their inner functions.

    Raises:
        ExportError: none of the formats that are exported.
    """
    parts, symbols = _parse(data)
    found: dict[str, int] = {}
    for number, section in enumerate(parts):
        if section.is_code:
            end = section.start + section.size
            inside = sorted((s for s in symbols if s.section == number), key=lambda s: s.address)
            ends = [*(s.address for s in inside[1:]), end]
            found |= {s.name: n - s.address if s.size is None else s.size for s, n in zip(inside, ends, strict=False)}
    return dict(sorted(((n, size) for n, size in found.items() if size), key=lambda row: (-row[1], row[0])))


def undefined(data: bytes) -> list[str]:
    """What an object of Apple's or Windows' formats calls that is not in it; for the others our own linkers ask."""
    return sorted({symbol.name for symbol in _parse(data)[1] if symbol.section == 0})


def _parse(data: bytes) -> _Parsed:
    data = _unpacked(data)
    for magic, parse in ((_ELF, _elf), (_WASM, _wasm), (_MACHO, _macho), (_COFF, _coff)):
        if data.startswith(magic):
            try:
                return parse(data)
            except (struct.error, IndexError) as error:
                raise ExportError(f"the library is truncated: {error}.") from error
    raise ExportError("not a library that tw.export writes.")


def _unpacked(data: bytes) -> bytes:
    """What is in an archive; anything else as it is."""
    at = len(_ARCHIVE)
    while data.startswith(_ARCHIVE) and at + 60 <= len(data):
        name, size = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        body, at = data[at + 60 : at + 60 + size], at + 60 + size + size % 2
        if name.startswith("#1/"):  # Apple's: the name stands before the data
            long = int(name[3:])
            name, body = body[:long].rstrip(b"\0").decode(), body[long:]
        if name != "/" and not name.startswith("__.SYMDEF"):
            return body
    return data


def _elf(data: bytes) -> _Parsed:
    kind = CLASSES[data[4]]
    header = struct.unpack_from(kind.header, data)
    size = struct.calcsize(kind.section)
    rows = [struct.unpack_from(kind.section, data, header[6] + size * k) for k in range(header[12])]
    strings = rows[header[13]][4]
    parts = [_Section(text_at(data, strings + r[0]), 0, r[5] * (r[1] != 8), bool(r[2] & 4)) for r in rows]
    symbols = []
    for table in (r for r in rows if r[1] == 2):
        names = rows[table[6]][4]
        for row in struct.iter_unpack(kind.symbol, data[table[4] : table[4] + table[5]]):
            name, info, number, value, length = (
                (row[0], row[1], row[3], row[4], row[5]) if kind.is64 else (row[0], row[3], row[5], row[1], row[2])
            )
            if info & 15 == 2:  # a function
                symbols.append(_Symbol(text_at(data, names + name), number, value, length))
    return parts, symbols


def _macho(data: bytes) -> _Parsed:
    parts, symbols = [_Section("", 0, 0, False)], []  # sections are numbered from 1
    at = 32
    for _ in range(struct.unpack_from("<I", data, 16)[0]):
        command, size = struct.unpack_from("<II", data, at)
        if command == 0x19:  # LC_SEGMENT_64
            for k in range(struct.unpack_from("<I", data, at + 64)[0]):
                raw, _, start, length = struct.unpack_from("<16s16sQQ", data, at + 72 + 80 * k)
                name = raw.rstrip(b"\0").decode()
                parts.append(_Section(name, start, length, name == "__text"))
        elif command == 2:  # LC_SYMTAB
            table, count, strings = struct.unpack_from("<III", data, at + 8)
            for k in range(count):
                name_at, _, section, _, value = struct.unpack_from("<IBBHQ", data, table + 16 * k)
                name = text_at(data, strings + name_at)
                if name.startswith("_"):  # others are the assembler's
                    symbols.append(_Symbol(name[1:], section, value, None))
        at += size
    return parts, symbols


def _coff(data: bytes) -> _Parsed:
    _, count, _, table, symbol_count, optional, _ = struct.unpack_from("<HHIIIHH", data)
    parts, symbols = [_Section("", 0, 0, False)], []
    strings = table + 18 * symbol_count
    for k in range(count):
        raw, size = struct.unpack_from("<8s8xI", data, 20 + optional + 40 * k)
        name = raw.rstrip(b"\0").decode()
        parts.append(_Section(name, 0, size, name.startswith(".text")))
    k = 0
    while k < symbol_count:
        raw, value, section, type_, storage, more = struct.unpack_from("<8sIhHBB", data, table + 18 * k)
        long = raw[:4] == b"\0\0\0\0"
        name = text_at(data, strings + struct.unpack("<4xI", raw)[0]) if long else raw.rstrip(b"\0").decode()
        if type_ == 0x20 or (section == 0 and storage == 2):  # a function, or something that is not there
            symbols.append(_Symbol(name, section, value, None))
        k += 1 + more
    return parts, symbols


def _wasm(data: bytes) -> _Parsed:
    parts, bodies, names = [], [], {}
    reader = Reader(data, 8)
    while reader.more:
        number, body = reader.byte(), reader.bytes()
        custom = Reader(body)
        name = f"custom {custom.name()}" if number == 0 else _WASM_SECTIONS.get(number, str(number))
        parts.append(_Section(name, 0, len(body), number == 10))
        if number == 10:
            bodies = [len(custom.bytes()) for _ in range(custom.number())]
        elif name == "custom linking":
            names = function_numbers(custom)
    code = [k for k, section in enumerate(parts) if section.is_code]
    return parts, [_Symbol(n, code[0], k, bodies[k]) for n, k in names.items()] if code else []


def code_of(assembly: str) -> str:
    """An assembly file without its data, which would repeat the weights as text."""
    kept, in_code = [], True
    for line in assembly.split("\n"):
        words = line.split()
        if words and words[0] in (".section", ".text", ".data", ".bss"):
            in_code = words[0] == ".text" or (words[0] == ".section" and (".text" in line or "__text" in line))
        if in_code and not (words and words[0].startswith((".cfi_", ".ident", ".file"))):
            kept.append(line)
    return "\n".join(kept) + "\n"


def assembly_of(assembly: str, names: Iterable[str]) -> dict[str, str]:
    """The assembly of each function; `names` are all that there are."""
    wanted = {prefix + n: n for n in names for prefix in ("", "_")}
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in assembly.split("\n"):
        label = line.split(":")[0].strip('"') if line[:1].strip() else ""
        if label in wanted:
            current = found[wanted[label]] = []
        if line.lstrip().startswith((".globl", ".hidden", ".size", ".section", "end_function", ".def")):
            current = []  # what belongs to the next function, or to none
        current.append(line)
    return {name: "\n".join(lines).rstrip() for name, lines in found.items()}
