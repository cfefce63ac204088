"""What a call of a traced function is specialised on.

Every argument is flattened; each leaf is data (known by shape and dtype), a Python number (data too, held in 64 bits
and weakly typed) or static (part of the key, known while tracing): strings, dtypes, callables, whatever a parameter
named in `static` holds, and Python scalars given to a parameter whose default is a Python scalar or None.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.dialects.attributes import array_type
from thalweg.dialects.diagnostics import ExecutionError, LeakedTensorError, TracingError, did_you_mean
from thalweg.dialects.location import user_frame
from thalweg.dialects.types import DType, TensorType
from thalweg.frontend.custom import function_name
from thalweg.frontend.eager import scalar_array
from thalweg.frontend.operators import Operators
from thalweg.frontend.resident import ResidentTensor
from thalweg.frontend.spec import TensorSpec
from thalweg.frontend.tensor import Array, EagerTensor, TracedTensor, as_tensor
from thalweg.frontend.trace import Trace
from thalweg.frontend.tree import LEAF, Structure, flatten
from thalweg.frontend.variable import Variable

_SCALARS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Data:
    """A leaf that is data: its type; `weak` for a Python number."""

    type: TensorType
    weak: bool = False

    def __str__(self) -> str:
        if self.weak:
            return f"a Python { ({'f': 'float', 'i': 'int', 'b': 'bool'}[self.type.dtype.kind]) }"
        return str(self.type)


@dataclass(frozen=True, eq=False)
class Static:
    """A leaf that is known while tracing. Equal values of different types differ (1, 1.0, True)."""

    value: Any
    kind: type

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Static) or self.kind is not other.kind:
            return False
        return self.value is other.value or (not isinstance(self.value, Operators) and bool(self.value == other.value))

    def __hash__(self) -> int:
        return hash((self.kind, self.value))

    def __str__(self) -> str:
        return f"{self.value.name!r}" if isinstance(self.value, Variable) else f"{self.value!r}"


Leaf = Data | Static


@dataclass(frozen=True)
class Argument:
    """One parameter's value as the cache sees it."""

    name: str
    structure: Structure
    leaves: tuple[Leaf, ...]

    def paths(self) -> list[str]:
        return self.structure.paths(self.name)


Key = tuple[Argument, ...]


