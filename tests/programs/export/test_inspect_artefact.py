"""`thalweg inspect` on what was exported: every file format tells its sections, its kernels and their code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import thalweg as tw
from thalweg.backends.aot.link.sizes import functions, sections
from thalweg.dialects.diagnostics import ExportError
from thalweg.tools.cli import app

TARGETS = ["linux-x86_64", "linux-armv7", "macos-arm64", "windows-x86_64", "wasm32"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspected")
    rng = np.random.default_rng(0)
    w = tw.Variable(rng.normal(size=(40, 30)).astype(np.float32), name="head/dense/w")
    samples = rng.normal(size=(3, 40)).astype(np.float32)
    function = tw.function(lambda x: tw.nn.softmax(tw.tanh(x @ w)))
    tw.export({"infer": (function, [tw.spec((None, 40))])}, folder, targets=TARGETS, weights="bf16", samples=samples)
    return folder


def _inspect(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.output


def test_the_overview_adds_up(dist: Path) -> None:
    shown = _inspect(dist)
    assert re.search(r"infer +x: f32\[n,40\] +out: f32\[n,30\] +[\d,]+ +read", shown)
    assert re.search(r"2,400 +head/dense *\n *2,400 +0 +w +bf16\[40,30\]", shown)
    assert "error on the samples, infer.out: largest" in shown
    for target in TARGETS:
        assert re.search(rf"k\d+_contract\.infer_8\S* +{target}", shown), target
    manifest = json.loads((dist / "manifest.json").read_text())
    assert all(name in shown for name in manifest["files"])


def test_functions_fill_the_code_section(dist: Path) -> None:
    details = json.loads((dist / "details.json").read_text())
    for path in [*dist.glob("*/*.a"), *dist.glob("*/*.lib")]:
        data = path.read_bytes()
        sizes, parts = functions(data), sections(data)
        code = parts.get(".text") or parts["__text"]
        assert sizes == details["code"][path.parent.name]
        assert 0.9 * code < sum(sizes.values()) <= code, path
    parts = sections((dist / "wasm32" / "model.wasm").read_bytes())
    assert 0.9 * parts["code"] < sum(details["code"]["wasm32"].values()) <= parts["code"]


def test_sizes_are_those_that_binutils_tell(dist: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed")
    library = dist / "linux-x86_64" / "libmodel.a"
    told = subprocess.run(["nm", "-S", library], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in told.splitlines()]
    expected = {row[3]: int(row[1], 16) for row in rows if len(row) == 4 and row[2] in "tT"}
    assert functions(library.read_bytes()) == expected


@pytest.mark.parametrize("target", TARGETS)
def test_the_code_of_a_kernel(dist: Path, target: str) -> None:
    shown = _inspect(dist / target, "--asm", "_contract.")
    blocks = re.split(r"^k\d_contract\S+, \S+ [\d,]+ bytes$", shown, flags=re.MULTILINE)[1:]
    assert len(blocks) == (6 if "x86_64" in target else 2)  # two numbers of rows, three kinds of processor
    assert all(len(block.splitlines()) > 15 and "k2_" not in block for block in blocks)
    assert (dist / "asm" / f"{target}.s").stat().st_size < 200_000


def test_the_memory_plan(dist: Path) -> None:
    shown = _inspect(dist, "--memory")
    assert "Memory of infer_8 on linux-x86_64" in shown and "Memory of infer_1" in shown
    assert re.search(r"2,400 +argument \d+ .* bf16\[40,30\]", shown)


@pytest.mark.parametrize("library", ["linux-x86_64/libmodel.so", "linux-armv7/libmodel.a", "wasm32/model.wasm"])
def test_a_library_by_itself(dist: Path, tmp_path: Path, library: str) -> None:
    alone = tmp_path / Path(library).name
    shutil.copy(dist / library, alone)
    shown = _inspect(alone)
    assert "Signatures of model" in shown and alone.name in shown
    done = CliRunner().invoke(app, ["inspect", str(alone), "--memory"])
    assert done.exit_code == 1 and "is by itself" in done.output


def test_what_is_no_artefact(dist: Path, tmp_path: Path) -> None:
    (tmp_path / "libmodel.so").write_bytes(b"\x7fELF\x02\x01 and no more")
    for arguments, words in [
        ([tmp_path / "libmodel.so"], "was not written by tw.export"),
        ([dist / "linux-x86_64", "--asm", "k9"], "no function of linux-x86_64 is called 'k9'"),
        ([dist / "nothing.so"], "has no target 'nothing.so'"),
    ]:
        done = CliRunner().invoke(app, ["inspect", *map(str, arguments)])
        assert done.exit_code == 1 and re.search(words, done.output.replace("\n", " ")), done.output
    with pytest.raises(ExportError, match="truncated"):
        sections((dist / "linux-x86_64" / "libmodel.so").read_bytes()[:300])
    with pytest.raises(ExportError, match="not a library"):
        sections(b"hello")
