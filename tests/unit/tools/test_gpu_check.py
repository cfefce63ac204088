"""`thalweg gpu-check`: sections that crash or hang lose nothing; the whole of it on virtual GPUs, in the slow suite."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from thalweg.dialects.diagnostics import DeviceError, LoweringError
from thalweg.tools.cli import app
from thalweg.tools.gpu_check import run as runner
from thalweg.tools.gpu_check.check import BROKEN, Check, findings_of
from thalweg.tools.gpu_check.networks import resnet50_of_jax
from thalweg.tools.gpu_check.report import line_of, write
from thalweg.tools.gpu_check.run import RESUMED, SECTIONS, Result, chosen, run, section


def test_every_section_is_there() -> None:
    for name in SECTIONS:
        assert section(name).__doc__, f"{name} does not say what it does"


def test_sections_are_chosen_by_name() -> None:
    assert chosen("ops, matmul") == ["ops", "matmul"]
    assert chosen("") == [*SECTIONS]
    with pytest.raises(ValueError, match="unknown section 'matmull'; did you mean 'matmul'"):
        chosen("matmull")


def test_findings_are_written_at_once_and_say_how_it_went(tmp_path: Path) -> None:
    check = Check(tmp_path / "f.jsonl")
    with check.attempt("fine", answer=42) as found:
        found["more"] = 1.5
    with check.attempt("wrong"):
        raise AssertionError("off by 3")
    with check.attempt("missing"):
        raise LoweringError("there is no such kernel yet")
    with check.attempt("failed"):
        raise ValueError("oh")
    with check.attempt("told") as found:
        found["status"] = "skipped"
    found = findings_of(check.file)
    assert [f["status"] for f in found] == ["ok", "wrong", "missing", "failed", "skipped"]
    assert (found[0]["answer"], found[0]["more"], found[1]["error"]) == (42, 1.5, "off by 3")
    assert "test_gpu_check.py" in found[3]["traceback"]


def test_what_did_not_come_to_its_end_has_failed_with_what_it_found(tmp_path: Path) -> None:
    check = Check(tmp_path / "f.jsonl")
    with check.attempt("fine"):
        pass
    with pytest.raises(KeyboardInterrupt), check.attempt("ended", shape=[3]) as found:
        found["ms"] = 1.5
        found.save()
        raise KeyboardInterrupt
    check.note("later")
    fine, ended, later = findings_of(check.file)
    assert (fine["status"], later["status"]) == ("ok", "ok")
    assert (ended["status"], ended["shape"], ended["ms"]) == ("failed", [3], 1.5)
    assert "did not come to its end" in ended["error"]
    assert check.left(["fine", "ended", "new"], str, 60) == ["new"]


class BrokenGpu(Check):
    """Its GPU says nothing but errors."""

    @property
    def gpu(self) -> Any:
        def synchronise() -> None:
            raise DeviceError("cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS (700).")

        return SimpleNamespace(synchronise=synchronise)


def test_a_process_whose_gpu_is_broken_ends_where_another_can_go_on(tmp_path: Path) -> None:
    check = BrokenGpu(tmp_path / "f.jsonl")
    with check.attempt("alone"):
        raise DeviceError("oh")
    (case, _) = check.left(["one", "other"], str, 60)
    with pytest.raises(SystemExit) as end, check.attempt(case):
        raise DeviceError("oh")
    assert end.value.code == BROKEN
    assert [(f["name"], f["status"]) for f in findings_of(check.file)] == [("alone", "failed"), ("one", "failed")]
    with check.attempt("other"):
        raise AssertionError("wrong numbers break nothing")
    assert check.left(["one", "other", "third"], str, 60) == ["third"]


def _as_python(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Have sections run this instead; `file` is where findings go."""
    made = lambda name, file, simulated, quick: [sys.executable, "-c", f"file = {str(file)!r}\n{code}"]  # noqa: E731
    monkeypatch.setattr(runner, "_command", made)


FOUND = "open(file, 'a').write('{\"name\": \"a\", \"status\": \"ok\"}\\n{\"name\": \"cut o')\n"


def test_a_section_that_crashes_keeps_what_it_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _as_python(monkeypatch, FOUND + "import os; print('last words', flush=True); os.abort()")
    told: list[Result] = []
    (result,) = run(tmp_path, ["launch"], simulated=True, quick=True, tell=told.extend)
    assert result.status == "crashed with exit code -6"
    assert result.findings == [{"name": "a", "status": "ok"}]
    assert "last words" in result.log
    assert told == [result]
    assert not write(tmp_path, [result], simulated=True)
    text = (tmp_path / "report.md").read_text()
    assert "**Simulated.** No GPU was used" in text and "last words" in text


CASES = """
import os, sys, time
from pathlib import Path
from thalweg.tools.gpu_check.check import Check
check = Check(Path(file))
for case in check.left(["a", "b", "c", "d"], str, SECONDS):
    with check.attempt(case) as found:
        if case == "b":
            os.abort()
        if case == "c":
            time.sleep(600)
"""


