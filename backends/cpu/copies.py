"""Large copies between buffers, as kernels that several threads can share."""

from __future__ import annotations

from thalweg.backends.cpu.kernel import Kernel, function

LARGE = 1 << 18  # bytes from which a copy is a kernel; one processor copies fewer from its own cache
_TILE = 1 << 14  # bytes of a unit of work


def copy_kernel(name: str, size: int) -> Kernel:
    """A kernel that copies `size` bytes from its first buffer to its second."""
    kind = f"memref<{size}xi8>"
    body = f"""%tile = arith.constant {_TILE} : index
%size = arith.constant {size} : index
%first = arith.muli %lo, %tile : index
%behind = arith.muli %hi, %tile : index
%last = arith.minsi %behind, %size : index
%length = arith.subi %last, %first : index
%from = memref.view %source[%first][%length] : {kind} to memref<?xi8>
%to = memref.view %target[%first][%length] : {kind} to memref<?xi8>
memref.copy %from, %to : memref<?xi8> to memref<?xi8>"""
    source = function(name, [("%source", kind)], [("%target", kind)], body)
    return Kernel(name, source, (), (), -(-size // _TILE), types=(kind, kind), nanoseconds=size * 0.1)
