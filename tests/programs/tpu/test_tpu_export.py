"""`targets=["tpu"]`: portable artefacts with the weights beside them, run by PJRT and by StableHLO's interpreter."""

from __future__ import annotations

import gc
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import thalweg as tw
from thalweg.backends.stablehlo import artefact, interpreter
from thalweg.dialects.diagnostics import BundleError, ExportError, LoweringError, UnavailableError
from thalweg.tools.cli import app

RNG = np.random.default_rng(0)
X, XS = RNG.normal(size=(4, 24)).astype(np.float32), RNG.normal(size=(16, 24)).astype(np.float32)
Y = RNG.integers(0, 5, 16).astype(np.int32)


@pytest.fixture(autouse=True)
def four_tpus() -> Iterator[None]:
    with tw.config.override(virtual_tpus=4):
        yield


class Mlp:
    """Two layers; a step that infers any number of rows, one that trains, with a loop and a branch in it."""

    def __init__(self) -> None:
        gc.collect()  # the names of models that are gone are free again
        shapes = {"w1": (24, 33), "b1": (33,), "w2": (33, 5), "b2": (5,)}
        rng = np.random.default_rng(1)
        self.weights = [tw.Variable(rng.normal(size=s).astype(np.float32) * 0.2, name=n) for n, s in shapes.items()]
        self.infer = tw.function(lambda x: tw.nn.softmax(self.logits(x)))
        self.train = tw.function(self.step)

    def logits(self, x):
        w1, b1, w2, b2 = self.weights
        return tw.tanh(x @ w1 + b1) @ w2 + b2

    def step(self, x, y):
        def loss():
            return tw.mean(tw.nn.softmax_cross_entropy(self.logits(x), y))

        value, gradients = tw.value_and_grad(loss, wrt=self.weights)()
        norm = tw.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s * 1.1), (0, value))[1]
        rate = tw.cond(norm > 100, lambda: norm * 0.0, lambda: norm * 0.0 + 0.3)
        for w, g in zip(self.weights, gradients, strict=True):
            w.assign_sub(rate * g)
        return value

    def signatures(self):
        return {
            "infer": (self.infer, [tw.spec((None, 24))]),
            "train": (self.train, [tw.spec((16, 24)), tw.spec((16,), tw.int32)]),
        }


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tpu")
    tw.export(Mlp().signatures(), folder, targets=["tpu"])
    return folder


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def test_what_is_written(dist: Path) -> None:
    found = manifest(dist)
    assert found["targets"] == ["tpu"]
    assert found["tpu"]["stablehlo"] == artefact.portable_version()
    files = {p.name for p in (dist / "tpu").iterdir()}
    assert files == {"infer_128.stablehlo", "infer_8.stablehlo", "infer_1.stablehlo", "train.stablehlo"}
    assert set(found["tpu"]["programs"]["train"][0]["updates"].values()) == {"w1", "b1", "w2", "b2"}
    assert not (dist / "include").exists()
    for file in files:
        assert artefact.is_artefact((dist / "tpu" / file).read_bytes())


