"""Einstein summation, as a sequence of contractions of two operands each."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.dialects.ops import contraction as rows
from thalweg.frontend.array.conversion import fail, promote
from thalweg.frontend.array.manipulation import permute_dims, reshape
from thalweg.frontend.array.reduction import sum
from thalweg.frontend.eager import array_function, emit
from thalweg.frontend.tensor import ArrayLike, Tensor


@array_function
def einsum(subscripts: str, /, *operands: ArrayLike) -> Tensor:
    """Sums of products: `einsum("bij,bjk->bik", a, b)`. `...` stands for leading dimensions, which must be equal.

    Operands are contracted from left to right, two at a time.

    Raises:
        TypeInferenceError: the subscripts do not fit the operands.
    """
    tensors = promote(*operands)
    inputs, output = _parse(subscripts, tensors)
    terms = [_diagonal(t, names) for t, names in zip(tensors, inputs, strict=True)]
    while len(terms) > 1:
        needed = set(output).union(*(names for _, names in terms[2:]))
        terms[:2] = [_contract(terms[0], terms[1], needed)]
    tensor, names = _reduce(terms[0], set(output))
    return permute_dims(tensor, [names.index(n) for n in output])


Term = tuple[Tensor, list[str]]


def _parse(subscripts: str, tensors: Sequence[Tensor]) -> tuple[list[list[str]], list[str]]:
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(tensors):
        raise fail("einsum", f"'{subscripts}' names {len(parts)} operands, got {len(tensors)}.")
    rest = max(
        (t.ndim - len(p.replace("...", "")) for p, t in zip(parts, tensors, strict=True) if "..." in p), default=0
    )
    inputs = [_names(p, t, subscripts) for p, t in zip(parts, tensors, strict=True)]
    extents: dict[str, int] = {}
    for names, tensor in zip(inputs, tensors, strict=True):
        for name, extent in zip(names, tensor.type.shape, strict=True):
            if extents.setdefault(name, extent) != extent:
                raise fail("einsum", f"'{name}' of '{subscripts}' is {extents[name]} and {extent}.")
    if arrow:
        output = _expand(right, rest)
    else:
        flat = [n for names in inputs for n in names]
        output = _expand("...", rest) + sorted(n for n in set(flat) if flat.count(n) == 1 and len(n) == 1)
    unknown = [n for n in output if n not in extents]
    if unknown or len(set(output)) != len(output):
        raise fail("einsum", f"the result '{right}' of '{subscripts}' names a dimension that no operand has, or twice.")
    return inputs, output


def _expand(part: str, rest: int) -> list[str]:
    before, dots, after = part.partition("...")
    return [*before, *([f"...{i}" for i in range(rest, 0, -1)] if dots else []), *after]


def _names(part: str, tensor: Tensor, subscripts: str) -> list[str]:
    rest = tensor.ndim - len(part.replace("...", ""))
    if rest < 0 or (rest and "..." not in part):
        raise fail("einsum", f"'{part}' of '{subscripts}' does not fit {tensor.type}.")
    return _expand(part, rest)


def _diagonal(tensor: Tensor, names: list[str]) -> Term:
    """Of an index named twice keep the diagonal: every (n + 1)-th of the n * n elements of both dimensions as one."""
    while len(set(names)) != len(names):
        name = next(n for n in names if names.count(n) > 1)
        first = names.index(name)
        second = names.index(name, first + 1)
        order = [axis for axis in range(tensor.ndim) if axis != second]
        order.insert(first + 1, second)
        shape = list(tensor.type.shape)
        extent = shape.pop(second)
        shape[first] = extent * extent
        flat = reshape(permute_dims(tensor, order), tuple(shape))
        tensor = flat[(*[slice(None)] * first, slice(None, None, extent + 1))]
        names = names[:second] + names[second + 1 :]
    return tensor, names


def _reduce(term: Term, needed: set[str]) -> Term:
    tensor, names = term
    axes = [i for i, n in enumerate(names) if n not in needed]
    if not axes:
        return term
    return sum(tensor, axis=axes, dtype=tensor.dtype), [n for n in names if n in needed]


def _contract(left: Term, right: Term, needed: set[str]) -> Term:
    lhs, lhs_names = _reduce(left, needed | set(right[1]))
    rhs, rhs_names = _reduce(right, needed | set(lhs_names))
    shared = [n for n in lhs_names if n in rhs_names]
    batch, contracted = [n for n in shared if n in needed], [n for n in shared if n not in needed]
    result = emit(
        rows.dot_general,
        lhs,
        rhs,
        lhs_batch=[lhs_names.index(n) for n in batch],
        rhs_batch=[rhs_names.index(n) for n in batch],
        lhs_contract=[lhs_names.index(n) for n in contracted],
        rhs_contract=[rhs_names.index(n) for n in contracted],
    )
    rest = [n for n in lhs_names if n not in shared] + [n for n in rhs_names if n not in shared]
    return result, batch + rest
