"""Arrays that a program runs on: from an .npz file, from the program itself, or random; and results back to a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.dialects.attributes import array_type, attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.diagnostics import did_you_mean
from thalweg.dialects.opdef import Arg
from thalweg.dialects.types import TensorType, as_dtype
from thalweg.dialects.verify import walk
from thalweg.tools.loading import Array, LoadError, Subject


def read_npz(path: str) -> dict[str, Array]:
    """The arrays of an .npz file, in the order in which they were saved; no pickles.

    Raises:
        LoadError: it is not such a file.
    """
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            return {name: np.asarray(file[name]) for name in file.files}
    except (ValueError, EOFError, AttributeError):  # NumPy's words propose to load pickles
        raise LoadError(f"{path}: not an .npz file of arrays. Write one with numpy.savez.") from None


def bind(subject: Subject, given: Mapping[str, Array], seed: int, source: str) -> tuple[list[Array], dict[str, Array]]:
    """Inputs and variables for a run.

    What is `given` comes first: variables by their names, inputs by theirs or, where the file does not use them, in the
    file's order. The rest are the program's own examples and present variables, then random numbers from `seed`.

    Raises:
        LoadError: too few or too many arrays, a name that nothing has, or an array of another type.
    """
    rng = np.random.default_rng(seed)
    declared = variables_of(subject)
    left = {name: array for name, array in given.items() if name not in declared}
    names = subject.names if set(left) & set(subject.names) else ()
    inputs = _by_name(subject, left, names, source) if names else _in_order(subject, left, source)
    if inputs is None:
        inputs = list(subject.examples) if subject.examples is not None else [_random(t, rng) for t in _free(subject)]
    variables = {}
    for name, kind in declared.items():
        value = given.get(name, subject.variables.get(name))
        variables[name] = _random(kind, rng) if value is None else _fitting(value, kind, f"variable '{name}'", source)
    return inputs, variables


def variables_of(subject: Subject) -> dict[str, TensorType]:
    """The variables that a `tw` module declares."""
    found = {}
    for operation in walk(subject.module.body):
        row = row_of(operation)
        if row is not None and row.name == "variable_handle":
            attrs = attributes_of(row, operation)
            found[attrs["name"]] = TensorType(tuple(attrs["shape"]), attrs["dtype"])
    return found


def save_npz(path: str, arrays: Mapping[str, Array]) -> None:
    """Write arrays; floats that .npz has no word for (bfloat16, those of 8 bits) as float32."""
    kept: dict[str, Any] = {
        n: a.astype(np.float32) if a.dtype != object and as_dtype(a.dtype).is_foreign else a for n, a in arrays.items()
    }
    with open(path, "wb") as file:  # given a name, NumPy would append a suffix
        np.savez(file, **kept)


def _free(subject: Subject) -> Sequence[TensorType]:
    """The types of the inputs that are not bound to constants."""
    return subject.inputs[: len(subject.inputs) - len(subject.constants)]


def _in_order(subject: Subject, given: Mapping[str, Array], source: str) -> list[Array] | None:
    if not given:
        return None
    wanted = _free(subject)
    if len(given) != len(wanted):
        raise LoadError(f"{source}: the program takes {len(wanted)} inputs, the file has {len(given)}: {_list(given)}.")
    return [_fitting(a, t, f"'{n}'", source) for (n, a), t in zip(given.items(), wanted, strict=True)]


def _by_name(subject: Subject, given: Mapping[str, Array], names: Sequence[str], source: str) -> list[Array]:
    for name in given:
        if name not in names:
            near = did_you_mean(name, names) or "."
            raise LoadError(f"{source}: no input is called '{name}'{near} They are {_list(names)}.")
    for name in names:
        if name not in given:
            raise LoadError(f"{source}: the input '{name}' is missing; the file has {_list(given)}.")
    return [_fitting(given[n], t, f"'{n}'", source) for n, t in zip(names, _free(subject), strict=True)]


def _fitting(array: Array, wanted: TensorType, what: str, source: str) -> Array:
    """The array in the program's dtype: 64 bits are what NumPy makes by default, and floats
    that NumPy does not have are saved as float32."""
    found = array_type(array)
    if found.shape == wanted.shape and found.dtype.kind == wanted.dtype.kind and found != wanted:
        narrow = array.astype(wanted.dtype.numpy)
        if wanted.dtype.is_floating or np.array_equal(narrow, array):
            array = narrow
    if array_type(array) != wanted:
        raise LoadError(f"{source}: {what} must be {wanted}, the file has {found}.")
    return np.asarray(array, order="C")


def _random(kind: TensorType, rng: np.random.Generator) -> Array:
    low = -1 if kind.dtype.is_floating else 0
    return Arg(kind.shape, low, 1 if kind.dtype.is_floating else 10).make(rng, kind.dtype)


def _list(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
