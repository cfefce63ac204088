"""Compiled against reference, op by op, until the first op that differs.

The program is cut after its k-th op; what is live at the cut becomes the results. If these agree, whatever goes wrong
goes wrong later; if not, earlier: binary search, about log2(ops) compilations. It works on any function whose ops are
pure at its top level: `tw` after `functionalize`, or StableHLO.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thalweg.backends.reference.compare import Difference, compare
from thalweg.backends.reference.interpreter import Array
from thalweg.dialects.location import Where, where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import walk

Runner = Callable[[ir.Module, Sequence[Array]], Sequence[Array]]  # the results of @main


@dataclass(frozen=True)
class Culprit:
    """The first op from which compiled and reference differ."""

    operation: ir.Operation  # in the program that was bisected
    number: int  # among the top-level ops of @main, from 0
    count: int
    difference: Difference
    alone: Difference | None  # the same op compiled by itself, on the reference's operands
    case: ir.Module  # that op by itself, as a program
    inputs: tuple[Array, ...]  # of the case

    @property
    def where(self) -> Where | None:
        """The user's line."""
        return where_of(self.operation.location)

    def __str__(self) -> str:
        place = f"{self.where} " if self.where else ""
        name = self.operation.name.removeprefix("tw.")
        isolated = (
            "It differs by itself, too."
            if self.alone
            else "By itself it agrees: it goes wrong only together with the ops around it (fusion, layout, aliasing)."
        )
        return f"{place}{name} (op {self.number + 1} of {self.count}): {self.difference}. {isolated}"


def bisect(
    module: ir.Module, inputs: Sequence[Array], compiled: Runner, reference: Runner, tolerance: float | None = None
) -> Culprit | None:
    """The first op of @main after which the two runners disagree; None if they agree on the results.

    Args:
        compiled, reference: run a module's @main on arrays. Both get modules cut out of `module`, which is left alone.
        tolerance: see `compare`.

    Example:
        >>> print(bisect(module, [x], compile_and_run, interpreter.run))
        model.py:7: in loss(): exp (op 3 of 9): 1 of the 6 elements of f32[2,3] differ; …
    """

    def differ(kept: int) -> Difference | None:
        part = _cut(module, kept)
        return compare(compiled(part, inputs), reference(part, inputs), tolerance)

    operations = _body(module)[:-1]
    found = differ(len(operations))
    if found is None:
        return None
    agrees, differs = 0, len(operations)
    while differs - agrees > 1:
        middle = (agrees + differs) // 2
        difference = differ(middle)
        if difference is None:
            agrees = middle
        else:
            differs, found = middle, difference
    operands = list(reference(_feeding(module, agrees), inputs))
    case = isolate(module, agrees)
    alone = compare(compiled(case, operands), reference(case, operands), tolerance)
    return Culprit(operations[agrees], agrees, len(operations), found, alone, case, tuple(operands))


def isolate(module: ir.Module, number: int) -> ir.Module:
    """A program of one op: the `number`-th of @main. What it uses from outside becomes its inputs, in order of use."""
    clone = _clone(module)
    block, operations = _main_block(clone), _body(clone)
    operation = operations[number]
    old = len(block.arguments)
    for value in _outside(operation):
        value.replace_all_uses_with(block.add_argument(value.type, operation.location))
    _return(clone, list(operation.results))
    for other in reversed([o for o in operations[:-1] if o != operation]):
        other.erase()
    for _ in range(old):
        block.erase_argument(0)
    _set_type(clone)
    return clone


def _cut(module: ir.Module, kept: int) -> ir.Module:
    """The first `kept` ops, returning what later ones (or the return) use of them."""
    clone = _clone(module)
    operations = _body(clone)
    used = {operand for late in operations[kept:] for inner in _itself_and_inner(late) for operand in inner.operands}
    live = [r for early in operations[:kept] for r in early.results if r in used]
    _return(clone, live)
    for late in reversed(operations[kept:-1]):
        late.erase()
    _set_type(clone)
    return clone


def _feeding(module: ir.Module, number: int) -> ir.Module:
    """The ops before the `number`-th, returning what it uses."""
    clone = _clone(module)
    operations = _body(clone)
    _return(clone, _outside(operations[number]))
    for late in reversed(operations[number:-1]):
        late.erase()
    _set_type(clone)
    return clone


def _clone(module: ir.Module) -> ir.Module:
    copy = ir.Module.create(module.operation.location)
    with ir.InsertionPoint(copy.body):
        for view in module.body.operations:
            view.operation.clone()
    return copy


def _main(module: ir.Module) -> ir.Operation:
    for view in module.body.operations:
        operation = view.operation
        if operation.name == "func.func" and ir.StringAttr(operation.attributes["sym_name"]).value == "main":
            return operation
    raise ValueError("the module has no function @main")


def _main_block(module: ir.Module) -> ir.Block:
    return _main(module).regions[0].blocks[0]


def _body(module: ir.Module) -> list[ir.Operation]:
    """The top-level ops of @main, the return last."""
    return [view.operation for view in _main_block(module).operations]


def _itself_and_inner(operation: ir.Operation) -> list[ir.Operation]:
    return [operation, *(inner for r in operation.regions for b in r.blocks for inner in walk(b))]


def _outside(operation: ir.Operation) -> list[ir.Value]:
    """What an op and its regions use but do not define, each once."""
    every = _itself_and_inner(operation)
    inside = {r for inner in every for r in inner.results}
    inside |= {a for inner in every for r in inner.regions for b in r.blocks for a in b.arguments}
    return list(dict.fromkeys(o for inner in every for o in inner.operands if o not in inside))


def _return(module: ir.Module, values: Sequence[ir.Value]) -> None:
    """Put a return of `values` in the place of the old one."""
    old = _body(module)[-1]
    with ir.InsertionPoint(old), old.location:
        ir.Operation.create(old.name, operands=list(values))
    old.erase()


def _set_type(module: ir.Module) -> None:
    """Make the function's type that of its block; attributes of arguments and results do not fit any more."""
    main = _main(module)
    results = [o.type for o in _body(module)[-1].operands]
    signature = ir.FunctionType.get([a.type for a in _main_block(module).arguments], results)
    main.attributes["function_type"] = ir.TypeAttr.get(signature)
    for name in ("arg_attrs", "res_attrs"):
        if name in main.attributes:
            del main.attributes[name]
