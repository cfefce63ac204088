"""How long ops take and how long tensors travel: estimated from types, or measured in earlier steps.

The numbers are for comparing devices and for telling big work from small, not for telling time: within a factor of a
few is enough for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thalweg.dialects.attributes import attributes_of, splat_value
from thalweg.dialects.build import row_of
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.cost import flops_and_bytes
from thalweg.dialects.devices import Device
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.extents import any_open, is_open
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType, Type

ITERATIONS = 16  # of a loop whose number of iterations only running it can tell
TYPICAL = 128  # what an open extent counts as: nobody knows it before the step runs
SMALL = 256  # elements: what makes no more than this from constants is made again rather than passed on
LARGE_CONSTANT = 65536  # bytes that are not worth having twice
_SPREADING = frozenset({"variable_handle", "broadcast", "reshape", "convert", "iota"})  # free once fused


@dataclass(frozen=True)
class Speed:
    """What a kind of device does: arithmetic operations and bytes a second, and seconds to begin an op."""

    flops: float
    bytes: float
    start: float


@dataclass(frozen=True)
class Link:
    """What a way between devices does: seconds until the first byte is there, then bytes a second."""

    latency: float
    bytes: float

    def seconds(self, nbytes: float) -> float:
        return self.latency + nbytes / self.bytes


# A few cores of a server, and a data-centre GPU.
SPEEDS: Mapping[str, Speed] = {
    "CPU": Speed(flops=5e10, bytes=1e10, start=2e-7),
    "GPU": Speed(flops=2e13, bytes=1e12, start=4e-6),
    "TPU": Speed(flops=1e14, bytes=1e12, start=4e-6),
}
HOST_OP = 2e-5  # seconds: a kernel on the host, through the executor
WITHIN_TASK = Link(latency=2e-5, bytes=1e10)  # devices that share memory: two turns of the executor
ACROSS_PCIE = Link(latency=5e-5, bytes=1e10)  # between the memories of a host and its accelerators
BETWEEN_TASKS = Link(latency=2e-4, bytes=1e9)  # through a socket or shared memory


def link(source: Device, target: Device) -> Link | None:
    """The way from one device to another; None if they are one."""
    if source == target:
        return None
    if (source.job, source.task) != (target.job, target.task):
        return BETWEEN_TASKS
    return WITHIN_TASK if source.kind == target.kind == "CPU" else ACROSS_PCIE


@dataclass(frozen=True)
class Costs:
    """Seconds of ops: measured ones by `key_of` the op, estimates for the rest.

    Example:
        >>> Costs({"loss": 2e-3}).seconds(operation, "CPU")
    """

    measured: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path) -> Costs:
        """Costs measured in earlier steps, from a JSON object of seconds by `key_of`.

        Raises:
            PassError: no such file, or it holds something else.
        """
        try:
            found = json.loads(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise PassError(f"cannot read costs from {path}: {error}") from None
        if not isinstance(found, dict) or not all(isinstance(v, int | float) and v >= 0 for v in found.values()):
            raise PassError(f'{path} does not hold costs: write a JSON object of seconds by name, {{"loss": 0.002}}.')
        return cls({str(name): float(seconds) for name, seconds in found.items()})

    def seconds(self, operation: ir.Operation, kind: str = "CPU") -> float:
        """How long an op takes on a kind of device, what is in its regions included."""
        if self.measured and (known := self.measured.get(key_of(operation))) is not None:
            return known
        return _seconds(operation, SPEEDS.get(kind, SPEEDS["CPU"]))


def key_of(operation: ir.Operation) -> str:
    """What an op is known by from step to step: its name in the graph, or what it is and the user's line."""
    if "tw.name" in operation.attributes:
        return str(ir.StringAttr(operation.attributes["tw.name"]).value)
    where = where_of(operation.location)
    return f"{operation.name.removeprefix('tw.')} {where.file}:{where.line}" if where else ""


def nbytes(type_: Type) -> int:
    """Bytes of a value, with a guess for extents that are not known; 0 for handles."""
    return _known(type_).nbytes if isinstance(type_, TensorType) else 0


def is_cheap(operation: ir.Operation) -> bool:
    """Cheaper to do again where it is used than to pass on, if that is so of its operands: constants, what spreads
    them, and small work on them."""
    row = row_of(operation)
    if row is None or row.runs == "host" or row.effects != "pure" or row.regions or not len(operation.results):
        return False
    if row.name == "constant":
        attribute = operation.attributes["value"]
        return splat_value(attribute) is not None or nbytes(type_of(operation.results[0])) <= LARGE_CONSTANT
    types = [type_of(r) for r in operation.results]
    return row.name in _SPREADING or (
        row.name != "barrier" and all(isinstance(t, TensorType) and t.size <= SMALL for t in types)
    )


def grows(operation: ir.Operation) -> bool:
    """True for what takes an open extent from nowhere: it must be done where something has that extent."""
    return operation.name == "tw.broadcast" and any_open(tensor_type_of(operation.results[0]).shape)


def _seconds(operation: ir.Operation, speed: Speed) -> float:
    row = row_of(operation)
    if row is None or row.terminator or row.name in ("constant", "variable_handle", "read"):
        return 0.0
    if row.runs == "host":
        return HOST_OP
    if row.regions:
        attrs = attributes_of(row, operation) if row.name == "scan" else {}
        repeats: int = attrs.get("length", ITERATIONS if row.name == "while" else 1)
        inner = [view.operation for region in operation.regions for view in region.blocks[0].operations]
        return repeats * sum(_seconds(o, speed) for o in inner)
    operands = [_known(t) for t in map(type_of, operation.operands) if isinstance(t, TensorType)]
    results = [_known(t) for t in map(type_of, operation.results) if isinstance(t, TensorType)]
    flops, moved = flops_and_bytes(row, operands, results, attributes_of(row, operation))
    return speed.start + max(flops / speed.flops, moved / speed.bytes)


def _known(type_: TensorType) -> TensorType:
    if not any_open(type_.shape):
        return type_
    return type_.with_shape(tuple(TYPICAL if is_open(extent) else extent for extent in type_.shape))
