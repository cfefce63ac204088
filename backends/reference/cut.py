"""Programs cut out of a program: the ops before one, one op alone, all ops with their values returned.

All work on @main of a module whose top-level ops are pure, `tw` after `functionalize` or StableHLO, and leave it alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import walk


def top_level(module: ir.Module) -> list[ir.Operation]:
    """The top-level ops of @main, the return last."""
    return [view.operation for view in _main_block(module).operations]


def isolate(module: ir.Module, number: int) -> ir.Module:
    """A program of one op: the `number`-th of @main. What it uses from outside becomes its inputs, in order of use."""
    copy = clone(module)
    block, operations = _main_block(copy), top_level(copy)
    operation = operations[number]
    old = len(block.arguments)
    for value in outside(operation):
        value.replace_all_uses_with(block.add_argument(value.type, operation.location))
    _return(copy, list(operation.results))
    for other in reversed([o for o in operations[:-1] if o != operation]):
        other.erase()
    for _ in range(old):
        block.erase_argument(0)
    _set_type(copy)
    return copy


def before(module: ir.Module, kept: int) -> ir.Module:
    """The first `kept` ops, returning what later ones (or the return) use of them."""
    copy = clone(module)
    operations = top_level(copy)
    used = {operand for late in operations[kept:] for inner in _itself_and_inner(late) for operand in inner.operands}
    live = [r for early in operations[:kept] for r in early.results if r in used]
    _return(copy, live)
    for late in reversed(operations[kept:-1]):
        late.erase()
    _set_type(copy)
    return copy


def feeding(module: ir.Module, number: int) -> ir.Module:
    """The ops before the `number`-th, returning what it uses."""
    copy = clone(module)
    operations = top_level(copy)
    _return(copy, outside(operations[number]))
    for late in reversed(operations[number:-1]):
        late.erase()
    _set_type(copy)
    return copy


def probed(module: ir.Module) -> ir.Module:
    """The whole program, returning the results of every top-level op before its own."""
    copy = clone(module)
    operations = top_level(copy)
    _return(copy, [*(r for o in operations[:-1] for r in o.results), *operations[-1].operands])
    _set_type(copy)
    return copy


def clone(module: ir.Module) -> ir.Module:
    """A copy to change."""
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


def _itself_and_inner(operation: ir.Operation) -> list[ir.Operation]:
    return [operation, *(inner for r in operation.regions for b in r.blocks for inner in walk(b))]


def outside(operation: ir.Operation) -> list[ir.Value]:
    """What an op and its regions use but do not define, each once."""
    every = _itself_and_inner(operation)
    inside = {r for inner in every for r in inner.results}
    inside |= {a for inner in every for r in inner.regions for b in r.blocks for a in b.arguments}
    return list(dict.fromkeys(o for inner in every for o in inner.operands if o not in inside))


def _return(module: ir.Module, values: Sequence[ir.Value]) -> None:
    """Put a return of `values` in the place of the old one."""
    old = top_level(module)[-1]
    with ir.InsertionPoint(old), old.location:
        ir.Operation.create(old.name, operands=list(values))
    old.erase()


def _set_type(module: ir.Module) -> None:
    """Make the function's type that of its block; attributes of arguments and results do not fit any more."""
    main = _main(module)
    results = [o.type for o in top_level(module)[-1].operands]
    signature = ir.FunctionType.get([a.type for a in _main_block(module).arguments], results)
    main.attributes["function_type"] = ir.TypeAttr.get(signature)
    for name in ("arg_attrs", "res_attrs"):
        if name in main.attributes:
            del main.attributes[name]
