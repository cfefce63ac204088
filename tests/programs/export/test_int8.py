"""Exported models that multiply in int8: on every processor, near the function, refused where they are too far."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects.diagnostics import ExportError
from thalweg.shipping.api import export

RNG = np.random.default_rng(3)
TARGETS = ["linux-x86_64", "linux-arm64", "linux-armv7", "wasm32", "wasm32-nosimd", "ios-arm64", "windows-x86_64"]


def _weights(*shape: int) -> np.ndarray:
    return (RNG.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)


class Network:
    """Windows of odd sizes with and without padding, one for each channel, pooling, and products."""

    def __init__(self) -> None:
        self.first, self.each, self.wide = _weights(3, 3, 3, 24), _weights(5, 5, 1, 24), _weights(1, 1, 24, 21)
        self.dense, self.last, self.bias = _weights(336, 40), _weights(40, 7), _weights(40)
        self.infer = tw.function(self._infer)

    def _infer(self, x):
        x = tw.nn.relu6(tw.nn.conv(x, self.first, stride=2))
        x = tw.nn.relu(tw.nn.conv(x, self.each, groups=24) + 0.1)
        x = tw.nn.max_pool(tw.nn.relu(tw.nn.conv(x, self.wide)), 2, stride=2)
        return tw.tanh(tw.reshape(x, (x.shape[0], -1)) @ self.dense + self.bias) @ self.last

    def samples(self, rows: int = 3) -> np.ndarray:
        return (np.arange(rows * 16 * 16 * 3) % 23 / 11 - 1).astype(np.float32).reshape(rows, 16, 16, 3)

    def signatures(self):
        return {"infer": (self.infer, [tw.spec((None, 16, 16, 3))])}


C_MAIN = """
#include <stdio.h>
#include "net.h"
static float x[3 * 768], out[3 * 7];
static char arena[NET_INFER_ARENA_BYTES] __attribute__((aligned(64)));
int main(void) {
  int i;
  for (i = 0; i < 3 * 768; i++) x[i] = i % 23 / 11.0f - 1;
  if (net_infer(net_initial_state(), x, out, 3, arena, sizeof arena)) return 1;
  for (i = 0; i < 21; i++) printf("%.9g ", out[i]);
  return 0;
}
"""
JS = """
import { load } from "./TARGET/net.mjs";
import { readFileSync } from "node:fs";
const model = await load(readFileSync(new URL("./TARGET/net.wasm", import.meta.url)));
const x = Float32Array.from({ length: 3 * 768 }, (_, i) => Math.fround(Math.fround((i % 23) / 11) - 1));
console.log(model.infer({ x }).out.join(" "));
"""


def _need(*programs: str) -> None:
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=os.environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module", params=["int8", "int8-dynamic"])
def dist(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    network = Network()
    export(network.signatures(), folder, targets=TARGETS, name="net", weights="int8", arithmetic=request.param,
           samples=network.samples())  # fmt: skip
    (folder / "main.c").write_text(C_MAIN)
    np.save(folder / "expected.npy", np.asarray(network.infer(network.samples())))
    return folder


def _near(folder: Path, found: str) -> None:
    """A processor may round a number that lies between two bytes to the other one."""
    wanted = np.load(folder / "expected.npy")
    numbers = np.array(found.split(), np.float32).reshape(wanted.shape)
    error = np.abs(numbers - wanted).max() / np.abs(wanted).max()
    assert 0 < error < 0.05
    first = folder / "first.npy"
    if not first.exists():
        np.save(first, numbers)
    np.testing.assert_allclose(numbers, np.load(first), atol=0.02 * float(np.abs(wanted).max()))


@pytest.mark.parametrize(("target", "compiler", "runner"), [
    ("linux-x86_64", "gcc", []),
    ("linux-x86_64", "gcc", ["qemu-x86_64", "-cpu", "Nehalem"]),
    ("linux-x86_64", "gcc", ["qemu-x86_64", "-cpu", "Haswell"]),
    ("linux-arm64", "aarch64-linux-gnu-gcc", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]),
    ("linux-armv7", "arm-linux-gnueabihf-gcc", ["qemu-arm", "-L", "/usr/arm-linux-gnueabihf"]),
])  # fmt: skip
def test_c(dist: Path, target: str, compiler: str, runner: list[str]) -> None:
    _need(compiler, *runner[:1])
    _run([compiler, "-O1", "-Iinclude", "main.c", f"{target}/libnet.a", "-o", f"{target}/main"], dist)
    _near(dist, _run([*runner, f"./{target}/main"], dist))


@pytest.mark.parametrize("target", ["wasm32", "wasm32-nosimd"])
def test_node(dist: Path, target: str) -> None:
    _need("node")
    (dist / f"{target}.main.mjs").write_text(JS.replace("TARGET", target))
    _near(dist, _run(["node", f"{target}.main.mjs"], dist))


def test_products_are_in_bytes(dist: Path) -> None:
    text = (dist / "asm" / "linux-x86_64.s").read_text()
    assert "vpdpbusd" in text
    assert "pmaddwd" in text


def test_the_same_bytes_again(tmp_path: Path) -> None:
    network = Network()
    for turn in range(2):
        export(network.signatures(), tmp_path / str(turn), name="net", weights="int8", arithmetic="int8",
               samples=network.samples())  # fmt: skip
    hashes = [(tmp_path / str(turn) / "manifest.json").read_text() for turn in range(2)]
    assert hashes[0] == hashes[1]


def test_rows_have_scales_of_their_own(tmp_path: Path) -> None:
    """Dynamic quantisation of a row does not depend on the others: a tiny row beside a large one keeps its digits."""
    w = _weights(64, 32)
    function = tw.function(lambda x: x @ w)
    export({"run": (function, [tw.spec((None, 64))])}, tmp_path, weights="int8", arithmetic="int8-dynamic")
    x = RNG.normal(size=(9, 64)).astype(np.float32)
    x[::2] *= 1e-4
    found, wanted = tw.load(tmp_path).run(x), x @ w
    error = np.abs(found - wanted).max(axis=1) / np.abs(wanted).max(axis=1)
    assert error.max() < 0.03
    np.testing.assert_array_equal(found[3], tw.load(tmp_path).run(x[3:4])[0])


def test_products_in_loops_are_made_in_bytes(tmp_path: Path) -> None:
    w = _weights(48, 48)

    def step(carry, row):
        return tw.tanh(carry @ w + row), None

    function = tw.function(lambda x: tw.scan(step, tw.zeros((1, 48)), x)[0])
    x = RNG.normal(size=(5, 1, 48)).astype(np.float32)
    report = export({"run": (function, [tw.spec((5, 1, 48))])}, tmp_path, weights="int8", arithmetic="int8", samples=x)
    assert 0 < report.errors[0].largest < 0.05
    assert "vpdpbusd" in next((tmp_path / "asm").glob("*.s")).read_text() or os.uname().machine != "x86_64"


def test_too_large_an_error_is_refused(tmp_path: Path) -> None:
    network = Network()
    with pytest.raises(ExportError, match=r"largest error .* above max_error=1e-06. Keep more bits"):
        export(network.signatures(), tmp_path, weights="int8", arithmetic="int8", samples=network.samples(),
               max_error=1e-6)  # fmt: skip


@pytest.mark.parametrize(("weights", "arithmetic", "message"), [
    ("f32", "int8", r"arithmetic='int8' multiplies weights in int8, but weights='f32'. Give weights='int8', too"),
    ("bf16", "int8-dynamic", r"but weights='bf16'"),
    ("int8", "int9", r"unknown arithmetic 'int9'; did you mean 'int8'\?"),
])  # fmt: skip
def test_what_does_not_go_together(tmp_path: Path, weights: str, arithmetic: str, message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export(Network().signatures(), tmp_path, weights=weights, arithmetic=arithmetic)


def test_trained_weights_keep_their_bits(tmp_path: Path) -> None:
    w = tw.Variable(_weights(64, 32), name="w")
    infer = tw.function(lambda x: x @ w)
    train = tw.function(lambda x: w.assign_sub(0.1 * tw.ones((64, 32)) * tw.mean(x)))
    signatures = {"infer": (infer, [tw.spec((2, 64))]), "train": (train, [tw.spec((2, 64))])}
    export(signatures, tmp_path, weights="int8", arithmetic="int8-dynamic")
    x = RNG.normal(size=(2, 64)).astype(np.float32)
    np.testing.assert_allclose(tw.load(tmp_path).infer(x), x @ w.numpy(), rtol=1e-4, atol=1e-5)


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(
        "import numpy as np\nimport thalweg as tw\nw = np.ones((64, 32), np.float32)\n"
        "@tw.function(signature=[tw.spec((4, 64))])\ndef infer(x):\n    return x @ w\n"
    )
    command = [sys.executable, "-m", "thalweg", "export", "model.py:infer", "--weights", "int8", "--out", "dist"]
    _run([*command, "--arithmetic", "int8"], tmp_path)
    x = RNG.normal(size=(4, 64)).astype(np.float32)
    np.testing.assert_allclose(tw.load(tmp_path / "dist").infer(x), x @ np.ones((64, 32), np.float32), atol=0.6)
    done = subprocess.run([*command, "--arithmetic", "int9"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "none of f32, int8, int8-dynamic" in " ".join(done.stderr.split())
