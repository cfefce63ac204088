"""Programs of one op each, made from the samples of a row, and how results are compared with the NumPy reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from thalweg.dialects import context, ops  # noqa: F401  (ops fills the table)
from thalweg.dialects.attributes import array_type
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef, Sample, Unsupported, rows
from thalweg.dialects.types import DType, as_dtype


@dataclass(frozen=True)
class Case:
    """All samples of a row at one dtype, to be run as one program."""

    row: OpDef
    dtype: DType
    samples: tuple[Sample, ...]

    def __str__(self) -> str:
        return f"{self.row.name}-{self.dtype.short}"

    def inputs(self) -> list[list[np.ndarray]]:
        """The operands of each sample."""
        rng = np.random.default_rng(0)
        return [[a.make(rng, self.dtype) for a in s.operands] for s in self.samples]

    def attrs(self) -> list[dict[str, Any]]:
        """The attributes of each sample, complete."""
        return [self.row.complete(s.attrs) for s in self.samples]

    def expected(self) -> list[list[np.ndarray]]:
        """What the row's reference gives for each sample."""
        assert not isinstance(self.row.reference, Unsupported)
        results = []
        with np.errstate(all="ignore"):
            for operands, attrs in zip(self.inputs(), self.attrs(), strict=True):
                found = self.row.reference(*operands, **attrs)
                results.append([np.asarray(x) for x in (found if isinstance(found, tuple) else (found,))])
        return results

    def module(self) -> ir.Module:
        """A `tw` module whose @main applies the op to every sample. Needs an entered context."""
        return program(self.row, self.inputs(), self.attrs())


def program(row: OpDef, inputs: Sequence[Sequence[np.ndarray]], attrs: Sequence[dict[str, Any]]) -> ir.Module:
    """@main that takes the operands of all applications one after the other and returns all their results."""
    module = ir.Module.create()
    types = [context.to_mlir(array_type(x)) for operands in inputs for x in operands]
    with ir.InsertionPoint(module.body):
        main = ir.Operation.create(
            "func.func",
            attributes={
                "sym_name": ir.StringAttr.get("main"),
                "function_type": ir.TypeAttr.get(ir.FunctionType.get(types, [])),
            },
            regions=1,
        )
    block = main.regions[0].blocks.append(*types)
    arguments = iter(block.arguments)
    results: list[ir.Value] = []
    with ir.InsertionPoint(block):
        for operands, attributes in zip(inputs, attrs, strict=True):
            made = row(*(next(arguments) for _ in operands), **attributes)
            results += made if isinstance(made, tuple) else (made,)
        ir.Operation.create("func.return", operands=results)
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(types, [r.type for r in results]))
    return module


def cases() -> list[Case]:
    """Every row that has a reference, at every dtype. Samples whose dtypes are all fixed run at the first one only."""
    found = []
    for row in rows():
        if isinstance(row.reference, Unsupported):
            continue
        for dtype in row.dtypes:
            samples = tuple(s for s in row.samples if dtype == row.dtypes[0] or not _fixed(s))
            if samples:
                found.append(Case(row, dtype, samples))
    return found


def _fixed(sample: Sample) -> bool:
    return all(a.dtype is not None for a in sample.operands)


def compare(case: Case, found: Sequence[np.ndarray]) -> None:
    """Check the flat results of the case's program against the reference.

    Raises:
        AssertionError: names the sample, the worst element, and the error in units in the last place.
    """
    results = iter(found)
    for sample, inputs, wanted in zip(case.samples, case.inputs(), case.expected(), strict=True):
        for want in wanted:
            got = next(results)
            assert array_type(got) == array_type(want), f"{case} {sample}: {array_type(got)}, want {array_type(want)}"
            error = ulps(got, want)
            if error.size and error.max() > case.row.tolerance:
                worst = np.unravel_index(int(error.argmax()), error.shape)
                raise AssertionError(
                    f"{case}: {error.max():.4g} ulps at {list(map(int, worst))}, allowed {case.row.tolerance}: got "
                    f"{got[worst]}, want {want[worst]}\n{sample}\ninputs {inputs}\ngot {got}\nwant {want}"
                )


def ulps(got: np.ndarray, want: np.ndarray, smallest: float = 0) -> np.ndarray:
    """Error of each element in units in the last place of `want`, or of `smallest` where that is larger.

    Exact dtypes give 0 or infinity.
    """
    if not as_dtype(want.dtype).is_floating:
        return np.where(got == want, 0.0, np.inf)
    info = ml_dtypes.finfo(want.dtype)
    got64, want64 = got.astype(np.float64), want.astype(np.float64)
    same = (got64 == want64) | (np.isnan(got64) & np.isnan(want64))
    with np.errstate(invalid="ignore", over="ignore"):
        _, exponent = np.frexp(np.maximum(np.abs(want64), max(smallest, float(info.smallest_normal))))
        unit = np.ldexp(float(info.eps), np.where(np.isfinite(want64), exponent, 0) - 1)
        error = np.abs(got64 - want64) / unit
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))


def extreme_values(dtype: DType) -> np.ndarray:
    """What breaks elementwise code: infinities, NaN, zeros of both signs, ends of the range, halves, subnormals."""
    if dtype.kind == "b":
        return np.array([False, True])
    if dtype.is_floating:
        info = ml_dtypes.finfo(dtype.numpy)
        ends = [float(info.max), float(info.smallest_normal), float(info.smallest_subnormal)]
        positive = np.array([np.inf, 0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 100.0, *ends])
        return np.concatenate([positive, -positive, [np.nan]]).astype(dtype.numpy)
    limits = np.iinfo(dtype.numpy)
    return np.unique(np.array([limits.min, limits.min + 1, 0, 1, 2, 7, limits.max - 1, limits.max, limits.max // 2,
                               *([-1, -2, -7] if limits.min else [])], dtype.numpy))


def extreme_operands(row: OpDef, dtype: DType) -> list[np.ndarray]:
    """Every combination of extreme values for the operands of an elementwise row."""
    values = extreme_values(dtype)
    grid = np.meshgrid(*[values] * len(row.operands), indexing="ij")
    return [g.reshape(-1) for g in grid]
