"""Numbers as tiles (tiled.py) multiply them: bfloat16, which floats of 8 bits are widened to, and f32 rounded or split.

x = high + low + rest      high = bfloat16(x), low = bfloat16(x - high); the rest is below 2^-16 of x
x y = high high + high low + low high, added up in f32
"""

from __future__ import annotations

from thalweg.backends.cpu.emit.float8 import FORMATS
from thalweg.backends.cpu.emit.scalar import from_storage, lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter

PARTS = {"high": 2, "medium": 1}  # into which f32 is split, by `CpuOptions.matmul_precision`


def parts_of(lhs: str, rhs: str, precision: str) -> int:
    """Into how many bfloat16 each number of a product of these dtypes goes; 0: the tiles are not for them."""
    if lhs == rhs == "f32":
        return PARTS.get(precision, 0)
    return int({lhs, rhs} <= {"bf16", *FORMATS})


def split(w: ScopedWriter, value: str, dtype: str, lanes: int, parts: int) -> list[str]:
    """A vector as it is in memory, as vectors of bfloat16, the largest part first; bytes stay as they are."""
    if dtype in ("bf16", "i8"):
        return [value]
    wide, narrow = lanes_type("f32", lanes), lanes_type("bf16", lanes)
    number = from_storage(w, value, dtype, lanes).name
    high = w.op(f"arith.truncf {number} : {wide} to {narrow}")
    if parts == 1:
        return [high]
    rounded = w.op(f"arith.extf {high} : {narrow} to {wide}")
    rest = w.op(f"arith.subf {number}, {rounded} : {wide}")
    return [high, w.op(f"arith.truncf {rest} : {wide} to {narrow}")]
