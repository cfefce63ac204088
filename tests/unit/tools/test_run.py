"""`thalweg run`: results, checks, bisecting, shadow runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thalweg.backends.cpu import timing
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.tuning import Trial
from thalweg.dialects import context
from thalweg.dialects.verify import walk
from thalweg.passes.inline import Inline
from thalweg.runtime.config import config
from thalweg.tools import execution
from thalweg.tools.execution import executable

Thalweg = Callable[..., Any]


def npz(path: str) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return dict(file)


def test_inputs_from_a_file_and_results_to_one(thalweg: Thalweg) -> None:
    x = np.float32([0, 1, 2])
    np.savez("in.npz", x=x)
    result = thalweg("run", "tw.mlir", "--inputs", "in.npz", "--output", "out.npz", "--check", "reference")
    assert result.exit_code == 0, result.stderr
    assert "result_0: f32[3] in [" in result.stdout
    assert "agrees with the reference (1 arrays)" in result.stdout
    np.testing.assert_allclose(npz("out.npz")["result_0"], np.tanh(-np.exp(x)), rtol=1e-5)


def test_random_inputs_are_those_of_the_seed(thalweg: Thalweg) -> None:
    outputs = [thalweg("run", "tw.mlir", "--seed", seed).stdout for seed in ("1", "1", "2")]
    assert outputs[0] == outputs[1] != outputs[2]


def test_variables_come_from_the_file_and_go_to_it(thalweg: Thalweg) -> None:
    np.savez("in.npz", x=np.float32([1, 1, 1]), w=np.float32([1, 2, 3]))
    result = thalweg("run", "variable.mlir", "-i", "in.npz", "-o", "out.npz", "--check", "reference", "--time", "3")
    assert result.exit_code == 0, result.stderr
    assert npz("out.npz")["result_0"].tolist() == [1, 2, 3]
    assert npz("out.npz")["w"].tolist() == [2, 3, 4], "one step, however often it was timed"
    assert "3 calls: median" in result.stdout


def test_a_function_with_variables_and_example_inputs(thalweg: Thalweg) -> None:
    result = thalweg("run", "model.py:step", "--check", "reference")
    assert result.exit_code == 0, result.stderr
    assert "cli_w" in result.stdout


def test_tuning_tells_what_is_faster(thalweg: Thalweg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[Trial]] = []

    def seconds(trials: list[Trial], _: float, options: CpuOptions) -> list[float]:
        asked.append(trials)
        return [1e-3 if trial.choice.unroll != 4 else 5e-4 for trial in trials]

    monkeypatch.setattr(timing, "time_kernels", seconds)
    Path("product.py").write_text("def product(x, y):\n    return x @ y\n")
    with config.override(cache_dir=tmp_path, threads=1):
        for _ in range(2):
            shapes = "f32[48,96],f32[96,80]"
            result = thalweg("run", "product.py:product", "--shapes", shapes, "--tune", "--check", "reference")
            assert result.exit_code == 0, result.stderr
            assert "1000.0 us ->      500.0 us   2.00x  unroll 2 -> 4" in result.stdout
            assert "agrees with the reference" in result.stdout
    assert len([trials for trials in asked if len(trials) == 2]) == 1, "what is known is not timed again"
    assert not config.cpu_tuning


def test_stablehlo_is_checked_against_its_own_interpreter(thalweg: Thalweg) -> None:
    np.savez("in.npz", x=np.float32([-1, -2, -3]))
    result = thalweg("run", "stablehlo.mlir", "--inputs", "in.npz", "--check", "reference")
    assert result.exit_code == 0, result.stderr


def test_open_files_that_do_not_fit(thalweg: Thalweg) -> None:
    np.savez("in.npz", x=np.float32([1]))
    result = thalweg("run", "tw.mlir", "--inputs", "in.npz")
    assert (result.exit_code, result.stderr) == (1, "error: in.npz: 'x' must be f32[3], the file has f32[1].\n")
    assert thalweg("run", "tw.mlir", "--check", "jax").exit_code == 2


@pytest.fixture
def miscompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that takes exponential for its inverse."""

    def wrong(module: Any) -> Any:
        with context.entered():
            return executable(type(module).parse(str(module).replace("stablehlo.exponential", "stablehlo.cosine")))

    monkeypatch.setattr(execution, "executable", wrong)


