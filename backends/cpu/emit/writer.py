"""A writer of MLIR text: fresh names, hoisted constants, index arithmetic with folding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


class Writer:
    """Collects the lines of one function's body. Index constants are written once, at the top.

    Example:
        >>> w = Writer()
        >>> i = w.op("arith.addi %lo, %hi : index")
        >>> w.add(i, 4)
        '%t2'
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._header: list[tuple[str, str]] = []
        self._known: dict[str, str] = {}
        self._count = 0
        self.rounds_bfloat16 = False  # has the processor an instruction for that?
        self.has_avx512 = False  # and those of AVX-512 on whole vectors?
        self.has_fma = False  # and one for a product and a sum?

    def fresh(self, hint: str = "t") -> str:
        """A new SSA name."""
        self._count += 1
        return f"%{hint}{self._count}"

    def emit(self, line: str) -> None:
        self.lines.append(line)

    def op(self, expression: str, hint: str = "t") -> str:
        """Write `%name = expression`; the name."""
        name = self.fresh(hint)
        self.lines.append(f"{name} = {expression}")
        return name

    def hoisted(self, expression: str, hint: str = "h") -> str:
        """A value that depends on nothing, written once at the top of the function (constants)."""
        if expression not in self._known:
            self._known[expression] = self.unique(expression, hint)
        return self._known[expression]

    def unique(self, expression: str, hint: str = "u") -> str:
        """Like `hoisted`, but a new value at every call (allocas)."""
        name = self.fresh(hint)
        self._header.append((name, expression))
        return name

    def index(self, value: int) -> str:
        """An index constant."""
        return self.hoisted(f"arith.constant {value} : index", f"c{value}_" if value >= 0 else f"cm{-value}_")

    def text(self) -> str:
        """Header and body."""
        header = [f"{name} = {expression}" for name, expression in self._header]
        return "\n".join(header + self.lines)

    # Index arithmetic: operands are SSA names or Python ints, results likewise, so that constants fold.

    def ssa(self, value: str | int) -> str:
        return self.index(value) if isinstance(value, int) else value

    def add(self, a: str | int, b: str | int) -> str | int:
        if isinstance(a, int) and isinstance(b, int):
            return a + b
        if a == 0:
            return b
        if b == 0:
            return a
        return self.op(f"arith.addi {self.ssa(a)}, {self.ssa(b)} : index")

    def mul(self, a: str | int, b: str | int) -> str | int:
        if isinstance(a, int) and isinstance(b, int):
            return a * b
        if a == 0 or b == 0:
            return 0
        if a == 1:
            return b
        if b == 1:
            return a
        return self.op(f"arith.muli {self.ssa(a)}, {self.ssa(b)} : index")

    def sub(self, a: str | int, b: str | int) -> str | int:
        if isinstance(a, int) and isinstance(b, int):
            return a - b
        return a if b == 0 else self.op(f"arith.subi {self.ssa(a)}, {self.ssa(b)} : index")

    def minimum(self, a: str | int, b: str | int) -> str | int:
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        return self.op(f"arith.minsi {self.ssa(a)}, {self.ssa(b)} : index")

    def linear(self, base: str | int, terms: Iterable[tuple[str | int, int]]) -> str | int:
        """base + sum(index * stride)."""
        total = base
        for index, stride in terms:
            total = self.add(total, self.mul(index, stride))
        return total

    def delinearize(self, flat: str | int, extents: Sequence[int]) -> list[str | int]:
        """The row-major coordinates of `flat` in a box of `extents`."""
        coordinates: list[str | int] = []
        for extent in reversed(extents[1:]):
            if isinstance(flat, int):
                coordinates.append(flat % extent)
                flat //= extent
            elif extent == 1:
                coordinates.append(0)
            else:
                quotient = self.op(f"arith.divui {flat}, {self.index(extent)} : index")
                coordinates.append(self.sub(flat, self.mul(quotient, extent)))
                flat = quotient
        if extents:
            coordinates.append(flat)
        return coordinates[::-1]
