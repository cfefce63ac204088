"""The benchmarks that an exported model brings along: they compile without a warning, run, and tell what is wrong."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import thalweg as tw
from thalweg.tools.cli import app


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benched")
    w = tw.Variable(np.ones((20, 30), np.float32), name="w")

    def step(x, y, k):
        w.assign_add(tw.mean(x) * tw.ones((20, 30)))
        return {"a": y + tw.astype(k, tw.int32), "b": tw.sum(w)}

    specs = [tw.spec((4, 20)), tw.spec((3,), tw.int32), tw.spec((), tw.bool)]
    signatures = {"infer": (lambda x: tw.tanh(x @ w), [tw.spec((None, 20))]), "step": (step, specs)}
    tw.export(signatures, folder, targets=["host", "wasm32", "macos-arm64"], embed=False)
    return folder


def _need(*programs: str) -> None:
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


def _measured(output: str) -> None:
    rows = re.findall(r"^(\w+) +([\d.]+) +([\d.]+) +(\d+)$", output, flags=re.MULTILINE)
    assert [row[0] for row in rows] == ["infer", "step"], output
    assert all(float(median) >= float(best) >= 0 and int(runs) >= 5 for _, median, best, runs in rows)


def test_the_program_compiles_without_a_warning(dist: Path) -> None:
    _need("gcc")
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-fsyntax-only", f"-I{dist / 'include'}"]
    subprocess.run(["gcc", *flags, dist / "bench" / "main.c"], check=True, timeout=60)


def test_bench_runs_it(dist: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _need("cc")
    assert CliRunner().invoke(app, ["bench", str(dist), "3"]).exit_code == 0
    _measured(capfd.readouterr().out)


def test_bench_under_node(dist: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _need("node")
    assert CliRunner().invoke(app, ["bench", str(dist / "wasm32")]).exit_code == 0
    _measured(capfd.readouterr().out)


def test_weights_that_do_not_fit(dist: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _need("cc")
    copy = tmp_path / "copy"
    shutil.copytree(dist, copy)
    whole = (copy / "weights.safetensors").read_bytes()
    (copy / "weights.safetensors").write_bytes(whole[:-1])
    assert CliRunner().invoke(app, ["bench", str(copy)]).exit_code == 1
    assert "does not hold the weights of this model" in capfd.readouterr().err


@pytest.mark.parametrize(("arguments", "words"), [
    (["windows-x86_64"], "has no target 'windows-x86_64'"),
    (["macos-arm64"], "does not run here"),
    (["", "many"], "the number of rows"),
])  # fmt: skip
def test_what_cannot_be_measured(dist: Path, arguments: list[str], words: str) -> None:
    (dist / "windows-x86_64").mkdir(exist_ok=True)
    done = CliRunner().invoke(app, ["bench", str(dist / arguments[0]), *arguments[1:]])
    assert done.exit_code == 1 and words in done.output.replace("\n", " ")
