"""The command line as a whole: help, exit codes, and errors in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from thalweg.tools import opt

Thalweg = Callable[..., Any]
COMMANDS = ("opt", "translate", "run", "inspect", "bench")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_shows_examples(thalweg: Thalweg, command: str) -> None:
    result = thalweg(command, "--help")
    assert result.exit_code == 0
    assert f"thalweg {command}" in result.stdout
    assert "Examples" in result.stdout or command == "inspect"


def test_the_commands_are_listed(thalweg: Thalweg) -> None:
    result = thalweg("--help")
    assert result.exit_code == 0
    assert all(command in result.stdout for command in COMMANDS)


def test_a_misspelt_command_is_wrong_usage_with_a_suggestion(thalweg: Thalweg) -> None:
    result = thalweg("otp")
    assert result.exit_code == 2
    assert "Did you mean 'opt'?" in result.stderr


def test_an_unknown_option_is_wrong_usage(thalweg: Thalweg) -> None:
    assert thalweg("opt", "tw.mlir", "--nope").exit_code == 2


def test_a_failure_is_one_line_and_code_1(thalweg: Thalweg) -> None:
    result = thalweg("opt", "nowhere.mlir")
    assert result.exit_code == 1
    assert result.stderr == "error: nowhere.mlir: No such file or directory.\n"
    assert result.stdout == ""


def test_traceback_on_request_wherever_it_stands(thalweg: Thalweg) -> None:
    for line in (["--traceback", "opt", "nowhere.mlir"], ["opt", "nowhere.mlir", "--traceback"]):
        result = thalweg(*line)
        assert result.exit_code == 1
        assert "Traceback (most recent call last)" in result.stderr


def test_an_unforeseen_exception_is_one_line_too(thalweg: Thalweg, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(opt, "_show", explode)
    result = thalweg("opt", "tw.mlir")
    assert result.exit_code == 1
    assert result.stderr == "error: RuntimeError: boom (--traceback shows where)\n"


def test_an_interrupt_is_130(thalweg: Thalweg, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(opt, "_show", interrupt)
    assert thalweg("opt", "tw.mlir").exit_code == 130


def test_version_names_what_a_report_needs(thalweg: Thalweg) -> None:
    result = thalweg("--version")
    assert result.exit_code == 0
    assert all(name in result.stdout for name in ("thalweg", "llvmlite", "numpy"))


def test_help_loads_no_compiler() -> None:
    """What `thalweg --help` imports decides how fast it answers."""
    heavy = ("thalweg.compiler", "thalweg.backends.", "thalweg.passes.", "llvmlite")
    code = f"import sys, thalweg.tools.cli; print([m for m in sys.modules if m.startswith({heavy!r})])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_python_m_thalweg_and_a_reader_that_goes_away() -> None:
    """`thalweg … | head` ends quietly."""
    command = [sys.executable, "-m", "thalweg", "inspect", "ops"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) in (0, 1)
