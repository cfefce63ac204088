"""The named steps of a model: functions, traced for the types that they are exported for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from thalweg.backends.aot.batch import require_row_wise
from thalweg.compiler import driver, optimized
from thalweg.dialects import context
from thalweg.dialects.diagnostics import ExportError
from thalweg.dialects.location import user_frame
from thalweg.dialects.mlir import ir
from thalweg.frontend.function import Function as Traced
from thalweg.frontend.function import function as traced
from thalweg.frontend.program import Program
from thalweg.frontend.spec import TensorSpec
from thalweg.frontend.tree import flatten
from thalweg.shipping.refusals import RESERVED, require_exportable

BATCHES = (8, 1)  # rows that the programs of a batched signature take at a time
_UNLIKELY = 23  # rows that batches are followed with: an extent that hardly anything else has


@dataclass(frozen=True)
class Piece:
    """A program of a signature; of a batched one, for `rows` rows at a time. The `variables` that are its trailing
    arguments, and its StableHLO, come with lowering."""

    name: str
    program: Program
    rows: int
    module: ir.Module
    variables: tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """A named step to export: the names of what goes in and comes out, whether each input is batched, its programs."""

    name: str
    function: Traced
    inputs: tuple[str, ...]
    batched: tuple[bool, ...]
    outputs: tuple[str, ...]
    pieces: tuple[Piece, ...]


def signatures_of(
    given: Mapping[str, Any] | Callable[..., Any], batches: Sequence[int] = BATCHES
) -> list[Signature]:
    """Trace what is to be exported: functions by name, each with the specs of its arguments, or one function.

    Args:
        batches: the numbers of rows that batched signatures get programs for.

    Raises:
        ExportError: nothing says of which types arguments are, or a function cannot be exported.
    """
    if not isinstance(given, Mapping):
        given = {"run": given}
    found = []
    for name, value in given.items():
        function, specs = value if isinstance(value, tuple) else (value, None)
        function = function if isinstance(function, Traced) else traced(function)
        arguments = specs if specs is not None else function.signature
        if arguments is None:
            raise ExportError(
                f"{user_frame()} export: nothing says of which types the arguments of '{name}' are. Give "
                f"{{'{name}': (function, [tw.spec(…), …])}}."
            )
        try:
            found.append(_signature(name, function, list(arguments), batches))
        except ExportError as error:
            raise ExportError(f"{user_frame()} export of '{name}': {error}") from None
    return found


def _signature(name: str, function: Traced, arguments: list[Any], batches: Sequence[int]) -> Signature:
    batched = any(isinstance(leaf, TensorSpec) and None in leaf.shape for leaf in flatten(arguments)[0])
    fixed = _with_rows(arguments, _UNLIKELY) if batched else arguments
    require_exportable(function.program(*fixed).module)
    given = function.inputs(*fixed)
    other = function.inputs(*_with_rows(arguments, 1)) if batched else given
    inputs, open_ = _distinct(map(_identifier, given)), [given[p].shape != other[p].shape for p in given]
    outputs = _distinct(map(_identifier, function.results(*fixed)), inputs)
    if len(outputs) != len(function.program(*fixed).outputs):
        raise ExportError("it returns values that are not computed from its arguments.")
    if batched:
        with context.entered():
            numbers = [k for k, is_open in enumerate(open_) if is_open]
            require_row_wise(optimized(function.program(*fixed).module), numbers, len(outputs))
    pieces = []
    for rows in batches if batched else (0,):
        program = function.program(*(_with_rows(arguments, rows) if batched else arguments))
        with context.entered():
            module, variables = driver().to_stablehlo(program.module)
        pieces.append(Piece(f"{name}_{rows}" if batched else name, program, rows, module, tuple(variables)))
    return Signature(name, function, tuple(inputs), tuple(open_), tuple(outputs), tuple(pieces))


def _with_rows(arguments: list[Any], rows: int) -> list[Any]:
    """The arguments with batches of so many rows."""

    def closed(leaf: Any) -> Any:
        if not isinstance(leaf, TensorSpec) or None not in leaf.shape:
            return leaf
        if leaf.shape.index(None) != 0 or leaf.shape.count(None) > 1:
            raise ExportError(f"{leaf!r} leaves another extent than the first one open. Give it a size.")
        return TensorSpec((rows, *leaf.shape[1:]), leaf.dtype)

    leaves, structure = flatten(arguments)
    closed_leaves: list[Any] = structure.unflatten([closed(leaf) for leaf in leaves])
    return closed_leaves


def _identifier(path: str) -> str:
    """`batch['x'][0]` as `batch_x_0`: a name that C, Java and JavaScript allow."""
    name = re.sub(r"\W+", "_", path).strip("_").lower() or "out"
    name = f"out_{name}" if name[0].isdigit() else name
    return f"{name}_value" if name in RESERVED else name


def _distinct(names: Iterable[str], taken: Sequence[str] = ()) -> list[str]:
    """The names, changed where they are taken already."""
    found: list[str] = []
    for name in names:
        name = f"{name}_out" if name in taken else name
        while name in taken or name in found:
            name += "_2"
        found.append(name)
    return found


Places = Mapping[int, str]  # names in the state of captured arrays, by their identity
