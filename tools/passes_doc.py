"""docs/passes.md from the passes themselves: name, options, what it does, before and after."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from thalweg.passes.base import Pass
from thalweg.passes.registry import PASSES, find

_HEAD = """# The passes

Made by `make docs` from the passes in `passes/`; edit those.

A pipeline is text: `inline,hoist-state,simplify{max-iterations=2}`. Names and options are those below.
"""


def render() -> str:
    """The whole page."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for name in PASSES:
        yield from _pass(find(name))


def _pass(pass_: type[Pass]) -> Iterator[str]:
    yield f"## `{pass_.name}`\n"
    text = inspect.getdoc(pass_) or ""
    summary, _, rest = text.partition("\n")
    yield f"{summary}\n"
    for option, field in pass_.options().items():
        yield f"- `{option}` (default `{str(field.default).lower()}`)"
    if pass_.options():
        yield ""
    if rest.strip():
        yield f"```text\n{rest.strip()}\n```\n"
