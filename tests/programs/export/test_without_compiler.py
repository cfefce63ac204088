"""`tw.load` in a process of its own: the model runs, and nothing of the compiler was imported for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw

COMPILER = ("torch_mlir", "llvmlite", "thalweg.frontend", "thalweg.passes", "thalweg.backends", "thalweg.compiler")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lazy")
    tw.export({"double": (tw.function(lambda x: x * 2), [tw.spec((None, 3))])}, folder, targets=["host", "wasm32"])
    return folder


def _python(text: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", ["", "linux-x86_64"])
def test_nothing_of_the_compiler_is_imported(dist: Path, target: str) -> None:
    if target and not (dist / target).is_dir():
        pytest.skip("for another machine")
    text = (
        "import sys, numpy, thalweg as tw\n"
        "print(tw.load(sys.argv[1]).double(numpy.full((2, 3), 4, numpy.float32)).sum())\n"
        f"print([m for m in sys.modules if m.startswith({COMPILER})])"
    )
    assert _python(text, str(dist / target)).split("\n")[:2] == ["48.0", "[]"]


def test_the_command_line_answers_without_the_compiler() -> None:
    text = f"import sys, thalweg.tools.cli\nprint([m for m in sys.modules if m.startswith({COMPILER})])"
    assert _python(text).strip() == "[]"


def test_the_first_public_name_brings_the_others() -> None:
    text = (
        "import thalweg as tw\n"
        "assert 'ones' not in vars(tw)\n"
        "assert {'ones', 'load', 'export', 'nn'} <= set(dir(tw))\n"
        "from thalweg import *\n"
        "assert nn is tw.nn and load is tw.load and export is tw.export and bool is tw.bool\n"
        "assert tw.frontend.nn is tw.nn and not hasattr(tw, 'array')\n"
        "try: tw.oens\n"
        "except AttributeError as error: print(error)"
    )
    assert _python(text).strip() == "module 'thalweg' has no attribute 'oens'"


def test_a_part_by_itself_finds_the_compiler() -> None:
    text = "from thalweg.frontend import array as xp\nprint((xp.ones((2,)) + 1).tolist())"
    assert _python(text).strip() == "[2.0, 2.0]"


def test_the_loaded_model_gives_the_functions_numbers(dist: Path) -> None:
    x = np.arange(9, dtype=np.float32).reshape(3, 3)
    np.testing.assert_array_equal(tw.load(dist).double(x), x * 2)
