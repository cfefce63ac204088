"""The benchmark harness tells failures and disagreements instead of timing them; our side of the workloads runs."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from benchmarks.compare import compare
from benchmarks.harness import Workload, measure
from benchmarks.report import Row, added, ratio
from benchmarks.tables import markdown
from benchmarks.workloads import WORKLOADS


def test_turns_medians_and_agreement() -> None:
    values = {"thalweg": 1.0, "jax": 1.0001, "torch": 2.0}
    workload = Workload("w", "", {name: lambda value=value: lambda: value for name, value in values.items()})
    ours, near, far = measure(workload, ["thalweg", "jax", "torch", "tensorflow"], rounds=3, budget=0.01)
    assert len(ours.rounds) == 3 and ours.median > 0 and ours.error is None and near.error is None
    assert far.error == "differs from thalweg"


def test_an_implementation_that_fails_is_a_line_not_the_end() -> None:
    def broken() -> None:
        raise RuntimeError("no such layer")

    workload = Workload("w", "", {"thalweg": lambda: lambda: 1.0, "jax": broken})  # type: ignore[dict-item]
    ours, theirs = measure(workload, ["thalweg", "jax"], rounds=1, budget=0.01)
    assert ours.rounds and theirs.error == "RuntimeError: no such layer"


@pytest.mark.parametrize("name", ["mlp-step", "mlp-infer-1", "layernorm", "scalar-add", "null-step-100", "while-1000"])
def test_our_side_runs(name: str) -> None:
    workload = next(w for w in WORKLOADS if w.name == name)
    value = workload.makers["thalweg"]()()
    assert value is None or np.isfinite(np.asarray(value)).all()


def _run_file(path: Path, medians: dict[str, dict[str, float]]) -> Path:
    rows = [
        {"workload": name, "unit": "ms", **{f: {"median_s": s, "error": None} for f, s in row.items()}}
        for name, row in medians.items()
    ]
    path.write_text(json.dumps({"rows": rows}))
    return path


def test_comparing_two_runs_allows_for_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = _run_file(tmp_path / "a.json", {"x": {"thalweg": 1.0, "jax": 1.0}, "y": {"thalweg": 1.0, "jax": 1.0}})
    # The machine ran at half speed: x only seems slower, y is.
    after = _run_file(tmp_path / "b.json", {"x": {"thalweg": 2.0, "jax": 2.0}, "y": {"thalweg": 3.0, "jax": 2.0}})
    assert compare(before, after) == 1
    told = capsys.readouterr().out
    assert "0.50x" in told and "0.33x" in told
    with pytest.raises(SystemExit, match="no file"):
        compare(tmp_path / "c.json", after)
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(SystemExit, match="not the JSON of a benchmark run"):
        compare(tmp_path / "c.json", after)


def test_a_run_as_a_table(tmp_path: Path) -> None:
    def cell(seconds: float, error: str | None = None) -> dict[str, object]:
        return {"median_s": seconds, "best_s": seconds, "first_call_s": 0.25, "error": error}

    rows = [
        {"workload": "a", "unit": "ms", "thalweg": cell(0.002), "jax": cell(0.003), "litert": cell(0.001, "differs")},
        {"workload": "b", "unit": "us", "thalweg": cell(2e-6), "torch": cell(1e-6)},
    ]
    (tmp_path / "run.json").write_text(json.dumps({"rows": rows}))
    heading, _, first, second, _, told = markdown(tmp_path / "run.json").splitlines()
    assert heading == "| workload | thalweg | JAX | PyTorch | fastest peer / thalweg | first call |"
    assert first == "| a (ms) | 2 | 3 |  | **1.50x** | 0.25 s |"
    assert second == "| b (us) | 2 |  | 1 | 0.50x | 0.25 s |"
    assert told == "2 rows: faster than the fastest peer in 1, within 2x in 2; geometric mean 0.87x."
    rows[0]["jax"] = cell(0.003) | {"best_s": 0.001, "thalweg_best_s": 0.002}
    (tmp_path / "run.json").write_text(json.dumps({"rows": rows}))
    assert markdown(tmp_path / "run.json", least=True).splitlines()[2] == "| a (ms) | 2 | 1 |  | 0.50x | 0.25 s |"


def test_runs_put_together_compare_each_peer_with_ours_beside_it() -> None:
    def row(name: str, **cells: tuple[float, float]) -> Row:
        told = {f: {"median_s": s, "error": None, "thalweg_s": ours} for f, (s, ours) in cells.items()}
        return {"workload": name, "unit": "ms", **told}

    before = [row("a", thalweg=(1.0, 1.0), jax=(1.2, 1.0)), row("b", thalweg=(1.0, 1.0), jax=(3.0, 1.0))]
    # The machine ran at half speed: PyTorch is the slower peer still.
    rows = added(before, [row("a", thalweg=(2.0, 2.0), torch=(3.0, 2.0))])
    assert [r["workload"] for r in rows] == ["a", "b"] and set(rows[0]) >= {"thalweg", "jax", "torch"}
    assert ratio(rows[0]) == pytest.approx(1.2) and ratio(rows[1]) == pytest.approx(3.0)
    assert ratio({"workload": "c", "unit": "ms", "thalweg": rows[0]["thalweg"]}) is None
