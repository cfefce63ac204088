"""Cholesky factors and triangular systems of small matrices: one program holds a matrix. Large ones are made of them
(blocked.py).

    for j in columns:   column = a[:, j] / sqrt(a[j, j]);   a -= column * column'       what is left of it
    for j in unknowns:  x[j] = (b[j] - sum(t[j, :] * x)) / t[j, j]
"""

from __future__ import annotations

import math

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value
from thalweg.backends.gpu.blocked import sides_of
from thalweg.backends.gpu.fused import Fused, not_yet
from thalweg.backends.gpu.kernel import TritonKernel
from thalweg.backends.gpu.module import finish
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.tiles import is_wide, power_of_two
from thalweg.backends.gpu.writer import Writer
from thalweg.dialects.mlir import ir

LANES = 64  # right-hand sides that a program solves for
_COMPUTED = {"f64": "tl.float64", "f32": "tl.float32", "f16": "tl.float32", "bf16": "tl.float32"}


def cholesky(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a `stablehlo.cholesky` of matrices that one program can hold; the other triangle becomes zero, and
    NaN follows where a matrix is not positive."""
    root = group.root
    assert root.op is not None
    (a,) = root.operands
    n, computed, (w, fused) = root.shape[-1], _type(root), _begun(group)
    lower = ir.BoolAttr(root.op.attributes["lower"]).value
    w.emit(f"matrix = {_matrix(group, 1)}")
    w.emit("row = tl.arange(0, N)[:, None]")
    w.emit("column = tl.arange(0, N)[None, :]")
    w.emit(f"at = matrix * {n * n} + {f'row * {n} + column' if lower else f'column * {n} + row'}")
    w.emit(f"inside = (row < {n}) & (column < {n})")
    w.emit(f"a = tl.load({fused.pointer(a)} + at, mask=inside & (row >= column), other=0).to({computed})")
    fused.comment(root)
    with w.scope(f"for j in range(0, {n}):"):
        w.emit("own = tl.sum(tl.where(column == j, a, 0.0), axis=1, keep_dims=True)")
        w.emit("pivot = tl.sqrt(tl.sum(tl.where(row == j, own, 0.0), axis=0, keep_dims=True))")
        w.emit("own = tl.where(row > j, own / pivot, tl.where(row == j, pivot, 0.0))")
        w.emit("rest = tl.where(column > j, a - own * tl.trans(own), a)")
        w.emit("a = tl.where(column == j, own, rest)")
    w.emit("tl.store(out0 + at, tl.where(row >= column, a, 0.0), mask=inside)")
    return finish(fused, group, name, math.prod(root.shape[:-2]), [("N", power_of_two(n))], 4)


def triangular_solve(group: Group, name: str, options: GpuOptions) -> TritonKernel:
    """The kernel of a `stablehlo.triangular_solve` by matrices that one program can hold."""
    root = group.root
    assert root.op is not None
    a, b = root.operands
    left, lower, transposed, unit = sides_of(root.op)
    n, computed, (w, fused) = a.shape[-1], _type(root), _begun(group)
    count = b.shape[-1] if left else b.shape[-2]  # of right-hand sides
    flip = transposed == left
    lanes = min(LANES, power_of_two(count))
    tiles = -(-count // lanes)
    w.emit(f"matrix = {_matrix(group, tiles)}")
    w.emit(f"side = {f'tl.program_id(0) % {tiles} * LANES + ' if tiles > 1 else ''}tl.arange(0, LANES)[:, None]")
    w.emit("i = tl.arange(0, N)[None, :]")
    w.emit(f"at = matrix * {n * count} + {f'i * {count} + side' if left else f'side * {n} + i'}")
    w.emit(f"inside = (side < {count}) & (i < {n})")
    w.emit(f"x = tl.load({fused.pointer(b)} + at, mask=inside, other=0).to({computed})")
    w.emit(f"triangle = {fused.pointer(a)} + matrix * {n * n}")
    fused.comment(root)
    forward = lower != flip
    with w.scope(f"for {'j' if forward else 'step'} in range(0, {n}):"):
        if not forward:
            w.emit(f"j = {n - 1} - step")
        w.emit(f"known = {'i < j' if forward else f'(i > j) & (i < {n})'}")
        place = f"i * {n} + j" if flip else f"j * {n} + i"
        w.emit(f"factors = tl.load(triangle + {place}, mask=known, other=0).to({computed})")
        w.emit("total = tl.sum(tl.where(known, x * factors, 0.0), axis=1, keep_dims=True)")
        w.emit("found = tl.sum(tl.where(i == j, x, 0.0), axis=1, keep_dims=True) - total")
        if not unit:
            w.emit(f"found = found / tl.load(triangle + j * {n + 1}).to({computed})")
        w.emit("x = tl.where(i == j, found, x)")
    w.emit("tl.store(out0 + at, x, mask=inside)")
    constants = [("LANES", lanes), ("N", power_of_two(n))]
    return finish(fused, group, name, math.prod(root.shape[:-2]) * tiles, constants, 4)


def _begun(group: Group) -> tuple[Writer, Fused]:
    w = Writer()
    return w, Fused(w, group, {})


def _type(value: Value) -> str:
    """What numbers are computed in."""
    if value.element not in _COMPUTED:
        raise not_yet(value, value.op_name)
    return _COMPUTED[value.element]


def _matrix(group: Group, tiles: int) -> str:
    """The number of a program's matrix in the batch, as text."""
    number = "tl.program_id(0)" + (f" // {tiles}" if tiles > 1 else "")
    return f"({number}).to(tl.int64)" if is_wide(group) else number
