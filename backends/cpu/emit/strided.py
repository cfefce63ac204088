"""Vectors of elements that lie a few places apart: whole vectors are loaded and the lanes picked, which takes a
fraction of a gather; bytes and halves have no gather at all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thalweg.backends.cpu.emit.scalar import lanes_type
from thalweg.backends.cpu.emit.writer import Writer

_FARTHEST = 4  # places from one lane's to the next one's
_HALVES = ("bf16", "f16")  # picked as integers


def is_near(step: int, lanes: int) -> bool:
    """Whether lanes that are `step` places apart are picked from whole vectors."""
    return step == -1 or 2 <= step <= min(_FARTHEST, lanes // 2)


def load(
    w: Writer,
    write: Callable[[str], str],
    buffer: tuple[str, str],
    start: str | int,
    step: int,
    element: str,
    lanes: int,
    used: int,
) -> str:
    """The first `used` lanes of a vector whose lane k is at `start + k * step` of a line in memory.

    Args:
        write: writes a load.
        buffer: SSA name and memref type of the line.
    """
    span = (used - 1) * abs(step) + 1
    first = start if step > 0 else w.sub(start, span - 1)
    parts = [
        _part(w, write, buffer, w.add(first, k), element, lanes, min(lanes, span - k)) for k in range(0, span, lanes)
    ]
    kind, own = lanes_type("i16" if element in _HALVES else element, lanes), lanes_type(element, lanes)
    if kind != own:
        parts = [w.op(f"arith.bitcast {part} : {own} to {kind}") for part in parts]
    places = [k * step if step > 0 else span - 1 + k * step for k in range(used)] + [0] * (lanes - used)
    picked = _picked(w, parts, places, kind, lanes)
    return picked if kind == own else w.op(f"arith.bitcast {picked} : {kind} to {own}")


def _part(
    w: Writer,
    write: Callable[[str], str],
    buffer: tuple[str, str],
    place: str | int,
    element: str,
    lanes: int,
    valid: int,
) -> str:
    """One vector, of which the first `valid` lanes may be touched."""
    name, memref = buffer
    where, kind = f"{name}[{w.ssa(place)}] : {memref}", lanes_type(element, lanes)
    if valid == lanes:
        return write(f"vector.load {where}, {kind}")
    truths = f"vector<{lanes}xi1>"
    mask = w.hoisted(f"vector.constant_mask [{valid}] : {truths}", "mask")
    zero = w.hoisted(f"arith.constant dense<{'0.0' if 'f' in element else '0'}> : {kind}", "zero")
    return write(f"vector.maskedload {name}[{w.ssa(place)}], {mask}, {zero} : {memref}, {truths}, {kind} into {kind}")


def _picked(w: Writer, parts: Sequence[str], places: Sequence[int], kind: str, lanes: int) -> str:
    """The elements at `places` of vectors that follow one another: two vectors give a first one, to which every other
    one adds its lanes."""
    result = parts[0]
    for number, part in enumerate(parts):
        if number == 0 < len(parts) - 1:
            continue
        mask = []
        for lane, place in enumerate(places):
            vector, offset = divmod(place, lanes)
            if vector == number:
                mask.append(offset if number == 0 else lanes + offset)
            else:
                mask.append(offset if number == 1 and vector == 0 else lane)
        text = ", ".join(map(str, mask))
        result = w.op(f"vector.shuffle {result}, {part} [{text}] : {kind}, {kind}")
    return result
