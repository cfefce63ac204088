"""Exported models on the caller's threads: the same bits however many there are, and still nothing undefined."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects.diagnostics import BundleError, ExportError

THREADS = 4


class Network:
    """A convolution, products with packed operands, a softmax over rows: kernels with and without scratch memory."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.kernel = rng.normal(size=(5, 5, 3, 16)).astype(np.float32) * 0.1
        self.wide = tw.Variable(rng.normal(size=(3136, 130)).astype(np.float32) * 0.02, name="wide")

    def infer(self, x):
        y = tw.nn.relu(tw.nn.conv(x, self.kernel, stride=2))
        return tw.nn.softmax(tw.reshape(y, (x.shape[0], -1)) @ self.wide)

    def train(self, x):
        loss, gradient = tw.value_and_grad(lambda: tw.mean(tw.log(self.infer(x)[:, 0])), wrt=[self.wide])()
        self.wide.assign_add(0.1 * gradient[0])
        return loss


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, network = tmp_path_factory.mktemp("threads"), Network()
    signatures = {
        "infer": (tw.function(network.infer), [tw.spec((None, 28, 28, 3))]),
        "train": (tw.function(network.train), [tw.spec((32, 28, 28, 3))]),
    }
    targets = ["linux-x86_64", "linux-arm64", "linux-armv7", "android-armv7", "windows-x86_64", "ios-arm64", "wasm32"]
    tw.export(signatures, folder, targets=targets, name="net", threads=THREADS, embed=True)
    (folder / "main.c").write_text(MAIN)
    return folder


# Compares bits: without a pool, with one that runs tasks backwards in the caller's thread, with POSIX threads.
MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net_threads.h"
#define ROWS 9
static float x[32 * 28 * 28 * 3], alone[ROWS * 130], shared[ROWS * 130], loss[2];
static char state[NET_STATE_BYTES] __attribute__((aligned(64)));
static char arena[NET_INFER_ARENA_BYTES + NET_TRAIN_ARENA_BYTES] __attribute__((aligned(64)));
static int jobs = 0;
static void backwards(void *self, void (*task)(void *, size_t), void *context, size_t tasks) {
  jobs += self == (void *)&jobs;
  while (tasks > 0) task(context, --tasks);
}
static int differs(const net_pool *pool) {
  static char before[NET_STATE_BYTES], after[NET_STATE_BYTES];
  int bad = net_infer(state, x, alone, ROWS, arena, sizeof arena);
  memset(shared, 0, sizeof shared);
  bad |= net_infer_on(pool, state, x, shared, ROWS, arena, sizeof arena);
  bad |= memcmp(alone, shared, sizeof alone) != 0;
  memcpy(before, state, sizeof state);
  bad |= net_train(state, x, &loss[0], arena, sizeof arena);
  memcpy(after, state, sizeof state);
  memcpy(state, before, sizeof state);
  bad |= net_train_on(pool, state, x, &loss[1], arena, sizeof arena);
  bad |= memcmp(after, state, sizeof state) != 0 || memcmp(&loss[0], &loss[1], 4) != 0;
  return bad || memcmp(before, state, sizeof state) == 0;
}
int main(int count, char **arguments) {
  net_pool pool;
  int k, bad = 0;
  for (k = 0; k < 32 * 28 * 28 * 3; k++) x[k] = (float)(k % 17 - 8) / 8;
  memcpy(state, net_initial_state(), sizeof state);
  pool.run = backwards;
  pool.self = &jobs;
  bad |= differs(NULL) << 0 | differs(&pool) << 1 | (jobs < 3) << 2;
  for (k = 1; k < count; k++) {
    net_threads threads;
    int turn;
    if (net_threads_start(&threads, atoi(arguments[k])) != 0) return 99;
    for (turn = 0; turn < 5; turn++) bad |= differs(&threads.pool) << 3;
    bad |= net_infer_on(&threads.pool, state, x, shared, 1, arena, 1) == NET_OK ? 16 : 0;
    net_threads_stop(&threads);
  }
  return bad;
}
"""


@pytest.mark.parametrize(("target", "compiler", "runner", "threads"), [
    ("linux-x86_64", "gcc", [], ["1", "2", "4"]),
    ("linux-x86_64", "g++", [], ["2"]),
    ("linux-arm64", "aarch64-linux-gnu-gcc", ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"], ["2"]),
    ("linux-armv7", "arm-linux-gnueabihf-gcc", ["qemu-arm", "-L", "/usr/arm-linux-gnueabihf"], ["2"]),
])  # fmt: skip
def test_same_bits_on_any_number_of_threads(
    dist: Path, target: str, compiler: str, runner: list[str], threads: list[str]
) -> None:
    missing = [p for p in (compiler, *runner[:1]) if shutil.which(p) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed")
    program = dist / f"{compiler}-{target}"
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", "-pthread", f"-I{dist / 'include'}"]
    command = [compiler, *flags, str(dist / "main.c"), str(dist / target / "libnet.a"), "-o", str(program)]
    subprocess.run(command, check=True, timeout=120)
    assert subprocess.run([*runner, str(program), *threads], check=False, timeout=120).returncode == 0


def test_nothing_is_undefined(dist: Path) -> None:
    if shutil.which("nm") is None:
        pytest.skip("nm not installed")
    told = subprocess.run(["nm", "-D", dist / "linux-x86_64" / "libnet.so"], capture_output=True, text=True, check=True)
    kinds = {line.split()[-1]: line.split()[-2] for line in told.stdout.splitlines()}
    assert set(kinds.values()) == {"T"}
    assert {"net_infer", "net_infer_on", "net_train_on"} <= set(kinds)


def test_python_threads(dist: Path) -> None:
    x = np.random.default_rng(1).normal(size=(11, 28, 28, 3)).astype(np.float32)
    alone = tw.load(dist).infer(x)
    for threads in (2, THREADS):
        model = tw.load(dist, threads=threads)
        np.testing.assert_array_equal(model.infer(x), alone)
    with pytest.raises(BundleError, match=r"exported for 4 threads, not 5\. Export with threads=5"):
        tw.load(dist, threads=5)
    assert json.loads((dist / "manifest.json").read_text())["threads"] == THREADS


def test_the_benchmark_takes_threads(dist: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc not installed")
    flags = ["-O1", "-Wall", "-Wextra", "-pedantic", "-Werror", "-pthread", f"-I{dist / 'include'}"]
    library, program = str(dist / "linux-x86_64" / "libnet.a"), str(dist / "bench" / "main")
    subprocess.run(["gcc", *flags, str(dist / "bench" / "main.c"), library, "-o", program], check=True, timeout=120)


def test_refusals(tmp_path: Path) -> None:
    double, row = tw.function(lambda x: x * 2), [tw.spec((8,))]
    with pytest.raises(ExportError, match=r"threads=0, but it must be 1 to 64"):
        tw.export({"run": (double, row)}, tmp_path, threads=0)
    with pytest.raises(ExportError, match=r"with threads, 'run' has a C function that ends in run_on, which is a"):
        tw.export({"run": (double, row), "run_on": (double, row)}, tmp_path, threads=2)
