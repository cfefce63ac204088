"""Imports go only along the arrows of ARCHITECTURE.md, MLIR has one door, files and functions stay readable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("dialects", "passes", "backends", "runtime", "frontend", "tools")
MAY_IMPORT = {
    "dialects": {"dialects"},
    "runtime": {"runtime", "dialects.types", "dialects.diagnostics", "dialects.devices", "dialects.extents"},
    "passes": {"passes", "dialects"},
    "backends": {"backends", "passes", "dialects", "runtime.config", "runtime.gpu.artefact"},
    "frontend": {"frontend", "dialects", "runtime"},
    "tools": {*FOLDERS, "compiler", "sized", "steps", "cluster", "gpus", "shipping", "__init__"},
}
FILE_LINES, FUNCTION_LINES = 450, 70  # hard ends; the aims are 400 and 60


def _sources() -> list[Path]:
    return [p for folder in FOLDERS for p in sorted((ROOT / folder).rglob("*.py"))]


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


@pytest.mark.parametrize("path", _sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    allowed = MAY_IMPORT[path.relative_to(ROOT).parts[0]]
    for line, name in _imports(path):
        if not name.startswith("thalweg.") or name in {f"thalweg.{f}" for f in FOLDERS}:
            continue
        inner = name.removeprefix("thalweg.")
        reachable = any(inner == a or inner.startswith(a + ".") or a.startswith(inner + ".") for a in allowed)
        assert reachable, f"{path.relative_to(ROOT)}:{line} imports {name}; it may import {sorted(allowed)}"


@pytest.mark.parametrize("path", _sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_mlir_is_imported_through_its_one_door(path: Path) -> None:
    if path == ROOT / "dialects" / "mlir.py":
        return
    for line, name in _imports(path):
        assert not name.startswith("torch_mlir"), f"{path.relative_to(ROOT)}:{line}: import from thalweg.dialects.mlir"


@pytest.mark.parametrize("path", _sources(), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= FILE_LINES, f"{path.relative_to(ROOT)} is too long; is it one thing?"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno
            assert length <= FUNCTION_LINES, f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines"
