"""What a function would trace to, told from its code: the key of warm starts that skip tracing.

A fingerprint covers the function's code, the code of every function of the user's that it can reach through globals,
closures, defaults and attributes, and the values that it finds there. Whatever cannot be followed (an open file, a
random generator) makes the function *not* fingerprintable, and it is traced as usual. Of a module of the user's, the
attributes named in the code that uses it are followed; `getattr` with a computed name is the one way past.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import sysconfig
import types
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.dialects.types import DType, TensorType
from thalweg.frontend.tensor import EagerTensor
from thalweg.frontend.variable import Variable

_PLAIN = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), DType, TensorType, np.dtype, np.generic)
_DEPTH = 40


class NotFingerprintable(Exception):
    """A value that a function reaches cannot be followed; the message names it and the way to it."""


@dataclasses.dataclass
class Fingerprint:
    """The digest of a function's code and of what it reaches, and the variables found on the way, by name.

    Example:
        >>> found = Fingerprint.of(step)
        >>> found.digest, sorted(found.variables)
        ('3f0c…', ['b', 'w'])
    """

    digest: str
    variables: dict[str, Variable]

    @classmethod
    def of(cls, function: Callable[..., Any], *arguments: Any) -> Fingerprint:
        """The fingerprint of a function called with arguments of a kind.

        Raises:
            NotFingerprintable: it reaches a value that cannot be followed.
        """
        walk = _Walk()
        walk.value(function, function.__qualname__ if hasattr(function, "__qualname__") else "function", 0)
        walk.value(arguments, "arguments", 0)
        return cls(walk.state.hexdigest(), walk.variables)


class _Walk:
    """One pass over everything that a function reaches; cycles are met by numbering objects as they come."""

    def __init__(self) -> None:
        self.state = hashlib.sha256()
        self.variables: dict[str, Variable] = {}
        self.numbers: dict[int, int] = {}
        self.kept: list[object] = []  # so that no id is used twice
        self.token("python", sys.version, "thalweg", own_sources())

    def token(self, *parts: str | bytes) -> None:
        for part in parts:
            data = part.encode() if isinstance(part, str) else part
            self.state.update(len(data).to_bytes(8, "little") + data)

    def value(self, value: Any, path: str, depth: int) -> None:
        """Take a value in.

        Raises:
            NotFingerprintable: it cannot be followed.
        """
        if depth > _DEPTH:
            raise NotFingerprintable(f"{path} is nested more than {_DEPTH} levels deep")
        if isinstance(value, _PLAIN):
            self.token(type(value).__name__, repr(value))
            return
        if self._met(value):
            return
        if isinstance(value, Variable):
            self._variable(value, path)
        elif isinstance(value, EagerTensor):
            self._array(value.data)
        elif isinstance(value, np.ndarray):
            self._array(value)
        elif isinstance(value, types.FunctionType):
            self._function(value, path, depth)
        else:
            self._compound(value, path, depth)

    def _met(self, value: Any) -> bool:
        """Whether the value was taken in before; then only its number counts."""
        number = self.numbers.get(id(value))
        if number is not None:
            self.token("again", str(number))
            return True
        self.numbers[id(value)] = len(self.numbers)
        self.kept.append(value)
        return False

    def _variable(self, variable: Variable, path: str) -> None:
        if self.variables.setdefault(variable.name, variable) is not variable:
            raise NotFingerprintable(f"{path} is a second variable called {variable.name}")
        self.token("variable", variable.name, str(variable.type))

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        self.token("array", str(array.dtype), repr(array.shape), np.ascontiguousarray(array).tobytes())

    def _module(self, module: types.ModuleType, names: set[str], path: str, depth: int) -> None:
        """A library is its name and version; of a module of the user's, what the code that uses it names."""
        self.token("module", module.__name__)
        file = getattr(module, "__file__", None)
        if file is None or _is_library(file) or _is_ours(module.__name__):
            self.token(str(getattr(module, "__version__", "")))
            return
        for name in sorted(names & vars(module).keys()):
            self._named(vars(module)[name], names, f"{path}.{name}", depth)

    def _named(self, value: Any, names: set[str], path: str, depth: int) -> None:
        """A global, or an attribute of a module."""
        self.token("global", path.rpartition(" -> ")[2])
        if depth > _DEPTH:
            raise NotFingerprintable(f"{path} is nested more than {_DEPTH} levels deep")
        if isinstance(value, types.ModuleType):
            self._module(value, names, path, depth + 1)
        else:
            self.value(value, path, depth + 1)

    def _function(self, function: types.FunctionType, path: str, depth: int) -> None:
        self.token("function", function.__module__ or "", function.__qualname__)
        if _is_ours(function.__module__):
            self._contents(function, path, depth)  # its code is in `own_sources`, what it closes over is not
            return
        self._code(function.__code__)
        self._contents(function, path, depth)
        names = _global_names(function.__code__)
        for name in sorted(names & function.__globals__.keys()):
            self._named(function.__globals__[name], names, f"{path} -> {name}", depth)

    def _contents(self, function: types.FunctionType, path: str, depth: int) -> None:
        """Closure, defaults, and attributes such as the function that a decorator wraps."""
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                inside = cell.cell_contents
            except ValueError:
                self.token("empty cell", name)
                continue
            self._named(inside, _global_names(function.__code__), f"{path} -> {name}", depth)
        self.value(function.__defaults__, f"defaults of {path}", depth + 1)
        self.value(function.__kwdefaults__, f"defaults of {path}", depth + 1)
        self.value(dict(function.__dict__), f"attributes of {path}", depth + 1)

    def _code(self, code: types.CodeType) -> None:
        """Bytecode with names, constants and lines: lines are in the program's locations."""
        self.token(code.co_code, repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)))
        self.token(code.co_filename, str(code.co_firstlineno), code.co_linetable, str(code.co_flags))
        for constant in code.co_consts:
            if isinstance(constant, types.CodeType):
                self._code(constant)
            else:
                self.token(repr(constant))

    def _compound(self, value: Any, path: str, depth: int) -> None:
        kind = type(value)
        self.token("value", kind.__module__, kind.__qualname__)
        if isinstance(value, (list, tuple)):
            for number, item in enumerate(value):
                self.value(item, f"{path}[{number}]", depth + 1)
        elif isinstance(value, (set, frozenset)):
            for item in sorted(value, key=repr):
                self.value(item, f"an element of {path}", depth + 1)
        elif isinstance(value, dict):
            for key, item in value.items():
                self.value(key, f"a key of {path}", depth + 1)
                self.value(item, f"{path}[{key!r}]", depth + 1)
        elif isinstance(value, types.MethodType):
            self.value(value.__func__, path, depth + 1)
            self.value(value.__self__, f"{path}.__self__", depth + 1)
        elif isinstance(value, partial):
            self.value((value.func, value.args, value.keywords), path, depth + 1)
        elif isinstance(value, type):
            self._class(value, path, depth)
        elif isinstance(value, (types.BuiltinFunctionType, np.ufunc)):
            self.token(value.__name__)
        else:
            self._instance(value, path, depth)

    def _class(self, class_: type, path: str, depth: int) -> None:
        """A class of a library is its name; one of the user's is its attributes and its bases'."""
        self.token("class", class_.__module__, class_.__qualname__)
        if class_.__module__ == "builtins" or _is_ours(class_.__module__) or _is_library_module(class_.__module__):
            return
        for base in class_.__bases__:
            self.value(base, f"a base of {path}", depth + 1)
        for name, member in sorted(vars(class_).items()):
            if name in ("__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"):
                continue
            self.token("member", name)
            self.value(_unwrapped(member), f"{path}.{name}", depth + 1)

    def _instance(self, value: Any, path: str, depth: int) -> None:
        kind = type(value)
        slots = [s for c in kind.__mro__ for s in getattr(c, "__slots__", ()) if s not in ("__weakref__", "__dict__")]
        if not slots and not hasattr(value, "__dict__"):
            raise NotFingerprintable(f"{path} is a {kind.__module__}.{kind.__qualname__}, which cannot be followed")
        if _is_library_module(kind.__module__) and not _is_ours(kind.__module__):
            raise NotFingerprintable(f"{path} is a {kind.__module__}.{kind.__qualname__}, whose state is not known")
        self.value(kind, f"the class of {path}", depth + 1)
        for name in sorted({*slots, *getattr(value, "__dict__", {})}):
            if hasattr(value, name):
                self.token("attribute", name)
                self.value(getattr(value, name), f"{path}.{name}", depth + 1)


