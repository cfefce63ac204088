"""Vector-Jacobian rules, one file a family, over other ops' builders; importing this package fills the table."""

from thalweg.passes.gradients import (  # noqa: F401  (each fills its part of the table)
    contraction,
    control,
    elementwise,
    indexing,
    loop,
    ragged,
    random,
    reduce,
    shape,
    sort,
    special,
    state,
    tables,
    window,
)
from thalweg.passes.gradients.reverse import activate, backward
from thalweg.passes.gradients.rules import VJP_RULES, NotDifferentiable, Rule, Structured, rule_of

__all__ = ["VJP_RULES", "NotDifferentiable", "Rule", "Structured", "activate", "backward", "rule_of"]
