"""Machine code in files and device programs: what is kept, what is shared, what needs no Triton."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu_programs import lowered, numbers

import thalweg as tw
from thalweg.backends.gpu import compile as compiling
from thalweg.backends.gpu.kernel import KernelText
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.program import build
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError
from thalweg.runtime.gpu.artefact import Branch, Copy, DeviceProgram, Launch, While


def _program(
    function: Callable[..., Any], *arguments: np.ndarray, folder: Path, chip: str = "virtual"
) -> DeviceProgram:
    with context.entered():
        return build(lowered(function, *arguments, folder=folder, chip=chip))


def _layers(x: tw.Tensor) -> tw.Tensor:
    for _ in range(3):
        x = tw.tanh(x @ x)
    return x


def test_kernels_of_equal_code_share_one_image(tmp_path: Path) -> None:
    program = _program(_layers, numbers(300, 300), folder=tmp_path)  # too large for tanh to be computed at each load
    launches = [step for step in program.steps if isinstance(step, Launch)]
    assert len(launches) == 3 and len(program.images) == 1
    assert {launch.label for launch in launches} == {f"k{k}_matmul_tanh" for k in range(3)}


def test_buffers_share_the_arena(tmp_path: Path) -> None:
    program = _program(_layers, numbers(16, 16), folder=tmp_path)
    assert program.straight and program.arena == 2 * 1024
    assert program.largest(1)[0].text.startswith("f32[16,16] of ")


def test_loops_and_branches_are_steps(tmp_path: Path) -> None:
    def looped(x: tw.Tensor) -> tw.Tensor:
        return tw.while_loop(lambda y: tw.sum(y) < 9, lambda y: y * 2, x)

    def chosen(x: tw.Tensor) -> tw.Tensor:
        return tw.cond(tw.sum(x) > 0, lambda y: y * 2, lambda y: y - 1, x)

    steps = _program(looped, numbers(200, 200) ** 2, folder=tmp_path).steps  # too much for one program
    assert [type(step) for step in steps] in ([Copy, While], [Copy, While, Copy])
    (loop,) = [step for step in steps if isinstance(step, While)]
    assert loop.predicate.bytes == 1 and loop.condition and loop.body
    program = _program(chosen, numbers(5), folder=tmp_path)
    (branch,) = [step for step in program.steps if isinstance(step, Branch)]
    assert not branch.is_index and branch.chosen(1) is branch.arms[0] and branch.chosen(0) is branch.arms[1]
    assert not program.straight


def test_programs_are_bytes(tmp_path: Path) -> None:
    program = _program(lambda x: tw.softmax(x @ x), numbers(16, 16), folder=tmp_path)
    again = DeviceProgram.from_bytes(program.to_bytes())
    assert again.steps == program.steps and again.images == program.images and again.arena == program.arena
    with pytest.raises(ValueError, match="truncated or damaged"):
        DeviceProgram.from_bytes(program.to_bytes()[:-1])


def test_what_was_compiled_needs_no_triton(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    first = _program(lambda x: tw.tanh(x), numbers(50), folder=tmp_path, chip="sm_90")
    monkeypatch.setattr(compiling, "triton", lambda: pytest.fail("Triton was asked for"))
    second = _program(lambda x: tw.tanh(x), numbers(50), folder=tmp_path, chip="sm_90")
    assert first.images == second.images


def test_many_kernels_are_compiled_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "MANY", 2)
    monkeypatch.setattr(compiling, "compile_kernel", lambda *_: pytest.fail("was compiled in this process"))
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    program = _program(
        lambda x: (x @ x, tw.softmax(x), tw.sum(x), x[0] * 2), numbers(16, 16), folder=tmp_path, chip="sm_90"
    )
    assert len(program.images) >= 3 and all(image.binary.startswith(b"\x7fELF") for image in program.images)


def test_what_goes_wrong_elsewhere_is_said_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    monkeypatch.setattr(compiling, "MANY", 2)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    broken = [KernelText(f"k{k}", "import triton\nno python", (), (), 4, 2) for k in range(4)]
    with pytest.raises(LoweringError, match=r"another process failed(.|\n)*SyntaxError"):
        compiling.compile_texts(broken, GpuOptions("sm_90", folder=tmp_path))
