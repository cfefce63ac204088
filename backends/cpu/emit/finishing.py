"""What becomes of a register tile's sums: stored, kept for the next pass, or handed to an epilogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.microkernel import Tile
from thalweg.backends.cpu.emit.nest import Fused, Nest
from thalweg.backends.cpu.emit.packing import Source, load_lanes, tail_mask
from thalweg.backends.cpu.emit.scalar import Num, lanes_type, store_lanes, to_storage
from thalweg.backends.cpu.emit.scoped import ScopedWriter


@dataclass(frozen=True)
class Element:
    """One vector of finished sums, as an epilogue gets it.

    Args:
        number: a vector of the result's element type.
        place: its first lane's coordinate in each dimension of the result.
        dim: the dimension that lanes run along; None: only one lane counts.
        mask: SSA name of the `vector<lanes x i1>` of the lanes that count, or empty where all do.
    """

    number: Num
    place: tuple[Index, ...]
    dim: int | None
    mask: str


Epilogue = Callable[[Element], None]


@dataclass(frozen=True)
class Finish:
    """Where one register tile lies in the result.

    Args:
        batch, row, column: its coordinates on the nest's axes; `corner`: offset in the result of the batch coordinates.
        straight: the tile's rows lie at one stride.
        ragged: rows of the tile may lie past the last one. They repeat it, and are not stored.
    """

    w: ScopedWriter
    nest: Nest
    tile: Tile
    batch: tuple[Index, ...]
    corner: Index
    row: Index
    column: Index
    straight: bool
    ragged: bool = False

    def _offset(self, r: int) -> Index:
        """Offset in the result of the tile's row `r`, column 0."""
        nest, w = self.nest, self.w
        if r and self.straight:
            return w.add(self._offset(0), r * nest.rows[-1].out)
        row = w.add(self.row, r)
        if r and self.ragged:
            row = w.minimum(row, nest.row_count - 1)
        places = w.delinearize(row, [a.extent for a in nest.rows])
        start = w.linear(self.corner, [(p, a.out) for p, a in zip(places, nest.rows, strict=True)])
        return w.linear(start, [(self.column, nest.lane.out)])

    def reload(self, partial: Source, first: str, nothing: list[str]) -> list[str]:
        """The partial sums of the earlier passes; `nothing` in the first pass."""
        w, tile = self.w, self.tile
        types = ", ".join([lanes_type(tile.dtype, tile.lanes)] * len(nothing))
        result = w.fresh("start")
        with w.scope(f"{result}:{len(nothing)} = scf.if {first} -> ({types})", fence=True):
            w.emit(f"scf.yield {', '.join(nothing)} : {types}")
        with w.scope("else", fence=True):
            values = []
            for r in range(len(tile.rows)):
                offset = self._offset(r)
                for v, used in enumerate(tile.widths):
                    at = w.add(offset, v * tile.lanes)
                    values.append(load_lanes(w, partial, at, tile.lanes, tail_mask(w, tile.lanes, used)))
            w.emit(f"scf.yield {', '.join(values)} : {types}")
        w.define(result)
        return [f"{result}#{k}" for k in range(len(nothing))]

    def store(self, sums: list[str], target: Source) -> None:
        """Write the sums to `target`, which is laid out like the result."""
        for r in range(len(self.tile.rows)):
            if not self.ragged or r == 0:
                self._store_row(sums, target, r)
                continue
            row, end = self.w.ssa(self.w.add(self.row, r)), self.w.index(self.nest.row_count)
            with self.w.branch(self.w.op(f"arith.cmpi slt, {row}, {end} : index")):
                self._store_row(sums, target, r)

    def _store_row(self, sums: list[str], target: Source, r: int) -> None:
        w, tile = self.w, self.tile
        offset = self._offset(r)
        for v, used in enumerate(tile.widths):
            value = narrowed(w, sums[r * len(tile.widths) + v], tile.dtype, target.dtype, tile.lanes)
            at = f"{target.name}[{w.ssa(w.add(offset, v * tile.lanes))}]"
            mask = tail_mask(w, tile.lanes, used) or ""
            store_lanes(w, value, target.dtype, tile.lanes, at, target.memref, mask, used)

    def keep(self, sums: list[str], buffer: Source, width: int) -> None:
        """Write the sums to a small buffer of rows of `width`, for `hand_over`."""
        tile = self.tile
        kind = lanes_type(tile.dtype, tile.lanes)
        for k, value in enumerate(sums):
            r, v = divmod(k, len(tile.widths))
            at = self.w.index(r * width + v * tile.lanes)
            self.w.emit(f"vector.store {value}, {buffer.name}[{at}] : {buffer.memref}, {kind}")

    def store_lines(self, rows: Index, buffer: Source, width: int, target: Source) -> None:
        """Write `rows` rows of kept sums, two vectors each, to `target`, which is laid out like the result: as they
        are, or rounded to one line of bfloat16."""
        w, lanes, kind = self.w, self.tile.lanes, lanes_type(self.tile.dtype, self.tile.lanes)

        def line(r: Index) -> None:
            kept = w.linear(0, [(r, width)])
            offset = replace(self, row=w.add(self.row, r))._offset(0)
            parts = [load_lanes(w, buffer, w.add(kept, v), lanes, None) for v in range(0, width, lanes)]
            stored = lanes_type(target.dtype, lanes)
            if target.dtype == "bf16":
                stored = lanes_type("bf16", width)
                call = f'llvm.call_intrinsic "llvm.x86.avx512bf16.cvtne2ps2bf16.512"({parts[1]}, {parts[0]})'
                parts = [w.op(f"{call} : ({kind}, {kind}) -> {stored}")]
            for v, value in enumerate(parts):
                at = f"{target.name}[{w.ssa(w.add(offset, v * lanes))}]"
                w.emit(f"vector.store {value}, {at} : {target.memref}, {stored}")

        walk(w, rows, 1, line)

    def hand_over(
        self, rows: Index, buffer: Source, width: int, epilogue: Epilogue, by_columns: bool = False
    ) -> None:
        """Give `rows` rows of kept sums to the epilogue, whose code is so written once and not per register.

        Args:
            by_columns: rows are the inner loop, so that what each column has of its own is read once for all of them.
        """
        w, lanes, vectors = self.w, self.tile.lanes, len(self.tile.widths)

        def element(r: Index, v: Index) -> None:
            value = load_lanes(w, buffer, w.linear(0, [(r, width), (v, lanes)]), lanes, None)
            epilogue(self._element(value, w.add(self.row, r), w.linear(self.column, [(v, lanes)])))

        if by_columns:
            walk(w, vectors, 1, lambda v: walk(w, rows, 1, lambda r: element(r, v)))
        else:
            walk(w, rows, 1, lambda r: walk(w, vectors, 1, lambda v: element(r, v)))

    def deliver(self, sums: list[str], epilogue: Epilogue) -> None:
        """Give sums to the epilogue from where they are: its code is written for each register, and nothing waits for
        memory."""
        vectors = len(self.tile.widths)
        for k, value in enumerate(sums):
            r, v = divmod(k, vectors)
            column = self.w.add(self.column, v * self.tile.lanes)
            epilogue(self._element(value, self.w.add(self.row, r), column, self.tile.widths[v] == self.tile.lanes))

    def _element(self, value: str, row: Index, column: Index, full: bool = False) -> Element:
        nest, w, lanes = self.nest, self.w, self.tile.lanes
        mask = ""
        if self.tile.columns % lanes and not full:
            left = w.sub(nest.lane.extent, column)
            mask = w.op(f"vector.create_mask {w.ssa(left)} : vector<{lanes}xi1>")
        places: dict[int, Index] = {}
        rows = w.delinearize(row, [a.extent for a in nest.rows])
        for axis, place in zip((*nest.batch, *nest.rows, nest.lane), (*self.batch, *rows, column), strict=True):
            for d, part in self._parts(axis, place):
                places[d] = w.add(places.get(d, 0), part)
        corner = tuple(places.get(d, 0) for d in range(len(nest.out.shape)))
        dtype, dim = nest.out.dtype, nest.lane.dims[-1][0] if nest.lane.dims else None
        if dim is None:
            value = w.op(f"vector.extract {value}[0] : {self.tile.dtype} from {lanes_type(self.tile.dtype, lanes)}")
        held = "i1" if nest.logical else dtype
        return Element(self._number(value, held, 1 if dim is None else lanes), corner, dim, mask)

    def _number(self, value: str, element: str, lanes: int) -> Num:
        """The sum as a number of the result's type."""
        source = lanes_type(self.tile.dtype, lanes)
        number = Num(value, element, lanes)
        if number.type != source:
            return Num(self.w.op(f"arith.trunci {value} : {source} to {number.type}"), element, lanes)
        return number

    def _parts(self, axis: Fused, place: Index) -> list[tuple[int, Index]]:
        """What a place on a merged axis adds to the coordinates in the result's dimensions."""
        places = self.w.delinearize(place, [extent for _, extent, _ in axis.dims])
        return [(dim, self.w.mul(p, step)) for (dim, _, step), p in zip(axis.dims, places, strict=True)]


def narrowed(w: ScopedWriter, value: str, source: str, target: str, lanes: int) -> str:
    """A vector of sums in the type of the memory it goes to."""
    if source == target:
        return value
    if source[0] == "i":
        return w.op(f"arith.trunci {value} : {lanes_type(source, lanes)} to {lanes_type(target, lanes)}")
    return to_storage(w, Num(value, target, lanes))
