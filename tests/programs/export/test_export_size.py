"""How small exported code is, and that the same input gives the same bytes in any process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import thalweg as tw

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

PROGRAM = """
import sys
import numpy as np
import thalweg as tw

w = tw.Variable(np.linspace(-1, 1, 24 * 33, dtype=np.float32).reshape(24, 33), name="w")
b = tw.Variable(np.zeros(33, np.float32), name="b")

def infer(x):
    return {"p": tw.nn.softmax(tw.tanh(x @ w + b)), "largest": tw.max(x, axis=1)}

def train(x):
    loss, gradients = tw.value_and_grad(lambda: tw.mean(infer(x)["p"] ** 2), wrt=[w, b])()
    w.assign_sub(gradients[0])
    b.assign_sub(gradients[1])
    return loss

signatures = {"infer": (tw.function(infer), [tw.spec((None, 24))]), "train": (tw.function(train), [tw.spec((16, 24))])}
tw.export(signatures, sys.argv[1], targets=sys.argv[2].split(","), threads=4, weights="bf16", java=False)
"""


def _bytes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_other_processes_write_the_same_bytes(tmp_path: Path) -> None:
    """Whatever the order of sets."""
    (tmp_path / "program.py").write_text(PROGRAM)
    targets = "linux-x86_64,linux-armv7,wasm32,windows-x86_64,macos-arm64,tpu"
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path / seed), targets]
        subprocess.run(command, env=environment, check=True, timeout=200)
    first, second = _bytes(tmp_path / "1"), _bytes(tmp_path / "2")
    assert len(first) > 25
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize(("name", "most"), [("mlp", 20_000), ("mobilenet", 200_000)])
def test_code_beyond_the_weights(tmp_path: Path, name: str, most: int) -> None:
    """The library that holds code for three kinds of processors, and all beside code that it consists of."""
    from benchmarks.export.models import MODELS
    from benchmarks.export.ours import apply

    model = MODELS[name]()

    def infer(x):
        for layer in model.layers:
            x = apply(layer, x)
        return x

    signatures = {"infer": (tw.function(infer), [tw.spec(model.shape)])}
    tw.export(signatures, tmp_path, targets=["linux-x86_64", "android-arm64", "wasm32"], embed=False)
    for path in ("linux-x86_64/libmodel.so", "android-arm64/libmodel.so", "wasm32/model.wasm"):
        assert (tmp_path / path).stat().st_size < most, path
