"""Checkpoints: variables and arrays in one safetensors file.

    tw.save("model.safetensors", {"model": model, "optimizer": opt})
    tw.restore("model.safetensors", {"model": model, "optimizer": opt})

A file appears under its name only when it is complete and on disk, and nothing is assigned before everything fits:
there is no half-written checkpoint, and no half-restored model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.dialects.attributes import array_type
from thalweg.dialects.diagnostics import TracingError, did_you_mean
from thalweg.dialects.location import user_frame
from thalweg.dialects.types import as_dtype
from thalweg.frontend.tensor import from_numpy
from thalweg.frontend.tree import flatten
from thalweg.frontend.variable import Variable
from thalweg.runtime import tensorfile

Array = np.ndarray[Any, Any]


def save(path: str | os.PathLike[str], tree: Any) -> None:
    """Write variables and arrays to a safetensors file, atomically.

    Args:
        path: the file; its folder must exist. A file that is there is replaced.
        tree: a nested structure of variables, arrays, and objects with a `variables()` method (modules, optimisers).
            A leaf's name in the file is its path: `model.0.weight`.

    Raises:
        ValueError: two leaves have the same name.
        TypeError: a leaf is not an array.
        FileNotFoundError: no such folder.
    """
    arrays = {name: array_of(name, leaf) for name, leaf in named_leaves(tree)[0].items()}
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{user_frame()} no folder {target.parent} to save {target.name} in. Make it first.")
    tensorfile.write(target, arrays)


def restore(path: str | os.PathLike[str], tree: Any, *, strict: bool = True) -> Any:
    """Read what `save` wrote: variables of `tree` are assigned in place.

    Args:
        path: a safetensors file.
        tree: as for `save`. Arrays in it say what shape and dtype is expected.
        strict: whether names in the file that `tree` does not have are an error.

    Returns:
        `tree` with arrays read from the file in the places of arrays, and the same variables and objects otherwise.

    Raises:
        ValueError: names, shapes or dtypes differ, or the file is none of safetensors; all differences are listed, and
            nothing has been assigned.
        FileNotFoundError: no such file.
    """
    arrays = _read(Path(path))
    leaves, order, structure = named_leaves(tree)
    problems = _differences(leaves, arrays, strict)
    if problems:
        raise ValueError(
            f"{user_frame()} {os.fspath(path)} does not fit what is to be restored:\n  " + "\n  ".join(problems)
        )
    for name, leaf in leaves.items():
        if isinstance(leaf, Variable):
            leaf.assign(arrays[name])
    kept = [isinstance(value, Variable) or name not in leaves for name, value in order]
    return structure.unflatten(
        [value if keep else from_numpy(arrays[name]) for keep, (name, value) in zip(kept, order, strict=True)]
    )


def named_leaves(tree: Any) -> tuple[dict[str, Any], list[tuple[str, Any]], Any]:
    """Every variable and array by name; and the tree's own leaves in order with its structure, to build it again."""
    values, structure = flatten(tree)
    order = [(_plain(path), value) for path, value in zip(structure.paths(), values, strict=True)]
    named: dict[str, Any] = {}
    for path, value in order:
        members = value.variables() if hasattr(value, "variables") else {"": value}
        for inner, leaf in members.items():
            name = f"{path}.{inner}".strip(".")
            if name in named:
                raise ValueError(
                    f"{user_frame()} two leaves are called '{name}' in the checkpoint. Rename one of them."
                )
            named[name] = leaf
    return named, order, structure


def _plain(path: str) -> str:
    """`['model'][0].weight` as `model.0.weight`."""
    return path.replace("['", ".").replace("']", "").replace("[", ".").replace("]", "").strip(".") or "value"


def array_of(name: str, leaf: Any) -> Array:
    """The array of a leaf.

    Raises:
        TypeError: it is none.
    """
    try:
        array = np.asarray(leaf, order="C")
        as_dtype(array.dtype)
    except TracingError:
        raise
    except TypeError as error:
        raise TypeError(f"{user_frame()} '{name}' cannot be saved: {error}") from None
    return array


def _read(path: Path) -> dict[str, Array]:
    try:
        with tensorfile.TensorFile(path) as file:
            return {name: file.read(name) for name in file.entries}
    except FileNotFoundError:
        folder = path.parent
        near = did_you_mean(path.name, os.listdir(folder)) if folder.is_dir() else f"; there is no folder {folder}."
        raise FileNotFoundError(f"{user_frame()} no checkpoint {path}{near or '.'}") from None
    except tensorfile.TensorFileError as error:
        raise ValueError(f"{user_frame()} {path} is not a safetensors file that can be read: {error}") from None


def _differences(leaves: Mapping[str, Any], arrays: Mapping[str, Array], strict: bool) -> list[str]:
    unused = [name for name in arrays if name not in leaves]
    found: list[str] = []
    for name, leaf in leaves.items():
        if name not in arrays:
            found.append(f"'{name}' is not in the file{did_you_mean(name, unused)}")
            continue
        wanted, got = array_type(array_of(name, leaf)), array_type(arrays[name])
        if wanted != got:
            found.append(f"'{name}' should be {wanted}, the file has {got}")
    if strict:
        found += [f"'{name}' of the file has no place in the tree (strict=False leaves it out)" for name in unused]
    return found

