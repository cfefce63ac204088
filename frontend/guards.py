"""What a traced function took from around itself: closure and global variables whose change calls for a new trace."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from thalweg.frontend.operators import Operators

_PLAIN = (bool, int, float, str, type(None))
_ABSENT = object()


@dataclass(frozen=True)
class Guard:
    """One variable and the value that it had when the function was traced."""

    kind: str  # "closure variable" or "global"
    name: str
    read: Callable[[], Any]
    expected: Any

    def holds(self) -> bool:
        """True if the variable still has that value: the same object, or an equal plain value."""
        value = self.read()
        if value is self.expected:
            return True
        return type(value) is type(self.expected) and type(value) in _PLAIN and bool(value == self.expected)

    def change(self) -> str:
        """What has changed, for `Function.explain`."""
        return f"{self.kind} '{self.name}': was {_show(self.expected)}, is {_show(self.read())}"


def _show(value: Any) -> str:
    if value is _ABSENT:
        return "deleted"
    if isinstance(value, Operators | np.ndarray):
        shape = list(value.shape)  # type: ignore[union-attr]
        return f"{type(value).__name__.removeprefix('Eager')} {shape} at {id(value):#x}"
    return f"{value!r:.60}"


def guards_of(function: Callable[..., Any]) -> tuple[Guard, ...]:
    """Guards for a function as it is now: all its closure variables, and the globals that it or a function defined in
    it names, if they hold plain values, tensors or variables. What it reaches in other ways (attributes of objects,
    functions that it calls) is not watched."""
    plain = inspect.unwrap(getattr(function, "__func__", function))
    if not isinstance(plain, FunctionType):
        return ()
    guards = []
    for name, cell in zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True):
        read = _reader(cell)
        if read() is not _ABSENT:
            guards.append(Guard("closure variable", name, read, read()))
    names = plain.__globals__
    for name in dict.fromkeys(_names(plain.__code__)):
        value = names.get(name, _ABSENT)
        if isinstance(value, (*_PLAIN, Operators, np.ndarray)):
            guards.append(Guard("global", name, partial(names.get, name, _ABSENT), value))
    return tuple(guards)


def _reader(cell: Any) -> Callable[[], Any]:
    def read() -> Any:
        try:
            return cell.cell_contents
        except ValueError:  # not assigned yet, or deleted
            return _ABSENT

    return read


def _names(code: CodeType) -> Iterator[str]:
    """Names of the globals that code reads. `co_names` will not do: it holds names of attributes, too."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "LOAD_GLOBAL":
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
