"""Reading vectors from flat buffers, and copying blocks of an operand into the order in which they are used."""

from __future__ import annotations

from dataclasses import dataclass, replace

from thalweg.backends.cpu.emit.control import Index, sum_loops, walk
from thalweg.backends.cpu.emit.nest import Buffer
from thalweg.backends.cpu.emit.scalar import from_storage, lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter


@dataclass(frozen=True)
class Source:
    """An operand as the inner loop reads it: a flat memref, where the tile starts, a stride for each summed axis.

    `lane`: elements between lanes; 0 is one number for all. `signed`: how integers are widened. `scratch`: the kernel
    writes this memory itself.
    """

    name: str
    memref: str
    dtype: str
    base: Index
    sums: tuple[int, ...]
    lane: int = 0
    signed: bool = True
    scratch: bool = False


def flat_type(size: int, dtype: str) -> str:
    return f"memref<{size}x{dtype}>"


def flattened(w: ScopedWriter, buffer: Buffer, lane: int, sums: list[int]) -> Source:
    """A buffer as one dimension."""
    kind, name = flat_type(buffer.size, buffer.dtype), buffer.name
    if len(buffer.shape) == 0:
        flat = f"memref.expand_shape {name} [] output_shape [1]"
        name = w.hoisted(f"{flat} : {buffer.memref} into {kind}", "flat")
    elif len(buffer.shape) > 1:
        dims = ", ".join(str(d) for d in range(len(buffer.shape)))
        name = w.hoisted(f"memref.collapse_shape {name} [[{dims}]] : {buffer.memref} into {kind}", "flat")
    return Source(name, kind, buffer.dtype, buffer.offset, tuple(sums), lane, buffer.signed)


def zero(w: ScopedWriter, lanes: int, dtype: str) -> str:
    literal = "0" if dtype[0] == "i" else "0.0"
    return w.hoisted(f"arith.constant dense<{literal}> : {lanes_type(dtype, lanes)}", "zero")


def widened(w: ScopedWriter, source: Source, value: str, target: str, lanes: int) -> str:
    """A number (`lanes` 1) or vector as loaded from `source`, in the type that sums are kept in."""
    if source.dtype == target:
        return value
    if source.dtype[0] == "i":
        name = "arith.extsi" if source.signed else "arith.extui"
        if target[0] == "f":
            name = "arith.sitofp"
        return w.op(f"{name} {value} : {lanes_type(source.dtype, lanes)} to {lanes_type(target, lanes)}")
    number = from_storage(w, value, source.dtype, lanes)
    if number.type == lanes_type(target, lanes):
        return number.name
    return w.op(f"arith.extf {number.name} : {number.type} to {lanes_type(target, lanes)}")


def load(w: ScopedWriter, source: Source, expression: str) -> str:
    """A read of `source`'s memory: movable, unless the kernel writes there."""
    return w.ordered(expression) if source.scratch else w.op(expression)


def load_lanes(w: ScopedWriter, source: Source, offset: Index, lanes: int, mask: str | None) -> str:
    """The vector of elements `offset`, `offset + source.lane`, …; lanes outside `mask` are zero and not touched."""
    kind, mask_kind = lanes_type(source.dtype, lanes), f"vector<{lanes}xi1>"
    at = f"{source.name}[{w.ssa(offset)}]"
    if source.lane == 0:
        scalar = load(w, source, f"memref.load {at} : {source.memref}")
        return w.op(f"vector.broadcast {scalar} : {source.dtype} to {kind}")
    if source.lane == 1:
        if mask is None:
            return load(w, source, f"vector.load {at} : {source.memref}, {kind}")
        pad = zero(w, lanes, source.dtype)
        types = f"{source.memref}, {mask_kind}, {kind} into {kind}"
        return load(w, source, f"vector.maskedload {at}, {mask}, {pad} : {types}")
    steps = ", ".join(str(source.lane * k) for k in range(lanes))
    positions = w.hoisted(f"arith.constant dense<[{steps}]> : vector<{lanes}xi64>", "at")
    every = mask or w.hoisted(f"arith.constant dense<true> : {mask_kind}", "all")
    pad = zero(w, lanes, source.dtype)
    types = f"{source.memref}, vector<{lanes}xi64>, {mask_kind}, {kind} into {kind}"
    return load(w, source, f"vector.gather {at}[{positions}], {every}, {pad} : {types}")


def tail_mask(w: ScopedWriter, lanes: int, used: int) -> str | None:
    """The mask of the first `used` lanes; None for all of them."""
    return None if used >= lanes else w.hoisted(f"vector.constant_mask [{used}] : vector<{lanes}xi1>", "mask")


def transpose(w: ScopedWriter, vectors: list[str], kind: str) -> list[str]:
    """An n x n transpose in registers: log2(n) rounds of interleaving vector k with vector k + n/2."""
    n = len(vectors)
    half = n // 2
    low = ", ".join(str(q) for k in range(half) for q in (k, n + k))
    high = ", ".join(str(q) for k in range(half, n) for q in (k, n + k))
    for _ in range(n.bit_length() - 1):
        following: list[str] = []
        for k in range(half):
            pair = f"{vectors[k]}, {vectors[k + half]}"
            following += [w.op(f"vector.shuffle {pair} [{m}] : {kind}, {kind}") for m in (low, high)]
        vectors = following
    return vectors


