"""The parts of an attention that are kernels of their own on a GPU, and whether a row's maximum may still change.

A kernel's programs each hold some rows (and walk the columns) or some columns (and walk the rows): what is summed along
rows goes to a kernel of its own, which reads what the other has reduced.

    before: %dq, %dk, %dv = attention(%q, %k, %v, %do, %m, %l)
    after:  %dq, %d = attention(%q, …)          rows: their reductions, and sums along columns
            %dk, %dv = attention(%q, …, %d)     columns: sums along rows
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from thalweg.backends.cpu.attention import Attention
from thalweg.backends.cpu.emit.combiners import combiner_of
from thalweg.backends.cpu.graph import Graph, Value
from thalweg.backends.cpu.scores import Product


def split_attention(graph: Graph) -> bool:
    """Rewrite a graph and its regions in place; was anything changed? `users` is stale afterwards."""
    changed, values = False, list[Value]()
    for value in graph.values:
        for region in value.regions if value.result_index == 0 else ():
            changed |= split_attention(region)
        if value.kind == "attention" and value.result_index == 0:
            _widen(graph, value)
        if value.kind == "attention" and value.result_index == 0 and _is_mixed(value):
            values += _split(graph, value)
            changed = True
        elif not (value.kind == "attention" and value in values):
            values.append(value)
    graph.values = values
    return changed


def _widen(graph: Graph, value: Value) -> None:
    """What is reduced from scores is kept as it is computed: the kernels do not round scores to 16 bits."""
    spec = value.attention
    assert spec is not None
    kept = [peer for peer in value.peers[len(spec.products) :] if peer not in graph.outputs]
    read = [inner for inner, outer in zip(spec.operands, value.operands, strict=False) if outer.element == "f32"]
    for reduced in (*spec.reductions, *kept, *read):
        if reduced.element in ("f16", "bf16"):
            reduced.element = "f32"


def _is_mixed(value: Value) -> bool:
    spec = value.attention
    assert spec is not None
    by_rows = [p for p in spec.products if p.sums(spec.row)]
    return bool(by_rows) and (len(by_rows) < len(spec.products) or bool(spec.reductions))


def behind(values: Iterable[Value], spec: Attention) -> set[Value]:
    """The members that values are computed from, themselves included; reductions are where it ends."""
    found: set[Value] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        if value in spec.members and value not in found:
            found.add(value)
            pending += () if value.kind in ("reduce", "contract") else value.operands
    return found


def _read_by(product: Product) -> list[Value]:
    """What a product is added up from, elementwise."""
    assert product.operand is not None
    return [product.operand, *([product.factor[1]] if product.factor else [])]


def _split(graph: Graph, value: Value) -> list[Value]:
    """The values of both parts; those of the attention keep their identity."""
    spec, peers = value.attention, value.peers
    assert spec is not None
    made = dict(zip([*(p.value for p in spec.products), *spec.kept], peers, strict=True))
    by_rows = [p for p in spec.products if p.sums(spec.row)]
    by_columns = [p for p in spec.products if p not in by_rows]
    needed = behind((v for p in by_rows for v in _read_by(p)), spec)
    reduced = [v for v in spec.reductions if v in needed]
    following = 1 + max(v.id for v in (*graph.args, *graph.values))
    kept = [*spec.kept, *(v for v in reduced if v not in spec.kept)]
    for number, reduction in enumerate(kept):
        if reduction not in made:
            made[reduction] = Value(following + number, "attention", reduction.shape, reduction.element)
    first = replace(spec, products=by_columns, kept=kept)
    second = replace(
        spec,
        products=by_rows,
        kept=[],
        reductions=[],
        members=spec.members - set(spec.reductions),
        operands=[*spec.operands, *reduced],
    )
    rows = tuple(made[v] for v in (*(p.value for p in by_columns), *kept))
    columns = tuple(made[p.value] for p in by_rows)
    for part, results, more in ((first, rows, []), (second, columns, [made[v] for v in reduced])):
        for result in results:
            result.attention, result.peers, result.operands = part, results, (*value.operands, *more)
    return [*rows, *columns] if rows else [*columns]


def rescales(value: Value, largest: Value, spec: Attention) -> bool:
    """Is a value e^-largest times something that does not depend on the largest score, so that it can be scaled when
    a larger score is found?"""
    return _power(value, largest, spec, {}) == 1


def _power(value: Value, largest: Value, spec: Attention, known: dict[Value, int | None]) -> int | None:
    """1 for e^-largest times something, 0 for what does not depend on `largest`, -1 for something minus it; None for
    anything else."""
    if value is largest:
        return None
    if value not in spec.members or value.kind == "contract":
        return 0
    if value not in known:
        known[value] = None
        if value.kind == "reduce":
            combiner = combiner_of(value)
            inside = _body_power(value, largest, spec, known)
            adds = combiner is not None and combiner.op.name == "arith.addf"
            known[value] = inside if inside == 0 or (inside == 1 and adds) else None
        elif value.kind == "reshape":
            known[value] = _power(value.operands[0], largest, spec, known)
        elif value.generic is not None:
            known[value] = _body_power(value, largest, spec, known)
    return known[value]


def _body_power(value: Value, largest: Value, spec: Attention, known: dict[Value, int | None]) -> int | None:
    """The power of what a body yields (of what it adds, for a reduction)."""
    generic = value.generic
    assert generic is not None
    combiner = combiner_of(value) if value.kind == "reduce" else None
    body = combiner.contribution if combiner is not None else generic.body
    powers: dict[int, int | str | None] = {}

    def get(index: int) -> int | str | None:
        if index not in powers:
            operand = value.operands[index] if index < generic.inputs else None
            if operand is not None and _is_copy_of(operand, largest, spec):
                powers[index] = "largest"
            else:
                powers[index] = 0 if operand is None else _power(operand, largest, spec, known)
        return powers[index]

    for op in body.ops:
        parts = [] if op.name == "linalg.index" else [get(i) for i in op.operands]
        zero = [_is_zero(value, body.ops, i) for i in op.operands] if op.name == "arith.select" else []
        for result in op.results:
            powers[result] = _result(op.name, parts, zero)
    found = get(body.yields[0])
    return found if found in (-1, 0, 1) and not isinstance(found, str) else None


def _is_copy_of(value: Value, largest: Value, spec: Attention) -> bool:
    """Is a value the largest score, or that for every column?"""
    while value is not largest and value in spec.members:
        generic = value.generic
        copies = value.kind == "reshape" or (
            value.kind == "map" and generic is not None and not generic.body.ops and generic.body.yields == (0,)
        )
        if not copies:
            return False
        value = value.operands[0]
    return value is largest


def _is_zero(value: Value, ops: Iterable[object], index: int) -> bool:
    """Is a scalar of a body 0?"""
    generic = value.generic
    assert generic is not None
    if index < generic.inputs:
        return _means_zero(value.operands[index].splat or "")
    return any(
        getattr(op, "name", "") == "arith.constant" and index in op.results and _means_zero(op.attributes)  # type: ignore[attr-defined]
        for op in ops
    )


def _means_zero(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:  # true, or 0xFF800000: the bits of what has no decimal digits
        return False


def _result(name: str, parts: list[int | str | None], zero: list[bool]) -> int | str | None:
    """The power of an op's result from those of its operands."""
    if name in ("arith.extf", "arith.truncf"):
        return parts[0]
    if name == "arith.subf" and parts == [0, "largest"]:
        return -1
    if "largest" in parts or None in parts:
        return None
    if all(part == 0 for part in parts):
        return 0
    if name == "math.exp" and parts == [-1]:
        return 1
    if name == "arith.mulf" and sorted(map(str, parts)) == ["0", "1"]:
        return 1
    if name == "arith.divf" and parts == [1, 0]:
        return 1
    if name in ("arith.addf", "arith.subf") and parts == [1, 1]:
        return 1
    if name == "arith.negf" and parts == [1]:
        return 1
    if name == "arith.select" and parts[0] == 0:
        arms = [(part, is_zero) for part, is_zero in zip(parts[1:], zero[1:], strict=True)]
        return 1 if all(part == 1 or is_zero for part, is_zero in arms) else None
    return None
