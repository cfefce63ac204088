"""Taking reads and writes of variables out of regions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import elementwise, state
from thalweg.passes.base import Pass
from thalweg.passes.rewriting import (
    add_arguments,
    bodies,
    body_of,
    definition,
    functions,
    insert_arguments,
    inside,
    operations,
    recreate,
    replace,
    set_yields,
    yields,
)
from thalweg.passes.rows import scatter_rows

WRITES = frozenset({"tw.assign", "tw.assign_add", "tw.assign_sub", "tw.scatter_update"})
READS = frozenset({"tw.read"}) | WRITES - {"tw.assign"}


@dataclass(frozen=True)
class HoistState(Pass):
    """Make regions pure: variables are read before an op with regions, carried through it as values, assigned after it.

    Before:
        "tw.while"(%i) ({ … }, { ^bb0(%j): "tw.assign_add"(%w, %d)  … "tw.yield"(%k) })
    After:
        %v = "tw.read"(%w)
        %r:2 = "tw.while"(%i, %v) ({ … }, { ^bb0(%j, %u): %s = "tw.add"(%u, %d)  … "tw.yield"(%k, %s) })
        "tw.assign"(%w, %r#1)

    Declarations (`variable_handle`) move to the top of the function, one for each variable.
    """

    name: ClassVar[str] = "hoist-state"

    def run(self, module: ir.Module) -> bool:
        return any([_hoist(block) for block in functions(module)])


Values = dict[str, ir.Value]  # the present value of each variable, by name


@dataclass
class _Touched:
    """Which variables an op with regions reads or writes, in order of appearance."""

    reads: dict[str, None] = field(default_factory=dict)
    writes: dict[str, None] = field(default_factory=dict)

    @property
    def all(self) -> list[str]:
        return list(self.reads | self.writes)


def variable_name(operation: ir.Operation) -> str:
    """The name of the variable that a `read` or an `assign…` touches."""
    handle = definition(operation.operands[0])
    if handle is None or handle.name != "tw.variable_handle":
        raise PassError(f"{operation.name}: the variable must come from a tw.variable_handle.")
    return str(ir.StringAttr(handle.attributes["name"]).value)


def step(operation: ir.Operation, values: Values) -> None:
    """Do a read or an assignment on `values` instead of on the variable; erases the op."""
    name = variable_name(operation)
    with ir.InsertionPoint(operation), operation.location:
        match operation.name:
            case "tw.read":
                operation.results[0].replace_all_uses_with(values[name])
            case "tw.assign":
                values[name] = operation.operands[1]
            case "tw.assign_add":
                values[name] = elementwise.add(values[name], operation.operands[1])
            case "tw.assign_sub":
                values[name] = elementwise.sub(values[name], operation.operands[1])
            case "tw.scatter_update":
                mode = attributes_of(state.scatter_update, operation)["mode"]
                _, indices, rows = operation.operands
                values[name] = scatter_rows(values[name], indices, rows, mode)
    operation.erase()


def _hoist(block: ir.Block) -> bool:
    handles, changed = _declare_at_top(block)
    for operation in operations(block):
        touched = _touched_by(*bodies(operation))
        if not touched.all:
            continue
        changed = True
        with ir.InsertionPoint(operation), operation.location:
            values = {name: state.read(handles[name]) for name in touched.all}
        results = _purify(operation, touched, values)
        for name, value in results.items():
            made = value.owner.operation
            with ir.InsertionPoint.after(made), made.location:
                state.assign(handles[name], value)
    return changed


def _declare_at_top(block: ir.Block) -> tuple[Values, bool]:
    """One declaration for each variable, before everything else."""
    found: dict[str, ir.Operation] = {}
    changed = False
    for outer in operations(block):
        for operation in list(inside(outer)):
            if operation.name != "tw.variable_handle":
                continue
            name = ir.StringAttr(operation.attributes["name"]).value
            if name in found:
                replace(operation, list(found[name].results))
                changed = True
                continue
            changed |= operation.block != block
            found[name] = operation
    for operation in reversed(found.values()):
        first = block.operations[0].operation
        if operation != first:
            operation.move_before(first)
    return {name: operation.results[0] for name, operation in found.items()}, changed


def _touched_by(*blocks: ir.Block) -> _Touched:
    touched = _Touched()
    for block in blocks:
        for outer in operations(block):
            for inner in inside(outer):
                if inner.name in READS:
                    touched.reads[variable_name(inner)] = None
                if inner.name in WRITES:
                    touched.writes[variable_name(inner)] = None
    return touched


def _purify(operation: ir.Operation, touched: _Touched, values: Values) -> Values:
    """Rewrite an op with regions over the present `values`; returns those of the variables it writes."""
    written = list(touched.writes)
    rewrite = _CARRIED.get(operation.name, _yielded)
    return rewrite(operation, written, values)


def _purify_block(block: ir.Block, values: Values) -> Values:
    """Turn reads and writes of a block into values; returns the values at its end."""
    values = dict(values)
    for operation in operations(block):
        if operation.name in READS | WRITES:
            step(operation, values)
            continue
        touched = _touched_by(*bodies(operation))
        if touched.all:
            values.update(_purify(operation, touched, values))
    return values


def _yielded(operation: ir.Operation, written: list[str], values: Values) -> Values:
    """Ops that run each region at most once: the last values come out as further results."""
    count = len(yields(body_of(operation)))
    for block in bodies(operation):
        after = _purify_block(block, values)
        set_yields(block, [*yields(block), *(after[name] for name in written)])
    if not written:
        return {}
    attrs = {}
    if operation.name == "tw.vjp":  # further values without a derivative
        attrs["aux"] = ir.IntegerAttr(operation.attributes["aux"]).value + len(written)
    made = recreate(operation, list(operation.operands), **attrs)
    results = list(made.results)
    extra = results[count : count + len(written)]
    replace(operation, results[:count] + results[count + len(written) :])
    return dict(zip(written, extra, strict=True))


def _carried_while(operation: ir.Operation, written: list[str], values: Values) -> Values:
    condition, body = bodies(operation)
    count = len(operation.operands)
    carried = [values[name] for name in written]
    if assigned := list(_touched_by(condition).writes):
        raise _misplaced(operation, f"a loop's condition assigns the variable '{assigned[0]}'. Assign in the body.")
    _purify_block(condition, {**values, **dict(zip(written, add_arguments(condition, carried), strict=True))})
    after = _purify_block(body, {**values, **dict(zip(written, add_arguments(body, carried), strict=True))})
    set_yields(body, [*yields(body), *(after[name] for name in written)])
    made = recreate(operation, [*operation.operands, *carried])
    results = list(made.results)
    replace(operation, results[:count])
    return dict(zip(written, results[count:], strict=True))


def _carried_scan(operation: ir.Operation, written: list[str], values: Values) -> Values:
    """The carry stands first among a scan's operands, so the variables go in between."""
    body, operands = body_of(operation), list(operation.operands)
    at, extra = ir.IntegerAttr(operation.attributes["carried"]).value, len(written)
    carried = [values[name] for name in written]
    inserted = insert_arguments(body, at, carried)
    after = _purify_block(body, {**values, **dict(zip(written, inserted, strict=True))})
    ends = yields(body)
    set_yields(body, [*ends[:at], *(after[name] for name in written), *ends[at:]])
    made = recreate(operation, [*operands[:at], *carried, *operands[at:]], carried=at + extra)
    results = list(made.results)
    replace(operation, results[:at] + results[at + extra :])
    return dict(zip(written, results[at : at + extra], strict=True))


def _no_writes(operation: ir.Operation, written: list[str], values: Values) -> Values:
    if written:
        raise _misplaced(
            operation,
            f"a custom gradient function assigns the variable '{written[0]}'. It runs when a derivative is taken, any "
            "number of times: assign outside it.",
        )
    return _yielded(operation, written, values)


def _misplaced(operation: ir.Operation, message: str) -> PassError:
    where = where_of(operation.location)
    return PassError(f"{where} {message}" if where else message)


_CARRIED = {"tw.while": _carried_while, "tw.scan": _carried_scan, "tw.custom_gradient": _no_writes}
