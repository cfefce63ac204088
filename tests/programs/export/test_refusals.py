"""What cannot be exported, and what an exported library refuses: told with the user's line, and never a crash."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.dialects.diagnostics import BundleError, ExportError

X = np.ones((4, 3), np.float32)


def _line(word: str) -> int:
    """The line of this file that has a word in a comment."""
    text = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(text, 1) if line.endswith(f"# {word}"))


def _takes_from_a_queue(x):
    queue = tw.FIFOQueue(4, [tw.float32], shapes=[()])
    return x + queue.dequeue()  # taken


def _in_a_loop(x):
    queue = tw.FIFOQueue(4, [tw.float32], shapes=[()])

    def body(v):
        return v + queue.dequeue()  # looped

    return tw.while_loop(lambda v: tw.sum(v) < 9, body, x)


def _summarises(x):
    tw.summary.scalar("mean", tw.mean(x))  # summarised
    return x * 2


VARIABLE = tw.Variable(np.zeros(3, np.float32), name="refused")


def _writes(x):
    VARIABLE.assign_add(tw.ones((3,)))  # written
    return x * 2


@pytest.mark.parametrize(("function", "rows", "word", "reason"), [
    (_takes_from_a_queue, 4, "taken", "dequeue runs on the host"),
    (_in_a_loop, 4, "looped", "dequeue runs on the host"),
    (_summarises, 4, "summarised", "summary runs on the host"),
    (_writes, None, "written", "assign_add: it changes a variable, so the batch cannot be cut"),
])  # fmt: skip
def test_programs_that_need_more_than_memory(function, rows, word: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=rf"export of 'run': .*test_refusals.py:{_line(word)}: .*{reason}"):
        tw.export({"run": (function, [tw.spec((rows, 3))])}, tmp_path)
    assert not list(tmp_path.iterdir())


def test_strings(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'run': it takes strings"):
        tw.export({"run": (lambda x: x, [tw.spec((3,), tw.string)])}, tmp_path)


@pytest.mark.parametrize("name", ["abi", "state", "restore", "meta"])
def test_names_that_every_model_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"every model has '{name}' in any case"):
        tw.export({name: (lambda x: x * 2, [tw.spec((3,))])}, tmp_path)


def test_names_that_other_languages_have_taken(tmp_path: Path) -> None:
    def step(state, n, new, arena, default):
        return {"state": state + n, "double": new * default, "arena": (arena, arena + 1)}

    targets = ["host", "wasm32", "android-arm64"]
    tw.export({"step": (step, [tw.spec((3,))] * 5)}, tmp_path, targets=targets)
    row = json.loads((tmp_path / "manifest.json").read_text())["signatures"]["step"]
    names = [t["name"] for t in (*row["inputs"], *row["outputs"])]
    assert len(set(names)) == len(names) and not {"state", "n", "new", "arena", "default", "double"} & set(names)
    given = [np.full(3, k, np.float32) for k in range(5)]
    found = tw.load(tmp_path).step(*given)
    assert [float(a[0]) for a in found.values()] == [1, 8, 3, 4]
    if shutil.which("gcc"):
        command = ["gcc", "-fsyntax-only", "-x", "c++", "-Wall", "-Werror", tmp_path / "include" / "model.h"]
        subprocess.run(command, check=True, timeout=60)


def test_results_of_a_tuple_have_names(tmp_path: Path) -> None:
    tw.export({"pair": (lambda x: (x + 1, x * 3), [tw.spec((3,))])}, tmp_path)
    found = tw.load(tmp_path).pair(np.full(3, 2, np.float32))
    assert all(re.fullmatch(r"[a-z]\w*", name) for name in found)
    assert [float(a[0]) for a in found.values()] == [3, 6]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refusing")
    w = tw.Variable(np.full((3, 3), 2, np.float32), name="w")
    tw.export({"run": (lambda x: tw.nn.softmax(x @ w), [tw.spec((None, 3))])}, folder)
    return folder


def test_a_short_or_misaligned_arena(dist: Path) -> None:
    (library,) = dist.glob("*/libmodel.so")
    run = ctypes.CDLL(str(library)).model_run
    bytes_ = json.loads((dist / "manifest.json").read_text())["signatures"]["run"]["arena_bytes"]
    memory = np.zeros(bytes_ + 128, np.uint8)
    arena = memory.ctypes.data + -memory.ctypes.data % 64
    weights = np.zeros(1024, np.uint8)
    state, out = weights.ctypes.data + -weights.ctypes.data % 64, np.full((4, 3), -1, np.float32)

    def status(state, x, out, rows, arena, size):
        pointers = [ctypes.c_void_p(p) for p in (state, x, out)]
        return run(*pointers, ctypes.c_int32(rows), ctypes.c_void_p(arena), ctypes.c_size_t(size))

    x, y = X.ctypes.data, out.ctypes.data
    assert status(state, x, y, 4, arena, bytes_) == 0 and (out >= 0).all()
    out[:] = -1
    wrong = {
        1: [(None, x, y, 4, arena, bytes_), (state, None, y, 4, arena, bytes_), (state, x, y, 4, None, bytes_)],
        2: [(state, x, y, 4, arena, bytes_ - 1), (state, x, y, 4, arena, 0)],
        4: [(state, x, y, 4, arena + 8, bytes_), (state + 4, x, y, 4, arena, bytes_)],
        5: [(state, x, y, -1, arena, bytes_)],
    }
    for expected, calls in wrong.items():
        assert [status(*call) for call in calls] == [expected] * len(calls)
    assert (out == -1).all()


def test_damaged_files(dist: Path, tmp_path: Path) -> None:
    def damaged(name: str, change) -> Path:
        copy = tmp_path / f"copy{len(list(tmp_path.iterdir()))}"
        shutil.copytree(dist, copy)
        (copy / name).write_bytes(change((copy / name).read_bytes()))
        return copy

    whole = (dist / "weights.safetensors").read_bytes()
    at = whole.index(b'"thalweg.layout":"') + 18
    for change in (lambda b: b[:-64], lambda b: b[:100], lambda _: b"", lambda b: b[:at] + b"0" * 64 + b[at + 64 :],
                   lambda b: b"\xff" * 8 + b[8:]):  # fmt: skip
        with pytest.raises(BundleError, match="does not hold the weights of this model, or is truncated"):
            tw.load(damaged("weights.safetensors", change))
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        tw.load(damaged("manifest.json", lambda b: b[:50]))
