"""What a kernel does, in a few words: its name."""

from __future__ import annotations

from thalweg.backends.cpu.emit import Group
from thalweg.backends.cpu.graph import Value

_WORDS = {
    "addf": "add", "addi": "add", "subf": "subtract", "subi": "subtract", "mulf": "multiply", "muli": "multiply",
    "divf": "divide", "divsi": "divide", "divui": "divide", "maximumf": "maximum", "minimumf": "minimum",
    "negf": "negate", "cmpf": "compare", "cmpi": "compare", "select": "select", "absf": "abs", "absi": "abs",
}  # fmt: skip
_REDUCTIONS = {"addf": "sum", "addi": "sum", "mulf": "product", "muli": "product", "andi": "all", "ori": "any"}
_HEAVY = {"contract": "matmul", "convolution": "convolution", "insert": "insert"}
_MATH = ("exp", "tanh", "log", "sqrt", "rsqrt", "sin", "cos", "log1p", "expm1", "floor", "ceil")


def purpose(group: Group) -> str:
    """Example: 'softmax', 'matmul_add_tanh', 'transpose', 'gather'."""
    members = sorted({*group.members, group.root}, key=lambda value: value.id)
    root = group.root
    if root.kind in _HEAVY:
        words = [_HEAVY[root.kind], *_words([v for v in members if v.kind == "map" and v.id > root.id])]
    elif root.kind == "window":
        words = ["pool", *_reductions([root]), *_words([v for v in members if v.kind == "map" and v.id > root.id])]
    elif root.kind == "attention":
        words = ["attention", *_attention_words(root)]
    elif root.kind == "opaque":
        words = [root.op_name.rpartition(".")[2]]
    elif any(v.kind == "reduce" for v in members):
        words = _row_words(members)
    else:
        words = _words(members) or [_movement(members)]
    return "_".join(words[:4])


def _attention_words(root: Value) -> list[str]:
    """Which way the programs of an attention walk, where it is not the plain one."""
    spec = root.attention
    assert spec is not None
    if any(p.sums(spec.row) for p in spec.products):
        return ["columns"]
    return [] if len(spec.scores) == 1 else ["rows"]


def _words(members: list[Value]) -> list[str]:
    """The arithmetic of maps, each op once."""
    found: dict[str, None] = {}
    for value in members:
        for op in value.generic.body.ops if value.generic is not None else ():
            name = op.name.partition(".")[2]
            if name in _WORDS or name in _MATH:
                found[_WORDS.get(name, name)] = None
    return [] if any(v.generic is not None and v.generic.captures for v in members) else list(found)


def _row_words(members: list[Value]) -> list[str]:
    reductions = _reductions(members)
    words = _words([v for v in members if v.kind == "map"])
    if {"max", "sum"} <= set(reductions) and "exp" in words:
        return ["log_softmax" if "log" in words else "softmax"]
    if "sum" in reductions and ("rsqrt" in words or "sqrt" in words):
        return ["normalize"]
    return reductions


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
