"""docs/ops.md from the rows: what every op takes, gives and means, and where it is tested."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from thalweg.backends.stablehlo import rules  # noqa: F401
from thalweg.backends.stablehlo.table import LOWERINGS
from thalweg.dialects import ops  # noqa: F401
from thalweg.dialects.opdef import OpDef, Unsupported, rows
from thalweg.dialects.types import DTYPES, FLOATS, INTEGERS, SIGNED, UNSIGNED, DType
from thalweg.passes.gradients import VJP_RULES

_HEAD = """# The ops of the `tw` dialect

Made by `make docs` from the rows in `dialects/ops/`; edit those.

An op is written `name(operands; attributes)`; an operand written `*xs` stands for any number of them. Attributes with a
default show it. *Dtypes* are those of the first operand. *ulps* is the error that the op may have against its NumPy
reference, in units in the last place of the result's dtype; 0 is exact. *Gradient* says whether the op has a
vector-Jacobian rule. Ops that touch variables say whether they read or write; all others are pure.
"""


def render() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for family, members in groupby(sorted(rows(), key=lambda r: r.family), key=lambda r: r.family):
        yield f"## {family}\n"
        description = (importlib.import_module(f"thalweg.dialects.ops.{family}").__doc__ or "").strip()
        yield f"{description}\n"
        for row in members:
            yield from _op(row)


def _op(row: OpDef) -> Iterator[str]:
    yield f"### `{row.name}`\n"
    yield f"    {signature(row)}\n"
    yield f"{row.doc}\n"
    facts = []
    if row.operands and not isinstance(row.reference, Unsupported):
        facts.append(f"Dtypes: {_dtypes(row.dtypes)}")
    if not isinstance(row.reference, Unsupported):
        facts.append(f"ulps: {row.tolerance:g}")
    if row.effects != "pure":
        facts.append(f"effect: {row.effects}s a variable")
    facts.append(f"gradient: {_gradient(row)}")
    lowering = LOWERINGS.get(row)
    if isinstance(lowering, Unsupported):
        facts.append(f"StableHLO: none, {lowering.why}")
    yield " · ".join(facts) + ".\n"


def signature(row: OpDef) -> str:
    """`pad(x, value; low: ints, high: ints, interior: ints)`, regions in braces."""
    attributes = [
        f"{name}: {kind}" + (f" = {_default(row.defaults[name])}" if name in row.defaults else "")
        for name, kind in row.attrs.items()
    ]
    inside = "; ".join(part for part in (", ".join(row.operands), ", ".join(attributes)) if part)
    regions = f" {{ {', '.join(row.regions)} }}" if row.regions else ""
    return f"{row.name}({inside}){regions}"


def _default(value: Any) -> str:
    return value.name if isinstance(value, DType) else repr(value)


def _dtypes(dtypes: tuple[DType, ...]) -> str:
    """Names of the sets that make up `dtypes`, then what is left."""
    rest, names = set(dtypes), []
    for name, members in (("all", DTYPES), ("floats", FLOATS), ("integers", INTEGERS), ("signed integers", SIGNED),
                          ("unsigned integers", UNSIGNED)):
        if rest >= set(members):
            names.append(name)
            rest -= set(members)
    return ", ".join([*names, *(d.short for d in DTYPES if d in rest)])


def _gradient(row: OpDef) -> str:
    rule = VJP_RULES.get(row)
    why = getattr(rule, "why", None)
    return f"none, {why}" if why else "yes" if rule is not None else "none"
