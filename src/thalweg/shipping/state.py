"""What a model keeps: its variables and captured arrays by name, and where programs find them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.backends.aot.arithmetic import packable
from thalweg.backends.aot.layout import Layout
from thalweg.backends.aot.narrow import Precision, can_narrow, narrow_arguments, narrowed
from thalweg.backends.cpu.backend import aliases_of, main_function
from thalweg.backends.cpu.packed import pack
from thalweg.dialects.attributes import array_type
from thalweg.shipping.signatures import Piece

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class State:
    """The arrays by name, which of them a signature may change, and for each piece the names of what its compiled step
    takes after the inputs."""

    arrays: dict[str, Array]
    mutable: frozenset[str]
    taken: dict[str, list[str]]

    def layout(self) -> Layout:
        """Where everything is in the state's block."""
        return Layout.of({n: (array_type(a), n in self.mutable) for n, a in self.arrays.items()})


def state_of(pieces: Sequence[Piece], precision: Precision) -> State:
    """Collect what the programs keep. Weights that none of them changes are stored as `precision` says, and the modules
    of the pieces are rewritten to match. Call with the context entered."""
    arrays: dict[str, Array] = {}
    taken: dict[str, list[str]] = {}
    mutable: set[str] = set()
    by_content: dict[tuple[bytes, Any, Any], str] = {}  # programs for other numbers of rows capture the same again
    for piece in pieces:
        names = []
        for array in piece.program.constants:
            key = (hashlib.sha256(array.tobytes()).digest(), array.shape, array.dtype)
            names.append(by_content.setdefault(key, f"constant.{len(by_content)}"))
            arrays[names[-1]] = array
        by_name = {v.name: v for v in piece.program.variables}
        arrays.update({n: by_name[n].numpy() for n in piece.variables})
        taken[piece.name] = [*names, *piece.variables]
        inputs = len(piece.program.inputs)
        updated = aliases_of(main_function(piece.module.operation)).values()
        mutable.update(taken[piece.name][k - inputs] for k in updated)
    state = State(arrays, frozenset(mutable), taken)
    if precision.weights != "f32":
        _narrow(state, pieces, precision)
    return state


def _narrow(state: State, pieces: Sequence[Piece], precision: Precision) -> None:
    storage = precision.weights
    chosen = [n for n, a in state.arrays.items() if n not in state.mutable and can_narrow(a, precision)]
    runs = _runs(state, pieces) if precision.arithmetic != "f32" else {}
    packed: dict[str, Array] = {}
    for name in chosen:
        array, scale = narrowed(state.arrays[name], storage)
        if name in runs:
            array = packed[name] = pack(array, runs[name]) if runs[name] else array
        state.arrays[name] = array
        if scale is not None:
            state.arrays[f"{name}.scale"] = scale
    for piece in pieces:
        names, inputs = state.taken[piece.name], len(piece.program.inputs)
        places = {inputs + k: n for k, n in enumerate(names) if n in chosen}
        kept = {number: packed[n] for number, n in places.items() if n in packed}
        narrow_arguments(piece.module, list(places), storage, kept, precision.ranges.get(piece.name, {}))
        if storage == "int8":
            names += [f"{n}.scale" for n in places.values()]


def _runs(state: State, pieces: Sequence[Piece]) -> dict[str, int]:
    """The weights that all programs read in products alone which can be made in bytes, with the lengths of the runs
    that they are packed by."""
    found: dict[str, set[int | None]] = {}
    for piece in pieces:
        runs = packable(main_function(piece.module.operation))
        for k, name in enumerate(state.taken[piece.name]):
            found.setdefault(name, set()).add(runs.get(len(piece.program.inputs) + k))
    return {name: run for name, (run, *others) in found.items() if not others and run is not None}
