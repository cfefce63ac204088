"""Groups that are alike become one kernel, the one that each of them would have become."""

from __future__ import annotations

import re

import pytest
from test_random_programs import Program, kind_of

from thalweg.backends.cpu import alike, fusion
from thalweg.backends.cpu.backend import Lowered, lower
from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.kernel import Kernel
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.stablehlo.importer import import_module
from thalweg.dialects import context
from thalweg.dialects.mlir import ir

T = "tensor<8x16xf32>"
NAME = r"%([a-z]+)(\d+)"


def _lowered(text: str) -> Lowered:
    module = import_module(text)
    with context.entered(), ir.Location.unknown():
        return lower(module, CpuOptions(threads=1))


def _layers(count: int, op: str = "exponential", constant: str = "0.5") -> str:
    """Layers that differ, if at all, in the last."""
    lines = [f"%{name} = stablehlo.constant dense<{n}> : {T}" for name, n in (("half", "0.5"), ("last", constant))]
    x = "%x"
    for k in range(count):
        last = k == count - 1
        lines += [
            f"%d{k} = stablehlo.dot_general {x}, %w{k}, contracting_dims = [1] x [0] : ({T}, tensor<16x16xf32>) -> {T}",
            f"%e{k} = stablehlo.{op if last else 'exponential'} %d{k} : {T}",
            f"%y{k} = stablehlo.multiply %e{k}, {'%last' if last else '%half'} : {T}",
        ]
        x = f"%y{k}"
    weights = ", ".join(f"%w{k}: tensor<16x16xf32>" for k in range(count))
    body = "\n".join(lines)
    return f"func.func @main(%x: {T}, {weights}) -> {T} {{\n{body}\nreturn {x} : {T}\n}}"


def _emissions(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    count = 0

    class Counting(alike.Alike):
        def __init__(self, emit: alike.Emit) -> None:
            def counted(group: Group, name: str) -> Kernel:
                nonlocal count
                count += 1
                return emit(group, name)

            super().__init__(counted)

    with monkeypatch.context() as patched:
        patched.setattr(fusion, "Alike", Counting)
        _lowered(text)
    return count


def test_equal_layers_are_emitted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _emissions(monkeypatch, _layers(12)) == _emissions(monkeypatch, _layers(4)) <= 3


@pytest.mark.parametrize("other", [{"op": "tanh"}, {"constant": "0.25"}])
def test_what_differs_is_emitted(monkeypatch: pytest.MonkeyPatch, other: dict[str, str]) -> None:
    same, different = _emissions(monkeypatch, _layers(6)), _emissions(monkeypatch, _layers(6, **other))
    assert different == same + 1


def _twice(seed: int) -> str:
    """A random program on two sets of arguments."""
    program = Program(seed)
    for _ in range(20):
        program.grow()
    (name, value), other = program.values[-1], r"%\1x\2"
    arguments = [f"%a{k}: {kind_of(x)}" for k, x in enumerate(program.inputs)]
    header, body = ", ".join(arguments), "\n".join(program.lines)
    both = [f"{text}{joint}{re.sub(NAME, other, text)}" for text, joint in ((header, ", "), (body, "\n"), (name, ", "))]
    kinds = f"{kind_of(value)}, {kind_of(value)}"
    return f"func.func @main({both[0]}) -> ({kinds}) {{\n{both[1]}\nreturn {both[2]} : {kinds}\n}}"


@pytest.mark.parametrize("seed", range(12))
def test_kernels_are_those_that_each_group_would_become(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    text = _twice(seed)
    shared = _lowered(text)
    monkeypatch.setattr(fusion, "Alike", lambda emit: emit)
    apart = _lowered(text)
    assert shared.kernels == apart.kernels
    assert shared.signature == apart.signature
