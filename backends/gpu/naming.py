"""What a kernel does, in a few words: its name."""

from __future__ import annotations

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value

_WORDS = {
    "addf": "add", "addi": "add", "subf": "subtract", "subi": "subtract", "mulf": "multiply", "muli": "multiply",
    "divf": "divide", "divsi": "divide", "divui": "divide", "maximumf": "maximum", "minimumf": "minimum",
    "negf": "negate", "cmpf": "compare", "cmpi": "compare", "select": "select", "absf": "abs", "absi": "abs",
}  # fmt: skip
_REDUCTIONS = {"addf": "sum", "addi": "sum", "mulf": "product", "muli": "product", "andi": "all", "ori": "any",
               "moments": "moments", "argmax": "argmax", "argmin": "argmin"}  # fmt: skip
_HEAVY = {"contract": "matmul", "convolution": "convolution", "insert": "insert"}
_MATH = ("exp", "tanh", "log", "sqrt", "rsqrt", "sin", "cos", "log1p", "expm1", "floor", "ceil")


def purpose(group: Group) -> str:
    """Example: 'softmax', 'matmul_add_tanh', 'transpose', 'gather'."""
    computed = _computed(group)
    root = group.root
    if root.kind in _HEAVY:
        words = [_HEAVY[root.kind], *_words(_behind([root], computed))]
    elif root.kind == "window":
        words = ["pool", *_reductions([root]), *_words(_behind([root], computed))]
    elif root.kind == "attention":
        words = ["attention", *_attention_words(root)]
    elif root.kind == "opaque":
        words = [root.op_name.rpartition(".")[2]]
    elif any(v.kind == "reduce" for v in computed):
        words = _row_words(group, computed)
    else:
        words = _words(computed) or [_movement(computed)]
    return "_".join(dict.fromkeys(words[:4]))


def _computed(group: Group) -> list[Value]:
    """The members that what is stored is computed from, in order; all of them where the root stores more itself."""
    pending, found = [v for v in group.stores if v in group.members], set[Value]()
    while pending:
        value = pending.pop()
        if value not in found:
            found.add(value)
            pending += [operand for operand in value.operands if operand in group.members]
    return sorted(found or {*group.members, group.root}, key=lambda value: value.id)


def _behind(sources: list[Value], members: list[Value]) -> list[Value]:
    """The maps among some values, in order, that are computed from any of the sources."""
    found = set(sources)
    for value in members:
        if not found.isdisjoint(value.operands):
            found.add(value)
    return [value for value in members if value in found and value.kind == "map"]


def _attention_words(root: Value) -> list[str]:
    """Which way the programs of an attention walk, where it is not the plain one."""
    spec = root.attention
    assert spec is not None
    if any(p.sums(spec.row) for p in spec.products):
        return ["columns"]
    return [] if len(spec.scores) == 1 else ["rows"]


def _words(members: list[Value]) -> list[str]:
    """The arithmetic of maps, each op once; of gathers without that of their indices."""
    gathers = any(v.generic is not None and v.generic.captures for v in members)
    found: dict[str, None] = {"gather": None} if gathers else {}
    for value in members:
        for op in value.generic.body.ops if value.generic is not None else ():
            name = op.name.partition(".")[2]
            if (name in _WORDS or name in _MATH) and not (gathers and op.types[0][0] not in "fb"):
                found[_WORDS.get(name, name)] = None
    return list(found)


def _row_words(group: Group, members: list[Value]) -> list[str]:
    reductions = [v for v in members if v.kind == "reduce"]
    words, sums = _words(_behind(reductions, members)), _reductions(reductions)
    if _is_softmax(members, reductions):
        return ["log_softmax" if "log" in words else "softmax"]
    if "sum" in sums and ("rsqrt" in words or "sqrt" in words) and max(v.size for v in group.stores) > group.root.size:
        return ["normalize"]
    return [*sums, *words]


def _is_softmax(members: list[Value], reductions: list[Value]) -> bool:
    """Is e^ of what is less than a maximum added up?"""
    largest = [v for v in reductions if _reductions([v]) == ["max"]]
    powers = [v for v in _behind(largest, members) if "exp" in _words([v])]
    return any(_reductions([v]) == ["sum"] and not {*powers, *_behind(powers, members)}.isdisjoint(v.operands)
               for v in reductions)  # fmt: skip


def _reductions(members: list[Value]) -> list[str]:
    """What the reductions among some values combine by, each once."""
    found: dict[str, None] = {}
    for value in members:
        if value.kind in ("reduce", "window") and value.generic is not None and value.generic.body.ops:
            name = value.generic.body.ops[-1].name.partition(".")[2]
            found[_REDUCTIONS.get(name, name[:3])] = None
    return list(found)


def _movement(members: list[Value]) -> str:
    """What a kernel without arithmetic does."""
    for value in members:
        generic = value.generic
        if generic is None:
            continue
        if generic.captures:
            return "gather"
        for map_ in generic.input_maps:
            dims = [e.dim for e in map_ if e.dim is not None]
            if dims != sorted(dims):
                return "transpose"
            if len(dims) < len(generic.extents):
                return "broadcast"
    return "copy"
