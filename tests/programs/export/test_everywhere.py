"""Exported models where they are to run: C on four processors, JavaScript in node and in a browser, Java, CMake.

Compilers, emulators and browsers that are not installed are skipped: on Debian `apt install gcc-aarch64-linux-gnu
gcc-arm-linux-gnueabihf qemu-user cmake nodejs chromium default-jdk` brings them all.
"""

from __future__ import annotations

import functools
import http.server
import os
import plistlib
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from export_models import Digits, expected

from thalweg.shipping.api import export

TARGETS = ["linux-x86_64", "linux-arm64", "linux-armv7", "android-arm64", "android-armv7", "android-x86_64",
           "ios-arm64", "ios-simulator", "macos-arm64", "windows-x86_64", "wasm32", "wasm32-nosimd"]  # fmt: skip

C_MAIN = """
#include <stdio.h>
#include <string.h>
#include "digits.h"
static float x[16 * 24], out[11 * 5], loss[1], largest[1];
static int32_t y[16];
static char arena[DIGITS_TRAIN_STEP_ARENA_BYTES + DIGITS_INFER_ARENA_BYTES] __attribute__((aligned(64)));
static char state[DIGITS_STATE_BYTES] __attribute__((aligned(64)));
static char file[DIGITS_STATE_BYTES + 4096];
static float last;
static int infer(void) {
  int status = digits_infer(state, x, out, 11, arena, sizeof arena);
  printf("%.9g %.9g ", out[0], out[54]);
  last = out[0];
  return status;
}
int main(void) {
  int i, bad = 0;
  for (i = 0; i < 16 * 24; i++) x[i] = (i % 17 - 8) / 8.0f;
  for (i = 0; i < 16; i++) y[i] = i % 5;
  memcpy(state, digits_initial_state(), DIGITS_STATE_BYTES);
  bad |= infer();
  for (i = 0; i < 5; i++) {
    bad |= digits_train_step(state, x, y, loss, largest, arena, sizeof arena);
    printf("%.9g ", loss[0]);
  }
  bad |= infer();
  bad |= digits_abi() != DIGITS_ABI || digits_state_bytes() != DIGITS_STATE_BYTES;
  bad |= digits_arena_bytes(DIGITS_INFER) != DIGITS_INFER_ARENA_BYTES || digits_arena_bytes(9) != 0;
  bad |= digits_file_bytes() > sizeof file || digits_save(state, file, sizeof file) != DIGITS_OK;
  memset(state, 0, sizeof state);
  bad |= digits_restore(file, digits_file_bytes() - 1, state) != DIGITS_WRONG_LAYOUT || state[0] != 0;
  bad |= digits_restore(file, digits_file_bytes(), state) != DIGITS_OK;
  bad |= digits_restore(0, 9, state) != DIGITS_NULL_POINTER || digits_restore(file, 9, 0) != DIGITS_NULL_POINTER;
  bad |= digits_save(state, 0, 9) != DIGITS_NULL_POINTER || digits_save(state, file, 9) != DIGITS_SHORT_ARENA;
  out[0] = 0;
  bad |= digits_infer(state, x, out, 11, arena, sizeof arena) || out[0] != last;
  bad |= digits_infer(0, x, out, 1, arena, sizeof arena) != DIGITS_NULL_POINTER;
  bad |= digits_infer(state, 0, out, 1, arena, sizeof arena) != DIGITS_NULL_POINTER;
  bad |= digits_infer(state, x, out, 1, arena, 1) != DIGITS_SHORT_ARENA;
  bad |= digits_infer(state, x, out, 1, arena + 4, sizeof arena) != DIGITS_MISALIGNED;
  bad |= digits_infer(state, x, out, -1, arena, sizeof arena) != DIGITS_NEGATIVE_BATCH;
  printf("%d\\n", bad);
  return 0;
}
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("everywhere")
    export(Digits().signatures(), folder, targets=TARGETS, name="digits")
    (folder / "main.c").write_text(C_MAIN)
    return folder


@pytest.fixture(scope="module")
def numbers() -> list[float]:
    return expected()


def _need(*programs: str) -> None:
    missing = [p for p in programs if shutil.which(p) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")


def _run(command: list[str], folder: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=120, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _same(output: str, numbers: list[float]) -> None:
    *found, bad = map(float, output.split())
    assert bad == 0
    np.testing.assert_allclose(found, numbers, rtol=2e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("target", "compiler", "runner"), [
    ("linux-x86_64", "gcc", []),
    ("linux-arm64", "aarch64-linux-gnu-gcc", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]),
    ("linux-armv7", "arm-linux-gnueabihf-gcc", ["qemu-arm", "-L", "/usr/arm-linux-gnueabihf"]),
    ("android-arm64", "aarch64-linux-gnu-gcc", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]),
    ("android-x86_64", "gcc", []),
    # A processor of each kind that the library chooses among: without AVX, with AVX2, and whatever this machine has.
    ("linux-x86_64", "gcc", ["qemu-x86_64", "-cpu", "Nehalem"]),
    ("linux-x86_64", "gcc", ["qemu-x86_64", "-cpu", "Haswell"]),
])  # fmt: skip
def test_c(dist: Path, numbers: list[float], target: str, compiler: str, runner: list[str], shared: bool) -> None:
    _need(compiler, *runner[:1])
    library = [f"-L{target}", "-ldigits", f"-Wl,-rpath,{dist / target}"] if shared else [f"{target}/libdigits.a"]
    program = f"{target}/main_{'shared' if shared else 'static'}"
    _run([compiler, "-O1", "-Wall", "-Werror", "-Iinclude", "main.c", *library, "-o", program], dist)
    _same(_run([*runner, f"./{program}"], dist), numbers)


def test_cpp_compiles_the_header(dist: Path) -> None:
    _need("g++")
    (dist / "header.cpp").write_text('#include "digits.h"\nint main() { return digits_abi() - DIGITS_ABI; }\n')
    flags = ["-Wall", "-Wextra", "-pedantic", "-Iinclude"]
    _run(["g++", *flags, "header.cpp", "linux-x86_64/libdigits.a", "-o", "h"], dist)
    _run(["./h"], dist)


def test_cmake(dist: Path, numbers: list[float]) -> None:
    _need("cmake", "gcc", "make")
    (dist / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nset(digits_DIR ${CMAKE_CURRENT_SOURCE_DIR}/cmake)\n"
        "find_package(digits REQUIRED)\nadd_executable(app main.c)\ntarget_link_libraries(app digits::digits)\n"
    )
    _run(["cmake", "-S", ".", "-B", "build"], dist)
    _run(["cmake", "--build", "build"], dist)
    _same(_run(["build/app"], dist), numbers)


JS = """
const x = Float32Array.from({ length: 16 * 24 }, (_, i) => (i % 17 - 8) / 8);
const y = Int32Array.from({ length: 16 }, (_, i) => i % 5);
const numbers = [];
const infer = () => {
  const { out } = model.infer({ x: x.slice(0, 11 * 24) });
  numbers.push(out[0], out[54]);
};
infer();
const before = model.save();
for (let i = 0; i < 5; i++) numbers.push(model.train_step({ x, y }).loss[0]);
infer();
model.restore(before);
const again = model.infer({ x: x.slice(0, 11 * 24) }).out[0];
let bad = again === numbers[0] ? 0 : 1;
const refuses = (inputs, words) => {
  try { model.infer(inputs); bad = 1; } catch (error) { if (!error.message.includes(words)) bad = 1; }
};
refuses({ x: new Float32Array(25) }, "x has 25 elements, no multiple of 24");
refuses({ x: new Float64Array(24) }, "x must be a Float32Array of 1*24 = 24, got Float64Array of 24");
refuses({}, "got nothing");
try {
  model.restore(new Uint8Array(300));
  bad = 1;
} catch (error) {
  if (!error.message.includes("another model")) bad = 1;
}
"""


RELAXED = "--experimental-wasm-relaxed-simd"  # what node up to 20 calls it; later ones have it without being asked


@pytest.mark.parametrize(("target", "file"), [
    ("wasm32", "digits.wasm"), ("wasm32", "digits.relaxed.wasm"), ("wasm32-nosimd", "digits.wasm"),
])  # fmt: skip
def test_node(dist: Path, numbers: list[float], target: str, file: str) -> None:
    _need("node")
    text = f'import {{ load }} from "./{target}/digits.mjs";\n'
    text += f'const model = await load(new URL("./{target}/{file}", import.meta.url));\n{JS}\n'
    (dist / f"{file}.mjs").write_text(text + 'console.log(numbers.join(" "), bad);\n')
    options = [RELAXED] if "relaxed" in file and RELAXED in _run(["node", "--v8-options"], dist) else []
    _same(_run(["node", *options, f"{file}.mjs"], dist), numbers)


def test_a_page_loads_what_its_engine_runs_best(dist: Path) -> None:
    """Only the file for engines with relaxed vector instructions has any, and they are asked for as such."""
    _need("node")
    question = "const [a, b] = process.argv.slice(1).map((f) => WebAssembly.validate(fs.readFileSync(f)));"
    probe = (dist / "wasm32" / "digits.mjs").read_text().partition("new Uint8Array(")[2].partition(")")[0]
    asks = f"const fs = require('fs'); {question} console.log(a, b, WebAssembly.validate(new Uint8Array({probe})))"
    files = ["wasm32/digits.wasm", "wasm32/digits.relaxed.wasm"]
    plain, relaxed, found = _run(["node", "-e", asks, *files], dist).split()
    assert plain == "true"
    assert relaxed == found
    if RELAXED in _run(["node", "--v8-options"], dist):
        assert _run(["node", RELAXED, "-e", asks, *files], dist).split() == ["true"] * 3


@pytest.fixture
def server(dist: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def guess_type(self, path: object) -> str:
            return "text/javascript" if str(path).endswith(".mjs") else super().guess_type(str(path))

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=dist)) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()


def test_a_page_in_a_browser(dist: Path, numbers: list[float], server: str, tmp_path: Path) -> None:
    _need("chromium")
    (dist / "page.html").write_text(
        '<body></body><script type="module">\nimport { load } from "./wasm32/digits.mjs";\n'
        f"const model = await load();\n{JS}\ndocument.body.textContent = [...numbers, bad].join(' ');</script>"
    )
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom",
               "--virtual-time-budget=20000", f"{server}/page.html"]  # fmt: skip
    page = _run(command, dist)
    _same(page.partition("<body>")[2].partition("</body>")[0].split("<script")[0], numbers)


JAVA = """
import java.nio.file.*;
import thalweg.Digits;

