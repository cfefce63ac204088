"""Warm starts: traced programs on disk, found by the fingerprint of their function and arguments.

With `tw.config.warm_start` a later process does not even call the Python function: the program comes from here, and its
machine code from the compiler's own cache. Off by default, because a function that is not called has no side effects.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.dialects import context
from thalweg.dialects.types import TensorType, as_dtype
from thalweg.dialects.verify import parse
from thalweg.frontend.device import current_scope
from thalweg.frontend.eager import Plan
from thalweg.frontend.fingerprint import Fingerprint, NotFingerprintable
from thalweg.frontend.program import Program
from thalweg.frontend.signature import Key
from thalweg.frontend.tree import Structure
from thalweg.frontend.variable import Variable
from thalweg.runtime.cache import DiskCache, digest
from thalweg.runtime.config import config

_CONTAINERS: dict[str, type] = {"tuple": tuple, "list": list, "dict": dict, "NoneType": type(None)}


@dataclass(frozen=True)
class WarmStart:
    """The place on disk of one function traced for one kind of arguments."""

    key: str
    variables: dict[str, Variable]  # those that the function can reach, by name

    @classmethod
    def of(cls, function: Callable[..., Any], key: Key) -> WarmStart | None:
        """None where warm starts are off, or the function cannot be fingerprinted (`why_not` tells why)."""
        if not (config.warm_start and config.cache):
            return None
        try:
            found = Fingerprint.of(function, key)
        except NotFingerprintable:
            return None
        return cls(digest("traced program", found.digest, current_scope()), found.variables)

    def load(self) -> tuple[Program, Plan] | None:
        """The program and the plan for its results, if an earlier process stored them."""
        payload = _disk().get(self.key)
        if payload is None:
            return None
        size = int.from_bytes(payload[:8], "little")
        header = json.loads(payload[8 : 8 + size])
        if not self.variables.keys() >= set(header["variables"]):
            return None
        constants, offset = [], 8 + size
        for shape, dtype in header["constants"]:
            kind = TensorType(tuple(shape), as_dtype(dtype))
            data = np.frombuffer(payload, kind.dtype.numpy, kind.size, offset)
            constants.append(data.reshape(kind.shape).copy())
            offset += kind.nbytes
        with context.entered():
            module = parse(header["module"])
        variables = tuple(self.variables[name] for name in header["variables"])
        inputs, outputs = _types(header["inputs"]), _types(header["outputs"])
        program = Program(header["name"], module, inputs, outputs, tuple(constants), variables)
        return program, Plan.stored(_structure(header["structure"]), header["leaves"])

    def store(self, program: Program, plan: Plan) -> None:
        """Keep a program for later processes; one that made variables while it was traced is not kept, nor one that
        returns values other than tensors in plain containers."""
        structure = _structure_json(plan.structure)
        reached = self.variables.keys() >= {v.name for v in program.variables}
        if structure is None or plan.results is None or not reached:
            return
        with context.entered():
            module = program.module.operation.get_asm(enable_debug_info=True)
        header = {
            "name": program.name,
            "module": module,
            "inputs": [[t.shape, t.dtype.name] for t in program.inputs],
            "outputs": [[t.shape, t.dtype.name] for t in program.outputs],
            "constants": [[c.shape, as_dtype(c.dtype).name] for c in program.constants],
            "variables": [v.name for v in program.variables],
            "structure": structure,
            "leaves": plan.results,
        }
        text = json.dumps(header).encode()
        data = b"".join(np.ascontiguousarray(c).tobytes() for c in program.constants)
        _disk().put(self.key, len(text).to_bytes(8, "little") + text + data)


def why_not(function: Callable[..., Any]) -> str | None:
    """Why a function has no warm start, None if it can have one."""
    try:
        Fingerprint.of(function)
    except NotFingerprintable as error:
        return str(error)
    return None


def _disk() -> DiskCache:
    return DiskCache(config.cache_dir, config.cache_limit)


def _types(data: list[Any]) -> tuple[TensorType, ...]:
    return tuple(TensorType(tuple(shape), as_dtype(name)) for shape, name in data)


def _structure_json(structure: Structure) -> Any:
    """A structure of plain containers as JSON, None for any other."""
    if structure.is_leaf:
        return "leaf"
    name = structure.kind.__name__ if structure.kind else ""
    children = [_structure_json(child) for child in structure.children]
    if _CONTAINERS.get(name) is not structure.kind or None in children or structure.static:
        return None
    if not all(isinstance(key, (str, int)) for key in structure.keys):
        return None
    return [name, list(structure.keys), children]


def _structure(data: Any) -> Structure:
    if data == "leaf":
        return Structure(None)
    name, keys, children = data
    return Structure(_CONTAINERS[name], tuple(keys), tuple(map(_structure, children)))
