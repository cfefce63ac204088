"""What a signature of an exported model takes and gives, whatever runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.dialects.diagnostics import BundleError
from thalweg.dialects.types import DType, as_dtype

Array = np.ndarray[Any, Any]
Row = tuple[str, tuple[int | None, ...], DType]  # of an input or output; an extent that is None is the batch's


class Interface:
    """The inputs and outputs of a signature, from its row in the manifest."""

    def __init__(self, name: str, row: Mapping[str, Any]) -> None:
        self.name = name
        self.inputs: list[Row] = [(r["name"], tuple(r["shape"]), as_dtype(r["dtype"])) for r in row["inputs"]]
        self.outputs: list[Row] = [(r["name"], tuple(r["shape"]), as_dtype(r["dtype"])) for r in row["outputs"]]
        self.batched = any(None in shape for _, shape, _ in self.inputs)

    def checked(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Array], int]:
        """The inputs, given by position or name, and how many rows a batch has.

        Raises:
            BundleError: too many, too few, or not of the signature's types.
        """
        if named or len(arrays) != len(self.inputs):
            arrays = self._in_order(arrays, named)
        rows: int | None = None
        found = []
        for (name, shape, dtype), given in zip(self.inputs, arrays, strict=True):
            array = np.asarray(given)
            batched = None in shape
            fits = array.shape == shape or (
                batched
                and array.ndim == len(shape)
                and all(n in (None, m) for n, m in zip(shape, array.shape, strict=True))
            )
            if not fits or array.dtype != dtype.numpy:
                got = f"{array.dtype.name}[{','.join(map(str, array.shape))}]"
                raise BundleError(f"{self.name}(): {name} must be {_shown(shape, dtype)}, got {got}. Convert it.")
            if batched:
                if rows not in (None, len(array)):
                    raise BundleError(f"{self.name}(): {name} has {len(array)} rows, the arrays before it {rows}.")
                rows = len(array)
            found.append(array if array.flags.c_contiguous else np.ascontiguousarray(array))
        return found, rows or 0

    def _in_order(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """The inputs by position."""
        names = [name for name, _, _ in self.inputs]
        given = dict(zip(names, arrays, strict=False)) | dict(named)
        unknown = [n for n in named if n not in names]
        if len(arrays) > len(names) or unknown or len(given) < len(names):
            shown = ", ".join(f"{n}: {_shown(shape, dtype)}" for n, shape, dtype in self.inputs)
            got = f"{len(arrays)} arrays and {', '.join(named) or 'no names'}"
            raise BundleError(f"{self.name}() takes ({shown}), got {got}.")
        return tuple(given[name] for name in names)

    def results(self, arrays: Sequence[Array]) -> Any:
        """What a call gives: the one array, a dict of them by name, or None where there are none."""
        if len(arrays) == 1:
            return arrays[0]
        return {name: array for (name, _, _), array in zip(self.outputs, arrays, strict=True)} or None


def _shown(shape: Sequence[int | None], dtype: DType) -> str:
    return f"{dtype.short}[{','.join('n' if n is None else str(n) for n in shape)}]"
