"""What the command line names: modules in files or on stdin, and functions in Python files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from thalweg.dialects.diagnostics import ThalwegError, did_you_mean
from thalweg.dialects.types import DTYPES, TensorType

if TYPE_CHECKING:
    from thalweg.dialects.mlir import ir

Array = np.ndarray[Any, Any]


class LoadError(ThalwegError):
    """What the command line names cannot be had: no such file, function, or no example inputs."""


@dataclass(frozen=True)
class Subject:
    """A program that a command works on.

    `module` has one function, @main: as traced or written if the dialect is `tw`, made plain and static if it is
    `stablehlo`. The trailing inputs of @main are bound to `constants`.
    """

    name: str
    dialect: Literal["tw", "stablehlo"]
    module: ir.Module
    inputs: tuple[TensorType, ...]
    names: tuple[str, ...] = ()  # of the inputs, where they are known
    examples: tuple[Array, ...] | None = None
    constants: tuple[Array, ...] = ()
    variables: dict[str, Array] = field(default_factory=dict)  # present values, by name in the module


def load(
    target: str, shapes: str = "", examples: Sequence[Array] | None = None, as_written: bool = False
) -> Subject:
    """The program that `target` names: `model.mlir`, a portable artefact, `-`, or `model.py:function`.

    Args:
        shapes: types of the inputs, as `f32[2,3],i32[4]`: for functions, and for modules with open dimensions.
        examples: inputs to trace a function with, where there are no shapes.
        as_written: leave a StableHLO module as it is, instead of making it plain and static.

    Raises:
        LoadError: there is none, or a function lacks example inputs.
        VerificationError: the file does not hold a valid module.
    """
    types = parse_types(shapes) if shapes else None
    path, colon, function = target.rpartition(":")
    if colon and path.endswith(".py"):
        from thalweg.tools.functions import trace

        return trace(Path(path), function, types, examples)
    if target.endswith(".py"):
        raise LoadError(f"{target}: name the function, too: {target}:main, say.")
    return load_module(target, types, as_written)


def load_module(target: str, types: Sequence[TensorType] | None = None, as_written: bool = False) -> Subject:
    """A module of either dialect from a file or stdin."""
    from thalweg.backends.stablehlo import artefact, importer
    from thalweg.dialects import context
    from thalweg.dialects.verify import parse, parse_file

    data = sys.stdin.buffer.read() if target == "-" else Path(target).read_bytes()
    name = "stdin" if target == "-" else Path(target).stem
    with context.entered():
        if data.startswith(artefact.MAGIC):
            module = importer.read(data)
        else:
            text = _decoded(data, target)
            importer.load_chlo()
            module = parse(text, target) if target == "-" else parse_file(target)
        dialect = dialect_of(module)
        if dialect == "stablehlo" and not as_written:
            module = importer.prepare(module, types)
        elif types is not None and not as_written and types != input_types(module, target):
            own = ", ".join(map(str, input_types(module, target)))
            raise LoadError(f"{target}: a tw module has the types that it has ({own}). Leave --shapes out.")
        return Subject(name, dialect, module, () if as_written else input_types(module, target))


def read_text(source: str) -> str:
    """The text of a file, or of stdin for `-`."""
    return sys.stdin.read() if source == "-" else _decoded(Path(source).read_bytes(), source)


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise LoadError(f"{source}: neither MLIR text nor MLIR bytecode.") from None


def dialect_of(module: ir.Module) -> Literal["tw", "stablehlo"]:
    """`stablehlo` if any op is StableHLO's or CHLO's; a program of nothing but a return counts as `tw`."""
    from thalweg.dialects.verify import walk

    foreign = any(o.name.startswith(("stablehlo.", "chlo.", "vhlo.")) for o in walk(module.body))
    return "stablehlo" if foreign else "tw"


def input_types(module: ir.Module, source: str) -> tuple[TensorType, ...]:
    """The types of @main's arguments."""
    from thalweg.dialects.context import tensor_type_of
    from thalweg.dialects.mlir import ir

    functions = {
        ir.StringAttr(v.operation.attributes["sym_name"]).value: v.operation
        for v in module.body.operations
        if v.operation.name == "func.func"
    }
    if not functions and any(v.operation.name == "builtin.module" for v in module.body.operations):
        return ()  # cut for devices: each part has a @main
    if "main" not in functions:
        raise LoadError(f"{source}: no function @main; there is {', '.join('@' + n for n in functions) or 'none'}.")
    types = []
    for number, argument in enumerate(functions["main"].regions[0].blocks[0].arguments):
        try:
            types.append(tensor_type_of(argument))
        except TypeError as error:
            raise LoadError(f"{source}: input {number} of @main: {error}.") from None
    return tuple(types)


def parse_types(text: str) -> tuple[TensorType, ...]:
    """Types as the command line has them.

    Raises:
        LoadError: it does not parse.

    Example:
        >>> parse_types("f32[2,3],i32[]")
        (TensorType(shape=(2, 3), dtype=thalweg.float32), TensorType(shape=(), dtype=thalweg.int32))
    """
    by_name = {d.short: d for d in DTYPES} | {d.name: d for d in DTYPES}
    types = []
    for item in text.replace(" ", "").replace("],", "]\0").split("\0"):
        dtype, bracket, rest = item.partition("[")
        extents = rest.removesuffix("]")
        if dtype not in by_name:
            raise LoadError(f"'{item}': unknown dtype '{dtype}'{did_you_mean(dtype, by_name) or '.'} Write f32[2,3].")
        if not bracket or not rest.endswith("]") or not all(n.isdigit() for n in extents.split(",") if extents):
            raise LoadError(f"'{item}' is not a type. Write f32[2,3], or f32[] for a scalar.")
        types.append(TensorType(tuple(int(n) for n in extents.split(",") if extents), by_name[dtype]))
    return tuple(types)
