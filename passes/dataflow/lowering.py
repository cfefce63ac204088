"""The walk of `lower-control`: regions are opened from the outside in, their ops stay in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.context import type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, dataflow
from thalweg.dialects.types import ResourceType, TensorType, bool_
from thalweg.passes.dataflow.contexts import Branch, Branches, Context, LoopBody, LoopHead
from thalweg.passes.dataflow.emission import Emitter, device_of_value, is_host, mark, put_on, relocated
from thalweg.passes.dataflow.free import FreeValues
from thalweg.passes.dataflow.scans import scan_to_loop
from thalweg.passes.dependences import AFTER, DEVICE, NAME, after_of, device_of, name_of, set_after
from thalweg.passes.distribute_loops import gate_name
from thalweg.passes.place import spans
from thalweg.passes.rewriting import (
    array,
    bodies,
    body_of,
    captures,
    inside,
    operations,
    splice,
    substitute,
    yields,
)

Rewrite = Callable[[ir.Operation], Sequence[ir.Value]]

PARALLEL_ITERATIONS = 10
_REGIONS = frozenset({"tw.cond", "tw.while", "tw.scan", "tw.checkpoint"})


@dataclass
class _Carried:
    """A value that goes round a loop: which one, on which device, and the ends of its way."""

    index: int | None  # None for a token
    device: str
    init: ir.Value
    source: str  # name of the way back
    merged: ir.Value | None = None
    done: bool = False  # a token that comes out when the loop has ended, for what comes after it


class Lowering:
    """Lowers what must be lowered in a function.

    Args:
        block: the function's body.
        everything: lower all branches and loops, also what could stay.
    """

    def __init__(self, block: ir.Block, everything: bool = False) -> None:
        self._block = block
        self._everything = everything
        self._free = FreeValues(block, lambda operation: not self.must_lower(operation))
        self._names = {n for o in operations(block) for i in inside(o) if (n := name_of(i)) is not None}
        self._awaited = {n for o in operations(block) for i in inside(o) for n in after_of(i)}
        self._markers: list[ir.Operation] = []
        self._retired: list[ir.Operation] = []  # kept to the end, since tables know values by their addresses

    def run(self) -> bool:
        top = Context()
        _inherit_devices(self._block, "")
        changed = any([self.must_lower(o) for o in operations(self._block)])
        for operation in operations(self._block)[:-1]:
            self._visit(operation, top)
        for marker in self._markers:
            marker.erase()
        for operation in self._retired:
            operation.erase()
        if changed:
            self._drop_unused()
        return changed

    def must_lower(self, operation: ir.Operation) -> bool:
        """A control op that spans devices or holds host ops."""
        return operation.name in _REGIONS and (self._everything or spans(operation))

    def _visit(self, operation: ir.Operation, context: Context, awaited: bool = False) -> list[str]:
        """Put an op into its context, lowered if it must be. If it is awaited, returns what to come after instead."""
        name = name_of(operation)
        if not self.must_lower(operation):
            self._settle(operation, context)
            if not awaited or not is_host(operation):
                return []
            if name is None:
                name = self._fresh(operation.name.removeprefix("tw."))
                operation.attributes[NAME] = ir.StringAttr.get(name)
            return [name]
        self._settle(operation, context, lowered=True)
        done = (name or self._fresh("done")) if awaited or name in self._awaited else ""
        match operation.name:
            case "tw.cond":
                self._cond(operation, context, done)
            case "tw.while":
                self._while(operation, context, done)
            case "tw.scan":
                return self._in_place(operation, context, scan_to_loop, done)
            case _:
                return self._in_place(operation, context, lambda o: splice(body_of(o), o, []), done)
        return [done] if done else []

    def _in_place(self, operation: ir.Operation, context: Context, rewrite: Rewrite, done: str) -> list[str]:
        """Replace an op by others, and visit those."""
        marker, device = self._marker(operation), device_of(operation)
        with ir.InsertionPoint(operation), relocated(operation.location, device):
            values = rewrite(operation)
        block = operations(operation.block)
        made = block[block.index(marker) + 1 : block.index(operation)]
        end = self._marker(operation)
        for result, value in zip(operation.results, values, strict=True):
            result.replace_all_uses_with(value)
        self._retire(operation)
        for new in made:
            for inner in inside(new):
                if DEVICE not in inner.attributes:
                    put_on(inner, device_of(inner))
        names = [name for new in made for name in self._visit(new, context, bool(done))]
        if done in self._awaited:  # by the name of what is gone: a pivot stands for it
            token = self._token(context, device)
            Emitter(operation.location)(
                dataflow.pivot, [token], {}, before=end, device=device, frame=context.frame, name=done, after=names
            )
        return names

    # Ops that stay.

    def _settle(self, operation: ir.Operation, context: Context, lowered: bool = False) -> None:
        """Make an op part of its context: nothing that it takes may come from nowhere."""
        if context.parent is None or self._is_free(operation):
            return  # what is free is seen to by its users
        mark(operation, context.frame)
        device = device_of(operation)
        taken = dict.fromkeys(operation.operands)
        if not lowered:
            taken.update(dict.fromkeys(captures(*bodies(operation))))
        whole = is_host(operation) or lowered or all(value in self._free for value in taken)
        mapping = {}
        for value in taken:
            if value not in self._free:
                continue
            if not whole and self._free.spreads(value):
                mapping[value] = self._free.beside(value, operation)
            else:
                mapping[value] = self._bring_free(value, context, device)
        for inner in (operation,) if lowered else inside(operation):
            substitute(inner, mapping)
        if is_host(operation) and not len(operation.operands):
            set_after(operation, [*after_of(operation), context.pivot(device)])

    def _is_free(self, operation: ir.Operation) -> bool:
        return len(operation.results) > 0 and all(result in self._free for result in operation.results)

    def _bring_free(self, value: ir.Value, context: Context, device: str) -> ir.Value:
        return context.bring_from_top(self._free.at_top(value, device), device)

    # Opening regions.

    def _open(
        self,
        block: ir.Block,
        before: ir.Operation,
        context: Context,
        arguments: Sequence[ir.Value],
        awaited: bool = False,
    ) -> tuple[list[ir.Value], list[str]]:
        """Move a region's ops to before the op that it belongs to, into `context`; returns what the region yields and,
        if it is awaited, the names of the ops that do something in it."""
        outer = {v for v in captures(block) if v not in self._free}
        for operation in operations(block):
            for inner in inside(operation):
                self._bring_operands(inner, outer, context)
        *moved, last = operations(block)
        splice(block, before, arguments)
        names = [name for operation in moved for name in self._visit(operation, context, awaited)]
        device = device_of(before)
        return [self._bring_free(v, context, device) if v in self._free else v for v in last.operands], names

    def _bring_operands(self, operation: ir.Operation, outer: set[ir.Value], context: Context) -> None:
        for index, operand in enumerate(operation.operands):
            if operand not in outer:
                continue
            here = device_of(operation)
            producer = device_of_value(operand, here)
            # A branch is chosen where the value is, so that only live ones travel; into a loop it travels once.
            near = isinstance(context, Branch) or operation.name == "tw.yield"
            operation.operands[index] = context.bring(operand, producer if near else here)

    def _cond(self, operation: ir.Operation, context: Context, done: str) -> None:
        emit, frame, device = Emitter(operation.location), context.frame, device_of(operation)
        marker, after = self._marker(operation), after_of(operation)
        branches = Branches(emit, context, operation.operands[0], self._fresh("cond"), marker, after)
        sides = [Branch(branches, side) for side in (1, 0)]
        opened = [
            self._open(block, operation, side, (), bool(done))
            for block, side in zip(bodies(operation), sides, strict=True)
        ]
        for result, true, false in zip(operation.results, *(ends for ends, _ in opened), strict=True):
            if next(result.uses, None) is not None:
                owner = device_of_value(true, device)
                made = emit(dataflow.merge, [false, true], {}, before=operation, device=owner, frame=frame)
                result.replace_all_uses_with(made.results[0])
        if done:
            pivots = [
                emit(
                    dataflow.pivot, [side.bring(branches.pred, device)], {}, before=operation, device=device,
                    frame=frame, after=names,
                ).results[0]
                for side, (_, names) in zip(sides, opened, strict=True)
            ]  # fmt: skip
            emit(dataflow.merge, pivots, {}, before=operation, device=device, frame=frame, name=done)
        self._retire(operation)

    # Loops.

    def _while(self, operation: ir.Operation, context: Context, done: str) -> None:
        emit, frame = Emitter(operation.location), self._fresh("while")
        condition, body = bodies(operation)
        parallel = attributes_of(control.while_, operation)["parallel_iterations"] or PARALLEL_ITERATIONS
        head = LoopHead(emit, context, frame, parallel, self._marker(operation))
        head.after = self._outer_names(operation)
        carried = self._carried(operation, context, frame)
        if done:
            owner = device_of(operation)
            carried.append(_Carried(None, owner, self._token(context, owner), f"{frame}/done", done=True))
        for value in carried:
            self._begin(value, head, operation)
        gates = self._gates(carried, frame)
        arguments = self._arguments(operation, carried)
        (pred,), first = self._open(condition, operation, head, arguments, bool(done))
        owner = device_of_value(pred, device_of(operation))
        goes_on = emit(dataflow.loop_cond, [pred], {}, before=operation, device=owner, frame=frame).results[0]
        inner = LoopBody(head, goes_on, gates, self._marker(operation))
        switches = [inner.switch(_known(c.merged), c.device) for c in carried]
        again = {c.index: s.results[1] for c, s in zip(carried, switches, strict=True) if c.index is not None}
        ends, names = self._open(body, operation, inner, self._arguments(operation, carried, again), bool(done))
        for value, taken in zip(carried, switches, strict=True):
            here = {"before": operation, "device": value.device, "frame": frame}
            following = taken.results[1] if value.index is None else ends[value.index]
            if value.done:
                following = emit(dataflow.pivot, [following], {}, after=[*first, *names], **here).results[0]
            emit(dataflow.next_iteration_sink, [following], {"name": value.source}, **here)
            result = None if value.index is None else operation.results[value.index]
            if value.done or (result is not None and next(result.uses, None) is not None):
                name = done if value.done else ""
                over = emit(dataflow.exit_, [taken.results[0]], {"frame": frame}, name=name, **here)
                if result is not None:
                    result.replace_all_uses_with(over.results[0])
        self._retire(operation)

    def _carried(self, operation: ir.Operation, context: Context, frame: str) -> list[_Carried]:
        """The values that change from iteration to iteration, and a token for each device that has none of them."""
        condition, body = bodies(operation)
        found: list[_Carried] = []
        results, ends = operation.results, yields(body)
        rows = zip(operation.operands, body.arguments, condition.arguments, ends, results, strict=True)
        for index, (init, argument, tested, end, result) in enumerate(rows):
            if end == argument:
                for value in (argument, tested, result):
                    value.replace_all_uses_with(init)
                continue
            device = device_of_value(init if end in self._free else end, device_of_value(init, device_of(operation)))
            found.append(_Carried(index, device, init, f"{frame}/{index}"))
        inner = [o for o in inside(operation) if o != operation and o.name != "tw.yield"]
        taking_part = dict.fromkeys(device_of(o) for o in inner if not self._is_free(o))
        taking_part[device_of(operation)] = None
        for device in taking_part:
            if all(c.device != device for c in found):
                found.append(_Carried(None, device, self._token(context, device), f"{frame}/token{device}"))
        return found

    def _token(self, context: Context, device: str) -> ir.Value:
        with ir.InsertionPoint(operations(self._block)[0]), ir.Location.unknown():
            return self._bring_free(array(True, bool_), context, device)

    def _begin(self, value: _Carried, head: LoopHead, operation: ir.Operation) -> None:
        """The head of a value's way round: enter, the way back, and the merge of both."""
        first = head.enter(value.init, value.device, constant=False)
        type_ = type_of(value.init)
        kind = type_.kind if isinstance(type_, ResourceType) else ""
        row = type_.components[0] if isinstance(type_, ResourceType) else type_
        assert isinstance(row, TensorType)
        attrs = {"name": value.source, "shape": row.shape, "dtype": row.dtype, "kind": kind}
        back = head.emit(
            dataflow.next_iteration_source, [], attrs, before=head.marker, device=value.device, frame=head.frame
        ).results[0]
        merge = head.emit(
            dataflow.merge, [first, back], {}, before=head.marker, device=value.device, frame=head.frame
        )
        value.merged = merge.results[0]

    def _gates(self, carried: Sequence[_Carried], frame: str) -> dict[str, ir.Value]:
        """One merge on each device, which stands for an iteration there."""
        gates: dict[str, ir.Value] = {}
        for value in carried:
            if value.device not in gates:
                gates[value.device] = merged = _known(value.merged)
                merged.owner.operation.attributes[NAME] = ir.StringAttr.get(gate_name(frame, value.device))
        return gates

    def _arguments(
        self,
        operation: ir.Operation,
        carried: Sequence[_Carried],
        values: dict[int, ir.Value] | None = None,
    ) -> list[ir.Value]:
        """What the arguments of a region become; those of values that do not change are not used any more."""
        given = list(operation.operands)
        for value in carried:
            if value.index is not None:
                given[value.index] = _known(value.merged) if values is None else values[value.index]
        return given

    def _outer_names(self, operation: ir.Operation) -> list[str]:
        """Control edges into a loop from outside: the loop as a whole comes after those ops."""
        inner = [o for o in inside(operation) if o != operation]
        own = {name_of(o) for o in inner}
        found = dict.fromkeys(after_of(operation))
        for o in inner:
            if AFTER in o.attributes:
                names = after_of(o)
                found.update(dict.fromkeys(n for n in names if n not in own))
                set_after(o, [n for n in names if n in own])
        return list(found)

    # Names and places.

    def _fresh(self, kind: str) -> str:
        number = 0
        while f"{kind}_{number}" in self._names:
            number += 1
        self._names.add(f"{kind}_{number}")
        return f"{kind}_{number}"

    def _marker(self, operation: ir.Operation) -> ir.Operation:
        with ir.InsertionPoint(operation), operation.location:
            made = ir.Operation.create("tw.marker")
        self._markers.append(made)
        return made

    def _retire(self, operation: ir.Operation) -> None:
        operation.detach_from_parent()
        self._retired.append(operation)

    def _drop_unused(self) -> None:
        """Free values whose users have made them again, and tensors of rows that are only read from their stacks."""
        for operation in reversed(operations(self._block)[:-1]):
            unused = all(next(r.uses, None) is None for r in operation.results)
            if unused and (operation.name == "tw.stack_all" or self._is_free(operation)):
                operation.erase()


def _inherit_devices(block: ir.Block, device: str) -> None:
    """Give what is in the regions of an op that was placed as a whole the op's device."""
    for operation in operations(block):
        if device and DEVICE not in operation.attributes:
            put_on(operation, device)
        for inner in bodies(operation):
            _inherit_devices(inner, device_of(operation) if DEVICE in operation.attributes else "")


def _known(value: ir.Value | None) -> ir.Value:
    assert value is not None
    return value
