"""One op, one row: what an op is, told once, and read by tracer, verifier, importer, tests and documentation alike.

A row is made with `define`; the families in `dialects/ops/` are nothing but rows. Two tables hang on the rows from
outside, keyed by the row: vector-Jacobian rules (`passes/gradients/`) and StableHLO lowerings (`backends/stablehlo/`).
A cell that cannot be filled says why with `Unsupported`; an empty one fails `tests/meta/test_op_coverage.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeGuard

import numpy as np

from thalweg.dialects.diagnostics import TypeInferenceError, did_you_mean
from thalweg.dialects.types import DTYPES, FLOATS, DType, TensorType, Type

Attrs = Mapping[str, Any]
AttrKind = Literal["int", "ints", "float", "bool", "str", "dtype", "array"]
Infer = Callable[[Sequence[Any], Attrs], Sequence[Type]]
Reference = Callable[..., Any]
Effects = Literal["pure", "read", "write"]
Runs = Literal["compiled", "host"]


@dataclass(frozen=True)
class Unsupported:
    """A cell that is empty on purpose, and why."""

    why: str


@dataclass(frozen=True)
class RegionType:
    """What a region takes and yields: the inference rules of control ops see their regions as these."""

    arguments: tuple[Type, ...]
    yields: tuple[Type, ...]


@dataclass(frozen=True)
class Arg:
    """One operand of a sample: uniform values in [low, high); `dtype` None means the dtype under test."""

    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    dtype: DType | None = None
    distinct: bool = False  # no two elements equal: for max, sort and the like, whose gradients break ties
    values: tuple[Any, ...] | None = None  # exactly these, where the shapes of results depend on them

    def make(self, rng: np.random.Generator, dtype: DType) -> np.ndarray:
        """An array of the sample's shape, reproducible from `rng`."""
        dtype = self.dtype or dtype
        low, high = self.low, self.high
        if self.values is not None:
            return np.array(self.values, dtype.numpy).reshape(self.shape)
        if dtype.kind == "b":
            return rng.random(self.shape) < 0.5
        if dtype.kind == "u":
            low = max(low, 0)
        if self.distinct:
            count = int(np.prod(self.shape))
            return (rng.permutation(count) - count // 2 * (dtype.kind != "u")).reshape(self.shape).astype(dtype.numpy)
        if dtype.is_integer:
            return rng.integers(int(low), max(int(high), int(low) + 1), self.shape).astype(dtype.numpy)
        return rng.uniform(low, high, self.shape).astype(dtype.numpy)


@dataclass(frozen=True)
class Sample:
    """Operands and attributes that an op must be right on: conformance, gradient and property tests draw from them."""

    operands: tuple[Arg, ...]
    attrs: Attrs = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class OpDef:
    """A row of the dialect.

    Calling the row builds the op at the current MLIR insertion point and location (see `dialects.build`):

        >>> y = add(x, x)          # inside `with ir.InsertionPoint(...), location:`
    """

    name: str
    family: str
    operands: tuple[str, ...]  # names; a last one written `*xs` takes any number
    infer: Infer | None  # types of the results from types of the operands; None for ops with regions
    doc: str
    attrs: Mapping[str, AttrKind]
    defaults: Attrs
    reference: Reference | Unsupported  # NumPy: arrays and attributes in, one array or a tuple out
    samples: tuple[Sample, ...]
    dtypes: tuple[DType, ...]  # of the first operand
    tolerance: float  # allowed relative error, in units in the last place of the result's dtype
    effects: Effects
    regions: tuple[str, ...]
    infer_regions: Callable[[Sequence[Any], Attrs, Sequence[RegionType]], Sequence[Type]] | None
    terminator: bool
    runs: Runs  # as part of a compiled program, or on the host by a kernel of `runtime/kernels/`
    defined_at: str

    @property
    def mlir_name(self) -> str:
        return f"tw.{self.name}"

    @property
    def variadic(self) -> bool:
        return bool(self.operands) and self.operands[-1].startswith("*")

    def complete(self, attrs: Attrs) -> dict[str, Any]:
        """`attrs` with defaults filled in; an unknown or missing name is an error."""
        for name in attrs:
            if name not in self.attrs:
                raise TypeInferenceError(
                    f"{self.name}: unknown attribute '{name}'{did_you_mean(name, self.attrs) or '.'} "
                    f"It has {', '.join(self.attrs) or 'none'}."
                )
        full = {**self.defaults, **attrs}
        missing = [n for n in self.attrs if n not in full]
        if missing:
            raise TypeInferenceError(f"{self.name}: attribute '{missing[0]}' is missing.")
        return full

    def result_types(
        self, operands: Sequence[Type], attrs: Attrs, regions: Sequence[RegionType] = ()
    ) -> tuple[Type, ...]:
        """The one rule for result types: the tracer, the verifier and the importer all ask here.

        Raises:
            TypeInferenceError: operands or attributes do not fit; the message begins with the op's name.
        """
        fixed = len(self.operands) - self.variadic
        if len(operands) < fixed or (len(operands) > fixed and not self.variadic):
            names = ", ".join(self.operands) or "none"
            raise TypeInferenceError(f"{self.name}: takes operands ({names}), got {len(operands)}.")
        try:
            if self.infer_regions is not None:
                return tuple(self.infer_regions(operands, attrs, regions))
            assert self.infer is not None
            return tuple(self.infer(operands, attrs))
        except TypeInferenceError as error:
            message = str(error)
            raise TypeInferenceError(
                message if message.startswith(f"{self.name}:") else f"{self.name}: {message}"
            ) from None

    def __call__(self, *operands: Any, **attrs: Any) -> Any:
        from thalweg.dialects.build import build  # build needs the rows to exist

        results = build(self, operands, attrs)
        return results[0] if len(results) == 1 else results

    def __repr__(self) -> str:
        return f"<op {self.mlir_name}>"


OPS: dict[str, OpDef] = {}


def define(
    name: str,
    operands: str,
    *,
    doc: str,
    infer: Infer | None = None,
    attrs: Mapping[str, AttrKind] | None = None,
    defaults: Attrs | None = None,
    reference: Reference | Unsupported,
    samples: Sequence[Sample] = (),
    dtypes: Sequence[DType] = DTYPES,
    tolerance: float = 0,
    effects: Effects = "pure",
    regions: str = "",
    infer_regions: Callable[[Sequence[Any], Attrs, Sequence[RegionType]], Sequence[Type]] | None = None,
    terminator: bool = False,
    runs: Runs = "compiled",
) -> OpDef:
    """Add a row to the dialect. `operands` and `regions` are names separated by spaces.

    Raises:
        ValueError: the name is taken.
    """
    frame = sys._getframe(1)
    if name in OPS:
        raise ValueError(f"op '{name}' is defined twice, first at {OPS[name].defined_at}")
    row = OpDef(
        name=name,
        family=frame.f_globals["__name__"].rpartition(".")[2],
        operands=tuple(operands.split()),
        infer=infer,
        doc=doc,
        attrs=attrs or {},
        defaults=defaults or {},
        reference=reference,
        samples=tuple(samples),
        dtypes=tuple(dtypes),
        tolerance=tolerance,
        effects=effects,
        regions=tuple(regions.split()),
        infer_regions=infer_regions,
        terminator=terminator,
        runs=runs,
        defined_at=f"{frame.f_code.co_filename}:{frame.f_lineno}",
    )
    OPS[name] = row
    return row


def find(name: str) -> OpDef:
    """The row called `name`, with or without the `tw.` prefix; the error suggests the nearest name."""
    short = name.removeprefix("tw.")
    if short not in OPS:
        raise KeyError(f"unknown op '{name}'{did_you_mean(short, OPS)}")
    return OPS[short]


def rows() -> Iterator[OpDef]:
    """All rows, family by family, in the order of definition."""
    return iter(OPS.values())


def is_float(type_: Type) -> TypeGuard[TensorType]:
    """True for a tensor whose gradient makes sense."""
    return isinstance(type_, TensorType) and type_.dtype in FLOATS


def fail(message: str) -> TypeInferenceError:
    """For `raise fail("…")` in inference rules; the op's name and the user's line are added by the callers."""
    return TypeInferenceError(message)
