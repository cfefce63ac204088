"""Composite StableHLO ops written out in elementary ones, so that no backend needs to know them.

    before: %y = "stablehlo.batch_norm_inference"(%x, %scale, %offset, %mean, %variance) {…}
    after:  broadcasts, subtract, multiply, rsqrt, add

`DECOMPOSITIONS` maps an op's name to the function that builds its replacement. Custom calls that are known by name (JAX
lowers linear algebra to LAPACK's) are in custom_calls.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from thalweg.backends.stablehlo.custom_calls import custom_call
from thalweg.backends.stablehlo.expressions import Array, concatenate, constant, elementwise, size, tensor
from thalweg.backends.stablehlo.rules.elementwise import NARROW
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir

Decomposition = Callable[[ir.Operation], Sequence[Array]]


def decompose(module: ir.Module) -> None:
    """Replace, in place, every op of `DECOMPOSITIONS`, in all functions and regions.

    Raises:
        LoweringError: a custom call that nothing is known about, named with its location.
    """
    found: list[ir.Operation] = []

    def visit(operation: ir.Operation) -> ir.WalkResult:
        applies = CONDITIONAL.get(operation.name)
        if operation.name in DECOMPOSITIONS and (applies is None or applies(operation)):
            found.append(operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    seeds = iter(range(len(found)))
    for view in found:
        operation = view.operation
        with ir.InsertionPoint(operation), operation.location:
            if operation.name == "stablehlo.rng":
                results: Sequence[Array] = [rng(operation, next(seeds))]
            else:
                results = DECOMPOSITIONS[operation.name](operation)
        for old, new in zip(operation.results, results, strict=True):
            old.replace_all_uses_with(new.value)
        operation.erase()


# Sums and products of i1 are `or` and `and`; StableHLO's pass to linalg would make them wrap around.


def _is_logical(operation: ir.Operation) -> bool:
    return Array(operation.results[0]).element == "i1"


def logical(operation: ir.Operation) -> list[Array]:
    """`add` of booleans is `or`, `multiply` is `and`."""
    name = {"stablehlo.add": "or", "stablehlo.multiply": "and"}[operation.name]
    return [elementwise(name, *(Array(operand) for operand in operation.operands))]


# A reduction over no dimension at all, which JAX writes for windows of one element.


def _reduces_nothing(operation: ir.Operation) -> bool:
    return not list(ir.DenseI64ArrayAttr(operation.attributes["dimensions"]))


def reduce_nothing(operation: ir.Operation) -> list[Array]:
    """The operands: the initial values are neutral by definition."""
    return [Array(operand) for operand in list(operation.operands)[: len(operation.results)]]


# Batch normalisation: `feature` keeps its own statistics, all other dimensions are averaged over.


class _BatchNorm:
    """The operands of a batch_norm op, computed in at least f32."""

    def __init__(self, operation: ir.Operation) -> None:
        x, *rest = (Array(operand) for operand in operation.operands)
        self.element = x.element
        self.compute = "f32" if x.element in NARROW else x.element
        self.x, self.rest = x.convert(self.compute), [r.convert(self.compute) for r in rest]
        self.feature = ir.IntegerAttr(operation.attributes["feature_index"]).value
        self.epsilon = ir.FloatAttr(operation.attributes["epsilon"]).value
        self.others = [d for d in range(x.rank) if d != self.feature]

    def spread(self, per_feature: Array) -> Array:
        return per_feature.spread(self.x.shape, [self.feature])

    def mean(self, x: Array) -> Array:
        return x.sum(self.others) / max(1, size([x.shape[d] for d in self.others]))

    def inverse_deviation(self, variance: Array) -> Array:
        return elementwise("rsqrt", variance + self.epsilon)

    def results(self, *arrays: Array) -> list[Array]:
        return [a.convert(self.element) for a in arrays]


def batch_norm_inference(operation: ir.Operation) -> list[Array]:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset."""
    norm = _BatchNorm(operation)
    scale, offset, mean, variance = norm.rest
    factor = scale * norm.inverse_deviation(variance)
    return norm.results((norm.x - norm.spread(mean)) * norm.spread(factor) + norm.spread(offset))


def batch_norm_training(operation: ir.Operation) -> list[Array]:
    """The normalised x, the mean and the (biased) variance of the batch."""
    norm = _BatchNorm(operation)
    scale, offset = norm.rest
    mean = norm.mean(norm.x)
    centred = norm.x - norm.spread(mean)
    variance = norm.mean(centred * centred)
    factor = scale * norm.inverse_deviation(variance)
    return norm.results(centred * norm.spread(factor) + norm.spread(offset), mean, variance)