@pytest.mark.usefixtures("miscompiled")
def test_a_miscompiled_op_is_noticed_and_found(thalweg: Thalweg, folder: Path) -> None:
    result = thalweg("run", "tw.mlir", "--check", "reference")
    assert result.exit_code == 1
    assert "result_0: 3 of the 3 elements of f32[3] differ" in result.stderr
    result = thalweg("run", "tw.mlir", "--bisect", "--save-case", "bug")
    assert result.exit_code == 1
    assert result.stderr.startswith("model.py:3: in loss(): exp (op 1 of 3): 3 of the 3 elements of f32[3] differ")
    assert "bug.mlir" in result.stderr
    assert (folder / "bug.mlir").read_text().startswith("// thalweg run bug.mlir --inputs bug.npz --check reference\n")
    case = thalweg("run", "bug.mlir", "--inputs", "bug.npz", "--check", "reference")
    assert case.exit_code == 1, "the op alone fails, too"


@pytest.mark.usefixtures("miscompiled")
def test_bisecting_stablehlo(thalweg: Thalweg, folder: Path) -> None:
    text = (folder / "stablehlo.mlir").read_text().replace("stablehlo.negate", "stablehlo.exponential")
    (folder / "exp.mlir").write_text(text)
    result = thalweg("run", "exp.mlir", "--bisect")
    assert result.exit_code == 1
    assert "model.py:3: in jit(f)/neg(): stablehlo.exponential (op 1 of 2)" in result.stderr


def test_a_wrong_pass_is_named(thalweg: Thalweg, monkeypatch: pytest.MonkeyPatch) -> None:
    def negate_nothing(self: Any, module: Any) -> bool:
        negation = next(o for o in walk(module.body) if o.name == "tw.neg")
        negation.results[0].replace_all_uses_with(negation.operands[0])
        return True

    monkeypatch.setattr(Inline, "run", negate_nothing)
    result = thalweg("run", "tw.mlir", "--bisect")
    assert result.exit_code == 1
    assert result.stderr.startswith("pass 'inline' (1 of ")


@pytest.mark.parametrize(("target", "count"), [("model.py:step", 10), ("stablehlo.mlir", 2)])
def test_a_program_is_cut_into_cases(thalweg: Thalweg, folder: Path, target: str, count: int) -> None:
    result = thalweg("run", target, "--save-cases", "cases")
    assert result.exit_code == 0, result.stderr
    cases = sorted((folder / "cases").glob("*.mlir"))
    assert len(cases) >= count
    for case in cases:
        stem = str(case.with_suffix(""))
        checked = thalweg("run", str(case), "--inputs", f"{stem}.npz", "--check", f"{stem}.expected.npz")
        assert checked.exit_code == 0, checked.stderr


def test_a_check_against_a_file_that_does_not_fit(thalweg: Thalweg) -> None:
    np.savez("expected.npz", result_0=np.float32([9, 9, 9]))
    assert "differ" in thalweg("run", "tw.mlir", "--check", "expected.npz").stderr
    np.savez("expected.npz", result_7=np.float32([9, 9, 9]))
    result = thalweg("run", "tw.mlir", "--check", "expected.npz")
    assert (result.exit_code, result.stderr) == (1, "error: the results are result_0, expected are result_7.\n")


def test_bisect_where_nothing_is_wrong(thalweg: Thalweg) -> None:
    result = thalweg("run", "model.py:step", "--bisect")
    assert (result.exit_code, result.stdout) == (0, "compiled and reference agree on the results\n")


@pytest.mark.parametrize(
    ("target", "op", "line"), [("model.py:loss", "log", 13), ("stablehlo.mlir", "stablehlo.log", 4)]
)
def test_find_nan(thalweg: Thalweg, target: str, op: str, line: int) -> None:
    np.savez("in.npz", x=np.float32([1, 2, 3]))
    arguments = ["--inputs", "in.npz"] if target.endswith("mlir") else []
    result = thalweg("run", target, "--find-nan", *arguments)
    assert result.exit_code == 1
    assert f"model.py:{line}: " in result.stderr
    assert f"{op} made the first NaN" in result.stderr


def test_find_nan_where_there_is_none(thalweg: Thalweg) -> None:
    result = thalweg("run", "model.py:step", "--find-nan")
    assert (result.exit_code, result.stdout) == (0, "no NaN reaches a result\n")


@pytest.mark.parametrize("target", ["tw.mlir", "stablehlo.mlir"])
def test_trace_and_save_values(thalweg: Thalweg, target: str) -> None:
    result = thalweg("run", target, "--trace-values", "--save-values", "all.npz")
    assert result.exit_code == 0, result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["%0", "f32[3]"] in [[r[0], r[2]] for r in rows if len(r) > 2]
    assert any(name.startswith("%1 ") and name.endswith("model.py:4") for name in npz("all.npz"))
