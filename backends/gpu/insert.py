"""Inserts: a value written into a box of another one (concatenate, pad, an update of a slice).

A pad, a box in a tensor of one number, writes the whole result. All else is written into the other value's own buffer:
one program for each tile of what is inserted.
"""

from __future__ import annotations

from thalweg.backends.cpu.costs import fills
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value
from thalweg.backends.gpu.fused import Fused, Place
from thalweg.backends.gpu.index import Index, coordinates, linear
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import Num, literal, where
from thalweg.backends.gpu.tiles import axis, flat_block, is_wide
from thalweg.backends.gpu.writer import Writer


def insert(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a group whose root is an insert."""
    root = group.root
    target, source = root.operands[:2]
    padding = fills(root)
    walked = root if padding else source
    w, masks = Writer(), dict[str, str]()
    block = flat_block(walked.size)
    i = axis(w, masks, "i", "tl.program_id(0) * BLOCK", walked.size, block, "BLOCK", is_wide(group))
    fused = Fused(w, group, masks)
    fused.comment(root)
    place = coordinates(i, walked.shape)
    if padding:
        fused.store("out0", root, i, _padded(fused, root, place))
    else:
        number = fused.get(source, place)
        fused.store("out0", root, linear(fused.box(root, place), root.shape), number)
    updates = [] if padding or target.kind == "empty" else [(0, target)]
    grid = -(-walked.size // block)
    return finish(fused, group, name, grid, [("BLOCK", block)], 4, updates=updates)


def _padded(fused: Fused, root: Value, place: Place) -> Num:
    """The source inside of the box, the number around it."""
    target, source = root.operands[:2]
    low = [offset for offset in root.offsets if isinstance(offset, int)]
    high = [first + size for first, size in zip(low, root.sizes, strict=True)]
    inside = fused.inside(place, low, high)
    moved = tuple(index + Index((), -first) for index, first in zip(place, low, strict=True))
    with fused.guarded(inside):
        number = fused.get(source, moved)
    assert target.splat is not None
    return number if inside is None else where(inside, number, literal(target.splat, target.element))
