"""Rows of variables: no table is copied for a few of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import tables
from thalweg.dialects.ops.tables import put_rows
from thalweg.passes.base import Pass
from thalweg.passes.dependences import AFTER, NAME, Dependences
from thalweg.passes.hoist_state import variable_name
from thalweg.passes.rewriting import definition, functions, has_one_use, operations, replace


@dataclass(frozen=True)
class FuseLookups(Pass):
    """Look rows up in a variable itself, and put them there, instead of in a value that was read from it.

    Before:
        %t = "tw.read"(%w)  %r = "tw.lookup_rows"(%t, %ids)
        %u = "tw.put_rows"(%t, %ids, %new) {mode = "add"}  "tw.assign"(%w, %u)
    After:
        %r = "tw.lookup"(%w, %ids)
        "tw.update_rows"(%w, %ids, %new) {mode = "add"}

    Where the variable is assigned between the read and the lookup, the value that was read stays.
    """

    name: ClassVar[str] = "fuse-lookups"

    def run(self, module: ir.Module) -> bool:
        return any([_fuse(block) for block in functions(module)])


def _fuse(block: ir.Block) -> bool:
    if not any(view.operation.name in ("tw.lookup_rows", "tw.put_rows") for view in block.operations):
        return False
    graph = Dependences(block)
    places = {node.operation: node.index for node in graph.nodes}
    writes: dict[str, list[int]] = {}
    for node in graph.nodes:
        for name in node.writes:
            writes.setdefault(name, []).append(node.index)

    def just_read(table: ir.Value, user: ir.Operation) -> ir.Value | None:
        """The handle of the variable that `table` was read from, if nothing is assigned to it before `user`."""
        read = definition(table)
        if read is None or read.name != "tw.read" or read not in places:
            return None
        between = range(places[read] + 1, places[user])
        return None if any(at in between for at in writes.get(variable_name(read), ())) else read.operands[0]

    changed = False
    for node in graph.nodes:
        operation = node.operation
        if operation.name == "tw.lookup_rows":
            changed |= _fuse_lookup(operation, just_read(operation.operands[0], operation))
        elif operation.name == "tw.assign":
            made = definition(operation.operands[1])
            if made is not None and made.name == "tw.put_rows" and made in places and has_one_use(made.results[0]):
                handle = just_read(made.operands[0], operation)
                if handle is not None and handle == operation.operands[0]:
                    _fuse_update(operation, made)
                    changed = True
    return changed


def _fuse_lookup(operation: ir.Operation, handle: ir.Value | None) -> bool:
    if handle is None:
        return False
    table, ids = operation.operands
    with ir.InsertionPoint(operation), operation.location:
        rows = tables.lookup(handle, ids, **attributes_of(tables.lookup_rows, operation))
    _keep_marks(operation, definition(rows))
    replace(operation, [rows])
    _drop(table)
    return True


def _fuse_update(assign: ir.Operation, made: ir.Operation) -> None:
    table, ids, rows = made.operands
    with ir.InsertionPoint(assign), assign.location:
        tables.update_rows(assign.operands[0], ids, rows, mode=attributes_of(put_rows, made)["mode"])
    around = operations(assign.block)
    _keep_marks(assign, around[around.index(assign) - 1])
    assign.erase()
    made.erase()
    _drop(table)


def _keep_marks(old: ir.Operation, new: ir.Operation | None) -> None:
    """Name and control edges go from the op that was to the one in its place."""
    assert new is not None
    for mark in (NAME, AFTER):
        if mark in old.attributes:
            new.attributes[mark] = old.attributes[mark]


def _drop(table: ir.Value) -> None:
    """Erase a read that nothing uses any more and that nothing else names."""
    read = definition(table)
    if read is not None and next(iter(table.uses), None) is None and NAME not in read.attributes:
        read.erase()
