"""One self-contained WebAssembly object to a module without imports.

LLVM fills every place that a relocation names with its value for data that begins at address 0, so data stays there,
and no relocation needs to be applied (WebAssembly tool conventions, Linking). The module exports its memory, the
functions, and `__heap_base`, from where on memory is free.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.diagnostics import ExportError

_STACK = 1 << 16
_PAGE = 1 << 16
_TYPES, _IMPORTS, _GLOBALS, _EXPORTS, _DATA = 1, 2, 6, 7, 11
_ORDER = (1, 3, 4, 5, 6, 7, 8, 9, 12, 10, 11)  # of sections in a module


class Reader:
    """LEB128 numbers and names, one after the other."""

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data, self.at = data, at

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def number(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def signed(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value - (1 << shift) if byte & 64 else value

    def bytes(self) -> bytes:
        size = self.number()
        self.at += size
        return self.data[self.at - size : self.at]

    def name(self) -> str:
        return self.bytes().decode()

    @property
    def more(self) -> bool:
        return self.at < len(self.data)


def _unsigned(value: int) -> bytes:
    out = b""
    while True:
        byte, value = value & 127, value >> 7
        out += bytes([byte | 128 if value else byte])
        if not value:
            return out


def _signed(value: int) -> bytes:
    out = b""
    while True:
        byte, value = value & 127, value >> 7
        done = (value == 0 and not byte & 64) or (value == -1 and bool(byte & 64))
        out += bytes([byte if done else byte | 128])
        if done:
            return out


def _vector(items: Sequence[bytes]) -> bytes:
    return _unsigned(len(items)) + b"".join(items)


def module(code: bytes, exports: Sequence[str]) -> bytes:
    """Link an object.

    Raises:
        ExportError: the object calls functions that it does not define, or lacks an export.
    """
    sections: dict[int, bytes] = {}
    functions: dict[str, int] = {}
    reader = Reader(code, 8)
    while reader.more:
        number = reader.byte()
        body = reader.bytes()
        if number:
            sections[number] = body
        elif (custom := Reader(body)).name() == "linking":
            functions = function_numbers(custom)
    has_stack = _has_stack(sections.pop(_IMPORTS, b"\0"))
    missing = [e for e in exports if e not in functions]
    if missing:
        raise ExportError(f"the code does not define {', '.join(missing)}.")
    end = _data_end(sections.get(_DATA, b"\0"))
    heap = -(-(end + _STACK * has_stack) // 64) * 64
    pages = -(-heap // _PAGE)
    base = b"\x41" + _signed(heap) + b"\x0b"
    # The stack grows down from the heap's base.
    sections[_GLOBALS] = _vector([b"\x7f\x01" + base] * has_stack + [b"\x7f\x00" + base])
    sections[5] = b"\x01\x00" + _unsigned(pages)
    rows = [("memory", 2, 0), ("__heap_base", 3, int(has_stack)), *((e, 0, functions[e]) for e in exports)]
    sections[_EXPORTS] = _vector([_unsigned(len(n)) + n.encode() + bytes([k]) + _unsigned(i) for n, k, i in rows])
    body = b"".join(bytes([i]) + _unsigned(len(sections[i])) + sections[i] for i in _ORDER if i in sections)
    return code[:8] + body


def _has_stack(imports: bytes) -> bool:
    """Whether the code has a stack pointer; anything imported beyond memory and tables is an error."""
    reader, found = Reader(imports), False
    for _ in range(reader.number()):
        reader.name()
        name, kind = reader.name(), reader.byte()
        if kind == 0:
            raise ExportError(f"the code calls what is not there: {name}.")
        if kind == 3:  # a global: its type and mutability
            reader.at += 2
            if name != "__stack_pointer":
                raise ExportError(f"the code uses the global {name}, which is not there.")
            found = True
            continue
        if kind == 1:  # a table: its type, then limits as a memory has
            reader.byte()
        if reader.byte() & 1:
            reader.number()
        reader.number()
    return found


def function_numbers(linking: Reader) -> dict[str, int]:
    """Numbers of the functions by name, from the symbol table."""
    found: dict[str, int] = {}
    linking.number()  # the version
    while linking.more:
        kind = linking.byte()
        body = Reader(linking.bytes())
        if kind != 8:  # WASM_SYMBOL_TABLE
            continue
        for _ in range(body.number()):
            what, flags = body.byte(), body.number()
            undefined, named = bool(flags & 0x10), bool(flags & 0x40)
            if what == 1:  # data
                body.name()
                if not undefined:
                    for _ in range(3):
                        body.number()
            elif what == 3:  # a section
                body.number()
            else:
                number = body.number()
                if not undefined or named:
                    name = body.name()
                    if what == 0:
                        found[name] = number
    return found


def _data_end(data: bytes) -> int:
    """The first address behind the data."""
    reader, end = Reader(data), 0
    for _ in range(reader.number()):
        if reader.number() != 0 or reader.byte() != 0x41:
            raise ExportError("a data segment does not begin at a constant address.")
        start = reader.signed()
        reader.byte()
        end = max(end, start + len(reader.bytes()))
    return end
