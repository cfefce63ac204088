"""A user's files, and the command line called in-process."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from thalweg.tools.cli import app

MODEL = """\
import numpy as np
import thalweg as tw

w = tw.Variable(np.ones((3, 2), np.float32), name="cli_w")


@tw.function
def f(a, b, *, scale=2.0):
    return {"sum": (a @ b) * scale, "top": tw.max(a, axis=-1)}


def loss(x):
    y = tw.log(x)
    return tw.sum(y * 2.0)


loss.example_inputs = (np.array([1.0, 2.0, -3.0], np.float32),)


@tw.function
def step(x):
    def inner():
        return tw.sum(tw.tanh(x @ w) ** 2)

    value, (g,) = tw.value_and_grad(inner, wrt=[w])()
    w.assign(w - 0.1 * g)
    return value


step.example_inputs = lambda: np.ones((4, 3), np.float32)


def broken(x):
    return undefined_name(x)


def nothing():
    return tw.ones((2,))


def keyword(*, x):
    return x


keyword.example_inputs = ()
constant = 3


@tw.function
def halves(x):
    with tw.device("/job:ps"):
        y = tw.exp(x)
    with tw.device("/job:worker"):
        return tw.sum(y)


halves.example_inputs = (np.zeros(3, np.float32),)
"""

TW = """\
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %0 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32> loc("loss"("model.py":3:0))
  %1 = "tw.neg"(%0) : (tensor<3xf32>) -> tensor<3xf32> loc("loss"("model.py":4:0))
  %2 = "tw.tanh"(%1) : (tensor<3xf32>) -> tensor<3xf32> loc("loss"("model.py":5:0))
  return %2 : tensor<3xf32>
}
"""

STABLEHLO = """\
module @jit_f {
  func.func public @main(%arg0: tensor<3xf32>) -> tensor<3xf32> {
    %0 = stablehlo.negate %arg0 : tensor<3xf32> loc("jit(f)/neg"("model.py":3:0))
    %1 = stablehlo.log %0 : tensor<3xf32> loc("jit(f)/log"("model.py":4:0))
    return %1 : tensor<3xf32>
  }
}
"""

VARIABLE = """\
func.func @main(%x: tensor<3xf32>) -> tensor<3xf32> {
  %v = "tw.variable_handle"() {name = "w", shape = array<i64: 3>, dtype = f32} : () -> !tw.variable<tensor<3xf32>>
  %0 = "tw.read"(%v) : (!tw.variable<tensor<3xf32>>) -> tensor<3xf32>
  "tw.assign_add"(%v, %x) : (!tw.variable<tensor<3xf32>>, tensor<3xf32>) -> ()
  return %0 : tensor<3xf32>
}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a model in each form; what loading it adds to the interpreter is taken away again."""
    files = {"model.py": MODEL, "tw.mlir": TW, "stablehlo.mlir": STABLEHLO, "variable.mlir": VARIABLE}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("model", None)


@pytest.fixture
def thalweg(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command line in that directory; the result has `exit_code`, `stdout` and `stderr`."""
    monkeypatch.setitem(os.environ, "THALWEG_CACHE", "0")
    runner = CliRunner()

    def call(*arguments: str, stdin: str | bytes | None = None) -> Any:
        result = runner.invoke(app, list(arguments), input=stdin)
        assert "Traceback" not in result.output or "--traceback" in arguments
        return result

    return call
