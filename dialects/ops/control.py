"""Control: ops with regions, and what stands in regions.

Regions are one block each and may use values from outside (they are not isolated). Until `hoist-state` has run they may
also read and write variables; after it they are pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.opdef import Attrs, RegionType, Unsupported, define, fail, is_float
from thalweg.dialects.types import TapeType, TensorType, Type, bool_, int32

_INTERPRETED = Unsupported("has regions: the reference interpreter runs it, not a NumPy function")


def _show(types: Sequence[Type]) -> str:
    return f"({', '.join(map(str, types))})"


def _infer_yield(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    return []


yield_ = define("yield", "*values", doc="Ends a region with its values.", infer=_infer_yield, reference=_INTERPRETED,
                terminator=True)


def _infer_cond(operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType]) -> Sequence[Type]:
    if operands[0] != TensorType((), bool_):
        raise fail(f"the predicate must be bool[], got {operands[0]}.")
    on_true, on_false = regions
    if on_true.yields != on_false.yields:
        raise fail(
            f"the branches return different types: {_show(on_true.yields)} and {_show(on_false.yields)}. "
            "Convert or reshape so that both agree."
        )
    return on_true.yields


cond = define("cond", "pred", doc="Runs the region `on_true` or `on_false`, only one of them.",
              infer_regions=_infer_cond, regions="on_true on_false", reference=_INTERPRETED)


def _infer_while(operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType]) -> Sequence[Type]:
    condition, body = regions
    if condition.yields != (TensorType((), bool_),):
        raise fail(f"the condition must return one bool[], got {_show(condition.yields)}.")
    if body.yields != tuple(operands):
        raise fail(
            f"the loop starts with {_show(operands)} but its body returns {_show(body.yields)}. "
            "Types must not change from one iteration to the next."
        )
    if condition.arguments != tuple(operands) or body.arguments != tuple(operands):
        raise fail(f"the regions must take the loop's values {_show(operands)}.")
    return tuple(operands)


while_ = define("while", "*init",
                doc="Repeats `body` on the loop's values as long as `condition` of them holds. Where the loop spans "
                    "devices, up to `parallel_iterations` (10 if not given) of them are under way at once.",
                infer_regions=_infer_while, attrs={"parallel_iterations": "int"},
                defaults={"parallel_iterations": None}, regions="condition body", reference=_INTERPRETED)


def _infer_scan(operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType]) -> Sequence[Type]:
    carried, length = attrs["carried"], attrs["length"]
    carry, rows = operands[:carried], operands[carried:]
    (body,) = regions
    slices: list[Type] = []
    for x in rows:
        if not isinstance(x, TensorType) or x.rank == 0 or x.shape[0] != length:
            raise fail(f"{x} cannot be scanned over {length} rows: its first extent must be {length}.")
        slices.append(x.with_shape(x.shape[1:]))
    if body.arguments != (*carry, *slices):
        raise fail(f"the body must take {_show((*carry, *slices))}, takes {_show(body.arguments)}.")
    if body.yields[:carried] != tuple(carry):
        raise fail(
            f"the carry starts as {_show(carry)} but the body returns {_show(body.yields[:carried])}. "
            "Types must not change from one iteration to the next."
        )
    stacked = [t.with_shape((length, *t.shape)) for t in body.yields[carried:] if isinstance(t, TensorType)]
    return (*carry, *stacked)


scan = define(
    "scan", "*operands",
    doc="`length` times: body(carry…, row i of each x…) gives the next carry and row i of each stacked result. "
        "The first `carried` operands are the carry; `reverse` goes from the last row to the first.",
    infer_regions=_infer_scan,
    attrs={"carried": "int", "length": "int", "reverse": "bool", "parallel_iterations": "int"},
    defaults={"reverse": False, "parallel_iterations": None}, regions="body", reference=_INTERPRETED,
)


def _infer_vjp(operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType]) -> Sequence[Type]:
    (body,) = regions
    if body.arguments != tuple(operands):
        raise fail(f"the region must take {_show(operands)}, takes {_show(body.arguments)}.")
    if not 0 <= attrs["aux"] <= len(body.yields):
        raise fail(f"aux {attrs['aux']} is more than the {len(body.yields)} values of the region.")
    outputs = body.yields[: len(body.yields) - attrs["aux"]]
    primals = tuple(t for t in operands if isinstance(t, TensorType))
    return (*body.yields, TapeType(primals, tuple(t for t in outputs if is_float(t))))


vjp = define(
    "vjp", "*primals",
    doc="Runs the region, and keeps what its derivative needs under a handle for `pullback`. The last `aux` values "
        "are carried along without a derivative.",
    infer_regions=_infer_vjp, attrs={"aux": "int"}, defaults={"aux": 0}, regions="body", reference=_INTERPRETED,
)


def _infer_pullback(operands: Sequence[Type], attrs: Attrs) -> list[Type]:
    handle, *cotangents = operands
    if not isinstance(handle, TapeType):
        raise fail(f"the first operand must be the handle of a vjp, got {handle}.")
    if tuple(cotangents) != handle.outputs:
        raise fail(f"cotangents must have the types of the results {_show(handle.outputs)}, got {_show(cotangents)}.")
    wrt, rows = attrs["wrt"], attrs["rows"] or (-1,) * len(attrs["wrt"])
    if len(rows) != len(wrt) or any(not 0 <= w < len(handle.primals) for w in wrt):
        raise fail(f"wrt {list(wrt)} must name operands of the vjp, which has {len(handle.primals)}.")
    types: list[Type] = []
    for index, count in zip(wrt, rows, strict=True):
        primal = handle.primals[index]
        if not is_float(primal):
            raise fail(f"operand {index} is {primal}: only floating-point tensors have gradients. Convert it first.")
        types += [primal] if count < 0 else [TensorType((count,), int32), primal.with_shape((count, *primal.shape[1:]))]
    return types


pullback = define(
    "pullback", "handle *cotangents",
    doc="Cotangents of the operands `wrt` of a vjp from cotangents of its floating-point results. rows[i] >= 0 asks "
        "for a sparse one, as row indices and rows: for a table that the region only gathers rows from.",
    infer=_infer_pullback, attrs={"wrt": "ints", "rows": "ints"}, defaults={"rows": ()}, reference=_INTERPRETED,
)


def _infer_checkpoint(operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType]) -> Sequence[Type]:
    return regions[0].yields


checkpoint = define(
    "checkpoint", "",
    doc="Runs the region; its derivative computes the region's inside again instead of keeping it.",
    infer_regions=_infer_checkpoint, regions="body", reference=_INTERPRETED,
)


def _infer_custom_gradient(operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType]) -> Sequence[Type]:
    inputs = attrs["inputs"]
    arguments, results = tuple(operands[:inputs]), tuple(operands[inputs:])
    (backward,) = regions
    if backward.arguments != results:
        raise fail(f"the gradient function must take {_show(results)}, takes {_show(backward.arguments)}.")
    if backward.yields != arguments:
        raise fail(
            f"the gradient function must return one cotangent per argument {_show(arguments)}, "
            f"returns {_show(backward.yields)}."
        )
    return results


custom_gradient = define(
    "custom_gradient", "*operands",
    doc="The operands after the first `inputs`: results computed from those inputs. Their derivative is the region, "
        "cotangents of the results in, cotangents of the inputs out, and not that of the ops that computed them.",
    infer_regions=_infer_custom_gradient, attrs={"inputs": "int"}, regions="backward", reference=_INTERPRETED,
)


def _infer_call(operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType]) -> Sequence[Type]:
    return regions[0].yields


call = define(
    "call", "*arguments",
    doc="A function called by `name`: its body as a region, kept apart until `inline` takes it in.",
    infer_regions=_infer_call, attrs={"name": "str"}, regions="body", reference=_INTERPRETED,
)