def test_training_on_the_device_follows_the_function(dist: Path) -> None:
    ours, model = Mlp(), tw.load(dist, device="tpu:0")
    for _ in range(5):
        np.testing.assert_allclose(model.train(XS, Y), ours.train(XS, Y), rtol=1e-5)
    for name, variable in zip(("w1", "b1", "w2", "b2"), ours.weights, strict=True):
        np.testing.assert_allclose(model.state[name], variable.numpy(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [0, 1, 4, 8, 100, 128, 300])
def test_any_number_of_rows(dist: Path, rows: int) -> None:
    x = np.random.default_rng(rows).normal(size=(rows, 24)).astype(np.float32)
    found = tw.load(dist, device="tpu:1").infer(x)
    assert found.shape == (rows, 5)
    if rows:
        np.testing.assert_allclose(found, Mlp().infer(x), rtol=1e-5, atol=1e-7)


def test_the_reference_interpreter_agrees(dist: Path) -> None:
    program = manifest(dist)["tpu"]["programs"]["train"][0]
    module = artefact.deserialize((dist / program["file"]).read_bytes())
    model = tw.load(dist, device="tpu:0")
    state = model.state
    results = interpreter.evaluate(module, [XS, Y, *(state[name] for name in program["state"])])
    np.testing.assert_allclose(model.train(XS, Y), results[0], rtol=1e-5)
    for number, name in program["updates"].items():
        np.testing.assert_allclose(model.state[name], results[int(number)], rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("four_devices")
def test_training_over_four_devices_is_training_on_one(tmp_path: Path, dist: Path) -> None:
    tw.export(Mlp().signatures(), tmp_path, targets=["tpu"], shards=4)
    program = manifest(tmp_path)["tpu"]["programs"]["train"][0]
    assert program["split_inputs"] == [True, True]
    one, four = tw.load(dist, device="tpu:0"), tw.load(tmp_path, device=[f"tpu:{k}" for k in range(4)])
    for _ in range(4):
        np.testing.assert_allclose(four.train(XS, Y), one.train(XS, Y), rtol=1e-5)
    np.testing.assert_allclose(four.infer(X), one.infer(X), rtol=1e-4)
    np.testing.assert_allclose(four.infer(np.tile(X, (40, 1))), one.infer(np.tile(X, (40, 1))), rtol=1e-4)
    for name, value in one.state.items():
        np.testing.assert_allclose(four.state[name], value, rtol=1e-4, atol=1e-6)
    for value in four._state.values():
        assert len(value.sharding.device_set) == 4, "each device has the state"
    (train,) = four._signatures["train"].pieces
    assert "all-reduce" in train.program.hlo
    assert "f32[4,24]" in train.program.hlo, "each device has a fourth of the batch"


def test_saved_state_is_for_the_libraries_too(tmp_path: Path) -> None:
    tw.export(Mlp().signatures(), tmp_path, targets=["host", "tpu"])
    model, library = tw.load(tmp_path, device="tpu"), tw.load(tmp_path)
    for _ in range(3):
        model.train(XS, Y)
    model.save(tmp_path / "trained.safetensors")
    library.restore(tmp_path / "trained.safetensors")
    np.testing.assert_allclose(library.infer(X), model.infer(X), rtol=1e-5)
    again = tw.load(tmp_path, device="tpu:2")
    again.restore(tmp_path / "trained.safetensors")
    np.testing.assert_array_equal(again.state["w1"], model.state["w1"])


@pytest.mark.parametrize("weights", ["bf16", "int8"])
def test_narrow_weights(tmp_path: Path, weights: str) -> None:
    mlp = Mlp()
    tw.export({"infer": (mlp.infer, [tw.spec((None, 24))])}, tmp_path, targets=["host", "tpu"], weights=weights)
    found = tw.load(tmp_path, device="tpu:0").infer(X)
    np.testing.assert_allclose(found, tw.load(tmp_path).infer(X), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found, mlp.infer(X), atol=0.02)


def test_same_input_same_bytes(tmp_path: Path, dist: Path) -> None:
    tw.export(Mlp().signatures(), tmp_path, targets=["tpu"])
    for file in ("tpu/train.stablehlo", "tpu/infer_8.stablehlo", "weights.safetensors"):
        assert (tmp_path / file).read_bytes() == (dist / file).read_bytes()


def test_older_versions(tmp_path: Path) -> None:
    tw.export(Mlp().signatures(), tmp_path, targets=["tpu"], stablehlo="1.0.0")
    np.testing.assert_allclose(tw.load(tmp_path, device="tpu:0").infer(X), Mlp().infer(X), rtol=1e-5)
    with pytest.raises(ExportError, match=r"test_tpu_export.py:\d+.* export of 'infer': .*StableHLO 0.1.0"):
        tw.export(Mlp().signatures(), tmp_path, targets=["tpu"], stablehlo="0.1.0")


def test_threads_share_a_model(dist: Path) -> None:
    model = tw.load(dist, device="tpu:0")
    threads = [threading.Thread(target=lambda: [model.train(XS, Y) for _ in range(10)]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        assert np.isfinite(model.infer(X)).all()
    for thread in threads:
        thread.join(60)
    alone = tw.load(dist, device="tpu:0")
    for _ in range(30):
        alone.train(XS, Y)
    np.testing.assert_allclose(model.state["w1"], alone.state["w1"], rtol=1e-5)


def test_what_runs_on_the_host_is_told_with_its_line(tmp_path: Path) -> None:
    @tw.function
    def f(x):
        return tw.unique_with_counts(x)[0]

    with pytest.raises((ExportError, LoweringError), match=r"test_tpu_export.py:\d+: in f\(\): .*runs on the host"):
        tw.export({"f": (f, [tw.spec((4,))])}, tmp_path, targets=["tpu"])


def test_refusals(tmp_path: Path, dist: Path) -> None:
    with pytest.raises(UnavailableError, match=r"no device /device:TPU:9 here; this process has .*set_virtual_devices"):
        tw.load(dist, device="tpu:9")
    with pytest.raises(BundleError, match="shards=1; 2 devices are given"):
        tw.load(dist, device=["tpu:0", "tpu:1"])
    with pytest.raises(BundleError, match=r"it has tpu. Export with targets=\['.*'\], or load it with device="):
        tw.load(dist)
    model = tw.load(dist, device="tpu:0")
    with pytest.raises(BundleError, match=r"infer\(\): x must be f32\[n,24\], got float64"):
        model.infer(X.astype(np.float64))
    with pytest.raises(AttributeError, match="did you mean 'infer'"):
        model.infr(X)
    (tmp_path / "short.safetensors").write_bytes((dist / "weights.safetensors").read_bytes()[:-64])
    with pytest.raises(BundleError, match="cannot be read"):
        model.restore(tmp_path / "short.safetensors")
    tw.export({"other": (tw.function(lambda x: x + 1), [tw.spec((2,))])}, tmp_path)
    with pytest.raises(BundleError, match="has no program for TPUs"):
        tw.load(tmp_path, device="tpu:0")
    with pytest.raises(BundleError, match="does not hold the weights of this model"):
        model.restore(tmp_path / "weights.safetensors")


def test_looking_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model.py"
    source.write_text(
        "import numpy as np\nimport thalweg as tw\n"
        "w = tw.Variable(np.ones((3, 2), np.float32), name='head/w')\n"
        "@tw.function(signature=[tw.spec((8, 3))])\n"
        "def step(x):\n    w.assign_add(x[:3, :2])\n    return x @ w\n"
    )
    out = tmp_path / "dist"
    monkeypatch.setenv("COLUMNS", "160")
    done = CliRunner().invoke(app, ["export", f"{source}:step", "--target", "tpu", "--shards", "2", "--out", str(out)])
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(app, ["inspect", str(out)]).output
    assert re.search(r"Programs for 2 TPUs, StableHLO \d+\.\d+", shown)
    assert re.search(r"tpu/step.stablehlo .* head/w .* 1 of 1 inputs", shown)
    program = CliRunner().invoke(app, ["inspect", str(out), "--asm", "step"]).output
    assert "stablehlo.dot_general" in program and "tf.aliasing_output = 1" in program
    assert "gets its plan from their compiler" in CliRunner().invoke(app, ["inspect", str(out), "--memory"]).output