@dataclass(frozen=True)
class Panel:
    """Where packed lanes go: `vectors` vectors per summed position, at flat element `base` of a memref of `dtype`."""

    name: str
    memref: str
    dtype: str
    base: Index
    sums: tuple[int, ...]

    def source(self, lane: int) -> Source:
        """The panel as an operand of the inner loop."""
        return Source(self.name, self.memref, self.dtype, self.base, self.sums, lane, scratch=True)


def transposable(source: Source, lanes: int) -> bool:
    """Whether `pack_transposed` applies."""
    apart = source.lane not in (0, 1) and bool(source.sums) and source.sums[-1] == 1
    return apart and lanes > 1 and lanes & (lanes - 1) == 0


def pack_lanes(
    w: ScopedWriter, source: Source, panel: Panel, extents: list[Index], lanes: int, columns: int, unroll: int = 1
) -> None:
    """Copy `columns` lanes of `source` for every summed position, `unroll` in each round of the innermost loop; lanes
    beyond become zero."""
    blocks = [(first, min(lanes, columns - first)) for first in range(0, columns, lanes)]

    def body(indices: list[Index], _: list[str]) -> list[str]:
        start = w.linear(source.base, zip(indices, source.sums, strict=True))
        target = w.linear(panel.base, zip(indices, panel.sums, strict=True))
        for first, used in blocks:
            offset = w.linear(start, [(first, source.lane)])
            value = load_lanes(w, source, offset, lanes, tail_mask(w, lanes, used))
            _store(w, panel, w.add(target, first), widened(w, source, value, panel.dtype, lanes), lanes)
        return []

    sum_loops(w, extents, body, unroll=unroll)


def _store(w: ScopedWriter, panel: Panel, offset: Index, value: str, lanes: int, mask: str | None = None) -> None:
    kind = lanes_type(panel.dtype, lanes)
    at = f"{panel.name}[{w.ssa(offset)}]"
    if mask is None:
        w.emit(f"vector.store {value}, {at} : {panel.memref}, {kind}")
    else:
        w.emit(f"vector.maskedstore {at}, {mask}, {value} : {panel.memref}, vector<{lanes}xi1>, {kind}")


def pack_transposed(
    w: ScopedWriter,
    source: Source,
    panel: Panel,
    extents: list[Index],
    lanes: int,
    column: Index,
    columns: int,
    limit: int,
) -> None:
    """Copy `columns` lanes from lane `column` on, where lanes lie apart and summed elements side by side.

    Reads along the sum and transposes in registers, `lanes` lanes at a time. Lanes past `limit` repeat the last one.
    Writes up to `lanes - 1` positions past the last one, which the next block or the panel's padding takes.
    """
    along = replace(source, base=0, sums=(), lane=1)
    whole = isinstance(extents[-1], int) and extents[-1] % lanes == 0

    def block(indices: list[Index], k: str, first: Index) -> None:
        at = [*indices, k]
        mask = None if whole else w.op(f"vector.create_mask {w.ssa(w.sub(extents[-1], k))} : vector<{lanes}xi1>")
        start = w.linear(source.base, zip(at, source.sums, strict=True))
        vectors = []
        for n in range(lanes):
            place = w.minimum(w.add(w.add(column, first), n), limit - 1)
            vectors.append(load_lanes(w, along, w.linear(start, [(place, source.lane)]), lanes, mask))
        target = w.linear(w.add(panel.base, first), zip(at, panel.sums, strict=True))
        for n, value in enumerate(transpose(w, vectors, lanes_type(source.dtype, lanes))):
            offset = w.linear(target, [(n, panel.sums[-1])])
            _store(w, panel, offset, widened(w, source, value, panel.dtype, lanes), lanes)

    def body(indices: list[Index], _: list[str]) -> list[str]:
        walk(w, columns, lanes, lambda first: walk(w, extents[-1], lanes, lambda k: block(indices, w.ssa(k), first)))
        return []

    sum_loops(w, extents[:-1], body)


def pack_rows(
    w: ScopedWriter,
    source: Source,
    panel: Panel,
    extents: list[Index],
    rows: list[Index],
    adjacent: bool,
    unroll: int = 1,
) -> None:
    """Copy the elements of each of `rows` (their offsets) for every summed position, rows side by side.

    Args:
        adjacent: so they lie in `source`, too.
        unroll: summed positions in each round of the innermost loop.
    """
    lanes = 1 << (len(rows) - 1).bit_length() if w.has_avx512 else len(rows)
    mask = tail_mask(w, lanes, len(rows))

    def body(indices: list[Index], _: list[str]) -> list[str]:
        start = w.linear(source.base, zip(indices, source.sums, strict=True))
        target = w.linear(panel.base, zip(indices, panel.sums, strict=True))
        if adjacent and len(rows) > 1:
            value = load_lanes(w, replace(source, lane=1), w.add(start, rows[0]), lanes, mask)
            _store(w, panel, target, widened(w, source, value, panel.dtype, lanes), lanes, mask)
            return []
        for n, row in enumerate(rows):
            value = w.op(f"memref.load {source.name}[{w.ssa(w.add(start, row))}] : {source.memref}")
            value = widened(w, source, value, panel.dtype, 1)
            w.emit(f"memref.store {value}, {panel.name}[{w.ssa(w.add(target, n))}] : {panel.memref}")
        return []

    sum_loops(w, extents, body, unroll=unroll)