public class Main {
    public static void main(String[] args) throws Exception {
        Digits model = new Digits(Files.readAllBytes(Path.of("weights.safetensors")));
        float[] x = new float[16 * 24], few = new float[11 * 24];
        int[] y = new int[16];
        for (int i = 0; i < x.length; i++) x[i] = (i % 17 - 8) / 8f;
        for (int i = 0; i < y.length; i++) y[i] = i % 5;
        System.arraycopy(x, 0, few, 0, few.length);
        float[] out = model.infer(few);
        System.out.print(out[0] + " " + out[54] + " ");
        for (int i = 0; i < 5; i++) System.out.print(model.trainStep(x, y).loss[0] + " ");
        out = model.infer(few);
        System.out.print(out[0] + " " + out[54] + " ");
        byte[] file = model.save();
        model.restore(Files.readAllBytes(Path.of("weights.safetensors")));
        int bad = model.infer(few)[0] == out[0] ? 1 : 0;
        model.restore(file);
        if (model.infer(few)[0] != out[0]) bad = 1;
        try { model.infer(new float[25]); bad = 1; } catch (IllegalArgumentException e) { }
        try { model.restore(new byte[300]); bad = 1; } catch (IllegalArgumentException e) { }
        System.out.println(bad);
    }
}
"""


def test_java(dist: Path, numbers: list[float]) -> None:
    _need("java", "javac")
    (dist / "Main.java").write_text(JAVA)
    _run(["javac", "-d", "classes", "java/thalweg/Digits.java", "Main.java"], dist)
    library = dist / "linux-x86_64" / "libdigits.so"
    _same(_run(["java", "-cp", "classes", f"-Dthalweg.Digits.path={library}", "Main"], dist), numbers)


def test_the_android_archive(dist: Path) -> None:
    _need("javac")
    with zipfile.ZipFile(dist / "android" / "digits.aar") as archive:
        names = set(archive.namelist())
        libraries = {"arm64-v8a": "android-arm64", "armeabi-v7a": "android-armv7", "x86_64": "android-x86_64"}
        assert {"AndroidManifest.xml", "classes.jar", "assets/digits.safetensors"} <= names
        for abi, target in libraries.items():
            assert archive.read(f"jni/{abi}/libdigits.so") == (dist / target / "libdigits.so").read_bytes()


def test_the_xcframework(dist: Path) -> None:
    root = dist / "apple" / "Digits.xcframework"
    info = plistlib.loads((root / "Info.plist").read_bytes())
    for row in info["AvailableLibraries"]:
        folder = root / row["LibraryIdentifier"]
        assert (folder / row["LibraryPath"]).read_bytes()[:8] == b"!<arch>\n"
        assert "module Digits" in (folder / "Headers" / "module.modulemap").read_text()
    assert {r["LibraryIdentifier"] for r in info["AvailableLibraries"]} == {
        "ios-arm64", "ios-arm64-simulator", "macos-arm64"
    }  # fmt: skip


def test_segments_of_android_are_16_kib_apart(dist: Path) -> None:
    _need("readelf")
    for target in ("android-arm64", "android-x86_64"):
        text = _run(["readelf", "-lW", f"{target}/libdigits.so"], dist)
        loads = [line.split() for line in text.splitlines() if line.strip().startswith("LOAD")]
        assert loads and all(int(row[-1], 16) == 0x4000 for row in loads)


def test_nothing_is_undefined_and_nothing_else_is_offered(dist: Path) -> None:
    _need("nm")
    for target in ("linux-x86_64", "android-arm64", "linux-armv7"):
        symbols = _run(["nm", "-D", f"{target}/libdigits.so"], dist).split("\n")
        kinds = {line.split()[-1]: line.split()[-2] for line in symbols if line.strip()}
        assert set(kinds.values()) == {"T"}
        assert all(name.startswith(("digits_", "Java_thalweg_Digits_")) for name in kinds)
