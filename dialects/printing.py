"""The compact form of a module, for people: one op a line, short types, the user's line beside it.

    func main(%arg0: f32[2,3]) -> f32[2,3]:
      %0 = exp %arg0 : f32[2,3]                       # model.py:12
      %1 = reduce_sum %0 {axes=[1]} : f32[2]          # model.py:12

It does not parse back (MLIR's own form does). Lines are made of tokens with a kind each, so that a terminal, a page or
a plain file can show them as each can.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, Literal

import numpy as np

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.context import from_mlir
from thalweg.dialects.extents import show
from thalweg.dialects.location import Where, where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import DType

TokenKind = Literal["plain", "keyword", "op", "value", "attribute", "type", "place"]
_LONGEST_ATTRIBUTE = 60
_PLACE_COLUMN = 56


@dataclass(frozen=True)
class Token:
    """A piece of a line."""

    text: str
    kind: TokenKind = "plain"


@dataclass(frozen=True)
class Line:
    """One op, or the head of a function or region."""

    depth: int
    tokens: tuple[Token, ...]
    where: Where | None = None
    operation: ir.Operation | None = None

    @property
    def text(self) -> str:
        """Without the place."""
        return "  " * self.depth + "".join(t.text for t in self.tokens)

    @property
    def place(self) -> str:
        """`model.py:12`, or nothing."""
        return f"{PurePath(self.where.file).name}:{self.where.line}" if self.where else ""

    def __str__(self) -> str:
        return f"{self.text:<{_PLACE_COLUMN}}  # {self.place}" if self.where else self.text


def compact(module: ir.Module | ir.Operation) -> str:
    """The whole module in compact form."""
    return "\n".join(map(str, lines(module)))


def lines(module: ir.Module | ir.Operation) -> Iterator[Line]:
    """The module line by line."""
    for view in body_of(module):
        yield from _Printer(names_in(view.operation)).lines(view.operation, 0)


def body_of(module: ir.Module | ir.Operation) -> Iterable[ir.OpView]:
    """The ops at a module's top level; the module may be given as an operation, as other dialects' passes leave it."""
    operations: Iterable[ir.OpView] = module.operation.regions[0].blocks[0].operations
    return operations


def names_in(operation: ir.Operation) -> dict[ir.Value, str]:
    """A name for every value inside an operation, as the compact form shows it: `%arg0`, `%3`, `%4#1`."""
    names: dict[ir.Value, str] = {}
    _name_regions(operation, names, [0, 0])
    return names


def _name_regions(operation: ir.Operation, names: dict[ir.Value, str], next_: list[int]) -> None:
    for region in operation.regions:
        for block in region.blocks:
            for argument in block.arguments:
                names[argument] = f"%arg{next_[0]}"
                next_[0] += 1
            for view in block.operations:
                results = list(view.operation.results)
                for index, result in enumerate(results):
                    names[result] = f"%{next_[1]}" + (f"#{index}" if len(results) > 1 else "")
                next_[1] += bool(results)
                _name_regions(view.operation, names, next_)


@dataclass(frozen=True)
class _Printer:
    names: Mapping[ir.Value, str]

    def lines(self, operation: ir.Operation, depth: int) -> Iterator[Line]:
        where = where_of(operation.location)
        if operation.name == "func.func":
            yield Line(depth, tuple(self._function_head(operation)), where, operation)
            for block in operation.regions[0].blocks:
                yield from self._block(block, depth + 1)
            return
        yield Line(depth, tuple(self._op(operation)), where, operation)
        row = row_of(operation)
        for index, region in enumerate(operation.regions):
            label = row.regions[index] if row and index < len(row.regions) else f"region {index}"
            for block in region.blocks:
                yield Line(depth + 1, tuple(self._head(label, block.arguments)))
                yield from self._block(block, depth + 2)

    def _block(self, block: ir.Block, depth: int) -> Iterator[Line]:
        for view in block.operations:
            yield from self.lines(view.operation, depth)

    def _function_head(self, operation: ir.Operation) -> Iterator[Token]:
        signature = ir.FunctionType(ir.TypeAttr(operation.attributes["function_type"]).value)
        yield Token("func ", "keyword")
        blocks = list(operation.regions[0].blocks)
        name = ir.StringAttr(operation.attributes["sym_name"]).value
        yield from list(self._head(name, blocks[0].arguments if blocks else [], always=True))[:-1]
        yield Token(" -> ")
        yield Token(_tuple([show_type(t) for t in signature.results]), "type")
        yield Token(":")

    def _head(self, label: str, arguments: Sequence[ir.Value], always: bool = False) -> Iterator[Token]:
        yield Token(label, "keyword")
        if len(arguments) or always:
            yield Token("(")
            for index, argument in enumerate(arguments):
                yield Token(", " if index else "")
                yield Token(self._name(argument), "value")
                yield Token(": ")
                yield Token(show_type(argument.type), "type")
            yield Token(")")
        yield Token(":")

    def _op(self, operation: ir.Operation) -> Iterator[Token]:
        results = list(operation.results)
        if results:
            yield Token(self._name(results[0]).replace("#0", f":{len(results)}"), "value")
            yield Token(" = ")
        yield Token(operation.name.removeprefix("tw.").removeprefix("func."), "op")
        for index, operand in enumerate(operation.operands):
            yield Token(", " if index else " ")
            yield Token(self._name(operand), "value")
        attributes = show_attributes(operation)
        if attributes:
            yield Token(" ")
            yield Token("{" + ", ".join(f"{k}={v}" for k, v in attributes.items()) + "}", "attribute")
        if results:
            yield Token(" : ")
            yield Token(", ".join(show_type(r.type) for r in results), "type")

    def _name(self, value: ir.Value) -> str:
        return self.names.get(value, "%?")


def show_type(type_: ir.Type) -> str:
    """An MLIR type in short: `f32[2,3]` for a static tensor, MLIR's text for what the dialect has no word for."""
    try:
        return str(from_mlir(type_))
    except TypeError:
        return str(type_)


