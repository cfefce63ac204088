"""Warm starts: a later process neither traces nor compiles; anything that could change the program prevents that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, numpy as np, thalweg as tw
tw.config.warm_start = True
SCALE = {scale}

def helper(x):
    return tw.tanh(x) * SCALE

w = tw.Variable(np.full((3,), 2.0, np.float32), name="w")
table = np.arange(300, dtype=np.float32).reshape(100, 3)

@tw.function
def f(x, *, twice=False):
    print("traced")
    w.assign_add(x)
    return {{"out": helper(x) + w + table[7], "pair": (x, [w * 2.0])}}

x = np.ones(3, np.float32)
result = f(x)
print(np.asarray(result["out"]).tolist(), np.asarray(result["pair"][1][0]).tolist(), np.asarray(w.value).tolist())
"""


def _run(folder: Path, text: str) -> list[str]:
    script = folder / "program.py"
    script.write_text(text)
    path = ":".join(p for p in sys.path if p)
    environment = {"THALWEG_CACHE_DIR": str(folder / "cache"), "PATH": "", "PYTHONPATH": path}
    command = [sys.executable, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.timeout(300)
def test_the_second_process_does_not_trace_and_a_changed_global_does(tmp_path: Path) -> None:
    first = _run(tmp_path, PROGRAM.format(scale=1.0))
    second = _run(tmp_path, PROGRAM.format(scale=1.0))
    changed = _run(tmp_path, PROGRAM.format(scale=3.0))
    assert first[0] == "traced" and second == first[1:]
    assert changed[0] == "traced" and changed[1] != first[1]


@pytest.mark.timeout(300)
def test_a_function_that_reaches_an_open_file_is_traced_each_time(tmp_path: Path) -> None:
    text = PROGRAM.format(scale="(open(__file__), 1.0)").replace("* SCALE", "* SCALE[1]")
    assert _run(tmp_path, text)[0] == "traced"
    assert _run(tmp_path, text)[0] == "traced"
