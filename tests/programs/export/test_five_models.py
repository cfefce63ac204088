"""An MLP, a convnet, an LSTM, a MobileNet and a transformer for every target: run where this machine can, against the
NumPy reference; linked, with nothing missing, where it cannot.

Linkers, emulators and engines that are not installed are skipped; zig comes with `pip install ziglang`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from export_zoo import ZOO, expected, sample

import thalweg as tw
from thalweg.backends.aot.targets import TARGETS
from thalweg.backends.stablehlo import artefact, importer, interpreter

MAIN = """
#include <stdio.h>
#include "model.h"
static float x[{inputs}], out[{outputs}];
static char arena[MODEL_INFER_ARENA_BYTES] __attribute__((aligned(64)));
int main(void) {{
  int i;
  for (i = 0; i < {inputs}; i++) x[i] = (i % 17 - 8) / 8.0f;
  if (model_infer(model_initial_state(), x, out, arena, sizeof arena) != MODEL_OK) return 1;
  for (i = 0; i < {outputs}; i++) printf("%.9g ", out[i]);
  return 0;
}}
"""
NODE = """
import {{ load }} from "./{target}/model.mjs";
const model = await load(new URL("./{target}/{file}", import.meta.url));
const {{ out }} = model.infer({{ x: Float32Array.from({{ length: {inputs} }}, (_, i) => (i % 17 - 8) / 8) }});
console.log(out.join(" "));
"""
RELAXED = "--experimental-wasm-relaxed-simd"  # what node up to 20 calls it; later ones have it without being asked


@dataclass
class Exported:
    folder: Path
    inputs: int
    wanted: np.ndarray

    def check(self, told: str) -> None:
        np.testing.assert_allclose(np.array(told.split(), np.float32), self.wanted.ravel(), rtol=2e-4, atol=2e-6)


@pytest.fixture(scope="module", params=ZOO)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp(request.param)
    infer, shape = ZOO[request.param]()
    function = tw.function(infer)
    tw.export({"infer": (function, [tw.spec(shape)])}, folder, targets=[*TARGETS, "tpu"], embed=True)
    wanted = expected(function, shape)
    (folder / "main.c").write_text(MAIN.format(inputs=np.prod(shape), outputs=wanted.size))
    return Exported(folder, int(np.prod(shape)), wanted)


def _run(command: list[str], folder: Path) -> str:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} not installed")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _zig() -> list[str]:
    """The command that runs zig, from its package or from the path."""
    package = subprocess.run([sys.executable, "-m", "ziglang", "version"], capture_output=True, check=False)
    if package.returncode == 0:
        return [sys.executable, "-m", "ziglang"]
    if shutil.which("zig") is None:
        pytest.skip("zig not installed: pip install ziglang")
    return ["zig"]


ARM64, ARMV7 = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"], ["qemu-arm", "-L", "/usr/arm-linux-gnueabihf"]


@pytest.mark.parametrize(("target", "compiler", "runner"), [
    ("linux-x86_64", "gcc", []),
    ("linux-x86_64", "gcc", ["qemu-x86_64", "-cpu", "Haswell"]),
    ("linux-x86_64", "gcc", ["qemu-x86_64", "-cpu", "Nehalem"]),
    ("android-x86_64", "gcc", []),
    ("linux-arm64", "aarch64-linux-gnu-gcc", ARM64),
    ("android-arm64", "aarch64-linux-gnu-gcc", ARM64),
    ("linux-armv7", "arm-linux-gnueabihf-gcc", ARMV7),
    ("android-armv7", "arm-linux-gnueabihf-gcc", ARMV7),
])  # fmt: skip
def test_in_c(model: Exported, target: str, compiler: str, runner: list[str]) -> None:
    """Android's libraries are called as Linux's are: only pointers and integers are passed."""
    if runner and shutil.which(runner[0]) is None:
        pytest.skip(f"{runner[0]} not installed")
    library = [f"-L{target}", "-lmodel", f"-Wl,-rpath,{model.folder / target}"]
    program = f"{target}/main"
    _run([compiler, "-O1", "-Iinclude", "main.c", *library, "-o", program], model.folder)
    model.check(_run([*runner, str(model.folder / program)], model.folder))


@pytest.mark.parametrize(("target", "file"), [
    ("wasm32", "model.wasm"), ("wasm32", "model.relaxed.wasm"), ("wasm32-nosimd", "model.wasm"),
])  # fmt: skip
def test_in_node(model: Exported, target: str, file: str) -> None:
    (model.folder / "main.mjs").write_text(NODE.format(target=target, file=file, inputs=model.inputs))
    options = [RELAXED] if "relaxed" in file and RELAXED in _run(["node", "--v8-options"], model.folder) else []
    model.check(_run(["node", *options, "main.mjs"], model.folder))


def test_in_python(model: Exported) -> None:
    found = tw.load(model.folder).infer(sample(_shape(model)))
    np.testing.assert_allclose(found, model.wanted, rtol=2e-4, atol=2e-6)


def _manifest(model: Exported) -> dict:
    found: dict = json.loads((model.folder / "manifest.json").read_text())
    return found


def _shape(model: Exported) -> tuple[int, ...]:
    (row,) = _manifest(model)["signatures"]["infer"]["inputs"]
    return tuple(row["shape"])


def test_in_the_interpreter_of_stablehlo(model: Exported) -> None:
    (program,) = _manifest(model)["tpu"]["programs"]["infer"]
    state, x = tw.load(model.folder).state, sample(_shape(model))
    module = importer.prepare(artefact.deserialize((model.folder / program["file"]).read_bytes()))
    (found,) = interpreter.evaluate(module, [x, *(state[name] for name in program["state"])])
    np.testing.assert_allclose(found, model.wanted, rtol=2e-4, atol=2e-6)


def test_in_pjrt(model: Exported) -> None:
    pytest.importorskip("jax")
    with tw.config.override(virtual_tpus=1):
        found = tw.load(model.folder, device="tpu:0").infer(sample(_shape(model)))
    np.testing.assert_allclose(found, model.wanted, rtol=2e-4, atol=2e-6)


@pytest.mark.parametrize(("target", "command"), [
    ("linux-x86_64", ["ld.lld", "-shared", "--no-undefined", "--whole-archive", "TARGET/libmodel.a"]),
    ("android-arm64", ["ld.lld", "-shared", "--no-undefined", "-z", "max-page-size=16384", "--whole-archive",
                       "TARGET/libmodel.a"]),
    ("android-armv7", ["ld.lld", "-shared", "--no-undefined", "--whole-archive", "TARGET/libmodel.a"]),
    ("windows-x86_64", ["lld-link", "/dll", "/noentry", "/export:model_infer", "/wholearchive:TARGET/model.lib"]),
    ("macos-arm64", ["ld64.lld", "-arch", "arm64", "-platform_version", "macos", "12.0", "12.0", "-dylib", "-all_load",
                     "-undefined", "error", "TARGET/libmodel.a"]),
    ("ios-arm64", ["ld64.lld", "-arch", "arm64", "-platform_version", "ios", "14.0", "14.0", "-dylib", "-all_load",
                   "-undefined", "error", "TARGET/libmodel.a"]),
])  # fmt: skip
def test_lld_links_it_alone(model: Exported, target: str, command: list[str]) -> None:
    """Nothing is missing, on systems that this machine is not."""
    name = command[0]
    found = next((p for p in (name, f"{name}-14", f"{name}-19") if shutil.which(p)), name)
    output = f"{target}/linked"
    out = [f"/out:{output}"] if name == "lld-link" else ["-o", output]
    _run([found, *(part.replace("TARGET", target) for part in command[1:]), *out], model.folder)
    assert (model.folder / output).stat().st_size > 1000


@pytest.mark.slow
@pytest.mark.parametrize(("target", "triple", "runner"), [
    ("linux-x86_64", "x86_64-linux-gnu", []),
    ("linux-arm64", "aarch64-linux-musl", ["qemu-aarch64"]),
    ("linux-armv7", "arm-linux-musleabihf", ["qemu-arm"]),
    ("macos-arm64", "aarch64-macos.12.0", None),
])  # fmt: skip
def test_zig_links_it(model: Exported, target: str, triple: str, runner: list[str] | None) -> None:
    """zig makes each system's C library when it is first asked for it: a minute each."""
    program = f"{target}/zig_main"
    command = [*_zig(), "cc", "-target", triple, "-O1", "-Iinclude", "main.c", f"{target}/libmodel.a", "-o", program]
    _run(command, model.folder)
    if runner is not None:
        model.check(_run([*runner, os.fspath(model.folder / program)], model.folder))
