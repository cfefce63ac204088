"""Floats of 8 bits in kernels: bytes in memory, f32 in registers, and what tensor cores multiply where they can.

Conversions are functions in integers, as on the CPU, so that every chip and the interpreter round alike: the chips' own
instructions take what is too large for the largest number, where it is to become NaN or infinity.
"""

from __future__ import annotations

from thalweg.backends.cpu.emit.float8 import FORMATS, Format

SHORT = {"f8E4M3FN": "e4m3fn", "f8E5M2": "e5m2"}
MULTIPLIED = {"f8E4M3FN": "tl.float8e4nv", "f8E5M2": "tl.float8e5"}  # by tensor cores that have the format


def decoder(element: str) -> str:
    """The name of the function from bytes to f32."""
    return f"from_{SHORT[element]}"


def encoder(element: str) -> str:
    """The name of the function from f32 to bytes."""
    return f"to_{SHORT[element]}"


def _decode(name: str, f: Format) -> str:
    special = "0x7FC00000" if f.special == f.nan else "bits | 0x7F800000"
    which = "==" if f.special == f.nan else ">="
    return f'''@triton.jit
def from_{name}(code):
    """Bytes of float8_{name} as f32; subnormal ones as a fraction behind a leading one, less that one."""
    code = code.to(tl.int32)
    bits = (code & 0x7F) << {f.shift}
    small = (bits + 0x{(128 - f.bias) << 23:08X}).to(tl.float32, bitcast=True) - {2.0 ** (1 - f.bias)!r}
    value = tl.where(bits < 0x800000, small.to(tl.int32, bitcast=True), bits + 0x{(127 - f.bias) << 23:08X})
    value = tl.where(bits {which} 0x{f.special << f.shift:08X}, {special}, value)
    return (value | ((code & 0x80) << 24)).to(tl.float32, bitcast=True)
'''


def _encode(name: str, f: Format) -> str:
    magic, least, half = 127 + 24 - f.bias - f.mantissa, (128 - f.bias) << 23, (1 << (f.shift - 1)) - 1
    nan = "" if f.special == f.nan else f"    normal = tl.where(bits > 0x7F800000, 0x{f.nan:02X}, normal)\n"
    return f'''@triton.jit
def to_{name}(x):
    """f32 as bytes of float8_{name}, rounded to nearest even; what is too large is {"infinite" if nan else "NaN"}. A
    sum with a number whose last place is that of subnormal ones rounds those."""
    signed = x.to(tl.int32, bitcast=True)
    bits = tl.minimum(signed & 0x7FFFFFFF, 0x7FC00000)
    rounded = (bits + (0x{half:05X} + ((bits >> {f.shift}) & 1))) >> {f.shift}
    normal = tl.minimum(rounded - {(127 - f.bias) << f.mantissa}, 0x{f.special:02X})
{nan}    moved = bits.to(tl.float32, bitcast=True) + {2.0 ** (magic - 127)!r}
    small = moved.to(tl.int32, bitcast=True) - 0x{magic << 23:08X}
    code = tl.where(bits < 0x{least:08X}, small, normal)
    return (code | ((signed >> 24) & 0x80)).to(tl.int8)
'''


HELPERS = {decoder(element): _decode(name, FORMATS[element]) for element, name in SHORT.items()} | {
    encoder(element): _encode(name, FORMATS[element]) for element, name in SHORT.items()
}
