"""`thalweg opt`: what tests/ir/tools leaves open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from thalweg.passes.dce import Dce

Thalweg = Callable[..., Any]
TWO = "func.func @main() {\n  return\n}\n// -----\nfunc.func @other() {\n  return\n}\n"


def test_stdin_to_file(thalweg: Thalweg, folder: Path) -> None:
    text = (folder / "tw.mlir").read_text()
    result = thalweg("opt", "-", "-p", "dce", "-o", "out.mlir", stdin=text)
    assert (result.exit_code, result.stdout) == (0, "")
    assert '"tw.tanh"' in (folder / "out.mlir").read_text()


def test_unknown_pass_suggests_the_nearest(thalweg: Thalweg) -> None:
    result = thalweg("opt", "tw.mlir", "-p", "simplfy")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: unknown pass 'simplfy'; did you mean 'simplify'?")


def test_an_invalid_module_is_told_with_file_and_line(thalweg: Thalweg, folder: Path) -> None:
    text = 'func.func @main(%x: tensor<3xf32>) {\n  "tw.add"(%x) : (tensor<3xf32>) -> ()\n  return\n}\n'
    (folder / "bad.mlir").write_text(text)
    result = thalweg("opt", "bad.mlir")
    assert result.exit_code == 1
    assert result.stderr == "error: bad.mlir:2: 'tw.add' op takes operands (lhs, rhs), got 1.\n"


def test_split_parts_run_alone_and_a_bad_one_does_not_stop_the_rest(thalweg: Thalweg, folder: Path) -> None:
    (folder / "two.mlir").write_text("func.func @main() {\n  oops\n}\n// -----\n" + TWO)
    result = thalweg("opt", "two.mlir", "--split-input-file")
    assert result.exit_code == 1
    assert "two.mlir:2:" in result.stderr
    assert result.stdout.count("module {") == 2
    assert "\n// -----\n" in result.stdout


def test_printing_around_a_pass_that_is_not_there_is_an_error(thalweg: Thalweg) -> None:
    result = thalweg("opt", "tw.mlir", "-p", "dce,cse", "--print-after", "cs")
    assert result.exit_code == 1
    assert "the pipeline has no such pass; did you mean 'cse'?" in result.stderr


def test_list_passes_with_options(thalweg: Thalweg) -> None:
    result = thalweg("opt", "--list-passes")
    assert result.exit_code == 0
    assert "max-iterations=" in result.stdout
    assert "to-stablehlo" in result.stdout


def test_a_reproducer_fails_in_the_same_way(thalweg: Thalweg, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise RuntimeError("boom")

    monkeypatch.setattr(Dce, "run", fail)
    first = thalweg("opt", "tw.mlir", "-p", "inline,dce,cse", "--emit-reproducer", "bug.mlir")
    assert first.exit_code == 1
    assert "pass 'dce' failed: RuntimeError: boom" in first.stderr
    assert (folder / "bug.mlir").read_text().startswith("// thalweg opt bug.mlir --pipeline 'dce,cse'\n")
    again = thalweg("opt", "bug.mlir", "--run-reproducer")
    assert again.exit_code == 1
    assert "pass 'dce' failed: RuntimeError: boom" in again.stderr
    monkeypatch.undo()
    result = thalweg("opt", str(folder / "tw.mlir"), "--run-reproducer")
    assert "not a reproducer" in result.stderr
