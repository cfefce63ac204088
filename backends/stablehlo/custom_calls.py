"""Custom calls that are known by name: annotations that mean nothing here, approximate top-k, and LAPACK's.

JAX lowers dense linear algebra for the CPU to calls of LAPACK. Those that StableHLO has an op for become that op; the
factorisations become StableHLO loops (factorize.py). Anything else is refused by name and location.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from thalweg.backends.stablehlo import factorize, jacobi
from thalweg.backends.stablehlo.expressions import Array, clone_block, constant, iota, size, tensor
from thalweg.dialects.diagnostics import LoweringError, did_you_mean
from thalweg.dialects.mlir import ir

# Targets whose results are their operands: hints to partitioners and placers.
ANNOTATIONS = {
    "Sharding",
    "SPMDFullToShardShape",
    "SPMDShardToFullShape",
    "annotate_device_placement",
    "LayoutConstraint",
    "shape_assertion",
}


def custom_call(operation: ir.Operation) -> Sequence[Array]:
    """The replacement of a `stablehlo.custom_call`.

    Raises:
        LoweringError: the target is not known.
    """
    target = ir.StringAttr(operation.attributes["call_target_name"]).value
    if target in ANNOTATIONS:
        return [Array(operand) for operand in operation.operands][: len(operation.results)]
    known = CUSTOM_CALLS.get(target)
    if known is None and target.startswith("lapack_") and target.endswith("_ffi"):
        known = LAPACK.get(target.removeprefix("lapack_").removesuffix("_ffi")[1:])
    if known is None:
        names = [*CUSTOM_CALLS, *(f"lapack_s{name}_ffi" for name in LAPACK)]
        raise LoweringError(
            f"{operation.location}: custom call @{target} is code outside the module and cannot be compiled"
            f"{did_you_mean(target, names) or '.'} Known are {', '.join(names)}; export the program without it "
            "(in JAX: no callbacks, and for another platform where a kernel is specific to one)."
        )
    return known(operation)


def _config(operation: ir.Operation, name: str) -> int:
    """An integer of the call's configuration."""
    return int(ir.IntegerAttr(ir.DictAttr(operation.attributes["mhlo.backend_config"])[name]).value)


def _letter(operation: ir.Operation, name: str) -> str:
    return chr(_config(operation, name))


def approximate_top_k(operation: ir.Operation) -> list[Array]:
    """`ApproxTopK(keys, indices, …)`: exact, by a sort with the call's own comparator."""
    keys, payload = (Array(operand) for operand in list(operation.operands)[:2])
    if len(operation.operands) != 4:
        raise LoweringError(f"{operation.location}: ApproxTopK of several keys is not supported.")
    dim, count = _config(operation, "reduction_dim"), _config(operation, "top_k")
    types = [tensor((), keys.element)] * 2 + [tensor((), payload.element)] * 2
    attributes: dict[str, ir.Attribute] = {
        "dimension": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), dim),
        "is_stable": ir.BoolAttr.get(True),
    }
    sort = ir.Operation.create(
        "stablehlo.sort", [keys.value.type, payload.value.type], [keys.value, payload.value], attributes, regions=1
    )
    block = sort.regions[0].blocks.append(*types)
    callee = ir.FlatSymbolRefAttr(ir.ArrayAttr(operation.attributes["called_computations"])[0]).value
    clone_block(_function(operation, callee).regions[0].blocks[0], block)
    bounds = [(0, count if d == dim else n) for d, n in enumerate(keys.shape)]
    return [Array(result).slice(*bounds) for result in sort.results]


def _function(user: ir.Operation, name: str) -> ir.Operation:
    """The function of this name in the module around `user`."""
    module = user
    while module.parent is not None:
        module = module.parent.operation
    functions = [view.operation for view in module.regions[0].blocks[0].operations]
    return next(f for f in functions if ir.StringAttr(f.attributes["sym_name"]).value == name)


def potrf(operation: ir.Operation) -> list[Array]:
    """Cholesky factor, and 0 where it exists, 1 where not."""
    a = Array(operation.operands[0])
    lower = ir.BoolAttr.get(_letter(operation, "uplo") == "L")
    factor = Array(ir.Operation.create("stablehlo.cholesky", [a.value.type], [a.value], {"lower": lower}).results[0])
    bad = factor.compare("NE", factor).convert("i32")
    return [factor, bad.reduce("maximum", 0, (a.rank - 2, a.rank - 1))]


