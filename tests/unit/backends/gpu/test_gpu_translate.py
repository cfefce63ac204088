"""`thalweg translate` to what runs on GPUs, and what is said where Triton is missing."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from thalweg.dialects.diagnostics import MissingExtraError
from thalweg.tools.cli import app

PROGRAM = """
import thalweg as tw

@tw.function
def f(x, w):
    return tw.softmax(tw.matmul(x, w))
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model.py").write_text(PROGRAM)
    return f"{tmp_path / 'model.py'}:f"


def _translate(model: str, *words: str) -> Any:
    return CliRunner().invoke(app, ["translate", model, "--shapes", "f32[8,16],f32[16,32]", *words])


def test_to_triton(model: str) -> None:
    done = _translate(model, "--to", "triton")
    assert done.exit_code == 0, done.output
    assert "def k0_matmul(" in done.output and "def k1_softmax(" in done.output


def test_to_ptx(model: str) -> None:
    pytest.importorskip("triton")
    assert ".target sm_80" in _translate(model, "--to", "ptx", "--chip", "sm_80").output


@pytest.mark.parametrize("kind", ["cubin", "hsaco"])
def test_to_machine_code(model: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    done = _translate(model, "--to", kind, "--output", str(tmp_path / "kernels"))
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in (tmp_path / "kernels").iterdir())
    assert names == sorted(f"{name}.{end}" for name in ("k0_matmul", "k1_softmax") for end in (kind, "py"))


def test_machine_code_needs_a_folder(model: str) -> None:
    done = _translate(model, "--to", "cubin")
    assert done.exit_code != 0 and "--output FOLDER" in f"{done.output}{done.exception}"


def test_missing_triton_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    from thalweg.backends.gpu.store import triton

    imported = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "triton":
            raise ImportError(name)
        return imported(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"thalweg\[gpu\]"):
        triton()