def _unwrapped(member: Any) -> Any:
    """What stands behind a descriptor of a class."""
    if isinstance(member, (staticmethod, classmethod)):
        return member.__func__
    if isinstance(member, property):
        return (member.fget, member.fset, member.fdel)
    if isinstance(member, (types.MemberDescriptorType, types.GetSetDescriptorType, types.WrapperDescriptorType)):
        return member.__name__
    return member


def _global_names(code: types.CodeType) -> set[str]:
    """Names that a code object and those inside it may look up as globals (attribute names come along, harmlessly)."""
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*map(_global_names, inner))


def _is_ours(module: str | None) -> bool:
    return module == "thalweg" or (module or "").startswith("thalweg.")


def _is_library_module(name: str | None) -> bool:
    module = sys.modules.get(name or "")
    file = getattr(module, "__file__", None)
    return module is not None and name != "__main__" and (file is None or _is_library(file))


@cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    return tuple(str(Path(paths[key]).resolve()) for key in ("stdlib", "platstdlib", "purelib", "platlib"))


def _is_library(file: str) -> bool:
    return str(Path(file).resolve()).startswith(_library_folders())


@cache
def own_sources() -> str:
    """A digest of the installed package's files (names, sizes, times): the compiler itself is part of every key."""
    import thalweg

    root = Path(thalweg.__file__ or "").parent
    state = hashlib.sha256()
    for folder in (root, *sorted(p for p in root.iterdir() if p.is_dir())):
        files = folder.glob("*.py") if folder == root else folder.resolve().rglob("*.py")
        for file in sorted(files):
            stat = file.stat()
            state.update(f"{file.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return state.hexdigest()
