"""`thalweg translate`: every stage and format from every kind of program."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Thalweg = Callable[..., Any]
MARKS = {
    "tw": '"tw.dot_general"',
    "tw-optimized": '"tw.dot_general"',
    "stablehlo": "stablehlo.dot_general",
    "linalg": "linalg.generic",
    "kernels": "func.func",
    "llvm": "define ",
    "asm": ".text",
}


@pytest.mark.parametrize("stage", MARKS)
def test_every_stage_of_a_function(thalweg: Thalweg, stage: str) -> None:
    result = thalweg("translate", "model.py:step", "--to", stage)
    assert result.exit_code == 0, result.stderr
    assert MARKS[stage] in result.stdout


@pytest.mark.parametrize("stage", list(MARKS)[2:])
def test_every_stage_of_stablehlo(thalweg: Thalweg, stage: str) -> None:
    result = thalweg("translate", "stablehlo.mlir", "--to", stage)
    assert result.exit_code == 0, result.stderr
    assert result.stdout


def test_stablehlo_has_no_earlier_stage(thalweg: Thalweg) -> None:
    result = thalweg("translate", "stablehlo.mlir", "--to", "tw")
    assert result.exit_code == 1
    assert "it has no stage 'tw'. Its first is 'stablehlo'" in result.stderr


def test_what_is_printed_parses_back(thalweg: Thalweg) -> None:
    text = thalweg("translate", "model.py:f", "--to", "tw", "--shapes", "f32[2,3],f32[3,4]").stdout
    again = thalweg("translate", "-", "--to", "tw", stdin=text)
    assert again.stdout == text


def test_an_artefact_comes_back(thalweg: Thalweg, folder: Path) -> None:
    assert thalweg("translate", "tw.mlir", "--to", "artefact", "-o", "tw.bc").exit_code == 0
    assert (folder / "tw.bc").read_bytes().startswith(b"ML\xefR")
    assert "stablehlo.tanh" in thalweg("translate", "tw.bc").stdout
    bad = thalweg("translate", "tw.mlir", "--to", "artefact", "--stablehlo-version", "99.0.0", "-o", "no.bc")
    assert bad.exit_code == 1
    assert "99.0.0" in bad.stderr


def test_graphs(thalweg: Thalweg) -> None:
    assert thalweg("translate", "tw.mlir", "--to", "dot").stdout.startswith('digraph "tw" {')
    nodes = json.loads(thalweg("translate", "tw.mlir", "--to", "json", "--of", "stablehlo").stdout)
    labels = [n["label"] for n in nodes["graphs"][0]["nodes"]]
    assert "stablehlo.tanh" in labels
    result = thalweg("translate", "tw.mlir", "--to", "json", "--of", "asm")
    assert result.exit_code == 1
    assert "plain text" in result.stderr


def test_locations_and_the_compact_form(thalweg: Thalweg) -> None:
    assert 'loc("model.py":5:0)' in thalweg("translate", "tw.mlir", "--to", "linalg", "--mlir-print-debuginfo").stdout
    assert "tanh %1 : f32[3]" in thalweg("translate", "tw.mlir", "--to", "tw", "--compact").stdout


def test_an_unknown_format_is_wrong_usage(thalweg: Thalweg) -> None:
    result = thalweg("translate", "tw.mlir", "--to", "stabelhlo")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr


def test_a_signature_without_open_extents_is_enough(thalweg: Thalweg, folder: Path) -> None:
    (folder / "signed.py").write_text(
        "import thalweg as tw\n\n@tw.function(signature=[tw.spec((2, 5))])\ndef f(x):\n    return tw.tanh(x)\n"
    )
    result = thalweg("translate", "signed.py:f", "--to", "tw")
    assert result.exit_code == 0, result.stderr
    assert "tensor<2x5xf32>" in result.stdout


def test_parts_of_devices(thalweg: Thalweg) -> None:
    devices = "/job:ps/task:0/cpu:0;/job:worker/task:0/cpu:0"
    result = thalweg("translate", "model.py:halves", "--to", "parts", "--devices", devices)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.count('"tw.send"') == result.stdout.count('"tw.recv"') == 1
    assert thalweg("translate", "-", "--to", "tw", stdin=result.stdout).stdout == result.stdout
    drawn = thalweg("translate", "model.py:halves", "--to", "dot", "--of", "parts", "--devices", devices).stdout
    assert 'label="job:ps"' in drawn and 'label="job:worker"' in drawn and "color=blue" in drawn


def test_a_device_that_is_asked_for_and_not_given(thalweg: Thalweg) -> None:
    result = thalweg("translate", "model.py:halves", "--to", "parts", "--devices", "cpu:2")
    assert result.exit_code == 1
    assert "asks for /job:" in result.stderr and "model.py:" in result.stderr
