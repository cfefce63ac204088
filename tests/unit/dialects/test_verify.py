"""Parsing and verifying: places in messages (the rules themselves: tests/ir/dialects/invalid.mlir)."""

from __future__ import annotations

from pathlib import Path

import pytest

from thalweg.dialects import context
from thalweg.dialects.diagnostics import VerificationError
from thalweg.dialects.location import where_of
from thalweg.dialects.verify import parse, parse_file, walk

GOOD = 'func.func @main(%x: tensor<3xf32>) {\n  %0 = "tw.exp"(%x) : (tensor<3xf32>) -> tensor<3xf32>\n  return\n}\n'
WRONG_TYPE = GOOD.replace("-> tensor<3xf32>\n", "-> tensor<4xf32>\n")
NO_SYNTAX = GOOD.replace("return", "retrn")


@pytest.mark.parametrize(("text", "message"), [(WRONG_TYPE, "m.mlir:2: 'tw.exp' op has"), (NO_SYNTAX, "m.mlir:3:3: ")])
def test_errors_name_the_source_and_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "m.mlir"
    path.write_text(text)
    with context.entered():
        with pytest.raises(VerificationError) as from_text:
            parse(text, "m.mlir")
        with pytest.raises(VerificationError) as from_file:
            parse_file(path)
    assert str(from_text.value).startswith(message)
    assert str(from_file.value).startswith(f"{tmp_path}/{message}")


def test_ops_of_a_file_carry_its_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "m.mlir"
    path.write_text(GOOD)
    with context.entered():
        module = parse_file(str(path))
        places = [where_of(o.location) for o in walk(module.body) if o.name == "tw.exp"]
    assert [(p.file, p.line) for p in places if p] == [(str(path), 2)]


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with context.entered(), pytest.raises(FileNotFoundError):
        parse_file(tmp_path / "nowhere.mlir")