def show_attributes(operation: ir.Operation) -> dict[str, str]:
    """The attributes of an operation as short texts; long ones are cut."""
    row = row_of(operation)
    if row is not None:
        try:
            values = attributes_of(row, operation)
        except ValueError:
            pass  # an invalid op is shown as MLIR has it
        else:
            return {name: _show(value) for name, value in values.items() if value is not None}
    return {a: _cut(str(operation.attributes[a])) for a in operation.attributes}


def _show(value: Any) -> str:
    if isinstance(value, DType):
        return value.short
    if isinstance(value, np.ndarray):
        return _cut(np.array2string(value, separator=",", threshold=8, edgeitems=2).replace("\n", "").replace(" ", ""))
    if isinstance(value, tuple):
        return f"[{','.join(show(v) if isinstance(v, int) else str(v) for v in value)}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_ATTRIBUTE else f"{text[: _LONGEST_ATTRIBUTE - 1]}…"


def _tuple(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"({', '.join(texts)})"


_ALIAS = re.compile(r"^(#\w+) = loc\((.*)\)$")
_USED = re.compile(r"#loc\d*")
_PLACE = re.compile(r'"([^"]+)":(\d+):\d+')
_FUNCTION = re.compile(r'^(?:"@[^"]*"\()?"([^"@][^"]*)"\(')


def located(text: str) -> list[tuple[str, Where | None]]:
    """The lines of MLIR text printed with debug info, each without its `loc(…)` and with the user's place.

    Works on any dialect, so a page can tie lines of every stage to the user's source.

    Example:
        >>> located('%0 = foo loc(#loc1)\\n#loc1 = loc("m.py":3:0)')
        [('%0 = foo', Where(file='m.py', line=3, function='<module>'))]
    """
    every = text.splitlines()
    aliases = {m[1]: m[2] for m in map(_ALIAS.match, every) if m}
    found: list[tuple[str, Where | None]] = []
    for line in every:
        if _ALIAS.match(line):
            continue
        # A line that opens a block carries no place of its own, only its arguments'.
        start = line.rfind(" loc(") if line.endswith(")") else -1
        where = _resolve(line[start + 5 : -1], aliases) if start >= 0 else None
        found.append((_without_argument_locations(line[:start] if start >= 0 else line), where))
    return found


def _without_argument_locations(line: str) -> str:
    return re.sub(r" loc\((?:[^()\"]|\"[^\"]*\"|\([^()]*\))*\)", "", line)


def _resolve(text: str, aliases: Mapping[str, str]) -> Where | None:
    """The place that a location's text names, aliases followed."""
    for _ in range(8):  # nested deeper than any location that we print
        if not _USED.search(text):
            break
        text = _USED.sub(lambda m: aliases.get(m[0], "unknown"), text)
    place = _PLACE.search(text)
    if place is None:
        return None
    function = _FUNCTION.match(text)
    return Where(place[1], int(place[2]), function[1] if function else "<module>")
