"""Pipelines: passes in a row, written as text.

    inline,hoist-state,differentiate,simplify{max-iterations=3},mlir(canonicalize,cse)

Names are passes (`passes/registry.py`) or pipelines (`passes/pipelines.py`); options stand in braces, separated by
commas; `mlir(...)` hands its text to MLIR's own pass manager, anchored at the module.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from thalweg.dialects import context
from thalweg.dialects.diagnostics import PassError, ThalwegError, VerificationError, did_you_mean
from thalweg.dialects.mlir import PassManager, ir
from thalweg.dialects.verify import verify
from thalweg.passes import registry
from thalweg.passes.base import Pass
from thalweg.passes.pipelines import PIPELINES


class Instrument(Protocol):
    """What may watch a pipeline run: printing IR, timing, counting ops."""

    def before(self, pass_: Pass, module: ir.Module) -> None: ...

    def after(self, pass_: Pass, module: ir.Module, seconds: float, changed: bool) -> None: ...


@dataclass(frozen=True)
class UpstreamPass(Pass):
    """Passes of MLIR itself: `mlir(canonicalize,cse)`. They know nothing of tw ops, but leave them as they are."""

    name: ClassVar[str] = "mlir"
    text: str = ""

    def run(self, module: ir.Module) -> bool:
        before = str(module)
        PassManager.parse(f"builtin.module({self.text})").run(module.operation)
        return str(module) != before

    def __str__(self) -> str:
        return f"mlir({self.text})"


@dataclass(frozen=True)
class Pipeline:
    """Passes in a row. `str(pipeline)` is text that parses back to it."""

    passes: tuple[Pass, ...]

    @classmethod
    def parse(cls, text: str) -> Pipeline:
        """Read a pipeline.

        Raises:
            PassError: unknown passes or options, unbalanced brackets.

        Example:
            >>> str(Pipeline.parse("optimize, mlir(cse)"))
            'inline,hoist-state,differentiate,simplify,mlir(cse)'
        """
        passes: list[Pass] = []
        for item in split(text):
            if item in PIPELINES:
                passes += cls.parse(PIPELINES[item]).passes
            else:
                passes.append(_parse_pass(item))
        return cls(tuple(passes))

    def __str__(self) -> str:
        return ",".join(map(str, self.passes))

    def run(
        self,
        module: ir.Module,
        *,
        verify_each: bool = True,
        instruments: Sequence[Instrument] = (),
        reproducer: Path | None = None,
    ) -> bool:
        """Run the passes on `module`, in place; says whether any changed it.

        Args:
            verify_each: verify after every pass that changed something.
            instruments: told before and after every pass.
            reproducer: where to write the IR from before a pass that fails, with the pipeline that is left.

        Raises:
            PassError: a pass failed or left an invalid module; names the pass and the reproducer.
        """
        changed_any = False
        with context.entered():
            for index, pass_ in enumerate(self.passes):
                before = str(module) if reproducer else ""
                for instrument in instruments:
                    instrument.before(pass_, module)
                start = time.perf_counter()
                try:
                    changed = _run_one(pass_, module, verify_each)
                except Exception as error:
                    note = _write_reproducer(reproducer, before, Pipeline(self.passes[index:])) if reproducer else ""
                    raise _explained(pass_, error, note) from error
                seconds = time.perf_counter() - start
                changed_any |= changed
                for instrument in instruments:
                    instrument.after(pass_, module, seconds, changed)
        return changed_any


def run(module: ir.Module, text: str, *, verify_each: bool = True) -> bool:
    """Parse a pipeline and run it: `run(module, "optimize")`."""
    return Pipeline.parse(text).run(module, verify_each=verify_each)


def split(text: str) -> list[str]:
    """The items of a pipeline, split at commas that stand in no bracket.

    Example:
        >>> split("a{x=1,y=2}, mlir(b,c)")
        ['a{x=1,y=2}', 'mlir(b,c)']
    """
    items, depth, item = [], 0, ""
    for character in text:
        depth += (character in "({") - (character in ")}")
        if depth < 0:
            break
        if character == "," and depth == 0:
            items.append(item.strip())
            item = ""
        else:
            item += character
    if depth != 0:
        raise PassError(f"unbalanced brackets in the pipeline '{text}'.")
    if item.strip() or items:
        items.append(item.strip())
    if "" in items:
        raise PassError(f"an empty pass name in the pipeline '{text}'.")
    return items


def _parse_pass(item: str) -> Pass:
    if item.startswith("mlir("):
        return UpstreamPass(_inside(item, "mlir(", ")"))
    name = item.partition("{")[0].strip()
    if name not in registry.PASSES:
        known = [*registry.PASSES, *PIPELINES]
        raise PassError(
            f"unknown pass '{name}'{did_you_mean(name, known) or '.'} The passes are: {', '.join(registry.PASSES)}; "
            f"the pipelines: {', '.join(PIPELINES)}; MLIR's own go in mlir(…)."
        )
    options: dict[str, str] = {}
    if "{" in item:
        for setting in split(_inside(item, f"{item.partition('{')[0]}{{", "}")):
            option, equals, value = setting.partition("=")
            options[option.strip()] = value.strip() if equals else "true"
    return registry.find(name).from_options(options)


def _inside(item: str, opening: str, closing: str) -> str:
    if not item.endswith(closing):
        raise PassError(f"'{item}' must end in '{closing}'.")
    return item[len(opening) : -len(closing)]


def _run_one(pass_: Pass, module: ir.Module, verify_each: bool) -> bool:
    changed = pass_.run(module)
    if changed and verify_each:
        verify(module)
    return changed


def _explained(pass_: Pass, error: Exception, note: str) -> ThalwegError:
    """The error with the pass's name; a user's error (PassError from a pass) keeps its words."""
    if isinstance(error, VerificationError):
        return PassError(f"pass '{pass_.name}' left an invalid module: {error}{note}")
    if isinstance(error, ThalwegError):
        return type(error)(f"{error}{note}") if note else error
    return PassError(f"pass '{pass_.name}' failed: {type(error).__name__}: {error}{note}")


def _write_reproducer(path: Path, before: str, left: Pipeline) -> str:
    path.write_text(f"// thalweg opt {path.name} --pipeline '{left}'\n{before}\n")
    return f" The module from before it is in {path}, with the command that fails."
