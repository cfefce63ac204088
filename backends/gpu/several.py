"""Rows reduced to two numbers in one walk: sum and squared deviations, or the extreme element and its place (pairs.py).

Each lane keeps numbers of the columns that it has seen; at the end `tl.reduce` joins the lanes.

    mean += (x - mean) / seen; squares += (x - mean_before) * (x - mean)          Welford (1962)
    larger = x > best; best = tl.where(larger, x, best); place = tl.where(larger, col, place)
"""

from __future__ import annotations

from dataclasses import replace

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.rows import RowSpace, row_space
from thalweg.backends.cpu.graph import Body, ScalarOp, Value
from thalweg.backends.gpu.configurations import RowTile, Tile
from thalweg.backends.gpu.index import Index, Symbol, affine, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.pairs import ARGMAX, MOMENTS, is_pair
from thalweg.backends.gpu.rows import Rows, rows, width_of
from thalweg.backends.gpu.scalar import REGISTER, Num


def reductions(group: Group, name: str, options: GpuOptions, tile: Tile | None = None) -> TritonKernel:
    """The kernel of a group whose root is a reduction, or a pair of them."""
    if is_pair(group.root):
        return _Pair(group, name, _space_of(group.root), tile if isinstance(tile, RowTile) else None).kernel()
    return rows(group, name, options, tile)


def _space_of(root: Value) -> RowSpace:
    """The rows of a pair: those of a sum of the same elements."""
    generic, element = root.generic, root.element
    assert generic is not None
    body = Body((element, element), (ScalarOp("arith.addf", (1, 0), (2,), (element,)),), (2,))
    plain = replace(generic, maps=generic.maps[:2], body=body)
    space = row_space(Value(root.id, "reduce", root.shape, element, root.operands[:2], root.op, plain))
    assert space is not None
    return space


class _Pair(Rows):
    def reduce(self) -> None:
        root, generic = self.group.root, self.group.root.generic
        assert generic is not None
        op, self.width = generic.body.ops[-1], width_of(root)
        self.w.emit("lane = tl.arange(0, COLS)[None, :]")
        first, second = self._moments() if op.name == MOMENTS else self._extreme(op)
        for value, text in zip(root.peers, (first, second), strict=True):
            self.fused.define(value, self.place_of(value, Index()), Num(text, value.element, self.row.axes, atom=False))

    def _element(self) -> tuple[Num, list[Index], str]:
        """What is read at a tile of columns, where that is in the loops, and the mask of its columns."""
        root = self.group.root
        col = self.columns_from(self.width, "start")
        loops = self.loops_at(root, col)
        (number,) = self.fused.body(root, loops, Body((root.operands[0].element,), (), (0,)))
        if not number.text.isidentifier():
            number = replace(number, text=self.w.assign(number.text, "v"), atom=True)
        return number, loops, " & ".join(self.masks[axis] for axis in sorted(col.axes) if axis in self.masks)

    def _moments(self) -> tuple[str, str]:
        """The sum, and the sum of squared deviations from the mean."""
        w, kind = self.w, REGISTER[self.group.root.element]
        w.helpers["join_moments"] = None
        for name in ("mean", "squares"):
            w.emit(f"{name} = tl.zeros([ROWS, COLS], {kind})")
        with w.scope(f"for start in range(0, {self.width}, COLS):"):
            number, _, mask = self._element()
            w.emit(f"delta = {_only(mask, f'{number.text} - mean')}")
            w.emit("mean += delta / (start // COLS + 1)")
            w.emit(f"squares += {_only(mask, f'delta * ({number.text} - mean)')}")
        w.emit(f"weight = ({self.width - 1} - lane + COLS) // COLS  # columns that a lane has seen")
        w.emit(f"weight = tl.broadcast_to(weight.to({kind}), [ROWS, COLS])")
        w.emit("mean, squares, weight = tl.reduce((mean, squares, weight), 1, join_moments, keep_dims=True)")
        return f"mean * {self.width}.0", "squares"

    def _extreme(self, op: ScalarOp) -> tuple[str, str]:
        """The largest or smallest element, and the first place of it; NaN counts before all others."""
        w, (element, place) = self.w, op.types
        helper, sign, worst = ("join_argmax", ">", "-") if op.name == ARGMAX else ("join_argmin", "<", "")
        bits = element.removeprefix("i")
        start = f'float("{worst}inf")' if element[0] in "fb" else str(-(1 << (int(bits) - 1)) if worst else
                                                                    (1 << (int(bits) - 1)) - 1)  # fmt: skip
        w.helpers[helper] = None
        w.emit(f"best = tl.full([ROWS, COLS], {start}, {REGISTER[element]})")
        lane = of(Symbol("lane", self.width, frozenset(("lane",))))
        first = w.index(self._axis(op, self.loops_at(self.group.root, lane)))  # where nothing is better than the worst
        w.emit(f"place = tl.broadcast_to(({first}).to({REGISTER[place]}), [ROWS, COLS])")
        with w.scope(f"for start in range(0, {self.width}, COLS):"):
            number, loops, mask = self._element()
            x = number.text
            at = w.index(self._axis(op, loops))
            better = f"({x} {sign} best) | (({x} != {x}) & (best == best))"
            w.emit(f"better = {f'{mask} & ({better})' if mask else better}")
            w.emit(f"best = tl.where(better, {x}, best)")
            w.emit(f"place = tl.where(better, {at}, place)")
        w.emit(f"best, place = tl.reduce((best, place), 1, {helper}, keep_dims=True)")
        return "best", "place"

    def _axis(self, op: ScalarOp, loops: list[Index]) -> Index:
        """Where along the axis an element is."""
        generic = self.group.root.generic
        assert generic is not None and op.dim is not None
        return affine(generic.maps[0][op.dim], loops)


def _only(mask: str, text: str) -> str:
    return f"tl.where({mask}, {text}, 0.0)" if mask else text
