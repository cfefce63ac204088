"""Variables become arguments and results of @main."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from thalweg.dialects.context import to_mlir, type_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import VariableType
from thalweg.passes.base import Pass
from thalweg.passes.hoist_state import READS, WRITES, step, variable_name
from thalweg.passes.rewriting import inside, operations, set_yields, yields


@dataclass(frozen=True)
class Functionalize(Pass):
    """Turn variables into further arguments of @main, and what is assigned to them into further results.

    Needs `hoist-state` before it: reads and assignments stand at the top level of @main.

    Before:
        func.func @main(%x: T) -> T {
          %w = "tw.variable_handle"() <{name = "w", …}>
          %v = "tw.read"(%w)  %s = "tw.add"(%v, %x)  "tw.assign"(%w, %s)  return %v }
    After:
        func.func @main(%x: T, %v: T {tw.variable = "w", tw.alias = 1 : i64}) -> (T, T) {
          %s = "tw.add"(%v, %x)  return %v, %s : T, T }
    """

    name: ClassVar[str] = "functionalize"

    def run(self, module: ir.Module) -> bool:
        changed = False
        for view in module.body.operations:
            if view.operation.name == "func.func":
                changed |= _functionalize(view.operation)
        return changed


def _functionalize(function: ir.Operation) -> bool:
    block = function.regions[0].blocks[0]
    handles = [o for o in operations(block) if o.name == "tw.variable_handle"]
    if not handles:
        return False
    arguments: dict[str, ir.BlockArgument] = {}
    for handle in handles:
        name = ir.StringAttr(handle.attributes["name"]).value
        variable = type_of(handle.results[0])
        assert isinstance(variable, VariableType)
        if name not in arguments:
            arguments[name] = block.add_argument(to_mlir(variable.tensor), handle.location)
    values, assigned = _thread(block, dict(arguments))
    for handle in handles:
        handle.erase()
    results = yields(block)
    aliases = {name: len(results) + index for index, name in enumerate(assigned)}
    set_yields(block, [*results, *(values[name] for name in assigned)])
    _set_signature(function, block, list(arguments), aliases)
    return True


def _thread(block: ir.Block, values: dict[str, ir.Value]) -> tuple[dict[str, ir.Value], list[str]]:
    """Replace reads by the present value; returns the last value of each variable and which were assigned, in order."""
    assigned: dict[str, None] = {}
    for operation in operations(block):
        if operation.name in READS | WRITES:
            if operation.name in WRITES:
                assigned[variable_name(operation)] = None
            step(operation, values)
        elif any(inner.name in READS | WRITES for inner in inside(operation)):
            raise PassError("functionalize: a region reads or writes a variable. Run hoist-state first.")
    return values, list(assigned)


def _set_signature(function: ir.Operation, block: ir.Block, names: list[str], aliases: dict[str, int]) -> None:
    arguments = list(block.arguments)
    old = function.attributes.get("arg_attrs", None)
    attrs = list(ir.ArrayAttr(old)) if old is not None else []
    attrs += [ir.DictAttr.get({})] * (len(arguments) - len(names) - len(attrs))
    for name in names:
        entry: dict[str, ir.Attribute] = {"tw.variable": ir.StringAttr.get(name)}
        if name in aliases:
            entry["tw.alias"] = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), aliases[name])
        attrs.append(ir.DictAttr.get(entry))
    signature = ir.FunctionType.get([a.type for a in arguments], [v.type for v in yields(block)])
    function.attributes["function_type"] = ir.TypeAttr.get(signature)
    function.attributes["arg_attrs"] = ir.ArrayAttr.get(attrs)
    if "res_attrs" in function.attributes:
        grown = list(ir.ArrayAttr(function.attributes["res_attrs"])) + [ir.DictAttr.get({})] * len(aliases)
        function.attributes["res_attrs"] = ir.ArrayAttr.get(grown)
