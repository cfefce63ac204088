"""`thalweg inspect graph`: what each device does in a step, and what goes between them, drawn as a tree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.build import row_of
from thalweg.dialects.context import type_of
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import Type
from thalweg.passes.dependences import DEVICE, after_of, name_of
from thalweg.passes.hoist_state import READS, WRITES, variable_name
from thalweg.passes.partition import parts
from thalweg.passes.place.costs import nbytes
from thalweg.passes.rewriting import body_of, inside, operations

if TYPE_CHECKING:
    from rich.tree import Tree

_SHOWN = 4  # kinds of ops of a cluster, the most frequent first


@dataclass(frozen=True)
class Line:
    """One host op or cluster: what it is, what it does, where in the user's program."""

    kind: str
    text: str
    place: str


def draw(module: ir.Module) -> Tree:
    """The parts of a program as a tree: devices, under them their clusters and host ops in order."""
    from rich.text import Text
    from rich.tree import Tree

    tree = Tree(_summary(module))
    for part in parts(module):
        branch = tree.add(Text(str(ir.StringAttr(part.attributes[DEVICE]).value), style="bold"))
        for line in lines(part):
            shown = Text.assemble((line.kind, _STYLES.get(line.kind, "cyan")), " ", line.text)
            branch.add(shown.append(f"  # {line.place}", style="dim") if line.place else shown)
    return tree


_STYLES = {"send": "blue", "recv": "blue", "cluster": "magenta"}


def lines(part: ir.Operation) -> Iterator[Line]:
    """What a device does, in order.

    Example:
        >>> [str(line.kind) for line in lines(part)]
        ['recv', 'cluster', 'send']
    """
    *body, _ = operations(body_of(operations(body_of(part))[0]))
    for operation in body:
        row, where = row_of(operation), where_of(operation.location)
        if row is None:
            continue
        place = f"{Path(where.file).name}:{where.line}" if where else ""
        after = f" after {', '.join(after_of(operation))}" if after_of(operation) else ""
        yield Line(row.name, f"{_told(operation)}{after}", place)


def _told(operation: ir.Operation) -> str:
    row, name = row_of(operation), name_of(operation) or ""
    assert row is not None
    if row.name == "cluster":
        return f"{name}: {_contents(operation)}"
    if row.name in ("send", "recv"):
        attrs = attributes_of(row, operation)
        value = type_of(operation.operands[0] if row.name == "send" else operation.results[0])
        arrow = f"-> {attrs['target']}" if row.name == "send" else f"<- {attrs['source']}"
        return f"{arrow} {value}, {_size(value, attrs['compress'])}"
    return name


def _size(value: Type, halved: bool) -> str:
    return f"{nbytes(value) // (2 if halved else 1):,} bytes{' (16 bits each)' if halved else ''}"


def _contents(cluster: ir.Operation) -> str:
    """How many ops of which kinds, and the variables that are read and written."""
    found = [o for outer in operations(body_of(cluster)) for o in inside(outer)]
    kinds = Counter(o.name.removeprefix("tw.") for o in found if o.name not in ("tw.yield", "tw.variable_handle"))
    most = [f"{count} {kind}" for kind, count in kinds.most_common(_SHOWN)]
    rest = f" and {kinds.total() - sum(c for _, c in kinds.most_common(_SHOWN))} more" if len(kinds) > _SHOWN else ""
    reads = {variable_name(o): None for o in found if o.name in READS - WRITES}
    writes = {variable_name(o): None for o in found if o.name in WRITES}
    touched = "".join(f"; {verb} {', '.join(names)}" for verb, names in (("reads", reads), ("writes", writes)) if names)
    return ", ".join(most) + rest + touched


def _summary(module: ir.Module) -> str:
    """How much goes between the devices."""
    sent = [o for part in parts(module) for o in inside(part) if o.name == "tw.send"]
    total = sum(nbytes(type_of(o.operands[0])) for o in sent)
    count = sum(1 for _ in parts(module))
    return f"{count} device{'s' * (count != 1)}, {len(sent)} tensor{'s' * (len(sent) != 1)} sent, {total:,} bytes"
