"""Complex numbers as pairs of real arrays: a module that has them becomes one that has none.

    before: %z = stablehlo.multiply %a, %b : tensor<4xcomplex<f32>>
    after:  four multiplications, a subtraction and an addition on tensor<4xf32>

Arguments and results of `main` that are complex arrays of shape S become real ones of shape S x 2, the bytes of a NumPy
array of complex numbers (`array.view(np.float32).reshape(*array.shape, 2)`). Backends never see a complex number.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from thalweg.backends.stablehlo.complex_arithmetic import ELEMENTWISE, Pair
from thalweg.backends.stablehlo.expressions import Array, concatenate, dense, tensor
from thalweg.backends.stablehlo.fft import fft
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import ir


def has_complex(root: ir.Operation) -> bool:
    """Does any value in it have complex elements?"""
    found = False

    def visit(operation: ir.Operation) -> ir.WalkResult:
        nonlocal found
        found = any(_is_complex(value) for value in (*operation.results, *operation.operands))
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    root.walk(visit)
    return found


def split_complex(main: ir.Operation) -> None:
    """Rewrite a function in place.

    Raises:
        LoweringError: an op that has no rule for complex numbers.
    """
    block = main.regions[0].blocks[0]
    splitter = _Splitter()
    with ir.InsertionPoint.at_block_begin(block), main.location:
        arguments = [(argument, Array(argument)) for argument in block.arguments if _is_complex(argument)]
        for argument, array in arguments:
            shape, element = array.shape, array.element[8:-1]
            argument.set_type(tensor((*shape, 2), element))
            last, packed = len(shape), Array(argument)
            re_, im = (packed.narrow(last, k, k + 1).reshape(*shape) for k in (0, 1))
            splitter.parts[argument] = (re_, im)
    splitter.block(block, first=len(arguments) * 4)
    splitter.erase()
    results = [operand.type for operand in list(block.operations)[-1].operation.operands]
    inputs = [argument.type for argument in block.arguments]
    main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, results))


def _is_complex(value: ir.Value) -> bool:
    return "complex<" in str(value.type)


class _Splitter:
    """Walks blocks in order; `parts` holds real and imaginary part of every complex value met so far."""

    def __init__(self) -> None:
        self.parts: dict[ir.Value, Pair] = {}
        self.dead: list[ir.Operation] = []

    def block(self, block: ir.Block, first: int = 0) -> None:
        for view in list(block.operations)[first:]:
            self.operation(view.operation)

    def erase(self) -> None:
        for operation in reversed(self.dead):
            operation.erase()

    def operation(self, operation: ir.Operation) -> None:
        blocks = [block for region in operation.regions for block in region.blocks]
        made = [*operation.results, *(argument for block in blocks for argument in block.arguments)]
        if not any(map(_is_complex, made)) and not any(operand in self.parts for operand in operation.operands):
            for block in blocks:
                self.block(block)
            return
        # Before the ops of its regions, which are erased first then: they still use the old regions' arguments.
        self.dead.append(operation)
        with ir.InsertionPoint(operation), operation.location:
            results = self._rewritten(operation)
        for old, new in zip(operation.results, results, strict=True):
            if isinstance(new, Array):
                old.replace_all_uses_with(new.value)
            else:
                self.parts[old] = new

    def _rewritten(self, operation: ir.Operation) -> Sequence[Pair | Array]:
        name = operation.name.removeprefix("stablehlo.")
        if operation.name == "func.return":
            ir.Operation.create("func.return", [], [self._packed(operand) for operand in operation.operands])
            return []
        if name in ELEMENTWISE:
            return [ELEMENTWISE[name](*(self.parts[operand] for operand in operation.operands))]
        if name in _EACH_PART:
            return [(self._part(operation, 0), self._part(operation, 1))]
        if name in _VARIADIC:
            return self._variadic(operation)
        rule = RULES.get(name)
        if rule is None:
            raise LoweringError(f"{operation.location}: {operation.name} of complex numbers is not supported.")
        return [rule(self, operation)]

    def _packed(self, value: ir.Value) -> ir.Value:
        """A complex result of the function: its parts along a new last dimension."""
        if value not in self.parts:
            return value
        parts = [part.reshape(*part.shape, 1) for part in self.parts[value]]
        return concatenate(parts, parts[0].rank - 1).value

    def _part(self, operation: ir.Operation, k: int) -> Array:
        """The same op on real (k = 0) or imaginary parts: what moves numbers and does not change them."""
        operands = [self.parts[o][k].value if o in self.parts else o for o in operation.operands]
        attributes = {name: operation.attributes[name] for name in operation.attributes}
        result = Array(operation.results[0])
        kind = tensor(result.shape, result.element[8:-1])
        return Array(ir.Operation.create(operation.name, [kind], operands, attributes).results[0])

    def _variadic(self, operation: ir.Operation) -> list[Pair | Array]:
        """Ops that take any number of arrays: a complex one becomes two, in the regions as well."""
        operands = [part for operand in operation.operands for part in self._expanded(operand)]
        types = [kind for result in operation.results for kind in _expanded_types(result.type)]
        attributes = {name: operation.attributes[name] for name in operation.attributes}
        new = ir.Operation.create(operation.name, types, operands, attributes, regions=len(operation.regions))
        for old_region, new_region in zip(operation.regions, new.regions, strict=True):
            old = old_region.blocks[0]
            groups = _argument_groups(operation.name, old)
            block = new_region.blocks.append(*(kind for _, kinds in groups for kind in kinds))
            fresh = iter(block.arguments)
            self._bind(old, groups, [next(fresh) for _ in block.arguments])
            for view in list(old.operations):
                block.append(view.operation)
            self.block(block)
        results = iter(Array(result) for result in new.results)
        return [(next(results), next(results)) if _is_complex(r) else next(results) for r in operation.results]

    def _bind(self, block: ir.Block, groups: list[tuple[list[int], list[ir.Type]]], fresh: list[ir.Value]) -> None:
        """Give the old arguments of a region their new values; a group of several comes part by part."""
        at = 0
        for positions, kinds in groups:
            step = len(positions)
            for offset, position in enumerate(positions):
                old = block.arguments[position]
                if len(kinds) > step:
                    self.parts[old] = (Array(fresh[at + offset]), Array(fresh[at + step + offset]))
                else:
                    old.replace_all_uses_with(fresh[at + offset])
            at += len(kinds)

    def _expanded(self, value: ir.Value) -> list[ir.Value]:
        return [part.value for part in self.parts[value]] if value in self.parts else [value]


def _expanded_types(kind: ir.Type) -> list[ir.Type]:
    if "complex<" not in str(kind):
        return [kind]
    ranked = ir.RankedTensorType(kind)
    part = tensor(ranked.shape, str(ranked.element_type)[8:-1])
    return [part, part]


def _argument_groups(name: str, block: ir.Block) -> list[tuple[list[int], list[ir.Type]]]:
    """Positions of arguments that are expanded together, with the types they become.

    A comparator's arguments come in pairs (left and right of each operand), so that a complex operand gives left and
    right real part, then left and right imaginary part.
    """
    arguments = list(block.arguments)
    step = 2 if name == "stablehlo.sort" else 1
    groups = []
    for first in range(0, len(arguments), step):
        kinds = _expanded_types(arguments[first].type)
        groups.append((list(range(first, first + step)), [kind for kind in kinds for _ in range(step)]))
    return groups


# Ops that move numbers without changing them.
_EACH_PART = {
    *("reshape", "transpose", "broadcast_in_dim", "slice", "concatenate", "pad", "reverse", "gather"),
    *("dynamic_slice", "dynamic_update_slice", "select"),
}

_VARIADIC = {
    *("while", "if", "case", "reduce", "scatter", "sort", "reduce_window", "optimization_barrier", "return"),
}


# Rules that need more than the parts.


def _constant(splitter: _Splitter, operation: ir.Operation) -> Pair:
    result = Array(operation.results[0])
    element = result.element[8:-1]
    values = complex_values(str(operation), result.shape, element)
    return dense(values.real, element), dense(values.imag, element)


def complex_values(text: str, shape: tuple[int, ...], element: str) -> np.ndarray[Any, Any]:
    """The numbers of a dense complex attribute (which the bindings cannot read), from the text of its op."""
    dtype = np.dtype(np.complex128 if element == "f64" else np.complex64)
    content = text[text.index("dense<") + 6 : text.rindex("> :")]
    if content.startswith('"'):
        return np.frombuffer(bytes.fromhex(content[3:-1]), dtype).reshape(shape)
    bits, part_dtype = (np.uint64, np.float64) if element == "f64" else (np.uint32, np.float32)

    def number(part: str) -> float:
        return float(np.array(int(part, 16), bits).view(part_dtype)) if "0x" in part else float(part)

    pairs = re.findall(r"\(([^,()]+),([^,()]+)\)", content)
    values = np.array([complex(number(a.strip()), number(b.strip())) for a, b in pairs], dtype)
    return np.full(shape, values[0]) if len(values) == 1 else values.reshape(shape)


def _complex(splitter: _Splitter, operation: ir.Operation) -> Pair:
    return Array(operation.operands[0]), Array(operation.operands[1])


def _convert(splitter: _Splitter, operation: ir.Operation) -> Pair | Array:
    """Between complex types, from real (the imaginary part is 0) and to real (it is dropped)."""
    operand, result = operation.operands[0], Array(operation.results[0])
    if not _is_complex(result.value):
        return splitter.parts[operand][0].convert(result.element)
    element = result.element[8:-1]
    if operand in splitter.parts:
        re_, im = splitter.parts[operand]
        return re_.convert(element), im.convert(element)
    re_ = Array(operand).convert(element)
    return re_, re_.like(0)


def _compare(splitter: _Splitter, operation: ir.Operation) -> Array:
    a, b = (splitter.parts[operand] for operand in operation.operands)
    direction = "NE" if " NE" in str(operation.attributes["comparison_direction"]) else "EQ"
    same = [x.compare(direction, y) for x, y in zip(a, b, strict=True)]
    return same[0] | same[1] if direction == "NE" else same[0] & same[1]


def _bilinear(splitter: _Splitter, operation: ir.Operation) -> Pair:
    """dot_general and convolution: four real ones."""
    (a, b), (c, d) = (splitter.parts[operand] for operand in operation.operands)
    attributes = {name: operation.attributes[name] for name in operation.attributes}
    result = Array(operation.results[0])
    kind = tensor(result.shape, result.element[8:-1])

    def times(x: Array, y: Array) -> Array:
        return Array(ir.Operation.create(operation.name, [kind], [x.value, y.value], attributes).results[0])

    return times(a, c) - times(b, d), times(a, d) + times(b, c)


def _fft(splitter: _Splitter, operation: ir.Operation) -> Pair | Array:
    operand = operation.operands[0]
    kind = str(operation.attributes["fft_type"]).split()[-1].rstrip(">")
    lengths = list(ir.DenseI64ArrayAttr(operation.attributes["fft_length"]))
    re_, im = splitter.parts.get(operand, (Array(operand), None))
    pair = fft(kind, lengths, re_, im)
    return pair[0] if kind == "IRFFT" else pair


RULES: dict[str, Callable[[_Splitter, ir.Operation], Pair | Array]] = {
    "constant": _constant,
    "complex": _complex,
    "convert": _convert,
    "compare": _compare,
    "dot_general": _bilinear,
    "convolution": _bilinear,
    "fft": _fft,
}
