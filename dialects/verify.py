"""The verifier: MLIR's own rules (SSA, dominance, structure), then the row of every op.

It runs where a module is parsed, after every pass (unless turned off for speed), and before a backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import region_type, type_of
from thalweg.dialects.diagnostics import VerificationError, did_you_mean
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OPS, OpDef
from thalweg.dialects.types import Type


def walk(block: ir.Block) -> Iterator[ir.Operation]:
    """All operations of a block, outer before inner, in order."""
    for view in block.operations:
        operation = view.operation
        yield operation
        for region in operation.regions:
            for inner in region.blocks:
                yield from walk(inner)


def parse(text: str, source: str = "<text>") -> ir.Module:
    """Parse and verify a module; needs an entered context.

    Raises:
        VerificationError: the text does not parse, or breaks a rule of the dialect.
    """
    return _parsed(lambda: ir.Module.parse(text), source)


def parse_file(path: str | Path) -> ir.Module:
    """`parse` of a file's content; ops without a location of their own get the file's line.

    Raises:
        VerificationError: as `parse`.
        OSError: the file cannot be read.
    """
    with open(path, "rb"):
        return _parsed(lambda: ir.Module.parseFile(str(path)), str(path))


def _parsed(make: Callable[[], ir.Module], source: str) -> ir.Module:
    try:
        module = make()
    except ir.MLIRError as error:
        first = error.error_diagnostics[0] if error.error_diagnostics else None
        place = str(first.location).removeprefix("loc(").removesuffix(")").replace('"', "") if first else source
        place = place.replace("-:", f"{source}:", 1) if place.startswith("-:") else place
        raise VerificationError(f"{place}: {first.message if first else error}") from None
    try:
        verify(module)
    except VerificationError as error:
        message = str(error)
        raise VerificationError(f"{source}{message[1:]}" if message.startswith("-:") else message) from None
    return module


def verify(module: ir.Module) -> None:
    """Check a module.

    Raises:
        VerificationError: the first op that breaks a rule, with its place and what the rule expected.
    """
    try:
        module.operation.verify()
    except ir.MLIRError as error:
        first = error.error_diagnostics[0] if error.error_diagnostics else None
        raise VerificationError(f"{first.location}: {first.message}" if first else str(error)) from None
    for operation in walk(module.body):
        problem = problem_of(operation)
        if problem is not None:
            where = where_of(operation.location)
            place = str(where) if where else f"{operation.location}:"
            raise VerificationError(f"{place} '{operation.name}' op {problem}")


def problem_of(operation: ir.Operation) -> str | None:
    """What is wrong with one operation, None if nothing is (ops of other dialects are MLIR's business)."""
    name = operation.name
    if not name.startswith("tw."):
        return None
    row = OPS.get(name[3:])
    if row is None:
        return f"is not an op of the tw dialect{did_you_mean(name[3:], OPS)}"
    if len(operation.regions) != len(row.regions):
        return f"has {len(operation.regions)} regions, expected {len(row.regions)} ({', '.join(row.regions) or 'none'})"
    for region, label in zip(operation.regions, row.regions, strict=True):
        if len(region.blocks) != 1 or not _ends_in_yield(region.blocks[0]):
            return f"region '{label}' must be one block that ends in tw.yield"
    return _type_problem(row, operation)


def _ends_in_yield(block: ir.Block) -> bool:
    last: ir.Operation | None = None
    for view in block.operations:
        last = view.operation
    return last is not None and last.name == "tw.yield"


def _type_problem(row: OpDef, operation: ir.Operation) -> str | None:
    try:
        operands = [type_of(o) for o in operation.operands]
        regions = [region_type(r) for r in operation.regions]
        wanted = row.result_types(operands, attributes_of(row, operation), regions)
    except (ValueError, TypeError) as error:
        return str(error).removeprefix(f"{row.name}: ")
    found = tuple(type_of(r) for r in operation.results)
    if found != wanted:
        return f"has result types ({_list(found)}), but its operands give ({_list(wanted)})"
    return None


def _list(types: Sequence[Type]) -> str:
    return ", ".join(map(str, types))
