"""The pages of docs/export: their files are written, their commands run, and print what stands there.

A block belongs to the file that the comment in its first line names; `text` is what the commands before it print.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import thalweg as tw
from thalweg.tools.cli import app

PAGES = Path(__file__).resolve().parents[3] / "docs" / "export"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"(?:#|//|/\*|<!--) (\w+\.\w+)(?: \*/| -->)?")
NEEDED = {
    "android": ["javac", "unzip"], "apple": [], "c": ["gcc", "cmake", "make"], "java": ["java", "javac"], "python": [],
    "tpu": [], "web": ["node"],
}  # fmt: skip


def test_every_page_is_here() -> None:
    assert {page.stem for page in PAGES.glob("*.md")} == set(NEEDED)


@pytest.mark.parametrize("name", NEEDED)
def test_a_page(name: str, tmp_path: Path) -> None:
    missing = [program for program in NEEDED[name] if shutil.which(program) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        pytest.skip("the pages name the folder linux-x86_64")
    if name == "tpu":
        pytest.importorskip("jax")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "JAX_PLATFORMS": "cpu"}
    printed, compared = "", 0
    for kind, text in BLOCK.findall((PAGES / f"{name}.md").read_text()):
        if file := NAME.match(text):
            (tmp_path / file[1]).write_text(text)
        elif kind == "sh":
            commands = re.sub(r"^pip install .*$", "", text, flags=re.MULTILINE)
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=tmp_path, env=environment,
                                  capture_output=True, text=True, timeout=200, check=False)  # fmt: skip
            assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
            printed = done.stdout
        elif kind == "text":
            assert printed.endswith(text), f"{printed!r} does not end with {text!r}"
            compared += 1
    assert compared


def test_programs_of_a_file_share_its_variables(tmp_path: Path) -> None:
    (tmp_path / "counter.py").write_text(
        "import thalweg as tw\nn = tw.Variable(tw.zeros(()), name='n')\n"
        "@tw.function(signature=[])\ndef up():\n    n.assign_add(1.0)\n    return n + 0\n"
        "@tw.function(signature=[])\ndef down():\n    n.assign_sub(1.0)\n    return n + 0\n"
    )
    file, folder = str(tmp_path / "counter.py"), tmp_path / "dist"
    done = CliRunner().invoke(app, ["export", f"{file}:up", f"{file}:down", "--out", str(folder)])
    assert done.exit_code == 0, done.output
    model = tw.load(folder)
    assert list(model.state) == ["n"]
    assert [float(f()) for f in (model.up, model.up, model.down)] == [1, 2, 1]
