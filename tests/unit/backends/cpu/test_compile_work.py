"""The CPU backend is near-linear: twice as many ops are about twice as much work. Counted, not timed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from work import growth

from thalweg.backends.cpu.backend import lower
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import import_module
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

MOST = 2.1
T = "tensor<8x16xf32>"


def _tower(layers: int) -> str:
    """Products with a matrix, and its transpose for every other, with what is elementwise and a sum of each row."""
    lines, x = [], "%x"
    for k in range(layers):
        lines += [
            f"%t{k} = stablehlo.transpose %w, dims = [1, 0] : (tensor<16x16xf32>) -> tensor<16x16xf32>",
            f"%d{k} = stablehlo.dot_general {x}, {'%w' if k % 2 else f'%t{k}'}, contracting_dims = [1] x [0]"
            f" : ({T}, tensor<16x16xf32>) -> {T}",
            f"%e{k} = stablehlo.exponential %d{k} : {T}",
            f"%s{k} = stablehlo.reduce(%e{k} init: %zero) applies stablehlo.add across dimensions = [1]"
            f" : ({T}, tensor<f32>) -> tensor<8xf32>",
            f"%b{k} = stablehlo.broadcast_in_dim %s{k}, dims = [0] : (tensor<8xf32>) -> {T}",
            f"%y{k} = stablehlo.divide %e{k}, %b{k} : {T}",
        ]
        x = f"%y{k}"
    body = "\n".join(lines)
    zero = "%zero = stablehlo.constant dense<0.0> : tensor<f32>"
    return f"func.func @main(%x: {T}, %w: tensor<16x16xf32>) -> {T} {{\n{zero}\n{body}\nreturn {x} : {T}\n}}"


def _updates(count: int) -> str:
    """New values of as many arguments."""
    parameters = ", ".join(f"%v{k}: {T} {{tw.alias = {k} : i64}}" for k in range(count))
    body = "\n".join(f"%n{k} = stablehlo.add %v{k}, %v{(k + 1) % count} : {T}" for k in range(count))
    results, kinds = ", ".join(f"%n{k}" for k in range(count)), ", ".join([T] * count)
    return f"func.func @main({parameters}) -> ({kinds}) {{\n{body}\nreturn {results} : {kinds}\n}}"


def _turns(count: int) -> str:
    """A loop that hands as many values round: each takes the place of the next."""
    names = [f"%v{k}" for k in range(count)]
    kinds, swapped = ", ".join([T] * count), ", ".join([*names[1:], names[0]])
    carried = ", ".join(f"%c{k} = %v{k}" for k in range(count))
    return (
        f"func.func @main({', '.join(f'{name}: {T}' for name in names)}) -> ({kinds}) {{\n"
        "%zero = stablehlo.constant dense<0> : tensor<i32>\n%one = stablehlo.constant dense<1> : tensor<i32>\n"
        f"%r:{count + 1} = stablehlo.while(%i = %zero, {carried}) : tensor<i32>, {kinds}\n"
        "cond {\n%n = stablehlo.constant dense<5> : tensor<i32>\n"
        "%go = stablehlo.compare LT, %i, %n : (tensor<i32>, tensor<i32>) -> tensor<i1>\n"
        "stablehlo.return %go : tensor<i1>\n} do {\n"
        "%next = stablehlo.add %i, %one : tensor<i32>\n"
        f"stablehlo.return %next, {swapped.replace('%v', '%c')} : tensor<i32>, {kinds}\n}}\n"
        f"return {', '.join(f'%r#{k + 1}' for k in range(count))} : {kinds}\n}}"
    )


@pytest.mark.parametrize(("text", "size"), [(_tower, 12), (_updates, 60), (_turns, 60)])
def test_twice_the_ops_are_about_twice_the_work(text: Callable[[int], str], size: int) -> None:
    options = CpuOptions(threads=2)

    def work(count: int) -> Callable[[], object]:
        module = import_module(text(count))

        def lowered() -> None:
            with context.entered(), ir.Location.unknown():
                lower(module, options)

        return lowered

    assert growth(work, size) < MOST
