"""Making dataflow ops on a device, in a frame, at a marked place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from thalweg.dialects.attributes import encode_all
from thalweg.dialects.build import row_of
from thalweg.dialects.context import to_mlir, type_of
from thalweg.dialects.location import on_device
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.passes.dependences import DEVICE, NAME, device_of, set_after
from thalweg.passes.distribute_loops import FRAME
from thalweg.passes.rewriting import definition


def relocated(location: ir.Location, device: str) -> ir.Location:
    """The location with a request for another device."""
    if isinstance(location, ir.NameLoc) and location.name_str.startswith("@"):
        location = location.child_loc
    return on_device(location, device)


def put_on(operation: ir.Operation, device: str) -> None:
    """Place an op on a device; ops in its regions stay where they are."""
    operation.location = relocated(operation.location, device)
    if device:
        operation.attributes[DEVICE] = ir.StringAttr.get(device)


def device_of_value(value: ir.Value, otherwise: str) -> str:
    """The device that makes a value; `otherwise` for arguments, which may be fed anywhere."""
    made_by = definition(value)
    return otherwise if made_by is None else device_of(made_by)


def is_host(operation: ir.Operation) -> bool:
    """The executor does it itself."""
    row = row_of(operation)
    return row is not None and row.runs == "host"


class Emitter:
    """Makes the ops that stand for one branch or loop.

    Args:
        location: of the op that they stand for.
    """

    def __init__(self, location: ir.Location) -> None:
        self._location = location

    def __call__(
        self,
        row: OpDef,
        operands: Sequence[ir.Value],
        attrs: Mapping[str, Any],
        *,
        before: ir.Operation,
        device: str,
        frame: str,
        name: str = "",
        after: Sequence[str] = (),
    ) -> ir.Operation:
        """An op before another one. `frame` is the loop that its operands are values of."""
        full = row.complete(attrs)
        types = row.result_types([type_of(v) for v in operands], full)
        with ir.InsertionPoint(before), self._location:
            made = ir.Operation.create(
                row.mlir_name,
                results=[to_mlir(t) for t in types],
                operands=list(operands),
                attributes=encode_all(row, full),
            )
        put_on(made, device)
        mark(made, frame)
        if name:
            made.attributes[NAME] = ir.StringAttr.get(name)
        set_after(made, list(after))
        return made


def mark(operation: ir.Operation, frame: str) -> None:
    """Say in which frame an op stands."""
    if frame:
        operation.attributes[FRAME] = ir.StringAttr.get(frame)
