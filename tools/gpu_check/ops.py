"""Every op that is compiled, on the samples of its row at each dtype, against the row's NumPy reference."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np

import thalweg.dialects.ops  # noqa: F401  (fills the table)
from thalweg.compiler import driver
from thalweg.dialects import context
from thalweg.dialects.attributes import array_type
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef, Sample, Unsupported, rows
from thalweg.dialects.types import DType, as_dtype
from thalweg.runtime.config import config
from thalweg.runtime.gpu.artefact import DeviceProgram
from thalweg.runtime.gpu.program import LoadedProgram
from thalweg.tools.gpu_check.check import OK, WRONG, Check

Array = np.ndarray[Any, Any]
Case: TypeAlias = tuple[OpDef, DType, list[Sample]]
# A GPU's exponentials, logarithms, divisions and roots are approximate by a few units in the last place, and what is
# made of them by some more. More than that is looked at by a person.
EXTRA_ULPS = 16.0
SECONDS = 120  # for an op: the first ones wait for processes that compile


def conformance(check: Check) -> None:
    """A finding for each op at its first dtype: how many units in the last place its worst element is off."""
    _compare(check, [case for case in _cases() if case[1] == case[0].dtypes[0]])


def dtypes(check: Check) -> None:
    """The same at all other dtypes; some of them with `quick`."""
    others = [case for case in _cases() if case[1] != case[0].dtypes[0]]
    _compare(check, others[:: 10 if check.quick else 1])


def _compare(check: Check, cases: Sequence[Case]) -> None:
    """Compile all in several processes, run one after the other."""
    cases = check.left(cases, _name, SECONDS)
    for case, compiled in zip(cases, _compiled(check, cases), strict=True):
        row, dtype, samples = case
        with check.attempt(_name(case)) as found:
            inputs = _inputs(samples, dtype)
            attrs = [row.complete(s.attrs) for s in samples]
            got = _run(check, row, inputs, compiled())
            worst, where = _worst(row, inputs, attrs, got)
            found["ulps"] = worst
            allowed = row.tolerance + EXTRA_ULPS if dtype.is_floating else row.tolerance
            found["status"] = OK if worst <= allowed else WRONG
            if worst > allowed:
                found["error"] = f"{worst:.4g} units in the last place, {allowed} are allowed: {where}"


def _name(case: Case) -> str:
    row, dtype, _ = case
    return f"{row.name} {dtype.short}"


def _compiled(check: Check, cases: Sequence[Case]) -> Iterator[Callable[[], DeviceProgram]]:
    """For each case what gives its program, or raises why there is none. Triton takes a second for each kernel, so
    several processes go ahead of who asks."""
    chip = check.gpu.properties.chip
    if check.simulated:
        for case in cases:
            yield partial(_compile, case, chip)
        return
    count = max(1, min(12, (os.cpu_count() or 1) - 2))
    names = [(row.name, dtype.name, chip) for row, dtype, _ in cases]
    with _pool(count) as pool:
        started = [pool.submit(_compile_named, *name) for name in names]
        yield from (partial(_finished, *pair) for pair in zip(started, names, strict=True))


def _pool(count: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(count, multiprocessing.get_context("spawn"))


def _finished(started: Future[bytes], name: tuple[str, str, str]) -> DeviceProgram:
    """What was started; once more alone, if another case has taken the processes with it."""
    try:
        return DeviceProgram.from_bytes(started.result())
    except BrokenProcessPool:
        with _pool(1) as alone:
            return DeviceProgram.from_bytes(alone.submit(_compile_named, *name).result())


def _compile_named(row: str, dtype: str, chip: str) -> bytes:
    """In another process: the program of a case, as bytes."""
    return _compile(next(c for c in _cases() if (c[0].name, c[1].name) == (row, dtype)), chip).to_bytes()


def _compile(case: Case, chip: str) -> DeviceProgram:
    row, dtype, samples = case
    attrs = [row.complete(s.attrs) for s in samples]
    with context.entered(), config.override(verify_each=False):
        return driver().device_program(_module(row, _inputs(samples, dtype), attrs), chip)[0]


def _cases() -> Iterator[Case]:
    """Rows with their samples at each dtype."""
    for row in rows():
        if isinstance(row.reference, Unsupported) or row.runs != "compiled":
            continue
        for dtype in row.dtypes:
            first = dtype == row.dtypes[0]
            samples = [s for s in row.samples if first or any(a.dtype is None for a in s.operands)]
            if samples:
                yield row, dtype, samples


def _inputs(samples: Sequence[Sample], dtype: DType) -> list[list[Array]]:
    rng = np.random.default_rng(0)
    return [[a.make(rng, dtype) for a in s.operands] for s in samples]


def _run(check: Check, row: OpDef, inputs: list[list[Array]], program: DeviceProgram) -> list[Array]:
    gpu = check.gpu
    loaded = LoadedProgram(gpu, program, name=row.name)
    return [r.numpy() for r in loaded([gpu.put(x) for operands in inputs for x in operands])]


def _module(row: OpDef, inputs: Sequence[Sequence[Array]], attrs: Sequence[dict[str, Any]]) -> ir.Module:
    """@main that applies an op to the operands of each sample and returns all results."""
    module = ir.Module.create()
    types = [context.to_mlir(array_type(x)) for operands in inputs for x in operands]

    def function_type(results: Sequence[ir.Type]) -> ir.TypeAttr:
        return ir.TypeAttr.get(ir.FunctionType.get(types, list(results)))

    with ir.InsertionPoint(module.body):
        named = {"sym_name": ir.StringAttr.get("main"), "function_type": function_type([])}
        main = ir.Operation.create("func.func", attributes=named, regions=1)
    block = main.regions[0].blocks.append(*types)
    arguments = iter(block.arguments)
    results: list[ir.Value] = []
    with ir.InsertionPoint(block):
        for operands, attributes in zip(inputs, attrs, strict=True):
            made: Any = row(*(next(arguments) for _ in operands), **attributes)
            results += made if isinstance(made, tuple) else (made,)
        ir.Operation.create("func.return", operands=results)
    main.attributes["function_type"] = function_type([r.type for r in results])
    return module


def _worst(
    row: OpDef, inputs: list[list[Array]], attrs: list[dict[str, Any]], got: Sequence[Array]
) -> tuple[float, str]:
    """The largest error in units in the last place, and where it is."""
    worst, where, results = 0.0, "", iter(got)
    for number, (operands, attributes) in enumerate(zip(inputs, attrs, strict=True)):
        with np.errstate(all="ignore"):
            assert not isinstance(row.reference, Unsupported)
            wanted = row.reference(*operands, **attributes)
        for want in map(np.asarray, wanted if isinstance(wanted, tuple) else (wanted,)):
            found = next(results)
            assert (found.shape, found.dtype) == (want.shape, want.dtype), f"sample {number}: got {found.dtype.name}"
            error = _ulps(found, want)
            if error.size and error.max() > worst:
                at = np.unravel_index(int(error.argmax()), error.shape)
                worst = float(error.max())
                where = f"sample {number} at {[int(i) for i in at]}: got {found[at]}, want {want[at]}"
    return worst, where


def _ulps(got: Array, want: Array) -> Array:
    """Errors in units in the last place; of exact types 0 or infinity."""
    if not as_dtype(want.dtype).is_floating:
        return np.where(got == want, 0.0, np.inf)
    info = ml_dtypes.finfo(want.dtype)
    a, b = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        _, exponent = np.frexp(np.maximum(np.abs(b), float(info.smallest_normal)))
        error = np.abs(a - b) / np.ldexp(float(info.eps), np.where(np.isfinite(b), exponent, 0) - 1)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    return np.where(same, 0.0, np.where(np.isnan(error), np.inf, error))
