"""Running reductions: a program walks some lines along the axis, a tile of each at a time.

    scanned = add(running, tl.associative_scan(v, 1, add));  running = add(running, tl.reduce(v, 1, add))
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import ScalarOp
from thalweg.backends.gpu.fused import Fused, not_yet
from thalweg.backends.gpu.index import Index, coordinates
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.scalar import Num, apply, filled
from thalweg.backends.gpu.tiles import axis, is_wide, power_of_two
from thalweg.backends.gpu.writer import Writer
from thalweg.dialects.mlir import ir

TILE = 2048  # elements that a program holds
_HELPERS = {
    "arith.addf": "add", "arith.addi": "add", "arith.mulf": "multiply", "arith.muli": "multiply",
    "arith.maximumf": "maximum", "arith.minimumf": "minimum", "arith.maxsi": "larger", "arith.minsi": "smaller",
    "arith.maxui": "larger_unsigned", "arith.minui": "smaller_unsigned",
}  # fmt: skip


def cumulative(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a `tw.cumulative`."""
    root = group.root
    assert root.op is not None
    x, initial = root.operands
    along = ir.IntegerAttr(root.op.attributes["axis"]).value
    reverse = ir.BoolAttr(root.op.attributes["reverse"]).value
    combine = ScalarOp(ir.StringAttr(root.op.attributes["combine"]).value, (0, 1), (2,), (root.element,))
    helper = _HELPERS[combine.name]
    outer, extent, inner = math.prod(x.shape[:along]), x.shape[along], math.prod(x.shape[along + 1 :])
    lines, most = outer * inner, 64 if inner > 1 else TILE // min(TILE, power_of_two(extent))
    rows = max(1, min(power_of_two(lines), most))
    cols = min(power_of_two(extent), TILE // rows)

    w, masks = Writer(), dict[str, str]()
    fused = Fused(w, group, masks)
    w.helpers[helper] = None
    line = axis(w, masks, "line", "tl.program_id(0) * LINES", lines, rows, "LINES", is_wide(group), "[:, None]")
    before, after = coordinates(line, (outer, inner))
    start = fused.get(initial, ())
    running = Num(w.assign(filled("[LINES, 1]", start), "running"), root.element, line.axes)
    with w.scope(f"for start in range(0, {extent}, COLS):"):
        step = axis(w, masks, "step", "start", extent, cols, "COLS", False, "[None, :]")
        place = step * -1 + Index((), extent - 1) if reverse else step
        address = before * (extent * inner) + place * inner + after
        number = fused.load_at(x, address)
        text = number.text
        if masks.get("step"):
            text = w.assign(f"tl.where({masks['step']}, {text}, {start.text})", "v")
        fused.comment(root)
        scanned = Num(w.assign(f"tl.associative_scan({text}, 1, {helper})", "scanned"), root.element, number.axes)
        total = Num(f"tl.reduce({text}, 1, {helper}, keep_dims=True)", root.element, line.axes)
        found = apply(w, combine, [running, scanned])
        carried = apply(w, combine, [running, total])
        if found is None or carried is None:
            raise not_yet(root, combine.name)
        fused.store("out0", root, address, Num(found.text, root.element, number.axes, found.atom))
        w.emit(f"{running.text} = {carried.text}")
    return finish(fused, group, name, -(-lines // rows), [("LINES", rows), ("COLS", cols)], 4)
