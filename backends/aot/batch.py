"""Is every row of a batch computed by itself? Then a program for few rows serves any number of them, a piece at a time.

Each value is followed from the inputs: either one of its axes is the batch, or it does not depend on the batch; such a
value may meet a batched one only where it is the same for all rows. What mixes rows (a mean over the batch), or tells
them apart by number, is named with the user's line.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.dialects.attributes import attributes_of, splat_value
from thalweg.dialects.build import row_of
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.diagnostics import ExportError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import Attrs, OpDef
from thalweg.dialects.types import TensorType


@dataclass(frozen=True)
class Batched:
    """One axis is the batch."""

    axis: int


@dataclass(frozen=True)
class Fixed:
    """The same whatever the batch holds; along the axes `uniform` all elements are equal."""

    uniform: frozenset[int] = frozenset()


Kind = Batched | Fixed
Types = Sequence[TensorType]
Rule = Callable[[Sequence[Kind], Types, Attrs, Types], list[Kind]]


class _Mixed(Exception):
    """Why an op mixes rows."""


def require_row_wise(module: ir.Module, batched: Sequence[int], results: int) -> None:
    """Check @main of an optimised `tw` module.

    Args:
        batched: numbers of the arguments whose axis 0 is the batch; its extent must be unlike others, so that it is
            recognised in reshapes.
        results: how many of the results must have the batch as axis 0.

    Raises:
        ExportError: rows depend on each other, or a result has no row per row of the batch; names the user's line.
    """
    main = next(v.operation for v in module.body.operations if v.operation.name == "func.func")
    block = main.regions[0].blocks[0]
    kinds: dict[ir.Value, Kind] = {
        argument: Batched(0) if number in batched else Fixed() for number, argument in enumerate(block.arguments)
    }
    ends = _follow(block, kinds)
    for number, value in enumerate(ends[:results]):
        if kinds[value] != Batched(0):
            raise ExportError(
                f"result {number}, {type_of(value)}, does not have one row for each row of the batch. Give the batch a "
                "size in the spec, or return such values from a signature of their own."
            )


def _follow(block: ir.Block, kinds: dict[ir.Value, Kind]) -> list[ir.Value]:
    """Find the kinds of all values of a block; returns the operands of its last op."""
    operation = None
    for view in block.operations:
        operation = view.operation
        if operation.name in ("func.return", "tw.yield"):
            break
        try:
            found = _kinds_of(operation, kinds)
        except _Mixed as reason:
            where = where_of(operation.location)
            raise ExportError(
                f"{f'{where} ' if where else ''}{operation.name.removeprefix('tw.')}: {reason}, so the batch cannot be "
                "cut into pieces. Give it a size in the spec."
            ) from None
        kinds.update(zip(operation.results, found, strict=True))
    assert operation is not None
    return list(operation.operands)


def _kinds_of(operation: ir.Operation, kinds: dict[ir.Value, Kind]) -> Sequence[Kind]:
    row = row_of(operation)
    if row is None or row.name == "variable_handle":
        return [Fixed()] * len(operation.results)
    if row.effects == "write":
        raise _Mixed("it changes a variable")
    if row.name in _CONTROL:
        return _CONTROL[row.name](operation, kinds)
    given = [kinds.get(o, Fixed()) for o in operation.operands]
    attrs = attributes_of(row, operation) if row.name != "constant" else {}
    if row.name == "constant":
        same = splat_value(operation.attributes["value"]) is not None
        return [Fixed(frozenset(range(tensor_type_of(operation.results[0]).rank)) if same else frozenset())]
    if row.name == "read" or not operation.operands:
        return [_unread(row, operation)] * len(operation.results)
    types = [tensor_type_of(o) for o in operation.operands]
    results = [tensor_type_of(r) for r in operation.results]
    rule = _elementwise if row.family in ("elementwise", "special") else _RULES.get(row.name)
    if rule is None:
        if any(isinstance(k, Batched) for k in given):
            raise _Mixed("rows may depend on each other")
        return [Fixed()] * len(results)
    return rule(given, types, attrs, results)


def _unread(row: OpDef, operation: ir.Operation) -> Kind:
    """An op without operands, or a read: `iota` is uniform along all axes but its own."""
    if row.name != "iota":
        return Fixed()
    attrs = attributes_of(row, operation)
    return Fixed(frozenset(range(len(attrs["shape"]))) - {attrs["dim"]})


def _axis(kinds: Sequence[Kind], types: Sequence[TensorType]) -> int | None:
    """The batch's axis in operands of one shape, None if none has it; scalars do not count."""
    axes = {k.axis for k in kinds if isinstance(k, Batched)}
    if len(axes) > 1:
        raise _Mixed("the batch is another axis in one operand than in the other")
    for axis in axes:
        for kind, type_ in zip(kinds, types, strict=True):
            if isinstance(kind, Fixed) and type_.rank and axis not in kind.uniform:
                raise _Mixed(f"an operand, {type_}, is not the same for every row")
        return axis
    return None


