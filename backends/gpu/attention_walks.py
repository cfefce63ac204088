"""How far an attention's programs walk, and which of its tiles no mask touches.

Under a causal mask a block of rows needs no column behind the last one that its last row sees, and the columns that its
first row sees need no mask: they are walked first, without one, and then those along the diagonal.

    common = tile * BM // BN * BN                  # what all of the rows see, in whole tiles
    end = tl.minimum((tile + 1) * BM, columns)     # what the last of the rows sees
    for start in range(0, common, BN): …           # no mask
    for start in range(common, end, BN): …
"""

from __future__ import annotations

from collections.abc import Callable

from thalweg.backends.cpu.attention import Attention
from thalweg.backends.cpu.graph import Value
from thalweg.backends.cpu.visible import masks_of
from thalweg.backends.gpu.attention_parts import behind
from thalweg.backends.gpu.fused import Fused, Place
from thalweg.backends.gpu.index import ZERO, affine
from thalweg.backends.gpu.scalar import Num
from thalweg.backends.gpu.writer import Writer

Walk = tuple[str, bool]  # from where to where, as text, and whether masks let everything through there


class Walks:
    """The ranges of the loops of an attention's kernel.

    Args:
        bm, bn: rows and columns that are computed together.
    """

    def __init__(self, spec: Attention, bm: int, bn: int) -> None:
        self.spec, self.bm, self.bn = spec, bm, bn
        *_, self.rows, self.columns = spec.extents
        found = [] if spec.visible is None else masks_of(spec.members, spec.axes, spec.row, spec.column)
        self._sure = min([last for _, last in found], default=-1)  # where column <= row + sure, all masks let through
        self._masked = [value for value, _ in found] if self._sure >= 0 and self.rows > bm else []

    def over_columns(self, w: Writer) -> list[Walk]:
        """For programs that hold rows."""
        visible = self.spec.visible
        if visible is None:
            return [(f"0, {self.columns}", False)]
        walks, begin = list[Walk](), "0"
        if self._masked:
            begin, text = "common", f"(tile * BM + {self._sure + 1}) // BN * BN"
            if (-(-self.rows // self.bm) - 1) * self.bm + self._sure >= self.columns:
                text = f"tl.minimum({text}, {self.columns // self.bn * self.bn})"
            w.emit(f"common = {text}  # what all of the rows see, in whole tiles")
            walks.append(("0, common", True))
        seen = f"(tile + 1) * BM + {visible}".removesuffix(" + 0")
        w.emit(f"end = tl.minimum({seen}, {self.columns})  # what the last of the rows sees")
        return [*walks, (f"{begin}, end", False)]

    def over_rows(self, w: Writer) -> list[Walk]:
        """For programs that hold columns."""
        visible = self.spec.visible
        if visible is None:
            return [(f"0, {self.rows}", False)]
        seen = f"tl.maximum(tile * BN - {visible}, 0)" if visible else "tile * BN"
        w.emit(f"first = {seen} // BM * BM  # the first rows that see some of them")
        if not self._masked:
            return [(f"first, {self.rows}", False)]
        hidden = f"(tile + 1) * BN - {self._sure + 1}"  # rows that do not see all
        hidden = f"tl.maximum({hidden}, 0)" if self._sure >= self.bn else hidden
        w.emit(f"common = tl.minimum(tl.cdiv({hidden}, BM) * BM, {self.rows})  # from here on, rows see all")
        return [("first, common", False), (f"common, {self.rows}", True)]

    def see_all(self, fused: Fused, place_of: Callable[[Value], Place]) -> None:
        """Let masks be known to hold, to the end of a scope."""
        for value in self._masked:
            generic = value.generic
            assert generic is not None
            loops = [ZERO] * len(generic.extents)
            for expression, index in zip(generic.result_maps[0], place_of(value), strict=True):
                if expression.dim is not None:
                    loops[expression.dim] = index
            place = tuple(affine(expression, loops) for expression in generic.maps[0])
            fused.define(value.operands[0], place, Num("True", "i1", constant=True))


def names_of_operands(spec: Attention, row_side: Callable[[Value], int]) -> dict[Value, str]:
    """What operands are called, as in attention and its gradient: scores are q k, in the gradient also do v.

    Args:
        row_side: which operand of a contraction that makes scores is read along rows.
    """
    exponentials = [v for v in spec.members if v.generic and any(op.name == "math.exp" for op in v.generic.body.ops)]
    first = behind([operand for value in exponentials for operand in value.operands], spec)
    names: dict[Value, str] = {}
    for value in sorted((product.value for product in spec.scores), key=lambda v: v not in first):
        side = row_side(value)
        names.setdefault(value.operands[side], "q" if value in first else "do")
        names.setdefault(value.operands[1 - side], "k" if value in first else "v")
    for product in spec.products:
        assert product.scores is not None
        names.setdefault(product.value.operands[1 - product.scores], "v")
    return names


def needed_members(spec: Attention, wanted: list[Value]) -> list[Value]:
    """The members that values are computed from, reductions too, and what they read from outside: that comes first."""
    found: dict[Value, None] = {}
    pending = list(wanted)
    while pending:
        value = pending.pop()
        if value not in found:
            found[value] = None
            pending += value.operands if value in spec.members and value.kind != "contract" else ()
    return sorted(found, key=lambda value: (value in spec.members, value.id))
