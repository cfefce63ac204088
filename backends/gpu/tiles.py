"""Axes of tiles: the lines of a kernel that say which elements a program works on."""

from __future__ import annotations

from thalweg.backends.cpu.emit import Group
from thalweg.backends.gpu.index import Index, Symbol, of
from thalweg.backends.gpu.writer import Writer


def power_of_two(number: int) -> int:
    """The next power of two: 1 -> 1, 5 -> 8."""
    return 1 << max(number - 1, 0).bit_length()


BLOCK = 1024  # elements of a flat tile


def flat_block(size: int) -> int:
    """Elements of a program's tile, where a kernel walks so many in memory order."""
    return min(BLOCK, power_of_two(size))


def axis(
    w: Writer, masks: dict[str, str], name: str, start: str, extent: int, block: int, constant: str, wide: bool = False,
    spread: str = "",
) -> Index:
    """Positions `start + [0, block)` along an axis; a mask where the last tile is not full.

    Args:
        start: where the tile starts, as text; empty for the only one.
        constant: the name of the block's constant.
        wide: positions are 64-bit.
        spread: `[:, None]` for the rows of a tile, `[None, :]` for its columns.
    """  # fmt: skip
    if start:
        start = f"({start}).to(tl.int64) + " if wide else f"{start} + "
    name = w.fresh(name)
    w.emit(f"{name} = {start}tl.arange(0, {constant}){spread}")
    masks.pop(name, None)  # of another loop's axis of this name
    if extent % block:
        masks[name] = f"{name}_ok"
        w.emit(f"{name}_ok = {name} < {extent}")
    return of(Symbol(name, extent, frozenset((name,))))


def counter(w: Writer, name: str, text: str, extent: int) -> Index:
    """A number that is the same in a whole tile; none where it can only be 0."""
    if extent == 1:
        return Index()
    w.emit(f"{name} = {text}")
    return of(Symbol(name, extent))


def quotient(text: str, divisor: int) -> str:
    """The text of a division, where it is one."""
    return text if divisor == 1 else f"{text} // {divisor}"


def counter_in(name: str, extent: int) -> Index:
    """A loop's counter."""
    return Index() if extent == 1 else of(Symbol(name, extent))


def is_wide(group: Group) -> bool:
    """Does any buffer of a kernel need 64-bit positions?"""
    values = [*group.stores, *(operand for value in group.members for operand in value.operands)]
    return max(value.size for value in values) >= 2**31
