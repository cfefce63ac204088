"""Every op as Triton kernels: in Triton's interpreter against the NumPy reference, and compiled for both makers' chips.

Each time: one dtype of each op in the interpreter, a few ops compiled. The slow suite does all of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from op_programs import Case, cases, compare

from thalweg.backends.gpu.backend import lower
from thalweg.backends.gpu.lowered import Lowered
from thalweg.backends.gpu.options import GpuOptions
from thalweg.backends.gpu.program import build
from thalweg.backends.stablehlo.lower import lower_module
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError

# Ops of the suite that have no Triton code. This list can only become shorter.
NOT_YET: frozenset[str] = frozenset()

CASES = [c for c in cases() if c.row.runs == "compiled"]
FIRST = {c.row.name: c for c in reversed(CASES)}
F32 = {c.row.name: c for c in CASES if c.dtype.short == "f32"}
# Compiled each time, one of each kind of kernel; the others take minutes.
QUICK = ("concatenate", "cumsum", "reduce_sum", "scatter", "sort")
CHIPS = ("sm_90", "gfx942")


def _lowered(case: Case, folder: Path, chip: str = "virtual") -> Lowered:
    return lower(lower_module(case.module()), GpuOptions(chip, folder=folder))


def _run(case: Case, folder: Path) -> None:
    pytest.importorskip("triton")
    from thalweg.backends.gpu.simulate import simulate

    with context.entered():
        compare(case, simulate(_lowered(case, folder), [x for operands in case.inputs() for x in operands]))


def _compile(case: Case, folder: Path, chip: str) -> None:
    pytest.importorskip("triton")
    with context.entered():
        program = build(_lowered(case, folder, chip))
    assert all(image.binary.startswith(b"\x7fELF") and image.chip == chip for image in program.images)
    assert all(image.shared <= (232448 if chip == "sm_90" else 65536) for image in program.images)


@pytest.mark.parametrize("name", sorted(FIRST.keys() - NOT_YET))
def test_first_dtype(name: str, tmp_path: Path) -> None:
    _run(FIRST[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c.row.name not in NOT_YET], ids=str)
def test_every_dtype(case: Case, tmp_path: Path) -> None:
    _run(case, tmp_path)


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in QUICK else pytest.mark.slow) for n in sorted(FIRST.keys() - NOT_YET)]
)
def test_compiles(name: str, chip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    _compile(F32.get(name, FIRST[name]), tmp_path, chip)


@pytest.mark.slow
@pytest.mark.parametrize("case", [c for c in CASES if c.row.name not in NOT_YET], ids=str)
def test_every_dtype_compiles(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    _compile(case, tmp_path, "sm_90")


def test_the_list_of_what_is_not_there_is_right() -> None:
    refused = set()
    with context.entered():
        for name, case in FIRST.items():
            try:
                lower(lower_module(case.module()))
            except LoweringError as error:
                assert "not yet on GPU" in str(error)
                refused.add(name)
    assert refused == NOT_YET