def _elementwise(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    if r and len(t) == len(r) > 1:  # barrier: several values pass side by side
        return list(k)
    axis = _axis(k, t)
    if axis is not None:
        return [Batched(axis)] * len(r)
    shaped = [kind.uniform for kind, type_ in zip(k, t, strict=True) if isinstance(kind, Fixed) and type_.rank]
    return [Fixed(frozenset.intersection(*shaped) if shaped else frozenset(range(r[0].rank)))] * len(r)


def _broadcast(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    if isinstance(k[0], Batched):
        return [Batched(a["dims"][k[0].axis])]
    kept = {a["dims"][axis] for axis in range(t[0].rank) if axis not in k[0].uniform and t[0].shape[axis] > 1}
    return [Fixed(frozenset(range(r[0].rank)) - kept)]


def _reshape(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    if isinstance(k[0], Fixed):
        whole = len(k[0].uniform) == t[0].rank
        return [Fixed(frozenset(range(r[0].rank)) if whole else frozenset())]
    before, extent = math.prod(t[0].shape[: k[0].axis]), t[0].shape[k[0].axis]
    for axis, size in enumerate(r[0].shape):
        if size == extent and math.prod(r[0].shape[:axis]) == before:
            return [Batched(axis)]
    raise _Mixed("the batch is merged with another axis")


def _transpose(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    places = {old: new for new, old in enumerate(a["permutation"])}
    if isinstance(k[0], Batched):
        return [Batched(places[k[0].axis])]
    return [Fixed(frozenset(places[axis] for axis in k[0].uniform))]


def _reduce(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    axes = a["axes"] if "axes" in a else (a["axis"],)
    if isinstance(k[0], Fixed):
        return [Fixed()] * len(r)
    if k[0].axis in axes:
        raise _Mixed("it goes over the batch")
    return [Batched(k[0].axis - sum(axis < k[0].axis for axis in axes))] * len(r)


def _along(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    """Ops that work along axes and keep the shape's order: cumulative ones, sort, concatenate, reverse."""
    axes = a["axes"] if "axes" in a else (a.get("axis", t[0].rank - 1),)
    axis = _axis(k, t)
    if axis in axes:
        raise _Mixed("it goes along the batch")
    return [Fixed() if axis is None else Batched(axis)] * len(r)


def _slice(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    if any(isinstance(other, Batched) for other in k[1:]):
        raise _Mixed("where it goes depends on the row")
    if isinstance(k[0], Batched) and t[0].shape[k[0].axis] != r[0].shape[k[0].axis]:
        raise _Mixed("it takes some rows of the batch")
    return [k[0] if isinstance(k[0], Batched) else Fixed()]


def _window(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    axis = _axis(k, t) if len({x.shape for x in t}) == 1 else k[0].axis if isinstance(k[0], Batched) else None
    if axis is not None and (a["window"][axis], a["strides"][axis]) != (1, 1):
        raise _Mixed("its window goes over the batch")
    return [Fixed() if axis is None else Batched(axis)]


def _dot(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    places = []
    shared = len(a["lhs_batch"])
    lhs_free = [d for d in range(t[0].rank) if d not in (*a["lhs_batch"], *a["lhs_contract"])]
    for side, kind in zip(("lhs", "rhs"), k, strict=True):
        if isinstance(kind, Fixed):
            continue
        batch, contract = a[f"{side}_batch"], a[f"{side}_contract"]
        if kind.axis in contract:
            raise _Mixed("it sums over the batch")
        if kind.axis in batch:
            places.append(batch.index(kind.axis))
            continue
        free = [d for d in range(t[side == "rhs"].rank) if d not in (*batch, *contract)]
        places.append(shared + free.index(kind.axis) + (len(lhs_free) if side == "rhs" else 0))
    if len(set(places)) > 1:
        raise _Mixed("it pairs every row with every other")
    if places and places[0] < shared and any(isinstance(kind, Fixed) for kind in k):
        raise _Mixed("an operand is not the same for every row")
    return [Batched(places[0]) if places else Fixed()]


def _conv(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    if isinstance(k[1], Batched):
        raise _Mixed("its kernel depends on the batch")
    if isinstance(k[0], Fixed):
        return [Fixed()]
    if k[0].axis != a["lhs_spec"][0] or a["batch_groups"] != 1:
        raise _Mixed("it goes over the batch")
    return [Batched(a["out_spec"][0])]


def _take_rows(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    if isinstance(k[0], Batched):
        raise _Mixed("it looks rows up in the batch")
    return [k[1] if isinstance(k[1], Batched) else Fixed()]


def _gather(k: Sequence[Kind], t: Types, a: Attrs, r: Types) -> list[Kind]:
    operand, indices = k
    if isinstance(operand, Fixed) and isinstance(indices, Fixed):
        return [Fixed()]
    if not isinstance(indices, Batched) or indices.axis == a["index_vector_dim"]:
        raise _Mixed("it looks up in the batch")
    if isinstance(operand, Batched):
        pairs = zip(a["operand_batching_dims"], a["start_indices_batching_dims"], strict=True)
        if (operand.axis, indices.axis) not in pairs:
            raise _Mixed("it looks up in other rows of the batch")
    place = indices.axis - (a["index_vector_dim"] < indices.axis)
    return [Batched([d for d in range(r[0].rank) if d not in a["offset_dims"]][place])]


def _loop(operation: ir.Operation, kinds: dict[ir.Value, Kind]) -> Sequence[Kind]:
    """While: what is carried becomes batched as soon as the body makes it so."""
    condition, body = (region.blocks[0] for region in operation.regions)
    carried = [kinds.get(o, Fixed()) for o in operation.operands]
    while True:
        inner = {**kinds, **dict(zip(body.arguments, carried, strict=True))}
        after = [inner.get(v, Fixed()) for v in _follow(body, inner)]
        joined = [_join(a, b) for a, b in zip(carried, after, strict=True)]
        if joined == carried:
            break
        carried = joined
    test = {**kinds, **dict(zip(condition.arguments, carried, strict=True))}
    _follow(condition, test)  # a scalar cannot be batched: what mixes rows on the way to it is an error
    return carried


def _join(before: Kind, after: Kind) -> Kind:
    if isinstance(before, Fixed) and isinstance(after, Fixed):
        return Fixed(before.uniform & after.uniform)
    if isinstance(before, Batched) and isinstance(after, Batched) and before != after:
        raise _Mixed("the batch changes its place from one iteration to the next")
    fixed, batched = (before, after) if isinstance(after, Batched) else (after, before)
    if isinstance(fixed, Fixed) and isinstance(batched, Batched) and batched.axis not in fixed.uniform:
        raise _Mixed("a value that it starts with is not the same for every row")
    return batched


def _scan(operation: ir.Operation, kinds: dict[ir.Value, Kind]) -> Sequence[Kind]:
    count = ir.IntegerAttr(operation.attributes["carried"]).value
    (body,) = (region.blocks[0] for region in operation.regions)
    given = [kinds.get(o, Fixed()) for o in operation.operands]
    if any(k == Batched(0) for k in given[count:]):
        raise _Mixed("it goes along the batch")
    rows = [Batched(k.axis - 1) if isinstance(k, Batched) else Fixed() for k in given[count:]]
    carried = given[:count]
    while True:
        inner = {**kinds, **dict(zip(body.arguments, [*carried, *rows], strict=True))}
        after = [inner.get(v, Fixed()) for v in _follow(body, inner)]
        joined = [_join(a, b) for a, b in zip(carried, after[:count], strict=True)]
        if joined == carried:
            stacked = [Batched(k.axis + 1) if isinstance(k, Batched) else Fixed() for k in after[count:]]
            return [*carried, *stacked]
        carried = joined


def _cond(operation: ir.Operation, kinds: dict[ir.Value, Kind]) -> Sequence[Kind]:
    """Branches on what is the same for all rows; a result is batched if it is in either branch."""
    ends = []
    for region in operation.regions:
        inner = dict(kinds)
        ends.append([inner.get(v, Fixed()) for v in _follow(region.blocks[0], inner)])
    return [_join(a, b) for a, b in zip(*ends, strict=True)]


_CONTROL: dict[str, Callable[[ir.Operation, dict[ir.Value, Kind]], Sequence[Kind]]] = {
    "while": _loop, "scan": _scan, "cond": _cond,
}  # fmt: skip
_RULES: dict[str, Rule] = {
    "broadcast": _broadcast, "reshape": _reshape, "transpose": _transpose, "dot_general": _dot, "conv_general": _conv,
    "take_rows": _take_rows, "gather": _gather, "slice": _slice, "dynamic_slice": _slice, "pad": _slice,
    "dynamic_update_slice": _slice,
    **{f"reduce_{n}": _reduce for n in ("sum", "prod", "max", "min", "and", "or")},
    "argmax": _reduce, "argmin": _reduce,
    **{n: _along for n in ("cumsum", "cumprod", "cummax", "cummin", "concatenate", "reverse", "sort", "top_k")},
    **{f"reduce_window_{n}": _window for n in ("max", "min", "sum")}, "max_pool_grad": _window,
}  # fmt: skip
