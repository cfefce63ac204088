"""What values cost, and how they are read: shared by the decisions of kernel forming."""

from __future__ import annotations

from thalweg.backends.cpu.graph import Value

FLOATING = {"map", "reshape", "slice", "scalar", "constant", "empty"}  # computed wherever they are needed
_COSTS = {
    "arith.divf": 4,
    "math.sqrt": 4,
    "math.rsqrt": 4,
    "arith.divsi": 8,
    "arith.divui": 8,
    "arith.remsi": 8,
    "arith.remui": 8,
}
_CHEAP_MATH = {
    "math.absf",
    "math.absi",
    "math.floor",
    "math.ceil",
    "math.trunc",
    "math.roundeven",
    "math.copysign",
    "math.fma",
}


def reads_buffer(user: Value, value: Value) -> bool:
    """Does `user` read its operand `value` from a buffer, rather than computing its elements where it needs them?"""
    if user.kind == "scalar":
        return value.kind != "scalar"
    if user.kind == "insert":
        return value is user.operands[0] and not fills(user)
    if user.op_name == "tw.depthwise" and widens_bytes(value):
        return False
    if value.element == "i8" and widened_in_window(user):
        return True
    if user.kind in ("contract", "convolution", "window") and value.splat is not None:
        assert user.generic is not None
        return value in user.operands[: user.generic.inputs]
    return user.kind not in FLOATING and user.kind != "reduce"


def widens_bytes(value: Value) -> bool:
    """Is `value` bytes as floats, each at its own place?"""
    while value.kind == "reshape":
        (value,) = value.operands
    generic = value.generic
    if value.kind != "map" or generic is None or len(value.operands) != 1 or value.operands[0].element != "i8":
        return False
    names = [op.name for op in generic.body.ops]
    return names in (["arith.sitofp"], ["arith.uitofp"]) and generic.input_maps == generic.result_maps


def widened_in_window(value: Value) -> bool:
    """Is `value` bytes as floats for a depthwise convolution, which widens them as it reads them?"""
    return value.kind == "map" and widens_bytes(value) and _in_window(value)


def _in_window(value: Value) -> bool:
    return any(_in_window(user) if user.kind == "reshape" else user.op_name == "tw.depthwise" for user in value.users)


def fills(insert: Value) -> bool:
    """Does an insert pad: is it a whole box in a tensor of one number, so that its kernel writes both?"""
    whole = all(stride == 1 for stride in insert.strides) and all(isinstance(o, int) for o in insert.offsets)
    target, source = insert.operands[:2]
    return whole and target.splat is not None and source.size > 0


def own_cost(value: Value) -> int:
    """A rough count of instructions per element."""
    if value.kind == "scalar":
        return 1
    if value.generic is None:
        return 0
    return sum(_op_cost(op.name) for op in value.generic.body.ops)


def _op_cost(name: str) -> int:
    if name.startswith("math.") and name not in _COSTS and name not in _CHEAP_MATH:
        return 20
    return 0 if name in ("arith.constant", "linalg.index") else _COSTS.get(name, 1)
