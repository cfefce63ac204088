"""Nested structures: tuples, lists, dicts, named tuples, dataclasses and None, flattened to leaves and back.

    leaves, structure = flatten({"w": a, "b": [c, d]})
    structure.unflatten(leaves)
    structure.paths("params")                        # ["params['w']", "params['b'][0]", "params['b'][1]"]

Dataclass fields made with `field(metadata={"static": True})` belong to the structure, not to the leaves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Structure:
    """The shape of a nested value: hashable, comparable, able to build the value again from leaves.

    `kind` is None for a leaf, NoneType for None, otherwise the container's type.
    """

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()
    static: tuple[tuple[str, Any], ...] = ()

    @property
    def is_leaf(self) -> bool:
        return self.kind is None

    @property
    def count(self) -> int:
        """Number of leaves."""
        return 1 if self.kind is None else sum(c.count for c in self.children)

    def unflatten(self, leaves: Sequence[Any]) -> Any:
        """The value with these leaves.

        Raises:
            ValueError: the number of leaves differs.
        """
        if len(leaves) != self.count:
            raise ValueError(f"a structure of {self.count} leaves cannot be built from {len(leaves)}")
        return self._build(iter(leaves))

    def _build(self, leaves: Iterator[Any]) -> Any:
        if self.kind is None:
            return next(leaves)
        if self.kind is type(None):
            return None
        parts = [child._build(leaves) for child in self.children]
        if issubclass(self.kind, dict):
            built: Any = self.kind()
            built.update(zip(self.keys, parts, strict=True))
            return built
        if issubclass(self.kind, tuple):
            return self.kind(*parts) if hasattr(self.kind, "_fields") else self.kind(parts)
        if issubclass(self.kind, list):
            return self.kind(parts)
        return _build_dataclass(self.kind, {**dict(zip(self.keys, parts, strict=True)), **dict(self.static)})

    def paths(self, root: str = "") -> list[str]:
        """One readable path per leaf: `batch['x'][0].weight`."""
        if self.kind is None:
            return [root]
        found: list[str] = []
        for key, child in zip(self.keys, self.children, strict=True):
            step = f".{key}" if _by_name(self.kind) else f"[{key!r}]"
            found += child.paths(root + step)
        return found

    def __str__(self) -> str:
        if self.kind is None:
            return "*"
        if self.kind is type(None):
            return "None"
        parts = [str(c) for c in self.children]
        if issubclass(self.kind, dict):
            return "{" + ", ".join(f"{k!r}: {p}" for k, p in zip(self.keys, parts, strict=True)) + "}"
        if self.kind is list:
            return f"[{', '.join(parts)}]"
        if self.kind is tuple:
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        return f"{self.kind.__name__}({', '.join(f'{k}={p}' for k, p in zip(self.keys, parts, strict=True))})"


LEAF = Structure(None)
_NONE = Structure(type(None))


def _by_name(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or hasattr(kind, "_fields")


def _build_dataclass(kind: type, fields: dict[str, Any]) -> Any:
    built: Any = object.__new__(kind)
    for name, value in fields.items():
        object.__setattr__(built, name, value)
    return built


def _is_dataclass_node(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type) and not getattr(value, "is_tree_leaf", False)


def flatten(value: Any) -> tuple[list[Any], Structure]:
    """The leaves of `value`, in order, and its structure. Anything that is no container is a leaf."""
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves)


def _flatten(value: Any, leaves: list[Any]) -> Structure:
    if value is None:
        return _NONE
    kind = type(value)
    if isinstance(value, dict):
        return Structure(kind, tuple(value), tuple(_flatten(v, leaves) for v in value.values()))
    if isinstance(value, tuple | list):
        keys = getattr(kind, "_fields", None) or tuple(range(len(value)))
        return Structure(kind, tuple(keys), tuple(_flatten(v, leaves) for v in value))
    if _is_dataclass_node(value):
        fields = dataclasses.fields(value)
        dynamic = [f.name for f in fields if not f.metadata.get("static")]
        static = tuple((f.name, getattr(value, f.name)) for f in fields if f.metadata.get("static"))
        children = tuple(_flatten(getattr(value, name), leaves) for name in dynamic)
        return Structure(kind, tuple(dynamic), children, static)
    leaves.append(value)
    return LEAF


def leaves_of(value: Any) -> list[Any]:
    """The leaves alone."""
    return flatten(value)[0]


def flatten_as(structure: Structure, value: Any) -> list[Any]:
    """The leaves of `value`, which has the given structure, except that None may stand for any part of it: it becomes
    one None per leaf.

    Raises:
        ValueError: the structures differ otherwise.
    """
    if value is None:
        return [None] * structure.count
    if structure.is_leaf:
        return [value]
    leaves: list[Any] = []
    parts = _parts(value)
    if type(value) is not structure.kind or len(parts) != len(structure.children):
        raise ValueError(f"expected the structure {structure}, got {flatten(value)[1]}")
    for child, part in zip(structure.children, parts, strict=True):
        leaves += flatten_as(child, part)
    return leaves


def _parts(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, tuple | list):
        return list(value)
    if _is_dataclass_node(value):
        return [getattr(value, f.name) for f in dataclasses.fields(value) if not f.metadata.get("static")]
    return []


def map_structure(function: Callable[..., Any], value: Any, *others: Any) -> Any:
    """`function` applied to corresponding leaves; the result has the structure of `value`.

    Raises:
        ValueError: the structures differ.
    """
    leaves, structure = flatten(value)
    columns = [leaves]
    for other in others:
        other_leaves, other_structure = flatten(other)
        if other_structure != structure:
            raise ValueError(f"structures differ: {structure} and {other_structure}")
        columns.append(other_leaves)
    return structure.unflatten([function(*row) for row in zip(*columns, strict=True)])