def trsm(operation: ir.Operation) -> list[Array]:
    """Solution of op(a) x = b or x op(a) = b for triangular a."""
    a, b = (Array(operand) for operand in operation.operands)
    transpose = {"N": "NO_TRANSPOSE", "T": "TRANSPOSE", "C": "ADJOINT"}[_letter(operation, "trans_x")]
    attributes: dict[str, ir.Attribute] = {
        "left_side": ir.BoolAttr.get(_letter(operation, "side") == "L"),
        "lower": ir.BoolAttr.get(_letter(operation, "uplo") == "L"),
        "unit_diagonal": ir.BoolAttr.get(_letter(operation, "diag") == "U"),
        "transpose_a": ir.Attribute.parse(f"#stablehlo<transpose {transpose}>"),
    }
    solve = ir.Operation.create("stablehlo.triangular_solve", [b.value.type], [a.value, b.value], attributes)
    return [Array(solve.results[0])]


def _flat(operation: ir.Operation) -> list[Array]:
    """The operands with one batch dimension in the place of any number of them."""
    operands = [Array(operand) for operand in operation.operands]
    if "complex" in operands[0].element:
        raise LoweringError(f"{operation.location}: factorisations of complex matrices are not supported.")
    lead = operands[0].shape[:-2]
    return [a.reshape(size(lead), *a.shape[len(lead) :]) for a in operands]


def _shaped(operation: ir.Operation, results: Sequence[Array]) -> list[Array]:
    """Results with one batch dimension as the call's results."""
    wanted = [Array(result) for result in operation.results]
    return [a.convert(w.element).reshape(*w.shape) for a, w in zip(results, wanted, strict=True)]


def _batched(function: Callable[..., Sequence[Array]]) -> Callable[[ir.Operation], list[Array]]:
    """Adapt a function of arrays with one batch dimension to a call with any number of them."""
    return lambda operation: _shaped(operation, function(*_flat(operation)))


def getrf(a: Array) -> list[Array]:
    """LU with partial pivoting; pivots count from 1, as LAPACK's; the status is the first zero pivot, or 0."""
    factors, pivots = factorize.lu(a)
    return [factors, pivots + 1, constant(0, "i32", (a.shape[0],))]


def geqrf(a: Array) -> list[Array]:
    """QR: R above the diagonal, Householder vectors below, and their scales."""
    return list(factorize.householder_qr(a))


def orgqr(a: Array, scales: Array) -> list[Array]:
    """Q out of Householder vectors."""
    return [factorize.householder_product(a, scales)]


def syevd(operation: ir.Operation) -> list[Array]:
    """Eigenvectors and eigenvalues of symmetric matrices, of which one triangle is read."""
    (a,) = _flat(operation)
    lower = _letter(operation, "uplo") == "L"
    rows, columns = iota(1, a.shape), iota(2, a.shape)
    keep = rows >= columns if lower else columns >= rows
    values, vectors = jacobi.eigh(keep.select(a, a.transpose(0, 2, 1)))
    return _shaped(operation, [vectors, values, constant(0, "i32", (a.shape[0],))])


def gesdd(operation: ir.Operation) -> list[Array]:
    """Singular values and vectors; the first result is a work array."""
    (a,) = _flat(operation)
    mode = _letter(operation, "mode")
    values, u, v = jacobi.svd(a, full=mode == "A")
    if mode == "N":
        u, v = (constant(0, a.element, (a.shape[0], *Array(r).shape[-2:])) for r in list(operation.results)[2:4])
    return _shaped(operation, [a, values, u, v, constant(0, "i32", (a.shape[0],))])


CUSTOM_CALLS: dict[str, Callable[[ir.Operation], Sequence[Array]]] = {"ApproxTopK": approximate_top_k}

# By LAPACK's name without the letter of the type.
LAPACK: dict[str, Callable[[ir.Operation], Sequence[Array]]] = {
    "potrf": potrf,
    "trsm": trsm,
    "getrf": _batched(getrf),
    "geqrf": _batched(geqrf),
    "orgqr": _batched(orgqr),
    "syevd": syevd,
    "gesdd": gesdd,
}
