"""A writer that places each op as far out of the loops as its operands allow, and writes equal ops once."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from thalweg.backends.cpu.emit.writer import Writer

_NAME = re.compile(r"%\w+")


@dataclass
class _Scope:
    """The body of one loop (or of the function, or of a branch)."""

    lines: list[str]
    known: dict[str, str] = field(default_factory=dict)  # expression -> name
    memo: dict[Hashable, Any] = field(default_factory=dict)


class ScopedWriter(Writer):
    """A `Writer` with loop-invariant placement and common subexpressions, so that no later pass has to do either.

    Expressions given to `op` must be pure or reads of memory that the kernel does not write; `ordered` keeps an op
    where it is written.

    Example:
        >>> w = ScopedWriter()
        >>> with w.for_(0, 8, 1) as i:
        ...     w.op("arith.addi %lo, %lo : index")  # lands before the loop
        '%t2'
    """

    def __init__(self) -> None:
        super().__init__()
        self._scopes = [_Scope(self.lines)]
        self._level: dict[str, int] = {}  # of names that are defined inside loops
        self._fence = 0  # the innermost scope that nothing moves out of

    def _depth(self, expression: str) -> int:
        """The outermost scope in which all operands of an expression are defined."""
        depth, levels = 0, self._level
        for name in _NAME.findall(expression):
            level = levels.get(name, 0)
            if level > depth:
                depth = level
        return max(depth, self._fence)

    def op(self, expression: str, hint: str = "t") -> str:
        depth = self._depth(expression)
        scope = self._scopes[depth]
        name = scope.known.get(expression)
        if name is None:
            name = scope.known[expression] = self.fresh(hint)
            scope.lines.append(f"{name} = {expression}")
            self._level[name] = depth
        return name

    def ordered(self, expression: str, hint: str = "t") -> str:
        """Write `%name = expression` here, in order with what was written before, and never merge it."""
        name = self.fresh(hint)
        self._scopes[-1].lines.append(f"{name} = {expression}")
        self._level[name] = len(self._scopes) - 1
        return name

    def define(self, name: str) -> None:
        """`name` is defined in the current scope, by a line that was written with `emit` or `scope`."""
        self._level[name] = len(self._scopes) - 1

    def emit(self, line: str) -> None:
        self._scopes[-1].lines.append(line)

    # What a generator remembers about the scope it is in, forgotten at its end.

    def recall(self, key: Hashable) -> Any:
        for scope in reversed(self._scopes):
            if key in scope.memo:
                return scope.memo[key]
        return None

    def remember(self, key: Hashable, value: Any) -> None:
        self._scopes[-1].memo[key] = value

    # Structure.

    @contextmanager
    def scope(self, head: str, names: Sequence[str] = (), fence: bool = False, tail: str = "}") -> Iterator[None]:
        """`head {` … `}`, with `names` defined inside. Nothing moves out of a fence: a branch, which may not run."""
        self._scopes.append(_Scope([]))
        level, outer = len(self._scopes) - 1, self._fence
        self._level.update(dict.fromkeys(names, level))
        if fence:
            self._fence = level
        yield
        self._fence = outer
        lines = self._scopes.pop().lines
        self._scopes[-1].lines += [head + " {", *lines, tail]

    @contextmanager
    def for_(self, lower: str | int, upper: str | int, step: int) -> Iterator[str]:
        """A loop; gives the induction variable."""
        name = self.fresh("i")
        with self.scope(f"scf.for {name} = {self.ssa(lower)} to {self.ssa(upper)} step {self.index(step)}", [name]):
            yield name

    @contextmanager
    def branch(self, condition: str) -> Iterator[None]:
        """`scf.if` without results."""
        with self.scope(f"scf.if {condition}", fence=True):
            yield

    @contextmanager
    def staying(self) -> Iterator[None]:
        """A branch that is always taken, of which LLVM does not know it: the constants that it needs are loaded in it,
        and not kept in registers that loops around it would have to do without."""
        one, zero = self.op("arith.constant 1 : i32"), self.op("arith.constant 0 : i32")
        hidden = self.ordered(f'llvm.inline_asm has_side_effects asm_dialect = att "", "=r,0" {one} : (i32) -> i32')
        with self.branch(self.ordered(f"arith.cmpi ne, {hidden}, {zero} : i32")):
            yield

    @contextmanager
    def reduction(
        self, lower: str | int, upper: str | int, step: int, initial: Sequence[str], types: Sequence[str]
    ) -> Iterator[Reduction]:
        """A loop that carries values: set `next` of what it gives; `results` hold the final values after it."""
        name = self.fresh("i")
        carried = [self.fresh("a") for _ in initial]
        base = self.fresh("r")
        results = [f"{base}#{k}" for k in range(len(initial))]
        state = Reduction(name, carried, results)
        pairs = ", ".join(f"{a} = {b}" for a, b in zip(carried, initial, strict=True))
        kinds = ", ".join(types)
        head = f"scf.for {name} = {self.ssa(lower)} to {self.ssa(upper)} step {self.index(step)}"
        head = f"{base}:{len(initial)} = {head} iter_args({pairs}) -> ({kinds})"
        with self.scope(head, [name, *carried]):
            yield state
            assert len(state.next) == len(initial), "a reduction loop must set the next values"
            self.emit(f"scf.yield {', '.join(state.next)} : {kinds}")
        self._level[base] = len(self._scopes) - 1


@dataclass
class Reduction:
    """The state of a loop that carries values."""

    index: str
    carried: list[str]
    results: list[str]
    next: list[str] = field(default_factory=list)