class Signature:
    """How calls of one Python function become keys and arrays.

    Raises:
        TypeError: `static` names no parameter.
    """

    def __init__(self, function: Callable[..., Any], static: Sequence[str], specs: Sequence[Any] | None) -> None:
        self.name = function_name(function)
        self.signature = inspect.signature(function)
        parameters = self.signature.parameters
        for name in static:
            if name not in parameters:
                near = did_you_mean(name, parameters)
                raise TypeError(f"{user_frame()} {self.name}() has no parameter '{name}' to be static{near}")
        self.static = frozenset(static)
        self.options = frozenset(
            n for n, p in parameters.items() if p.default is not p.empty and isinstance(p.default, _SCALARS)
        )
        kinds = {p.kind: n for n, p in parameters.items()}
        self._further = kinds.get(inspect.Parameter.VAR_POSITIONAL)  # the name of `*arrays`
        self._has_short_keys = inspect.Parameter.VAR_KEYWORD not in kinds and not self.static and specs is None
        self._positional = [n for n, p in parameters.items() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        self.specs = None if specs is None else list(specs)

    def short_key(self, args: Sequence[Any], kwargs: dict[str, Any], arrays: list[Array]) -> tuple[Any, ...] | None:
        """A key that is quick to make, for calls with nothing but tensors and options; collects the tensors' arrays.
        None for all other calls, which go through `analyse`."""
        names, more = self._positional, len(args) - len(self._positional)
        if not self._has_short_keys or (more > 0 and self._further is None):
            return None
        if more > 0:
            names = [*names, *[str(self._further)] * more]
        key: list[Any] = []
        for name, value in zip(names, args, strict=False):
            kind = type(value)
            if kind is EagerTensor:
                array = value.data
            elif kind is ResidentTensor:
                array = value.held
            elif kind is np.ndarray and value.flags.c_contiguous:
                array = value
            elif name in self.options and kind in _SCALARS:
                key += (kind, value)
                continue
            else:
                return None
            arrays.append(array)
            key += (array.shape, array.dtype)
        for name, value in kwargs.items():
            if name not in self.options or type(value) not in _SCALARS:
                return None
            key += (name, type(value), value)
        return tuple(key)

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The call's values by parameter, defaults filled in."""
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{user_frame()} {self.name}(): {error}") from None
        bound.apply_defaults()
        if self.specs is not None:
            self._check_specs(args, kwargs)
        return bound.arguments

    def _check_specs(self, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        specs = self.specs or []
        if len(args) != len(specs):
            raise ExecutionError(
                f"{user_frame()} {self.name}(): its signature has {len(specs)} positional arguments, got {len(args)}."
            )
        for position, (value, wanted) in enumerate(zip(args, specs, strict=True)):
            leaves, structure = flatten(value)
            expected, expected_structure = flatten(wanted)
            if structure != expected_structure:
                raise ExecutionError(
                    f"{user_frame()} {self.name}(): argument {position} has the structure {structure}, its signature "
                    f"says {expected_structure}."
                )
            for leaf, spec, path in zip(leaves, expected, structure.paths(f"argument {position}"), strict=True):
                type_ = leaf.type if isinstance(leaf, TensorSpec) else as_tensor(leaf).type
                if not spec.accepts(type_):
                    raise ExecutionError(
                        f"{user_frame()} {self.name}(): {path} is {type_}, its signature says {spec}. Convert or "
                        "reshape it, or widen the signature with None."
                    )

    def analyse(self, arguments: dict[str, Any]) -> tuple[Key, list[Any]]:
        """The key of a call, and its data leaves (arrays, or specs where types were given instead of values)."""
        data: list[Any] = []
        key = []
        for name, value in arguments.items():
            if name in self.static:
                key.append(Argument(name, LEAF, (self._static(name, value),)))
                continue
            leaves, structure = flatten(value)
            kinds = tuple(self._leaf(name, leaf, structure, i, data) for i, leaf in enumerate(leaves))
            key.append(Argument(name, structure, kinds))
        return tuple(key), data

    def _static(self, name: str, value: Any) -> Static:
        if isinstance(value, TracedTensor | EagerTensor | np.ndarray):
            raise TracingError(
                f"{user_frame()} {self.name}(): '{name}' is static but got an array {as_tensor(value).type}. Static "
                "arguments are options: numbers, strings, functions."
            )
        frozen = tuple(value) if isinstance(value, list) else value
        try:
            hash(frozen)
        except TypeError:
            raise TracingError(
                f"{user_frame()} {self.name}(): the static argument '{name}' is a {type(value).__name__}, which cannot "
                "be hashed. Use a tuple, a frozen dataclass or another hashable value."
            ) from None
        return Static(frozen, type(value))

    def _leaf(self, name: str, leaf: Any, structure: Structure, index: int, data: list[Any]) -> Leaf:
        if isinstance(leaf, EagerTensor):
            data.append(leaf.held)
            return Data(leaf.type)
        if isinstance(leaf, bool | int | float):
            if name in self.options:
                return Static(leaf, type(leaf))
            array = scalar_array(leaf)
            data.append(array)
            return Data(array_type(array), weak=True)
        if isinstance(leaf, TensorSpec):
            data.append(leaf)
            return Data(leaf.type)
        if isinstance(leaf, np.ndarray | np.generic) or hasattr(leaf, "__dlpack__"):
            return self._array(leaf, data)
        if isinstance(leaf, Variable | str | DType | np.dtype) or callable(leaf):
            return Static(leaf, type(leaf))
        path = structure.paths(name)[index]
        raise TracingError(
            f"{user_frame()} {self.name}(): {path} is a {type(leaf).__name__}, which is neither an array nor a nested "
            f"structure of arrays. If it is an option, name it: static=('{name}',)."
        )

    def _array(self, leaf: Any, data: list[Any]) -> Data:
        tensor = as_tensor(leaf)
        if isinstance(tensor, TracedTensor):
            raise LeakedTensorError(
                f"{user_frame()} {self.name}() is called with a traced tensor {tensor.type} outside of its trace, "
                f"{tensor.scope.label}. Return it from there first."
            )
        assert isinstance(tensor, EagerTensor)
        data.append(tensor.held)
        return Data(tensor.type)


def placeholders(trace: Trace, key: Key) -> dict[str, Any]:
    """The values by parameter with which a function is traced."""
    values = {}
    for argument in key:
        leaves = [
            trace.argument(leaf.type, leaf.weak) if isinstance(leaf, Data) else leaf.value for leaf in argument.leaves
        ]
        values[argument.name] = argument.structure.unflatten(leaves)
    return values


def describe(key: Key) -> str:
    """A call in one line: `a: f32[2,3], scale=2.0`."""
    parts = []
    for argument in key:
        for path, leaf in zip(argument.paths(), argument.leaves, strict=True):
            parts.append(f"{path}: {leaf}" if isinstance(leaf, Data) else f"{path}={leaf}")
    return ", ".join(parts)
