"""Arithmetic that processors leave to a C library: exported libraries bring their own."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects.diagnostics import ExportError

VALUES = [0.0, -0.0, 0.3, -0.3, 0.5, -0.5, 1.5, 2.5, -2.5, -0.7, 3.999, 8388609.0, -123456.7, 1e20, 7.25, -7.25]
DIVISORS = [1.0, 2.0, 0.7, -0.7, 0.3, 1e-3, 5.0, 2.0, -2.0, 0.25, 3.0, 7.0, 11.0, 3.0, 2.5, 2.5]


def arithmetic(x, y):
    wide, whole = tw.astype(x, tw.float64), tw.astype(tw.clip(x, -1e9, 1e9) * 1000, tw.int64)
    many = [tw.floor(x), tw.ceil(x), tw.trunc(x), tw.round(x), x % y, tw.floor(wide), tw.round(wide), wide % 0.7,
            tw.astype(whole // 3, tw.float32), tw.astype(whole % 1013, tw.float64)]  # fmt: skip
    return tw.stack([tw.astype(part, tw.float32) for part in many])


MAIN = """
#include <stdio.h>
#include "model.h"
static float out[{count}];
static char arena[MODEL_RUN_ARENA_BYTES] __attribute__((aligned(64)));
int main(void) {{
  static const float x[] = {{{x}}}, y[] = {{{y}}};
  int k, status = model_run(model_initial_state(), x, y, out, arena, sizeof arena);
  for (k = 0; k < {count}; k++) printf("%.9g ", out[k]);
  return status;
}}
"""
TARGETS = ["linux-x86_64", "linux-arm64", "linux-armv7", "android-armv7", "wasm32", "wasm32-nosimd", "windows-x86_64",
           "macos-arm64"]  # fmt: skip


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, row = tmp_path_factory.mktemp("arithmetic"), tw.spec((len(VALUES),))
    tw.export({"run": (tw.function(arithmetic), [row, row])}, folder, targets=TARGETS, embed=True)
    numbers = {"x": ", ".join(map(repr, VALUES)), "y": ", ".join(map(repr, DIVISORS)), "count": 10 * len(VALUES)}
    (folder / "main.c").write_text(MAIN.format(**numbers))
    return folder


@pytest.fixture(scope="module")
def wanted() -> np.ndarray:
    function = tw.function(arithmetic)
    return np.asarray(function(np.array(VALUES, np.float32), np.array(DIVISORS, np.float32))).ravel()


@pytest.mark.parametrize(("target", "compiler", "runner"), [
    ("linux-x86_64", "gcc", []),
    ("linux-x86_64", "gcc", ["qemu-x86_64", "-cpu", "Nehalem"]),
    ("linux-arm64", "aarch64-linux-gnu-gcc", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]),
    ("linux-armv7", "arm-linux-gnueabihf-gcc", ["qemu-arm", "-L", "/usr/arm-linux-gnueabihf"]),
    ("android-armv7", "arm-linux-gnueabihf-gcc", ["qemu-arm", "-L", "/usr/arm-linux-gnueabihf"]),
])  # fmt: skip
def test_in_c(dist: Path, wanted: np.ndarray, target: str, compiler: str, runner: list[str]) -> None:
    missing = [p for p in (compiler, *runner[:1]) if shutil.which(p) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    library = [f"-L{dist / target}", "-lmodel", f"-Wl,-rpath,{dist / target}"]
    program = str(dist / target / "main")
    subprocess.run([compiler, f"-I{dist / 'include'}", str(dist / "main.c"), *library, "-o", program], check=True)
    told = subprocess.run([*runner, program], capture_output=True, text=True, check=True, timeout=60).stdout
    _close(told, wanted)


@pytest.mark.parametrize("target", ["wasm32", "wasm32-nosimd"])
def test_in_node(dist: Path, wanted: np.ndarray, target: str) -> None:
    if shutil.which("node") is None:
        pytest.skip("node not installed")
    x, y = (f"Float32Array.of({', '.join(map(repr, numbers))})" for numbers in (VALUES, DIVISORS))
    text = f'import {{ load }} from "./{target}/model.mjs";\nconst model = await load();\n'
    (dist / "main.mjs").write_text(text + f"console.log(model.run({{ x: {x}, y: {y} }}).out.join(' '));\n")
    told = subprocess.run(["node", "main.mjs"], cwd=dist, capture_output=True, text=True, check=True, timeout=60).stdout
    _close(told, wanted)


def _close(told: str, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(np.array(told.split(), np.float32), wanted, rtol=1e-6, atol=1e-6)


def test_what_is_still_missing_is_named(tmp_path: Path) -> None:
    """Halves: processors without instructions for them."""
    halves = tw.function(lambda x: tw.sum(tw.astype(x, tw.float16) * 2))
    for target in ("windows-x86_64", "wasm32"):
        with pytest.raises(ExportError, match=r"\.py:\d+.* export for .*sfhf2.*float16: compute in"):
            tw.export({"run": (halves, [tw.spec((8,))])}, tmp_path, targets=[target])
