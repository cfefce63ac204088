"""What becomes of the sums of a convolution's register tile, whose rows lie at one distance in the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from thalweg.backends.cpu.emit.control import Index, walk
from thalweg.backends.cpu.emit.finishing import Element, Epilogue
from thalweg.backends.cpu.emit.microkernel import Tile
from thalweg.backends.cpu.emit.packing import Source, load_lanes, tail_mask
from thalweg.backends.cpu.emit.scalar import Num, lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter


@dataclass(frozen=True)
class Spot:
    """Where a register tile lies in the result.

    Args:
        corner: the flat offset of its first row and column; `step`: elements between rows.
        place: the coordinates, by the result's dimension, that all its rows share; `rows`: those of a row.
        column: its first column.
    """

    corner: Index
    step: int
    place: Mapping[int, Index]
    rows: Callable[[Index], Mapping[int, Index]]
    column: Index


@dataclass(frozen=True)
class Ending:
    """Stores sums in `out`, or, with an epilogue, hands them over vector by vector.

    Args:
        lane: (the result's dimension that lanes run along, its extent).
        buffer: where they wait for the epilogue, whose code is so written once, and not for each register: a loss
            where sums are short. `width`: columns of a row of it.
    """

    w: ScopedWriter
    out: Source | None
    lane: tuple[int, int]
    width: int
    epilogue: Epilogue | None = None
    buffer: Source | None = None

    def deliver(self, sums: Sequence[str], tile: Tile, spot: Spot) -> None:
        """The sums are finished: row-major rows x vectors."""
        if self.epilogue is None:
            assert self.out is not None
            self.store(sums, tile, self.out, spot.corner, spot.step)
        else:
            self._hand_over(sums, tile, spot)

    def store(self, sums: Sequence[str], tile: Tile, target: Source, corner: Index, step: int) -> None:
        """Write the sums to `target`, from `corner` on, rows `step` elements apart."""
        w, kind = self.w, lanes_type(tile.dtype, tile.lanes)
        for k, value in enumerate(sums):
            r, v = divmod(k, len(tile.widths))
            at = f"{target.name}[{w.ssa(w.add(corner, r * step + v * tile.lanes))}]"
            mask = tail_mask(w, tile.lanes, tile.widths[v])
            if mask is None:
                w.emit(f"vector.store {value}, {at} : {target.memref}, {kind}")
            else:
                w.emit(f"vector.maskedstore {at}, {mask}, {value} : {target.memref}, vector<{tile.lanes}xi1>, {kind}")

    def reload(
        self, tile: Tile, partial: Source, corner: Index, step: int, first: str, nothing: list[str]
    ) -> list[str]:
        """The sums of earlier passes; `nothing` where `first` holds."""
        w = self.w
        types = ", ".join([lanes_type(tile.dtype, tile.lanes)] * len(nothing))
        result = w.fresh("start")
        with w.scope(f"{result}:{len(nothing)} = scf.if {first} -> ({types})", fence=True):
            w.emit(f"scf.yield {', '.join(nothing)} : {types}")
        with w.scope("else", fence=True):
            values = []
            for k in range(len(nothing)):
                r, v = divmod(k, len(tile.widths))
                at = w.add(corner, r * step + v * tile.lanes)
                values.append(load_lanes(w, partial, at, tile.lanes, tail_mask(w, tile.lanes, tile.widths[v])))
            w.emit(f"scf.yield {', '.join(values)} : {types}")
        w.define(result)
        return [f"{result}#{k}" for k in range(len(nothing))]

    def _hand_over(self, sums: Sequence[str], tile: Tile, spot: Spot) -> None:
        if self.buffer is None:
            for k, value in enumerate(sums):
                self._element(value, tile, spot, *divmod(k, len(tile.widths)))
            return
        w, lanes, buffer, vectors = self.w, tile.lanes, self.buffer, len(tile.widths)
        for k, value in enumerate(sums):
            r, v = divmod(k, vectors)
            at = f"{buffer.name}[{w.index(r * self.width + v * lanes)}]"
            w.emit(f"vector.store {value}, {at} : {buffer.memref}, {lanes_type(tile.dtype, lanes)}")

        def element(r: Index, v: Index) -> None:
            value = load_lanes(w, buffer, w.linear(0, [(r, self.width), (v, lanes)]), lanes, None)
            self._element(value, tile, spot, r, v)

        # Columns first: what each has of its own, such as a bias, is read once for all rows.
        walk(w, vectors, 1, lambda v: walk(w, len(tile.rows), 1, lambda r: element(r, v)))

    def _element(self, value: str, tile: Tile, spot: Spot, r: Index, v: Index) -> None:
        w, lanes, (dim, extent) = self.w, tile.lanes, self.lane
        assert self.epilogue is not None
        column, mask = w.linear(spot.column, [(v, lanes)]), ""
        if tile.columns % lanes and not (isinstance(v, int) and tile.widths[v] == lanes):
            mask = w.op(f"vector.create_mask {w.ssa(w.sub(extent, column))} : vector<{lanes}xi1>")
        places = {**spot.place, **spot.rows(r), dim: column}
        corner = tuple(places[d] for d in range(len(places)))
        self.epilogue(Element(Num(value, tile.dtype, lanes), corner, dim, mask))
