"""Python text, line by line, that remembers what it has computed in the scope it is in."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from thalweg.backends.gpu.index import Index, Symbol


class Writer:
    """The body of one kernel.

    Attributes:
        rounds: whether numbers that the program has rounded to 16 bits are rounded where they stay in registers.
    """

    def __init__(self) -> None:
        self.rounds = True
        self.lines: list[str] = []
        self.helpers: dict[str, None] = {}  # functions of helpers.py that the kernel calls
        self.functions: list[str] = []  # of this kernel only: the text of those that it calls besides
        self._scopes: list[dict[Hashable, Any]] = [{}]
        self._names: dict[str, int] = {}
        self._comment = ""
        self._depth = 0  # of indentation, less that of the scopes

    def emit(self, line: str) -> None:
        self.lines.append("    " * (len(self._scopes) + self._depth) + line)

    def comment(self, text: str) -> None:
        """A comment, unless it is the last one."""
        if text and text != self._comment:
            self._comment = text
            self.emit(f"# {text}")

    def fresh(self, name: str) -> str:
        """`name`, or `name_2`, … where it is taken."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"

    def assign(self, text: str, name: str = "t") -> str:
        """A new variable for an expression."""
        variable = self.fresh(name)
        self.emit(f"{variable} = {text}")
        return variable

    @contextmanager
    def scope(self, head: str) -> Iterator[None]:
        """An indented block: what is computed inside is forgotten after it, and its names are free again."""
        self.emit(head)
        self._scopes.append({})
        names = dict(self._names)
        yield
        self._names = names
        self._scopes.pop()
        self._comment = ""

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What is computed inside is forgotten after it."""
        self._scopes.append({})
        self._depth -= 1
        yield
        self._depth += 1
        self._scopes.pop()

    def remember(self, key: Hashable, value: Any) -> None:
        self._scopes[-1][key] = value

    def recall(self, key: Hashable) -> Any:
        return next((scope[key] for scope in reversed(self._scopes) if key in scope), None)

    def index(self, index: Index) -> str:
        """The text of a place; the quotients and remainders in it are defined first.

        What varies along the same axes of the tile is added first: it is small, and often the same in all of a loop.
        """
        groups: dict[frozenset[str], list[str]] = {}
        for symbol, factor in index.terms:
            name = self._symbol(symbol)
            times = "" if abs(factor) == 1 else f" * {abs(factor)}"
            groups.setdefault(symbol.axes, []).append(f"{'-' if factor < 0 else ''}{name}{times}")
        parts = [" + ".join(g) if len(g) == 1 or len(groups) == 1 else f"({' + '.join(g)})" for g in groups.values()]
        if index.constant or not parts:
            parts.append(str(index.constant))
        return " + ".join(parts).replace("+ -", "- ")

    def _symbol(self, symbol: Symbol) -> str:
        if symbol.source is None:
            return symbol.name
        known = self.recall(symbol)
        if known is None:
            source = self.index(symbol.source)
            source = source if source.isidentifier() else f"({source})"
            known = self.assign(f"{source} {symbol.operator} {symbol.divisor}", "at")
            self.remember(symbol, known)
        return str(known)


def is_name(text: str) -> bool:
    """Is an expression as short as a variable: one, or one as the rows or columns of a tile (`rows[:, None]`)?"""
    return text.isidentifier() or re.fullmatch(r"\w+\[(:, None|None, :)\]", text) is not None
