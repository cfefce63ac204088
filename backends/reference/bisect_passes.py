"""Which pass changed what a program means: the interpreter runs it after each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thalweg.backends.reference.compare import Difference, compare
from thalweg.backends.reference.cut import clone
from thalweg.backends.reference.interpreter import Array, Interpreter
from thalweg.dialects.mlir import ir
from thalweg.dialects.verify import walk
from thalweg.passes.base import Pass
from thalweg.passes.pipeline import Pipeline


@dataclass(frozen=True)
class WrongPass:
    """The first pass after which the program computes something else."""

    pass_: Pass
    number: int  # in the pipeline, from 0
    count: int
    difference: Difference

    def __str__(self) -> str:
        name = self.pass_.name
        return (
            f"pass '{self.pass_}' ({self.number + 1} of {self.count}) changed what the program computes: "
            f"{self.difference}. `thalweg opt --print-before {name} --print-after {name}` shows what it did."
        )


def first_wrong_pass(
    module: ir.Module,
    pipeline: str,
    inputs: Sequence[Array],
    variables: Mapping[str, Array],
    tolerance: float | None = None,
) -> WrongPass | None:
    """Run the passes of `pipeline` on a copy of `module`, the interpreter after each, up to one after which it differs.

    The first program without `vjp` sets the standard: before, the interpreter cannot run it.

    Example:
        >>> print(first_wrong_pass(module, "optimize", [x], {}))
        pass 'simplify' (4 of 4) changed what the program computes: 1 of the 3 elements of f32[3] differ; …
    """
    copy, passes = clone(module), Pipeline.parse(pipeline).passes
    expected = None if _has_vjp(copy) else _results(copy, inputs, variables)
    for number, pass_ in enumerate(passes):
        Pipeline((pass_,)).run(copy)
        if _has_vjp(copy):
            continue
        found = _results(copy, inputs, variables)
        if expected is None:
            expected = found
        elif difference := compare(found, expected, tolerance):
            return WrongPass(pass_, number, len(passes), difference)
    return None


def _has_vjp(module: ir.Module) -> bool:
    return any(operation.name == "tw.vjp" for operation in walk(module.body))


def _results(module: ir.Module, inputs: Sequence[Array], variables: Mapping[str, Array]) -> list[Array]:
    """Outputs, then all variables in the order of their names, wherever `functionalize` has put them."""
    state, interpreter = dict(variables), Interpreter(module)
    slots = _variable_slots(module)
    outputs = interpreter([*inputs, *(state[name] for name, _ in slots)], state)
    for name, result in slots:
        if result is not None:
            state[name] = outputs[result]
    returned = len(outputs) - sum(result is not None for _, result in slots)
    return [*outputs[:returned], *(state[name] for name in sorted(state))]


def _variable_slots(module: ir.Module) -> list[tuple[str, int | None]]:
    """Of each argument that is a variable: its name, and the number of the result that is its new value."""
    for view in module.body.operations:
        attributes = view.operation.attributes
        if view.operation.name == "func.func" and "arg_attrs" in attributes:
            arguments = [ir.DictAttr(a) for a in ir.ArrayAttr(attributes["arg_attrs"])]
            return [
                (
                    ir.StringAttr(a["tw.variable"]).value,
                    ir.IntegerAttr(a["tw.alias"]).value if "tw.alias" in a else None,
                )
                for a in arguments
                if "tw.variable" in a
            ]
    return []
