"""Where the variables of a checkpoint are: in this process, or on the tasks that a session runs on."""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from thalweg.dialects.ops import io as rows
from thalweg.dialects.types import int64, string
from thalweg.frontend.building import control_dependencies, group, placeholder
from thalweg.frontend.device import device
from thalweg.frontend.saving import array_of
from thalweg.frontend.sharding import beside
from thalweg.frontend.train.leaves import Leaf
from thalweg.frontend.variable import Variable
from thalweg.runtime import checkpoints as disk
from thalweg.runtime.checkpoints import Array, Checkpoint, Piece

if TYPE_CHECKING:
    from thalweg.frontend.session import Session

Write = Callable[[Path, int, Mapping[str, float]], None]
Leaves = Mapping[str, Leaf]


class Store(Protocol):
    """What saving and restoring needs of where variables are."""

    def snapshot(self, leaves: Leaves) -> Write:
        """Copy the variables now; what is returned writes the copy into a folder and makes it a checkpoint."""
        ...

    def assign(self, checkpoint: Checkpoint, leaves: Leaves, sources: Mapping[str, str]) -> None:
        """Assign variables from the tensors of a checkpoint; none, if one of them cannot be read."""
        ...


class LocalStore:
    """Variables of this process.

    Args:
        files: over how many files the tensors are spread.
    """

    def __init__(self, files: int = 1) -> None:
        self._files = files

    def snapshot(self, leaves: Leaves) -> Write:
        copies = {name: _copy(name, leaf) for name, leaf in leaves.items()}
        parts = {name: leaf.part for name, leaf in leaves.items() if leaf.part is not None}

        def write(folder: Path, step: int, metrics: Mapping[str, float]) -> None:
            pieces: list[Piece] = []
            for number, names in enumerate(_spread(copies, self._files)):
                arrays = {name: copies[name] for name in names}
                pieces += disk.write_part(folder, f"part-{number}.safetensors", arrays, parts)
            disk.commit(folder, pieces, step, metrics)

        return write

    def assign(self, checkpoint: Checkpoint, leaves: Leaves, sources: Mapping[str, str]) -> None:
        values = {n: checkpoint.read(sources[n], leaf.part.rows if leaf.part else None) for n, leaf in leaves.items()}
        for name, value in values.items():
            leaves[name].value.assign(value)


class SessionStore:
    """Variables on the tasks of a session: each task writes and reads its own. All of them see one file system.

    The ops become part of the session's graph: `snapshot` and `save` on each device, `commit_checkpoint` on one. What
    steps that run meanwhile have done to variables of several devices, the copy may have of some and not of others.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names = f"checkpoint_{secrets.token_hex(4)}"
        self._numbers = itertools.count()
        self._saving: tuple[tuple[str, ...], Any] | None = None  # the ops, and for which leaves

    def snapshot(self, leaves: Leaves) -> Write:
        if self._saving is None or self._saving[0] != tuple(leaves):
            self._saving = tuple(leaves), self._build(leaves)
        (number, path, step, metrics), copy, commit = self._saving[1]
        which = next(self._numbers)
        self._session.run(copy, {number: which})

        def write(folder: Path, at: int, measured: Mapping[str, float]) -> None:
            folder.mkdir(parents=True)
            texts = {path: _string(str(folder.resolve())), metrics: _string(json.dumps(dict(measured)))}
            self._session.run(commit, {number: which, step: at, **texts})

        return write

    def assign(self, checkpoint: Checkpoint, leaves: Leaves, sources: Mapping[str, str]) -> None:
        with self._adding():
            path = placeholder(string, (), name="path")
            values = []
            for name, leaf in leaves.items():
                part = leaf.part
                attrs = {
                    "tensor": sources[name], "shape": leaf.type.shape, "dtype": leaf.type.dtype,
                    "rows": (part.rows.start, part.rows.stop, part.rows.step) if part else (),
                }  # fmt: skip
                with beside(leaf.value):
                    values.append(self._session.graph.emit(rows.restore, [path], attrs)[0])
            with control_dependencies(values):  # all are read, and compared with their digests, before one is assigned
                assigned = [leaf.value.assign(value) for leaf, value in zip(leaves.values(), values, strict=True)]
            everything = group(*assigned, name="restore_all")
        self._session.run(everything, {path: _string(str(checkpoint.path.resolve()))})

    def _build(self, leaves: Leaves) -> tuple[tuple[Any, ...], Any, Any]:
        """The placeholders, the op that copies everything, and the one that writes it."""
        graph = self._session.graph
        with self._adding():
            feeds = number, path, step, metrics = (
                placeholder(int64, (), name="number"), placeholder(string, (), name="path"),
                placeholder(int64, (), name="step"), placeholder(string, (), name="metrics"),
            )  # fmt: skip
            copies: list[Any] = []
            records: list[Any] = []
            for index, (scope, names) in enumerate(_by_device(leaves).items()):
                layout = json.dumps([_entry(name, leaves[name]) for name in names])
                shared = {"name": f"{self._names}/{index}"}
                with device(scope or None):
                    handles = [graph.handle(leaves[name].value) for name in names]
                    copies.append(graph.perform(rows.snapshot, [graph.value_of(number), *handles], shared))
                    attrs = {**shared, "file": f"part-{index}.safetensors", "layout": layout}
                    values = [graph.value_of(number), graph.value_of(path), handles[0]]
                    records += graph.emit_values(rows.save, values, attrs)
            values = [graph.value_of(t) for t in (path, step, metrics, *records)]
            with device(next(iter(_by_device(leaves))) or None):
                return feeds, group(*copies, name="snapshots"), graph.perform(rows.commit_checkpoint, values, {})

    @contextmanager
    def _adding(self) -> Iterator[None]:
        """Add to the graph, whatever blocks are open."""
        with self._session.graph.as_default(), control_dependencies(None), device(None):
            yield


def _by_device(leaves: Leaves) -> dict[str, list[str]]:
    """The names of the leaves by the device that was asked for."""
    found: dict[str, list[str]] = {}
    for name, leaf in leaves.items():
        found.setdefault(leaf.value.scope, []).append(name)
    return found


def _entry(name: str, leaf: Leaf) -> dict[str, Any]:
    """A variable in the layout of a file."""
    part = leaf.part
    piece = part and {
        "name": part.name, "shape": part.shape, "rows": [part.rows.start, part.rows.stop, part.rows.step]
    }  # fmt: skip
    return {"key": name, "part": piece}


def _copy(name: str, leaf: Leaf) -> Array:
    return leaf.value.numpy() if isinstance(leaf.value, Variable) else np.array(array_of(name, leaf.value))


def _spread(copies: Mapping[str, Array], files: int) -> Sequence[Sequence[str]]:
    """Names for each file, so that the files are of about one size: the largest tensor into the emptiest file."""
    sizes = [0] * files
    names: list[list[str]] = [[] for _ in range(files)]
    for name in sorted(copies, key=lambda n: -copies[n].nbytes):
        emptiest = sizes.index(min(sizes))
        sizes[emptiest] += copies[name].nbytes
        names[emptiest].append(name)
    return [found for found in names if found]


def _string(text: str) -> Array:
    array = np.empty((), object)
    array[()] = text.encode()
    return array
