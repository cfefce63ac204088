"""Small loops as one kernel that stays until they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_programs import check, lowered, numbers

import thalweg as tw
from thalweg.backends.gpu.program import build
from thalweg.dialects import context
from thalweg.runtime.gpu.artefact import DeviceProgram, Launch, While

pytest.importorskip("triton")

W = numbers(32, 32) / 6


def _product(x: Any, n: Any) -> Any:
    return tw.while_loop(lambda i, v: i < n, lambda i, v: (i + 1, tw.tanh(v @ W)), (0, x))[1]


def _until(x: Any) -> Any:
    """A condition that is a sum over what is carried; two values change places."""
    return tw.while_loop(lambda a, b: tw.sum(a) < 50, lambda a, b: (b + 1, a * 1.5), (x, x + 0.5))


def _built(function: Any, *arguments: Any, folder: Path, chip: str = "virtual") -> DeviceProgram:
    with context.entered():
        return build(lowered(function, *arguments, folder=folder, chip=chip))


def test_it_reads_as_a_loop_and_nothing_is_read_back(tmp_path: Path) -> None:
    program = _built(_product, W, 5, folder=tmp_path)
    assert program.straight and all(not isinstance(step, While) for step in program.steps)
    text = next(i.binary.decode() for i in program.images if i.name.endswith("_while"))
    lines = [line.strip() for line in text.partition("_while(b")[2].splitlines()]
    assert any(line.startswith("while tl.load(") for line in lines)
    called = next(k for k, line in enumerate(lines) if "matmul_tanh(" in line)
    assert lines[called - 1] == "for program in range(0, 4):" and lines[called + 1] == "tl.debug_barrier()"
    assert all(program.images[step.image].name == step.label for step in program.steps if isinstance(step, Launch))
    assert len(program.images) < 4  # the kernels of the loop are not there a second time


def test_what_it_writes_comes_last(tmp_path: Path) -> None:
    program = _built(_product, W, 5, folder=tmp_path)
    launch = next(s for s in program.steps if isinstance(s, Launch) and s.label.endswith("_while"))
    assert 0 < launch.writes < len(launch.buffers)
    read = launch.buffers[: -launch.writes]
    assert any(buffer.kind == "argument" for buffer in read)


@pytest.mark.parametrize("n", [0, 1, 5])
def test_numbers_of_products(n: int, tmp_path: Path) -> None:
    check(lambda x: _product(x, n), W, folder=tmp_path)


def test_numbers_of_loops_whose_end_only_a_run_tells(tmp_path: Path) -> None:
    check(lambda x, n: _product(x, n), W, np.int32(3), folder=tmp_path)
    check(_until, np.abs(numbers(5)), folder=tmp_path)
    check(lambda x: tw.while_loop(lambda a: tw.max(a) < 9, lambda a: tw.sort(a) * 1.5, x), numbers(40), folder=tmp_path)


def test_loops_in_loops(tmp_path: Path) -> None:
    inner = lambda x: tw.while_loop(lambda a: tw.sum(a) < 20, lambda a: a + 1, x)  # noqa: E731
    outer = lambda x: tw.while_loop(lambda a: tw.sum(a) < 99, lambda a: inner(a) * 2, x)  # noqa: E731
    check(outer, np.abs(numbers(4)), folder=tmp_path)


def test_much_work_is_launched(tmp_path: Path) -> None:
    large = numbers(512, 512)
    loop = lambda x, n: tw.while_loop(lambda i, v: i < n, lambda i, v: (i + 1, tw.tanh(v @ x)), (0, x))[1]  # noqa: E731
    assert any(isinstance(step, While) for step in _built(loop, large, 5, folder=tmp_path).steps)


@pytest.mark.parametrize("chip", ["sm_90", "gfx942"])
def test_it_compiles(chip: str, tmp_path: Path) -> None:
    for loop, arguments in ((_product, (W, 5)), (_until, (W[0],))):
        program = _built(loop, *arguments, folder=tmp_path, chip=chip)
        assert program.straight and all(image.binary for image in program.images)
