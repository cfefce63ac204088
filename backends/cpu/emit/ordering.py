"""What the comparator of a sort says: which function of which operand it compares, and whether it is a total order."""

from __future__ import annotations

from dataclasses import dataclass, replace

from thalweg.backends.cpu.graph import Body, ScalarOp

_SWAPPED = {2: 4, 4: 2, 3: 5, 5: 3, 6: 8, 8: 6, 7: 9, 9: 7}  # of integers: slt, sgt; sle, sge; ult, ugt; ule, uge
_SWAPPED_FLOATS = {2: 4, 4: 2, 3: 5, 5: 3, 9: 11, 11: 9, 10: 12, 12: 10}  # ogt, olt; oge, ole; ugt, ult; uge, ule
_STRICT = {2: ("signed", False), 4: ("signed", True), 6: ("unsigned", False), 8: ("unsigned", True)}
_STRICT_FLOATS = {4: ("float", False), 2: ("float", True)}
_EQUAL, _NOT_EQUAL = (1, 7), (13, 14)  # of a number with itself: oeq or ord; une or uno


@dataclass(frozen=True)
class Key:
    """A comparator `compare(key(x), key(y))`: the body of `key` on operand `operand`, and the comparing op."""

    operand: int
    body: Body
    compare: ScalarOp


@dataclass(frozen=True)
class Order:
    """`key(x)` before `key(y)` by value: signed, unsigned, or float, where zeros are equal and NaN is the greatest."""

    key: Key
    kind: str
    descending: bool

    @property
    def element(self) -> str:
        """The type of the keys."""
        body = self.key.body
        last = {index: op.types[0] for op in body.ops for index in op.results}
        return last.get(body.yields[0], body.arguments[0])


def find_key(comparator: Body) -> Key | None:
    """The key function of a comparator that compares the same function of both rows, or None.

    Example:
        `(x, y): a = neg x; b = neg y; return a < b` has operand 0, the body `neg` and the op `<`.
    """
    producers = _producers(comparator)
    compare = producers.get(comparator.yields[0])
    if compare is None or compare.name not in ("arith.cmpf", "arith.cmpi"):
        return None
    return _key(comparator, producers, compare)


def find_order(comparator: Body) -> Order | None:
    """The total order of a comparator: `key(x) < key(y)`, for floats also with `or y is NaN and x is not`; None for all
    others."""
    producers = _producers(comparator)
    last = producers.get(comparator.yields[0])
    if last is not None and last.name == "arith.ori":
        last = _less_or_nan(producers, last)
    if last is None or last.name not in ("arith.cmpf", "arith.cmpi"):
        return None
    key = _key(comparator, producers, last)
    if key is None:
        return None
    strict = _STRICT_FLOATS if last.name == "arith.cmpf" else _STRICT
    found = strict.get(_predicate(key.compare))
    return Order(key, *found) if found else None


def _producers(body: Body) -> dict[int, ScalarOp]:
    return {index: op for op in body.ops for index in op.results}


def _predicate(op: ScalarOp) -> int:
    """The number of the predicate of a comparison: 'predicate = 2 : i64' is 2."""
    _, _, rest = op.attributes.partition("predicate = ")
    return int(rest.split()[0])


def _less_or_nan(producers: dict[int, ScalarOp], either: ScalarOp) -> ScalarOp | None:
    """`x < y` of `x < y or (x is a number and y is none)`."""
    for less, both in (either.operands, either.operands[::-1]):
        compare, other = producers.get(less), producers.get(both)
        if compare is None or other is None or compare.name != "arith.cmpf" or other.name != "arith.andi":
            continue
        x, y = compare.operands if _predicate(compare) == 4 else compare.operands[::-1]
        if _predicate(compare) in (2, 4) and _tests(producers, other) == {(x, True), (y, False)}:
            return compare
    return None


def _tests(producers: dict[int, ScalarOp], both: ScalarOp) -> set[tuple[int, bool]]:
    """Of `a == a and b != b`: what is asked for being a number, and what for being none."""
    found = set()
    for index in both.operands:
        test = producers.get(index)
        if test is None or test.name != "arith.cmpf" or test.operands[0] != test.operands[1]:
            continue
        if _predicate(test) in (*_EQUAL, *_NOT_EQUAL):
            found.add((test.operands[0], _predicate(test) in _EQUAL))
    return found


def _key(comparator: Body, producers: dict[int, ScalarOp], compare: ScalarOp) -> Key | None:
    """What a comparison compares, as `compare(key(x), key(y))`."""
    left, right = (_slice(index, producers, len(comparator.arguments)) for index in compare.operands)
    if left is not None and right is not None and left[0] == right[0] + 1:  # y first
        left, right, compare = right, left, _turned(compare)
    if left is None or right is None or left[0] % 2 or right[0] != left[0] + 1 or left[1] != right[1]:
        return None
    argument, result, ops = left[0], left[2], left[3]
    numbers = {argument: 0}
    renamed = []
    for op in ops:
        for index in op.results:
            numbers[index] = len(numbers)
        operands = tuple(numbers[i] for i in op.operands)
        results = tuple(numbers[i] for i in op.results)
        renamed.append(ScalarOp(op.name, operands, results, op.types, op.attributes))
    body = Body((comparator.arguments[argument],), tuple(renamed), (numbers[result],))
    return Key(argument // 2, body, compare)


def _turned(compare: ScalarOp) -> ScalarOp:
    """The comparison with its operands exchanged."""
    predicate = _predicate(compare)
    turned = (_SWAPPED_FLOATS if compare.name == "arith.cmpf" else _SWAPPED).get(predicate, predicate)
    attributes = compare.attributes.replace(f"predicate = {predicate} ", f"predicate = {turned} ")
    return replace(compare, operands=compare.operands[::-1], attributes=attributes)


def _slice(
    index: int, producers: dict[int, ScalarOp], arguments: int
) -> tuple[int, str, int, tuple[ScalarOp, ...]] | None:
    """What computes a scalar: the only argument it depends on, the expression as text, its number, its ops in order."""
    used: set[int] = set()
    ops: dict[tuple[int, ...], ScalarOp] = {}

    def text(at: int) -> str | None:
        if at < arguments:
            used.add(at)
            return "x"
        op = producers.get(at)
        if op is None or op.regions or op.tensor is not None:
            return None
        parts = [text(operand) for operand in op.operands]
        if any(part is None for part in parts):
            return None
        ops.setdefault(op.results, op)
        return f"{op.name}{{{op.attributes}}}:{op.types}({', '.join(str(p) for p in parts)})"

    expression = text(index)
    if expression is None or len(used) != 1:
        return None
    return used.pop(), expression, index, tuple(ops.values())
