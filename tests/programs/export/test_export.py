"""A model, exported: the library in this process against the compiled function, and what every target's files are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from export_models import Digits

import thalweg as tw
from thalweg.backends.aot.emit import Emitted
from thalweg.backends.aot.targets import TARGETS, Target, find
from thalweg.dialects.diagnostics import BundleError, ExportError
from thalweg.runtime.bundle import load
from thalweg.shipping import compiler
from thalweg.shipping.api import export

RNG = np.random.default_rng(0)
X, XS = RNG.normal(size=(4, 24)).astype(np.float32), RNG.normal(size=(16, 24)).astype(np.float32)
Y = RNG.integers(0, 5, 16).astype(np.int32)


class Mlp(Digits):
    """With signatures of fixed sizes."""

    def signatures(self):
        return {
            "infer": (self.infer, [tw.spec((4, 24))]),
            "train": (self.train_step, [tw.spec((16, 24)), tw.spec((16,), tw.int32)]),
        }


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    export(Mlp().signatures(), folder, targets=["host", *TARGETS])
    return folder


def test_training_in_the_library_follows_the_function(everywhere: Path) -> None:
    ours, library = Mlp(), load(everywhere)
    np.testing.assert_allclose(library.infer(X), np.asarray(ours.infer(X)), rtol=1e-5, atol=1e-6)
    for _ in range(20):
        loss, wanted = library.train(XS, Y)["loss"], ours.train_step(XS, Y)["loss"]
        np.testing.assert_allclose(loss, np.asarray(wanted), rtol=1e-4)
    for name, weight in zip(sorted(library.state), sorted(ours.weights, key=lambda v: v.name), strict=True):
        np.testing.assert_allclose(library.state[name], weight.buffer, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(library.infer(X), np.asarray(ours.infer(X)), rtol=1e-3, atol=1e-5)


def test_the_weights_are_a_safetensors_file(everywhere: Path) -> None:
    found = safetensors.numpy.load_file(everywhere / "weights.safetensors")
    model = load(everywhere)
    assert {n for n in found if not n.startswith("__pad.")} == set(model.state)
    for name, array in model.state.items():
        np.testing.assert_array_equal(found[name], array)


def test_every_target_has_its_files(everywhere: Path) -> None:
    manifest = json.loads((everywhere / "manifest.json").read_text())
    kinds = {"elf": {".a", ".so"}, "macho": {".a"}, "coff": {".lib"}, "wasm": {".wasm", ".mjs", ".mts"}}
    for target in TARGETS.values():
        assert {p.suffix for p in (everywhere / target.name).iterdir()} == kinds[target.format]
    assert all((everywhere / path).stat().st_size == row["bytes"] for path, row in manifest["files"].items())


def test_same_input_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        function = tw.function(lambda x: tw.tanh(x) * 2)
        export({"run": (function, [tw.spec((8,))])}, tmp_path / folder, targets=["linux-x86_64", "wasm32"])
    for path in (tmp_path / "a").rglob("*"):
        if path.is_file() and path.suffix != ".mlir":  # the program's text names the line that it was traced at
            assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes(), path


def test_a_model_that_is_in_use_may_be_exported_again(tmp_path: Path) -> None:
    model = Mlp()
    export(model.signatures(), tmp_path)
    library = load(tmp_path)
    before = np.asarray(library.infer(X))
    export({"infer": (tw.function(lambda x: x + 1), [tw.spec((4, 24))])}, tmp_path)
    np.testing.assert_array_equal(np.asarray(library.infer(X)), before)
    np.testing.assert_array_equal(np.asarray(load(tmp_path).infer(X)), X + 1)


def test_weights_of_another_model(everywhere: Path, tmp_path: Path) -> None:
    model = load(everywhere)
    before = {n: a.copy() for n, a in model.state.items()}
    good = (everywhere / "weights.safetensors").read_bytes()
    for wrong in (good[:-1], good[: len(good) // 2], good[:20], good[:60] + b"0" + good[61:], b"x" * 200):
        (tmp_path / "w.safetensors").write_bytes(wrong)
        with pytest.raises(BundleError, match="weights of this model"):
            model.restore(tmp_path / "w.safetensors")
    with pytest.raises(BundleError, match="cannot be read"):
        model.restore(tmp_path / "nothing")
    assert all((model.state[n] == before[n]).all() for n in before)


def test_saved_and_restored(everywhere: Path, tmp_path: Path) -> None:
    model = load(everywhere)
    model.save(tmp_path / "first.safetensors")
    assert (tmp_path / "first.safetensors").read_bytes() == (everywhere / "weights.safetensors").read_bytes()
    model.train(XS, Y)
    model.save(tmp_path / "trained.safetensors")
    other = load(everywhere)
    assert not np.array_equal(other.infer(X), model.infer(X))
    other.restore(tmp_path / "trained.safetensors")
    np.testing.assert_array_equal(other.infer(X), model.infer(X))


def test_wrong_calls(everywhere: Path) -> None:
    model = load(everywhere)
    with pytest.raises(BundleError, match=r"x must be f32\[4,24\], got float64\[4,24\]"):
        model.infer(X.astype(np.float64))
    with pytest.raises(BundleError, match=r"infer\(\) takes \(x: f32\[4,24\]\), got 2 arrays"):
        model.infer(X, X)
    with pytest.raises(AttributeError, match="no signature 'infre'; did you mean 'infer'"):
        model.infre(X)
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        load(everywhere.parent)


def test_wrong_exports(tmp_path: Path) -> None:
    function = tw.function(lambda x: x)
    with pytest.raises(ExportError, match=r"test_export.py:\d+:.*unknown target 'linux-arm'; did you mean"):
        export({"run": (function, [tw.spec((8,))])}, tmp_path, targets=["linux-arm"])
    with pytest.raises(ExportError, match="'Run' is not a lower-case C identifier"):
        export({"Run": (function, [tw.spec((8,))])}, tmp_path)
    with pytest.raises(ExportError, match="nothing says of which types"):
        export(lambda x: x, tmp_path)


@pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 30])
def test_batches_of_any_size(batched: Path, rows: int) -> None:
    model, x = load(batched), RNG.normal(size=(rows, 6, 8)).astype(np.float32)
    found = model.run(x, np.float32(2.0))
    expected = _row_wise(tw.asarray(x), tw.asarray(np.float32(2.0))) if rows else None
    assert found["probability"].shape == (rows, 5) and found["best"].shape == (rows,)
    if expected is not None:
        np.testing.assert_allclose(found["probability"], np.asarray(expected["probability"]), rtol=1e-5)
        np.testing.assert_array_equal(found["best"], np.asarray(expected["best"]))
    with pytest.raises(BundleError, match=r"x must be f32\[n,6,8\]"):
        model.run(np.zeros((rows, 6, 7), np.float32), np.float32(2.0))


_W, _U = RNG.normal(size=(8, 16)).astype(np.float32), RNG.normal(size=(16, 5)).astype(np.float32)


def _row_wise(x, scale):
    def step(h, row):
        h = tw.tanh(row @ _W + 0.5 * h)
        return h, h

    last, every = tw.scan(step, tw.zeros((x.shape[0], 16)), tw.permute_dims(x, (1, 0, 2)))
    attended = tw.nn.softmax(tw.permute_dims(every, (1, 0, 2)) @ tw.permute_dims(every, (1, 2, 0)) * scale, axis=-1)
    mixed = tw.sum(attended @ tw.permute_dims(every, (1, 0, 2)), axis=1) + last
    logits = tw.nn.layer_norm(mixed, tw.ones((16,)), tw.zeros((16,))) @ _U
    return {"probability": tw.nn.softmax(logits), "best": tw.argmax(logits, axis=-1)}


@pytest.fixture(scope="module")
def batched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batched")
    export({"run": (tw.function(_row_wise), [tw.spec((None, 6, 8)), tw.spec(())])}, folder)
    return folder


@pytest.mark.parametrize(("function", "reason"), [
    (lambda x: x - tw.mean(x, axis=0), "reduce_sum: it goes over the batch"),
    (lambda x: x @ tw.permute_dims(x, (1, 0)), "dot_general: it pairs every row with every other"),
    (lambda x: x + tw.reshape(tw.arange(x.shape[0], dtype=tw.float32), (-1, 1)), "is not the same for every row"),
    (lambda x: tw.sort(x, axis=0), "sort: it goes along the batch"),
    (lambda x: x[::2], "slice: it takes some rows"),
    (lambda x: tw.flip(x, axis=0), "reverse: it goes along the batch"),
    (lambda x: tw.reshape(x, (-1,)), "reshape: the batch is merged"),
    (lambda x: tw.ones((3,)) * 2, "values that are not computed from|does not have one row"),
    (lambda x: tw.while_loop(lambda v: tw.sum(v) < 9, lambda v: v + 1, x), "reduce_sum: it goes over the batch"),
])  # fmt: skip
def test_rows_that_depend_on_each_other(function, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=reason):
        export({"run": (function, [tw.spec((None, 4))])}, tmp_path)


@pytest.mark.parametrize(("weights", "bytes_", "error"), [("bf16", 2, 0.02), ("int8", 1, 0.05)])
def test_weights_in_fewer_bits(weights, bytes_, error, tmp_path: Path) -> None:
    big = [RNG.normal(size=s).astype(np.float32) / 10 for s in ((64, 300), (300, 40))]
    function = tw.function(lambda x: tw.nn.softmax(tw.tanh(x @ big[0]) @ big[1]))
    x = RNG.normal(size=(30, 64)).astype(np.float32)
    report = export({"run": (function, [tw.spec((None, 64))])}, tmp_path, weights=weights, samples=x, max_error=error)
    (told,) = report.errors
    found = np.abs(load(tmp_path).run(x) - np.asarray(function(x))).max()
    assert 0 < found <= error and told.largest == pytest.approx(found, rel=1e-3)
    assert json.loads((tmp_path / "manifest.json").read_text())["errors"][0]["largest"] == told.largest
    size = sum(a.size for a in big)
    assert size * bytes_ <= report.files["weights.safetensors"] <= size * bytes_ + 4096
    with pytest.raises(ExportError, match=r"run.out: largest error .* above max_error=1e-09"):
        export({"run": (function, [tw.spec((None, 64))])}, tmp_path, weights=weights, samples=x, max_error=1e-9)


def test_what_is_trained_keeps_its_bits(tmp_path: Path) -> None:
    ours = Mlp()
    export(ours.signatures(), tmp_path, weights="int8")
    library = load(tmp_path)
    assert all(array.dtype == np.float32 for array in library.state.values())
    loss, wanted = library.train(XS, Y)["loss"], ours.train_step(XS, Y)["loss"]
    np.testing.assert_allclose(loss, np.asarray(wanted), rtol=1e-4)


def test_wrong_options(tmp_path: Path) -> None:
    signatures = {"run": (tw.function(lambda x: x * 2), [tw.spec((3,))])}
    with pytest.raises(ExportError, match="unknown weights 'int4'"):
        export(signatures, tmp_path, weights="int4")
    with pytest.raises(ExportError, match="samples for 'other', but the signatures are run"):
        export(signatures, tmp_path, samples={"other": X})


def test_the_check_and_the_library_for_this_machine_are_compiled_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, str]] = []

    def emit(name: str, target: Target, *more: Any) -> Emitted:
        made.append((name, target.name))
        return emitted(name, target, *more)

    emitted = compiler.emit
    monkeypatch.setattr(compiler, "emit", emit)
    host, other = find("host").name, "wasm32-nosimd"
    export(Mlp().signatures(), tmp_path / "a", targets=["host", other], samples=X)
    assert made == [("model", host), ("model", other)]
    export(Mlp().signatures(), tmp_path / "b", targets=["host"], samples=X, embed=False)
    assert made[2:] == [("model", host)] * 2, "weights in the library and beside it are two libraries"
    np.testing.assert_allclose(load(tmp_path / "b").infer(X), load(tmp_path / "a").infer(X))
