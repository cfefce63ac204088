"""Instructions that add up several products of narrow numbers for each lane, and how their operands lie in memory.

    sum[n] += x[4 g] w[4 g, n] + … + x[4 g + 3] w[4 g + 3, n]

The four summed elements of a column lie side by side ("packed"): a register of bytes is four elements of so many
columns. The same four numbers of x go to all columns. Sums are exact: no instruction here saturates.

    vnni    x86: bytes without a sign times bytes with one, in 32 bits
    sdot    ARMv8.2: bytes with signs, in 32 bits
    pairs   x86, WebAssembly: widened to 16 bits, pairs added up in 32: two registers of sums, two sums for each column
    widen   anything else: one product after the other
    bf16    pairs of bfloat16, in float32: only the processor's tiles (tiled.py) multiply them, on x86. Its vectors of
            them (vdpbf16ps) take longer than widened ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from thalweg.backends.cpu.emit.control import Index
from thalweg.backends.cpu.emit.packing import Source, load
from thalweg.backends.cpu.emit.scalar import lanes_type
from thalweg.backends.cpu.emit.scoped import ScopedWriter
from thalweg.backends.cpu.machine import features_of, machine
from thalweg.backends.cpu.options import CpuOptions

Kind = Literal["vnni", "sdot", "pairs", "widen", "bf16"]
COLUMNS = 16  # packed columns are filled up to a multiple: a register of bytes at most
_PAIRS = {512: "x86.avx512.pmaddw.d.512", 256: "x86.avx2.pmadd.wd", 128: "x86.sse2.pmadd.wd"}


@dataclass(frozen=True)
class Groups:
    """How a machine adds up groups of products.

    Args:
        lanes: columns of a vector: sums in a register.
        size: products of a group; they take four bytes of each operand.
        parts: registers that hold the sums of a vector of columns.
        spare: registers beside sums and weights.
        cycles: of one vector's group, where nothing else holds it up.
    """

    kind: Kind
    lanes: int
    size: int = 4
    parts: int = 1
    spare: int = 2
    cycles: float = 0.5
    intrinsic: str = ""

    @property
    def element(self) -> str:
        return "bf16" if self.kind == "bf16" else "i8"

    @property
    def sums(self) -> str:
        """The element type of sums."""
        return "f32" if self.kind == "bf16" else "i32"

    @property
    def register(self) -> str:
        return lanes_type(self.sums, self.lanes)

    def flips(self, lhs_signed: bool, rhs_signed: bool) -> bool:
        """Must the bytes of the left operand change their sign bit, as the instruction wants them otherwise?"""
        if self.kind == "vnni":
            return lhs_signed and rhs_signed
        return self.kind == "sdot" and not lhs_signed

    def takes(self, lhs_signed: bool, rhs_signed: bool) -> bool:
        """Can it multiply bytes of these kinds?"""
        return lhs_signed or rhs_signed if self.kind == "vnni" else rhs_signed or self.kind != "sdot"


def groups_for(options: CpuOptions) -> Groups:
    """The best that a machine's vectors have for products of bytes."""
    features, target = features_of(options), machine(options)
    bits, lanes = target.vector_bits, target.lanes("i32")
    if bits == 512 and "avx512vnni" in features:
        return Groups("vnni", lanes, intrinsic="x86.avx512.vpdpbusd.512")
    if bits == 256 and "avxvnni" in features:
        return Groups("vnni", lanes, intrinsic="x86.avx512.vpdpbusd.256")
    if "dotprod" in features:
        return Groups("sdot", lanes, intrinsic="aarch64.neon.sdot.v4i32.v16i8")
    if "sse2" in features:
        return Groups("pairs", lanes, parts=2, cycles=1.5, intrinsic=_PAIRS[bits])
    if "simd128" in features:
        return Groups("pairs", lanes, parts=2, cycles=2.0, intrinsic="wasm.dot")
    return Groups("widen", lanes, spare=8, cycles=4.0)


