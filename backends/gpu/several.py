"""Rows reduced to several numbers in one walk: sum and squared deviations, the extreme element and its place
(pairs.py), whatever else a reduction with several results combines.

Each lane keeps numbers of the columns that it has seen; at the end `tl.reduce` joins the lanes.

    mean += (x - mean) / seen; squares += (x - mean_before) * (x - mean)          Welford (1962)
    larger = x > best; best = tl.where(larger, x, best); place = tl.where(larger, col, place)
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.emit.rows import RowSpace, row_space
from thalweg.backends.cpu.graph import Body, ScalarOp, Value
from thalweg.backends.gpu.configurations import RowTile, Tile
from thalweg.backends.gpu.fused import Fused
from thalweg.backends.gpu.index import Index, Symbol, affine, of
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.pairs import ARGMAX, MOMENTS, is_pair
from thalweg.backends.gpu.rows import Rows, rows, width_of
from thalweg.backends.gpu.scalar import REGISTER, Num, known, literal
from thalweg.backends.gpu.writer import Writer


def reductions(group: Group, name: str, options: GpuOptions, tile: Tile | None = None) -> TritonKernel:
    """The kernel of a group whose root is a reduction, with one result or with several."""
    root = group.root
    space = _space_of(root) if is_pair(root) or _combines(root) else None
    if space is None:
        return rows(group, name, options, tile)
    writer = _Pair if is_pair(root) else _Several
    return writer(group, name, space, tile if isinstance(tile, RowTile) else None).kernel()


def _combines(root: Value) -> bool:
    """Does a reduction with several results combine as many elements with what it has so far?"""
    generic = root.generic
    assert generic is not None
    plain = all(len(op.results) == 1 and not op.regions and op.tensor is None and op.dim is None
                for op in generic.body.ops)  # fmt: skip
    results, same = len(root.peers), all(map_ == generic.maps[0] for map_ in generic.input_maps)
    elements = [*(v.element for v in root.peers), *(v.element for v in root.operands[: generic.inputs])]
    starts = root.operands[generic.inputs : generic.inputs + results]
    return (
        results > 1 and generic.inputs == results and same and plain
        and "i1" not in elements and all(v.splat is not None for v in starts)
        and all(known(op.name) for op in generic.body.ops)
    )  # fmt: skip


def _space_of(root: Value) -> RowSpace | None:
    """The rows of a reduction: those of a sum of the same elements."""
    generic, element = root.generic, root.element
    assert generic is not None
    maps = (generic.maps[0], generic.result_maps[0])
    body = Body((element, element), (ScalarOp("arith.addf", (1, 0), (2,), (element,)),), (2,))
    plain = replace(generic, inputs=1, maps=maps, body=body)
    return row_space(Value(root.id, "reduce", root.shape, element, root.operands[:2], root.op, plain))


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


class _Several(Rows):
    """A reduction with several results. What it starts from changes nothing, as StableHLO wants it."""

    def reduce(self) -> None:
        w, root, generic = self.w, self.group.root, self.group.root.generic
        assert generic is not None
        width, inputs = width_of(root), generic.inputs
        numbers = [Num(f"best_{k}", peer.element) for k, peer in enumerate(root.peers)]
        for number, start in zip(numbers, root.operands[inputs:], strict=False):
            first = literal(start.splat or "", start.element).text
            w.emit(f"{number.text} = tl.full([ROWS, COLS], {first}, {REGISTER[number.element]})")
        with w.scope(f"for start in range(0, {width}, COLS):"):
            col = self.columns_from(width, "start")
            elements = Body(generic.body.arguments[:inputs], (), tuple(range(inputs)))
            read = self.fused.body(root, self.loops_at(root, col), elements)
            found = self.fused.evaluate(generic.body, [*read, *numbers])
            assert found is not None
            mask = " & ".join(self.masks[axis] for axis in sorted(col.axes) if axis in self.masks)
            after = [f"tl.where({mask}, {n.text}, {old.text})" if mask else n.text
                     for n, old in zip(found, numbers, strict=True)]  # fmt: skip
            w.emit(f"{', '.join(n.text for n in numbers)} = {', '.join(after)}")
        names = ", ".join(n.text for n in numbers)
        w.emit(f"{names} = tl.reduce(({names}), 1, {self._join(generic.body)}, keep_dims=True)")
        for value, number in zip(root.peers, numbers, strict=True):
            self.fused.define(value, self.place_of(value, Index()), replace(number, axes=self.row.axes))

    def _join(self, body: Body) -> str:
        """A function that combines what two lanes have; its name."""
        apart, count = Fused(Writer(), self.group, {}), len(body.yields)
        arguments = [Num(f"{side}{k}", body.arguments[k]) for side in "ab" for k in range(count)]
        found = apart.evaluate(body, arguments)
        assert found is not None
        lines = [*apart.w.lines, f"    return {', '.join(n.text for n in found)}"]
        # By its contents: several kernels' functions may come together in one module (resident_loops.py).
        name = f"join_{hashlib.sha256(repr(lines).encode()).hexdigest()[:6]}"
        head = ["@triton.jit", f"def {name}({', '.join(n.text for n in arguments)}):"]
        self.w.helpers.update(apart.w.helpers)
        self.w.functions.append("\n".join([*head, *lines]) + "\n")
        return name