def test_a_section_goes_on_after_a_case_that_ended_its_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _as_python(monkeypatch, CASES.replace("SECONDS", "5"))
    assert "ops" in RESUMED
    (result,) = run(tmp_path, ["ops"], simulated=True, quick=True)
    assert result.status == "done, after 2 of its cases ended the process"
    assert [(f["name"], f["status"]) for f in result.findings] == [
        ("a", "ok"), ("b", "failed"), ("c", "failed"), ("d", "ok"),
    ]  # fmt: skip
    assert "Timeout" in result.log and "time.sleep" not in result.log, "where it hung is in the log"
    assert not write(tmp_path, [result], simulated=True)
    assert "it did not come to its end" in (tmp_path / "report.md").read_text()


def test_a_section_that_cannot_go_on_is_not_begun_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _as_python(monkeypatch, CASES.replace("SECONDS", "5"))
    (result,) = run(tmp_path, ["launch"], simulated=True, quick=True)
    assert result.status == "crashed with exit code -6"
    assert [f["name"] for f in result.findings] == ["a", "b"]


def test_a_section_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _as_python(monkeypatch, FOUND + "import time; time.sleep(600)")
    (result,) = run(tmp_path, ["launch"], simulated=True, quick=True, limit=1)
    assert result.status == "timed out after 1 s"
    assert result.seconds < 60
    assert result.findings == [{"name": "a", "status": "ok"}]


def test_what_there_is_no_time_for_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _as_python(monkeypatch, FOUND)
    shown: list[list[str]] = []
    tell = lambda results: shown.append([r.status for r in results])  # noqa: E731
    results = run(tmp_path, ["launch", "ops"], simulated=True, quick=True, minutes=0.01, tell=tell)
    assert [r.status for r in results] == ["left out: the 0.01 minutes are over"] * 2
    assert [len(statuses) for statuses in shown] == [1, 2]
    assert not (tmp_path / "launch.jsonl").exists()
    assert not write(tmp_path, results, simulated=False)
    assert "left out" in (tmp_path / "report.md").read_text()


def test_jax_takes_no_memory_before_it_needs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "import json, os; open(file, 'w').write(json.dumps({'name': os.environ['XLA_PYTHON_CLIENT_PREALLOCATE']}))"
    _as_python(monkeypatch, code)
    (result,) = run(tmp_path, ["launch"], simulated=True, quick=True)
    assert result.findings == [{"name": "false"}]


def test_speeds_are_shown_beside_what_is_asked(tmp_path: Path) -> None:
    cases = [{"name": f"{k}", "status": "ok", "cublas_ratio": ratio} for k, ratio in enumerate((0.8, 0.95, 1.1))]
    result = Result("matmul", "Speed", "done", 1.5, cases)
    assert write(tmp_path, [result], simulated=False)
    text = (tmp_path / "report.md").read_text()
    assert "| products of matrices beside cuBLAS | 0.85 | 3 | 0.8 | 0.95 | 1.1 | 2 of 3 reach it |" in text
    assert "| attention beside PyTorch's | 0.8 | 0 | | | | not measured |" in text
    assert write(tmp_path, [result], simulated=True)
    assert "## Speeds" not in (tmp_path / "report.md").read_text()


def test_the_report_counts_many_and_shows_what_is_not_fine(tmp_path: Path) -> None:
    fine = [{"name": f"op {k}", "status": "ok", "ulps": 1.23456} for k in range(100)]
    wrong = {"name": "tanh f32", "status": "wrong", "error": "off by 3 | and\nmore"}
    result = Result("ops", "Every op", "done", 1.5, [*fine, wrong])
    assert line_of(result) == "ops          done in 1.5 s: 100 ok, 1 wrong"
    assert not write(tmp_path, [result], simulated=False)
    text = (tmp_path / "report.md").read_text()
    assert "100 as they should be; the others:" in text
    assert "| tanh f32 | wrong |  off by 3 \\| and<br>more |" in text
    assert "Simulated" not in text
    assert len(json.loads((tmp_path / "report.json").read_text())["sections"][0]["findings"]) == 101
    assert write(tmp_path, [Result("ops", "Every op", "done", 1.5, fine)], simulated=False)


def test_without_a_gpu_it_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("thalweg.runtime.gpu.driver.why_none", lambda: "no GPU found: libcuda.so.1 is not there.")
    done = CliRunner().invoke(app, ["gpu-check", "--out", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert "no GPU found: libcuda.so.1 is not there." in done.output and "--simulated" in done.output


def test_a_simulated_run_from_the_command_line(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    options = ["--simulated", "--quick", "--sections", "environment,dlpack"]
    done = CliRunner().invoke(app, ["gpu-check", "--out", str(tmp_path), *options])
    assert done.exit_code == 0, done.output
    assert "simulated: no GPU was used" in done.output
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["simulated"] and report["fine"]
    assert [s["status"] for s in report["sections"]] == ["done", "done"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", [n for n in SECTIONS if n not in ("environment", "dlpack")])
def test_every_section_runs_to_its_end_on_virtual_gpus(name: str, tmp_path: Path) -> None:
    pytest.importorskip("triton")
    (result,) = run(tmp_path, [name], simulated=True, quick=True)
    assert result.status == "done", result.log
    bad = [f for f in result.findings if f["status"] not in ("ok", "skipped", "missing")]
    assert not bad, bad


@pytest.mark.slow
def test_the_resnet_of_jax_learns() -> None:
    jax = pytest.importorskip("jax")
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype(np.float32)
    step = resnet50_of_jax(jax, images, np.array([1, 2], np.int32))
    losses = [float(step()) for _ in range(4)]
    assert np.isfinite(losses).all() and losses[-1] < 0.1 * losses[0]