def batch_norm_grad(operation: ir.Operation) -> list[Array]:
    """Gradients with respect to x, scale and offset.

    With r = 1/sqrt(variance + epsilon) and n elements per feature:
        d_scale  = sum(g * (x - mean)) * r          d_offset = sum(g)
        d_x      = scale * r * (g - d_offset/n - (x - mean) * r * d_scale/n)
    """
    norm = _BatchNorm(operation)
    scale, mean, variance, gradient = norm.rest
    inverse = norm.inverse_deviation(variance)
    normalised = (norm.x - norm.spread(mean)) * norm.spread(inverse)
    d_scale = (gradient * normalised).sum(norm.others)
    d_offset = gradient.sum(norm.others)
    centred = gradient - norm.spread(norm.mean(gradient)) - normalised * norm.spread(norm.mean(gradient * normalised))
    return norm.results(centred * norm.spread(scale * inverse), d_scale, d_offset)


# stablehlo.rng leaves its generator open: Philox, keyed by the position of the op in the module, so that runs repeat.


def rng(operation: ir.Operation, seed: int) -> Array:
    """Numbers of `stablehlo.rng`: the same at every run of a program, different for every op in it."""
    low, high = Array(operation.operands[0]), Array(operation.operands[1])
    result = Array(operation.results[0])
    shape, element = result.shape, low.element
    uniform = "UNIFORM" in str(operation.attributes["rng_distribution"])
    if element.startswith(("f", "bf")):
        compute = "f64" if element == "f64" else "f32"
        low, high = (a.convert(compute).spread(shape) for a in (low, high))
        if uniform:
            return (low + _unit(shape, compute, seed) * (high - low)).convert(element)
        pair = _unit((2, *shape), compute, seed)
        first, second = (pair.slice((k, k + 1), *((0, n) for n in shape)).reshape(*shape) for k in (0, 1))
        radius = elementwise("sqrt", elementwise("log", 1.0 - first) * -2.0)
        return (low + high * radius * elementwise("cosine", second * (2 * math.pi))).convert(element)
    if not uniform or element == "i1" or "complex" in element:
        raise LoweringError(f"{operation.location}: stablehlo.rng of {element} is not supported; draw f32 and convert.")
    unsigned = element if element.startswith("u") else "u" + element
    span = (high - low).spread(shape).bitcast(unsigned)
    bits = elementwise("remainder", _bits(shape, unsigned, seed), span)
    return low.spread(shape) + bits.bitcast(element)


def _bits(shape: Sequence[int], element: str, seed: int) -> Array:
    key = concatenate([constant(0x5448414C57454721, "ui64", (1,)), constant(seed, "ui64", (1,))], 0)
    algorithm = ir.Attribute.parse("#stablehlo<rng_algorithm PHILOX>")
    operation = ir.Operation.create(
        "stablehlo.rng_bit_generator",
        [key.value.type, tensor(shape, element)],
        [key.value],
        {"rng_algorithm": algorithm},
    )
    return Array(operation.results[1])


def _unit(shape: Sequence[int], element: str, seed: int) -> Array:
    """Uniform numbers of [0, 1): random mantissas below exponent 0 give [1, 2)."""
    unsigned, drop, one = ("ui64", 12, 0x3FF << 52) if element == "f64" else ("ui32", 9, 0x7F << 23)
    return ((_bits(shape, unsigned, seed) >> drop) | one).bitcast(element) - 1.0


def rng_bit_generator(operation: ir.Operation) -> list[Array]:
    """Float results are drawn as unsigned integers of the same width; others stay as they are."""
    state, result = Array(operation.results[0]), Array(operation.results[1])
    element = {"f64": "ui64", "f32": "ui32", "f16": "ui16", "bf16": "ui16"}.get(
        result.element, "ui8" if result.element.startswith("f8") else result.element
    )
    drawn = ir.Operation.create(
        operation.name,
        [state.value.type, tensor(result.shape, element)],
        list(operation.operands),
        {"rng_algorithm": operation.attributes["rng_algorithm"]},
    )
    bits = Array(drawn.results[1])
    return [Array(drawn.results[0]), bits if element == result.element else bits.bitcast(result.element)]


DECOMPOSITIONS: dict[str, Decomposition] = {
    "stablehlo.add": logical,
    "stablehlo.multiply": logical,
    "stablehlo.reduce": reduce_nothing,
    "stablehlo.batch_norm_inference": batch_norm_inference,
    "stablehlo.batch_norm_training": batch_norm_training,
    "stablehlo.batch_norm_grad": batch_norm_grad,
    "stablehlo.rng": lambda operation: [rng(operation, 0)],
    "stablehlo.rng_bit_generator": rng_bit_generator,
    "stablehlo.custom_call": custom_call,
}

# Ops of the table that are replaced under a condition only.
CONDITIONAL: dict[str, Callable[[ir.Operation], bool]] = {
    "stablehlo.add": _is_logical,
    "stablehlo.multiply": _is_logical,
    "stablehlo.reduce": _reduces_nothing,
}