@dataclass(frozen=True)
class GroupWriter:
    """Writes the instructions of `groups`. Operands are read from `lhs` (its lane is 0; of bytes, or, where pairs are
    added up, of 16 bits already) and `packed`."""

    w: ScopedWriter
    groups: Groups
    lhs: Source
    packed: Source

    @property
    def _lanes(self) -> int:
        return self.groups.lanes

    def weights(self, offset: Index) -> list[str]:
        """The registers of one vector's group, from element `offset` of the packed operand."""
        g, lanes = self.groups, self._lanes
        if g.kind in ("vnni", "sdot"):
            return [self._read(self.packed, offset, 4 * lanes)]
        if g.kind == "pairs":
            halves = [self._read(self.packed, self.w.add(offset, 2 * lanes * k), 2 * lanes) for k in range(2)]
            return [self._extended(half, 2 * lanes, "i16", self.packed) for half in halves]
        every = self._read(self.packed, offset, 4 * lanes)
        kind = f"vector<{4 * lanes}xi8>"
        columns = [", ".join(str(4 * n + k) for n in range(lanes)) for k in range(4)]
        apart = [self.w.op(f"vector.shuffle {every}, {every} [{c}] : {kind}, {kind}") for c in columns]
        return [self._extended(each, lanes, "i16", self.packed) for each in apart]

    def factors(self, offset: Index, used: int = 0) -> list[str]:
        """The numbers from element `offset` of the left operand, as every column needs them; `used`: only so many."""
        w, g = self.w, self.groups
        if g.kind == "widen":
            return [self._spread(self._scalar(w.add(offset, k))) for k in range(used or 4)]
        if used:
            nothing = w.hoisted(f"arith.constant 0 : {self.lhs.dtype}", "zero")
            numbers = [self._scalar(w.add(offset, k)) for k in range(used)] + [nothing] * (4 - used)
            quad = w.op(f"vector.from_elements {', '.join(numbers)} : vector<4x{self.lhs.dtype}>")
        else:
            quad = self._read(self.lhs, offset, 4)
        return [self._everywhere(quad)]

    def everywhere(self, number: int) -> list[str]:
        """The same byte in all places."""
        return [self.w.hoisted(f"arith.constant dense<{number}> : vector<{4 * self._lanes}xi8>", "all")]

    def multiply(self, sums: list[str], weights: list[str], factors: list[str]) -> list[str]:
        """The sums of one vector of columns, and a group's products."""
        w, g, kind = self.w, self.groups, self.groups.register
        if g.kind in ("vnni", "sdot"):
            (total,), (right,), (left,) = sums, weights, factors
            a, b = (right, left) if g.kind == "vnni" and not self.packed.signed else (left, right)
            bytes_ = f"vector<{4 * g.lanes}xi8>"
            call = f'llvm.call_intrinsic "llvm.{g.intrinsic}"({total}, {a}, {b})'
            return [w.op(f"{call} : ({kind}, {bytes_}, {bytes_}) -> {kind}")]
        if g.kind == "pairs":
            (left,), short = factors, f"vector<{2 * g.lanes}xi16>"
            following = []
            for total, right in zip(sums, weights, strict=True):
                call = f'llvm.call_intrinsic "llvm.{g.intrinsic}"({right}, {left}) : ({short}, {short}) -> {kind}'
                following.append(w.op(f"arith.addi {total}, {w.op(call)} : {kind}"))
            return following
        (total,), short = sums, lanes_type("i16", g.lanes)
        for left, right in zip(factors, weights, strict=False):
            a, b = (w.op(f"arith.extsi {each} : {short} to {kind}") for each in (left, right))
            total = w.op(f"arith.addi {total}, {w.op(f'arith.muli {a}, {b} : {kind}')} : {kind}")
        return [total]

    def total(self, sums: list[str]) -> str:
        """One sum for each column."""
        if len(sums) == 1:
            return sums[0]
        w, kind, lanes = self.w, self.groups.register, self._lanes
        halves = []
        for first in range(2):
            places = ", ".join(str(k) for k in range(first, 2 * lanes, 2))
            halves.append(w.op(f"vector.shuffle {sums[0]}, {sums[1]} [{places}] : {kind}, {kind}"))
        return w.op(f"arith.addi {halves[0]}, {halves[1]} : {kind}")

    def _read(self, source: Source, offset: Index, count: int) -> str:
        kind = f"vector<{count}x{source.dtype}>"
        return load(self.w, source, f"vector.load {source.name}[{self.w.ssa(offset)}] : {source.memref}, {kind}")

    def _scalar(self, offset: Index) -> str:
        return load(self.w, self.lhs, f"memref.load {self.lhs.name}[{self.w.ssa(offset)}] : {self.lhs.memref}")

    def _extended(self, value: str, count: int, to: str, source: Source) -> str:
        name = "arith.extsi" if source.signed else "arith.extui"
        return self.w.op(f"{name} {value} : vector<{count}xi8> to vector<{count}x{to}>")

    def _spread(self, byte: str) -> str:
        name = "arith.extsi" if self.lhs.signed else "arith.extui"
        return self.w.op(
            f"vector.broadcast {self.w.op(f'{name} {byte} : i8 to i16')} : i16 to vector<{self._lanes}xi16>"
        )

    def _everywhere(self, quad: str) -> str:
        """Four bytes for each column; widened to 16 bits, where pairs are added up."""
        w, g = self.w, self.groups
        bits, count, element = 32, g.lanes, "i8"
        if g.kind == "pairs":
            quad = quad if self.lhs.dtype == "i16" else self._extended(quad, 4, "i16", self.lhs)
            bits, count, element = 64, g.lanes // 2, "i16"
        whole = w.op(f"vector.bitcast {quad} : vector<4x{element}> to vector<1xi{bits}>")
        number = w.op(f"vector.extract {whole}[0] : i{bits} from vector<1xi{bits}>")
        many = w.op(f"vector.broadcast {number} : i{bits} to vector<{count}xi{bits}>")
        return w.op(f"vector.bitcast {many} : vector<{count}xi{bits}> to vector<{4 * count}x{element}>")
