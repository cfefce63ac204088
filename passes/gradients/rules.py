"""The table of vector-Jacobian rules, and what a rule is.

A rule is a small function over the builders of other ops, so that gradients are IR and can be differentiated again:

    @vjp(elementwise.mul)
    def _(g, x, y):
        return (lambda: mul(g, y)), (lambda: mul(g, x))

It gets the cotangent of the result (where an op has several, a tuple of them, None for zero), then the operands. What
it names after `*` is handed to it: `y` is the result (a tuple where there are several), everything else an attribute.
It returns one entry per operand: a value, a function that makes it (called only if that operand's derivative is
wanted), or None for zero.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from thalweg.dialects.attributes import attributes_of
from thalweg.dialects.diagnostics import PassError
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.passes.gradients.sums import Sums, Walk

Function: TypeAlias = Callable[..., Any]
Entry: TypeAlias = "ir.Value | Callable[[], ir.Value] | None"


@dataclass(frozen=True)
class NotDifferentiable:
    """The op's results are constant wherever a derivative exists, or are no floating-point numbers; `why` says which.

    With `error`, the op has a derivative that nobody has written down: asking for it is an error.
    """

    why: str
    error: bool = False


@dataclass(frozen=True)
class Rule:
    """A vector-Jacobian product, ready to be applied to an op."""

    row: OpDef
    function: Function
    wants: tuple[str, ...]  # keyword arguments of the function

    def __call__(self, operation: ir.Operation, cotangents: Sequence[ir.Value | None]) -> list[Entry]:
        """One entry per operand of `operation`, built at the insertion point."""
        results = list(operation.results)
        available: dict[str, Any] = {"y": results[0] if len(results) == 1 else tuple(results)}
        attrs = attributes_of(self.row, operation) if self.row.attrs else {}
        given = {name: attrs[name] if name in attrs else available[name] for name in self.wants}
        g = cotangents[0] if len(results) == 1 else tuple(cotangents)
        entries = self.function(g, *operation.operands, **given)
        assert len(entries) == len(operation.operands), f"the vjp rule of {self.row.name}: {len(entries)} entries"
        return list(entries)


class Structured(Protocol):
    """The rule of an op with regions."""

    def activate(self, operation: ir.Operation, active: set[ir.Value]) -> None:
        """Add to `active` what depends on it: values in the regions, then results."""

    def backward(
        self, operation: ir.Operation, cotangents: Sequence[ir.Value | None], sums: Sums, walk: Walk
    ) -> None:
        """Build what carries the cotangents of the results to `sums`, for operands and captured values."""


VJP_RULES: dict[OpDef, Rule | Structured | NotDifferentiable] = {}


def vjp(*rows: OpDef) -> Callable[[Function], Function]:
    """Decorator: the function is the rule of these rows."""

    def register(function: Function) -> Function:
        keywords = [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]
        for row in rows:
            _add(row, Rule(row, function, tuple(keywords)))
        return function

    return register


def no_vjp(why: str, *rows: OpDef, error: bool = False) -> None:
    """These rows have no derivative, and why."""
    for row in rows:
        _add(row, NotDifferentiable(why, error))


def structured(row: OpDef, rule: Structured) -> None:
    """A row with regions: its rule walks them."""
    _add(row, rule)


def rule_of(row: OpDef) -> Rule | Structured | NotDifferentiable:
    """The rule of a row. Host ops have none unless one is written.

    Raises:
        PassError: nobody wrote one.
    """
    if row not in VJP_RULES and row.runs == "host":
        return NotDifferentiable("it runs on the host. Keep it out of what is differentiated", error=True)
    if row not in VJP_RULES:
        raise PassError(f"{row.name}: has no vjp rule. Add one to passes/gradients/{row.family}.py.")
    return VJP_RULES[row]


def _add(row: OpDef, rule: Rule | Structured | NotDifferentiable) -> None:
    assert row not in VJP_RULES, f"{row.name} has two vjp rules"
    VJP_RULES[row] = rule
