"""Random programs: hypothesis strategies for recipes, and modules built from them.

A recipe is plain data (so that it prints and shrinks): steps that each pick an op and operands among the values so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from thalweg.dialects.build import build_with_regions
from thalweg.dialects.context import tensor_type_of, type_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.opdef import OpDef
from thalweg.dialects.ops import control, indexing, reduce, shape, state
from thalweg.dialects.ops import elementwise as ew
from thalweg.dialects.ops.contraction import dot_general
from thalweg.dialects.types import TensorType, float64, int32
from thalweg.passes.rewriting import array, full_like

V = ir.Value
SHAPE = (2, 3)


@dataclass(frozen=True)
class Step:
    """One op of a recipe: a name of the table below, and which earlier values it takes (modulo their number)."""

    name: str
    picks: tuple[int, int, int]
    inside: tuple[Step, ...] = ()


def _dot(x: V, y: V) -> V:
    product = dot_general(x, shape.transpose(y, permutation=(1, 0)), lhs_contract=(1,), rhs_contract=(0,))
    return shape.broadcast(reduce.reduce_sum(product, axes=(1,)), shape=SHAPE, dims=(0,))


def _shrunk(x: V) -> V:
    """Bounded, so that chains of products stay finite."""
    return ew.tanh(x)


def _spread_sum(x: V, y: V) -> V:
    return ew.add(shape.broadcast(reduce.reduce_sum(x, axes=(0,)), shape=SHAPE, dims=(1,)), y)


def _row(x: V, y: V) -> V:
    start = array(1, int32), array(0, int32)
    return indexing.dynamic_update_slice(x, indexing.dynamic_slice(y, *start, sizes=(1, 3)), array(0, int32), start[1])


def _double_transpose(x: V) -> V:
    turned = shape.transpose(ew.neg(shape.transpose(x, permutation=(1, 0))), permutation=(1, 0))
    return shape.reshape(shape.reshape(turned, shape=(6,)), shape=SHAPE)


SIMPLE: dict[str, Callable[[V, V, V], V]] = {
    "add": lambda x, y, z: ew.add(x, y),
    "sub": lambda x, y, z: ew.sub(x, y),
    "mul": lambda x, y, z: _shrunk(ew.mul(x, y)),
    "div": lambda x, y, z: _shrunk(ew.div(x, ew.add(ew.mul(y, y), full_like(y, 1)))),
    "neg": lambda x, y, z: ew.neg(x),
    "sin": lambda x, y, z: ew.sin(x),
    "tanh": lambda x, y, z: ew.tanh(x),
    "exp": lambda x, y, z: ew.exp(_shrunk(x)),
    "square": lambda x, y, z: _shrunk(ew.pow(x, full_like(x, 2))),
    "times one": lambda x, y, z: ew.mul(x, full_like(x, 1)),
    "plus zero": lambda x, y, z: ew.add(full_like(x, 0), x),
    "constant": lambda x, y, z: full_like(x, 0.25),
    "folded": lambda x, y, z: ew.add(x, ew.exp(full_like(x, 0.5))),
    "select": lambda x, y, z: ew.select(ew.greater(x, y), y, z),
    "not select": lambda x, y, z: ew.select(ew.not_(ew.greater(x, y)), y, z),
    "dot": lambda x, y, z: _shrunk(_dot(x, y)),
    "spread sum": lambda x, y, z: _shrunk(_spread_sum(x, y)),
    "row": lambda x, y, z: _row(x, y),
    "turned": lambda x, y, z: _double_transpose(x),
    "reverse": lambda x, y, z: shape.reverse(x, axes=(1,)),
    "cumsum": lambda x, y, z: _shrunk(reduce.cumsum(x, axis=1)),
    "barrier": lambda x, y, z: ew.barrier(x),
    "rounded": lambda x, y, z: ew.add(x, ew.convert(ew.convert(x, dtype=int32), dtype=float64)),
}


def _handle() -> V:
    """The one variable of random programs; declared again at each use, as different functions would."""
    return state.variable_handle(name="v", shape=SHAPE, dtype=float64)


def _assigned(write: OpDef, x: V, y: V) -> V:
    write(_handle(), ew.tanh(x))
    return y


STATEFUL: dict[str, Callable[[V, V, V], V]] = {
    "read": lambda x, y, z: ew.add(state.read(_handle()), x),
    "assign": lambda x, y, z: _assigned(state.assign, x, y),
    "assign_add": lambda x, y, z: _assigned(state.assign_add, x, y),
    "assign_sub": lambda x, y, z: _assigned(state.assign_sub, x, y),
}
OPS = {**SIMPLE, **STATEFUL}
SMOOTH = sorted(set(SIMPLE) - {"select", "not select", "rounded"})
REGIONS = ("call", "cond", "while", "until", "scan", "checkpoint")


def steps(names: list[str], most: int) -> st.SearchStrategy[Step]:
    picks = st.tuples(*[st.integers(0, 9)] * 3)
    simple = st.builds(Step, st.sampled_from(names), picks)
    regions = st.builds(Step, st.sampled_from(REGIONS), picks, st.lists(simple, min_size=1, max_size=most).map(tuple))
    return st.one_of(simple, simple, regions)


def recipes(names: list[str] | None = None, most: int = 8) -> st.SearchStrategy[tuple[Step, ...]]:
    """Recipes of up to `most` steps over the ops `names`."""
    return st.lists(steps(names or sorted(SIMPLE), 4), min_size=1, max_size=most).map(tuple)


def cook(recipe: tuple[Step, ...], *inputs: V) -> V:
    """Build the ops of a recipe."""
    values = list(inputs)
    for step in recipe:
        x, y, z = (values[p % len(values)] for p in step.picks)
        values.append(OPS[step.name](x, y, z) if step.name in OPS else _region(step, x, y, z))
    return values[-1]


def _region(step: Step, x: V, y: V, z: V) -> V:
    tensor = type_of(x)
    if step.name == "call":
        body = [lambda a, b: [cook(step.inside, a, b)]]
        return build_with_regions(control.call, [x, y], {"name": "f"}, [[tensor, tensor]], body)[0]
    if step.name == "cond":
        pred = ew.less(reduce.reduce_sum(x, axes=(0, 1)), array(0.1, float64))
        branches = [lambda: [cook(step.inside, x, y, z)], lambda: [cook(step.inside[::-1], z, x)]]
        return build_with_regions(control.cond, [pred], {}, [[], []], branches)[0]
    if step.name == "checkpoint":
        return build_with_regions(control.checkpoint, [], {}, [[]], [lambda: [cook(step.inside, x, y)]])[0]
    if step.name in ("while", "until"):
        return _loop(step, x, y, z)
    row = tensor_type_of(x).with_shape(SHAPE[1:])

    def body_of_scan(a: V, r: V) -> list[V]:
        wide = shape.broadcast(r, shape=SHAPE, dims=(1,))
        return [_shrunk(cook(step.inside, a, wide, z)), reduce.reduce_sum(a, axes=(0,))]

    final, stacked = build_with_regions(
        control.scan, [x, y], {"carried": 1, "length": 2}, [[tensor, row]], [body_of_scan]
    )
    return ew.add(final, stacked)


def _loop(step: Step, x: V, y: V, z: V) -> V:
    """A loop that runs three times; of `until` no pass can know that, because the data might end it."""

    def goes_on(i: V, a: V, b: V) -> list[V]:
        counts = ew.less(i, array(3, int32))
        if step.name == "while":
            return [counts]
        return [ew.and_(counts, ew.less(reduce.reduce_sum(a, axes=(0, 1)), array(1e6, float64)))]

    def body(i: V, a: V, b: V) -> list[V]:
        return [ew.add(i, array(1, int32)), _shrunk(cook(step.inside, a, b, z)), b]

    types = [[TensorType((), int32), type_of(x), type_of(y)]] * 2
    return build_with_regions(control.while_, [array(0, int32), x, y], {}, types, [goes_on, body])[1]


def inputs(seed: int, count: int = 2) -> list[np.ndarray]:
    """Arrays for the inputs of a recipe's program."""
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, SHAPE) for _ in range(count)]
