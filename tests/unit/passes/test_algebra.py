"""Every law of the algebra: it fires where it should, and the program means the same after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from ir_programs import program

from thalweg.backends.reference import run
from thalweg.dialects.build import build_with_regions
from thalweg.dialects.mlir import ir
from thalweg.dialects.ops import control, indexing, reduce, shape
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops.contraction import dot_general
from thalweg.dialects.types import DType, TensorType, bool_, float16, float32, float64, int8, int32, int64
from thalweg.passes.algebra import LAWS
from thalweg.passes.pipeline import run as run_passes
from thalweg.passes.rewriting import array, full_like

V = ir.Value


@dataclass(frozen=True)
class Case:
    """A law, a program it applies to, and the ops (without constants and broadcasts of numbers) that are left."""

    law: str
    types: tuple[TensorType, ...]
    body: Callable[..., V]
    left: str


def f32(*extents: int) -> TensorType:
    return TensorType(extents, float32)


def i32(*extents: int) -> TensorType:
    return TensorType(extents, int32)


def boolean(*extents: int) -> TensorType:
    return TensorType(extents, bool_)


def filled(x: V, number: float) -> V:
    return full_like(x, number)


def dot(x: V, y: V) -> V:
    return dot_general(x, y, lhs_contract=(1,), rhs_contract=(0,))


def spread(x: V, *extents: int) -> V:
    """x along the last dimensions of a larger shape."""
    rank = len(x.type.shape)
    return shape.broadcast(x, shape=extents, dims=range(len(extents) - rank, len(extents)))


def number(value: float, dtype: DType, *extents: int) -> V:
    scalar = array(value, dtype)
    return shape.broadcast(scalar, shape=extents, dims=()) if extents else scalar


def at(x: V, start: int) -> V:
    return indexing.dynamic_update_slice(filled(x, 0), array([1.0, 2.0], float32), array(start, int32))


def in_zeros(x: V, before: int, after: int) -> V:
    return shape.pad(x, array(0, float32), low=(0, before), high=(0, after), interior=(0, 0))


def scattered(x: V, rows: V) -> V:
    return indexing.scatter(
        filled(x, 0), array([[2], [0]], int32), rows, mode="add", update_window_dims=(1,), inserted_window_dims=(0,),
        scatter_dims_to_operand_dims=(0,), index_vector_dim=1,
    )


X, Y, P, N, M = f32(2, 3), f32(2, 3), boolean(2, 3), i32(2, 3), f32(3, 3)

CASES = [
    Case("c op x = x op c", (X,), lambda x: ew.mul(filled(x, 2.5), x), "mul"),
    Case("x + 0 = x", (X,), lambda x: ew.add(x, filled(x, 0)), ""),
    Case("x - 0 = x", (X,), lambda x: ew.sub(x, filled(x, 0)), ""),
    Case("x * 1 = x", (X,), lambda x: ew.mul(x, filled(x, 1)), ""),
    Case("x / 1 = x", (X,), lambda x: ew.div(x, filled(x, 1)), ""),
    Case("x ^ 1 = x", (X,), lambda x: ew.pow(x, filled(x, 1)), ""),
    Case("0 - x = -x", (X,), lambda x: ew.sub(filled(x, 0), x), "neg"),
    Case("x * -1 = -x", (X,), lambda x: ew.mul(x, filled(x, -1)), "neg"),
    Case("x / -1 = -x", (X,), lambda x: ew.div(x, filled(x, -1)), "neg"),
    Case("integers: x * 0 = 0", (N,), lambda n: ew.mul(n, filled(n, 0)), ""),
    Case("integers: x - x = 0", (N,), lambda n: ew.sub(n, n), ""),
    Case("x + -y = x - y", (X, Y), lambda x, y: ew.add(ew.neg(x), y), "sub"),
    Case("x - -y = x + y", (X, Y), lambda x, y: ew.sub(x, ew.neg(y)), "add"),
    Case("-(-x) = x", (X,), lambda x: ew.neg(ew.neg(x)), ""),
    Case("-x * c = x * -c", (X,), lambda x: ew.mul(ew.neg(x), filled(x, 3)), "mul"),
    Case("-x / c = x / -c", (X,), lambda x: ew.div(ew.neg(x), filled(x, 3)), "div"),
    Case("x / c = x * (1 / c) where that is exact", (X,), lambda x: ew.div(x, filled(x, 8)), "mul"),
    Case("integers: (x op a) op b = x op (a op b)", (N,),
         lambda n: ew.add(ew.add(n, filled(n, 3)), filled(n, 4)), "add"),
    Case("x ^ 0 = 1", (X,), lambda x: ew.pow(x, filled(x, 0)), ""),
    Case("x ^ 2 = x * x", (X,), lambda x: ew.pow(x, filled(x, 2)), "mul"),
    Case("x ^ 3 = x * x * x", (X,), lambda x: ew.pow(x, filled(x, 3)), "mul mul"),
    Case("x ^ -1 = 1 / x", (X,), lambda x: ew.pow(x, filled(x, -1)), "div"),
    Case("max(x, x) = x", (X,), lambda x: ew.max(x, x), ""),
    Case("x and true = x, x and false = false", (P,), lambda p: ew.and_(p, filled(p, True)), ""),
    Case("x or false = x, x or true = true", (P,), lambda p: ew.or_(p, filled(p, True)), ""),
    Case("not not x = x", (P,), lambda p: ew.not_(ew.not_(p)), ""),
    Case("not (x = y) = x != y", (X, Y), lambda x, y: ew.not_(ew.equal(x, y)), "not_equal"),
    Case("|-x| = |x|, ||x|| = |x|", (X,), lambda x: ew.abs(ew.neg(x)), "abs"),
    Case("select(true, x, y) = x, select(false, x, y) = y", (P, X, Y),
         lambda p, x, y: ew.select(filled(p, False), x, y), ""),
    Case("select(p, x, x) = x", (P, X), lambda p, x: ew.select(p, x, x), ""),
    Case("select(not p, x, y) = select(p, y, x)", (P, X, Y), lambda p, x, y: ew.select(ew.not_(p), x, y), "select"),
    Case("select(p, select(p, x, _), y) = select(p, x, y)", (P, X, Y),
         lambda p, x, y: ew.select(p, ew.select(p, x, y), y), "select"),
    Case("convert to its own dtype = x", (X,), lambda x: ew.convert(x, dtype=float32), ""),
    Case("convert(convert(x)) = convert(x) where the first loses nothing", (N,),
         lambda n: ew.convert(ew.convert(n, dtype=float64), dtype=int64), "convert"),
    Case("f(broadcast(x)) = broadcast(f(x))", (f32(3),), lambda x: ew.tanh(spread(x, 2, 3)), "tanh broadcast"),
    Case("broadcast(x) op broadcast(y) = broadcast(x op y)", (f32(3), f32(3)),
         lambda x, y: ew.add(spread(x, 2, 3), spread(y, 2, 3)), "add broadcast"),
    Case("reshape to its own shape = x", (X,), lambda x: shape.reshape(x, shape=(2, 3)), ""),
    Case("broadcast to its own shape = x", (X,), lambda x: shape.broadcast(x, shape=(2, 3), dims=(0, 1)), ""),
    Case("reshape(reshape(x)) = reshape(x)", (X,),
         lambda x: shape.reshape(shape.reshape(x, shape=(6,)), shape=(3, 2)), "reshape"),
    Case("a filled tensor moved = the tensor filled", (f32(),),
         lambda x: shape.slice(spread(x, 4, 3), start=(1, 0), limit=(3, 3), strides=(1, 1)), "broadcast"),
    Case("transpose in order = x", (X,), lambda x: shape.transpose(x, permutation=(0, 1)), ""),
    Case("transpose(transpose(x)) = transpose(x)", (f32(2, 3, 4),),
         lambda x: shape.transpose(shape.transpose(x, permutation=(1, 2, 0)), permutation=(1, 0, 2)), "transpose"),
    Case("a transpose that moves only extents of 1 = a reshape", (f32(2, 1, 3),),
         lambda x: shape.transpose(x, permutation=(1, 0, 2)), "reshape"),
    Case("broadcast(broadcast(x)) = broadcast(x)", (f32(3),), lambda x: spread(spread(x, 2, 3), 4, 2, 3), "broadcast"),
    Case("a reshape that adds extents of 1, then broadcast = broadcast", (f32(3),),
         lambda x: shape.broadcast(shape.reshape(x, shape=(3, 1)), shape=(3, 4), dims=(0, 1)), "broadcast"),
    Case("a broadcast that only adds extents of 1 = a reshape", (f32(3),), lambda x: spread(x, 1, 3), "reshape"),
    Case("the whole of a slice = x", (X,),
         lambda x: shape.slice(x, start=(0, 0), limit=(2, 3), strides=(1, 1)), ""),
    Case("slice(slice(x)) = slice(x)", (f32(20),),
         lambda x: shape.slice(shape.slice(x, start=(1,), limit=(18,), strides=(3,)), start=(1,), limit=(6,),
                               strides=(2,)), "slice"),
    Case("reverse along no or empty axes = x", (f32(1, 3),), lambda x: shape.reverse(x, axes=(0,)), ""),
    Case("reverse(reverse(x)) = x", (X,), lambda x: shape.reverse(shape.reverse(x, axes=(0, 1)), axes=(1, 0)), ""),
    Case("no padding = x", (X,),
         lambda x: shape.pad(x, array(1, float32), low=(0, 0), high=(0, 0), interior=(0, 0)), ""),
    Case("concatenation of one = x", (X,), lambda x: shape.concatenate(x, axis=0), ""),
    Case("empty pieces of a concatenation go", (X, f32(0, 3)), lambda x, e: shape.concatenate(x, e, axis=0), ""),
    Case("concatenate(concatenate(x, y), z) = concatenate(x, y, z)", (X, Y),
         lambda x, y: shape.concatenate(shape.concatenate(x, y, axis=1), x, axis=1), "concatenate"),
    Case("neighbours, each in zeros, added = both in zeros", (X, f32(2, 1)),
         lambda x, y: ew.add(ew.add(in_zeros(x, 4, 0), in_zeros(y, 0, 6)), in_zeros(x, 1, 3)), "concatenate"),
    Case("reduced over no axes = x", (X,), lambda x: reduce.reduce_max(x, axes=()), ""),
    Case("reduced over extents of 1 = a reshape", (f32(1, 3),), lambda x: reduce.reduce_sum(x, axes=(0,)), "reshape"),
    Case("reduce(reduce(x)) = reduce(x)", (f32(2, 3, 4),),
         lambda x: reduce.reduce_max(reduce.reduce_max(x, axes=(1,)), axes=(1,)), "reduce_max"),
    Case("sum(broadcast(x)) = x * count", (f32(3),), lambda x: reduce.reduce_sum(spread(x, 5, 3), axes=(0,)), "mul"),
    Case("max(broadcast(x)) = x", (f32(3),), lambda x: reduce.reduce_max(spread(x, 5, 3), axes=(0,)), ""),
    Case("dot(transpose(x), y) = dot(x, y) by other dimensions", (M, M),
         lambda x, y: dot(shape.transpose(x, permutation=(1, 0)), shape.transpose(y, permutation=(1, 0))),
         "dot_general"),
    Case("transpose(dot(x, y)) = dot(y, x)", (X, M), lambda x, y: shape.transpose(dot(x, y), permutation=(1, 0)),
         "dot_general"),
    Case("the whole of a dynamic slice = x", (X, i32()),
         lambda x, i: indexing.dynamic_slice(x, i, i, sizes=(2, 3)), ""),
    Case("all of x updated = the update", (X, Y, i32()), lambda x, y, i: indexing.dynamic_update_slice(x, y, i, i), ""),
    Case("a slice of what was just written = the update", (f32(5), f32(2), i32()),
         lambda x, u, i: indexing.dynamic_slice(indexing.dynamic_update_slice(x, u, i), i, sizes=(2,)), ""),
    Case("a + (zeros with u at i) = a with u added at i", (f32(5),), lambda x: ew.add(at(x, 2), x),
         "dynamic_slice add dynamic_update_slice"),
    Case("a + (zeros with u scattered) = a with u scattered", (f32(4, 3), f32(2, 3)),
         lambda x, rows: ew.add(x, scattered(x, rows)), "scatter"),
]


def _inputs(types: tuple[TensorType, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.uniform(0.5, 3, t.shape).astype(t.dtype.numpy) if t.dtype.kind != "b" else rng.random(t.shape) < 0.5
            for t in types]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.law)
def test_law(case: Case) -> None:
    module = program(case.types, case.body)
    arrays = _inputs(case.types)
    before = run(module, arrays)
    run_passes(module, ",".join(["algebraic", "dce"] * 4) + ",constant-fold,dce")
    for wanted, found in zip(before, run(module, arrays), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-6)
    assert " ".join(_heavy_ops(module)) == case.left, str(module)


def _heavy_ops(module: ir.Module) -> list[str]:
    """The names of the ops that are left, without constants and numbers spread over a shape."""
    block = module.body.operations[0].regions[0].blocks[0]
    names = []
    for view in block.operations:
        operation = view.operation
        source = operation.operands[0].owner if len(operation.operands) else None
        is_number = operation.name == "tw.broadcast" and getattr(source, "name", "") == "tw.constant"
        if operation.name.startswith("tw.") and operation.name != "tw.constant" and not is_number:
            names.append(operation.name.removeprefix("tw."))
    return names


def test_every_law_has_a_case() -> None:
    laws = {law.text for group in LAWS.values() for law in group}
    assert {case.law for case in CASES} == laws


UNCHANGED = {
    "x * 0 of floats": ((X,), lambda x: ew.mul(x, filled(x, 0)), "mul"),
    "x - x of floats": ((X,), lambda x: ew.sub(x, x), "sub"),
    "division by 3": ((X,), lambda x: ew.div(x, filled(x, 3)), "div"),
    "(x + a) + b of floats": ((X,), lambda x: ew.add(ew.add(x, filled(x, 3)), filled(x, 4)), "add add"),
    "a convert that loses": ((X,), lambda x: ew.convert(ew.convert(x, dtype=int8), dtype=float32), "convert convert"),
    "a sum of more than the dtype can count": (
        (TensorType((), float16),),
        lambda x: reduce.reduce_sum(shape.broadcast(x, shape=(100_000,), dims=()), axes=(0,)),
        "broadcast reduce_sum",
    ),
    "a transpose that would reorder what is left": (
        (f32(2, 3, 4), f32(4)),
        lambda x, y: dot_general(shape.transpose(x, permutation=(1, 0, 2)), y, lhs_contract=(2,), rhs_contract=(0,)),
        "transpose dot_general",
    ),
    "a product used twice is not turned": (
        (X, M),
        lambda x, y: [p := dot(x, y), shape.transpose(p, permutation=(1, 0))],
        "dot_general transpose",
    ),
    "a slice that was written elsewhere": (
        (f32(5), f32(2), i32(), i32()),
        lambda x, u, i, j: indexing.dynamic_slice(indexing.dynamic_update_slice(x, u, i), j, sizes=(2,)),
        "dynamic_update_slice dynamic_slice",
    ),
}


@pytest.mark.parametrize("name", UNCHANGED)
def test_no_law_where_it_would_be_wrong(name: str) -> None:
    types, body, left = UNCHANGED[name]
    module = program(types, body)
    run_passes(module, "algebraic,dce")
    assert " ".join(_heavy_ops(module)) == left


def test_a_known_branch_takes_the_place_of_its_cond() -> None:
    def body(x: V) -> V:
        pred = array(False, bool_)
        (y,) = build_with_regions(control.cond, [pred], {}, [[], []], [lambda: [ew.exp(x)], lambda: [ew.tanh(x)]])
        return y

    module = program([X], body)
    run_passes(module, "algebraic,dce")
    assert _heavy_ops(module) == ["tanh"]
