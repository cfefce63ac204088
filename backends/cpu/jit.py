"""MLIR text to native code: LLVM dialect, LLVM IR text, object code, memory.

The MLIR that we use prints LLVM IR of a newer syntax than llvmlite's LLVM reads: `float_literals` rewrites the
constants.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import llvmlite.binding as llvm

from thalweg.backends.cpu import native
from thalweg.backends.cpu.machine import tiles_allowed
from thalweg.backends.cpu.once import once
from thalweg.backends.cpu.options import CpuOptions
from thalweg.backends.cpu.partition import Part, join, split, with_definitions
from thalweg.backends.cpu.workers import compile_all, helpers
from thalweg.dialects.diagnostics import LoweringError
from thalweg.dialects.mlir import PassManager, ir, llvm_dialect

# Each pass walks over everything: those with a pattern are left out where the text has nothing for them.
LOWERING = (
    ("convert-vector-to-scf", r"vector\.transfer_"),
    ("convert-scf-to-cf", ""),
    ("expand-strided-metadata", r"memref\.(subview|\w+_shape|extract_|reinterpret_)"),
    ("lower-affine", r"affine\.|memref\.(subview|\w+_shape|extract_|reinterpret_)"),
    ("convert-vector-to-llvm{reassociate-fp-reductions=1}", ""),
    ("convert-math-to-llvm", r"math\."),
    ("finalize-memref-to-llvm", ""),
    ("convert-func-to-llvm{use-bare-ptr-memref-call-conv=1}", ""),
    ("convert-cf-to-llvm", ""),
    ("convert-arith-to-llvm", ""),
    ("convert-index-to-llvm", ""),
    ("convert-ub-to-llvm", r"ub\."),
    ("reconcile-unrealized-casts", ""),
)


def _lowering(source: str) -> str:
    """The pipeline for an MLIR module."""
    return f"builtin.module({','.join(name for name, needed_by in LOWERING if re.search(needed_by, source))})"


def to_llvm_ir(source: str) -> str:
    """LLVM IR text, in llvmlite's syntax, of an MLIR module. Call with a context entered.

    Raises:
        LoweringError: the text does not parse or verify, or a pass failed: a fault of a code generator.
    """
    try:
        module = ir.Module.parse(source)
        passes = PassManager.parse(_lowering(source))
        passes.enable_verifier(False)  # the parser has verified what we wrote
        passes.run(module.operation)
        return float_literals(str(llvm_dialect.translate_module_to_llvmir(module.operation)))
    except ir.MLIRError as error:
        raise LoweringError(f"the CPU backend generated code that MLIR rejects: {error}") from error


# Float literals. MLIR's LLVM prints f0x… bit patterns, +inf, +qnan, and decimals that are not exact in the type;
# LLVM 22 wants an exact decimal or 0x… (the bits of the double for float and double, 0xH… for half, 0xR… for bfloat).

_TOKEN = re.compile(
    r"\b(half|bfloat|float|double)\b"
    r"|(?<![\w.%@#!\"$])(?:f0x([0-9A-F]+)|([+-]?)(inf|qnan)\b|(-?\d+\.\d+(?:e[+-]?\d+)?))(?![\w.])"
)
_SUSPECTS = ("f0x", "e+", "e-", "inf", "qnan")
_PACK = {"half": "<e", "float": "<f", "double": "<d"}


def float_literals(text: str) -> str:
    """LLVM IR text with float constants as LLVM 22 reads them.

    Example:
        >>> float_literals("  %2 = fadd float %1, 4.471500e-02")
        '  %2 = fadd float %1, 0x3FA6E4E260000000'
    """
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if any(suspect in line for suspect in _SUSPECTS):
            lines[number] = _literals_of_line(line)
    return "\n".join(lines)


def _literals_of_line(line: str) -> str:
    kind = "float"

    def rewrite(match: re.Match[str]) -> str:
        nonlocal kind
        if match[1]:
            kind = match[1]
            return match[0]
        if match[2]:
            return _hexadecimal(int(match[2], 16), len(match[2]), kind)
        if match[4]:
            value = float(match[4].replace("qnan", "nan"))
            return _decimal(-value if match[3] == "-" else value, kind)
        return _decimal(float(match[5]), kind)

    return _TOKEN.sub(rewrite, line)


def _hexadecimal(bits: int, digits: int, kind: str) -> str:
    """A constant from its bit pattern; 4 digits are half or bfloat, 8 float, 16 double."""
    if digits <= 4:
        return f"0x{'R' if kind == 'bfloat' else 'H'}{bits:04X}"
    if digits <= 8:
        # Widening a signalling NaN in hardware would quieten it: move the bits by hand.
        if bits & 0x7F800000 == 0x7F800000:
            return f"0x{(bits >> 31) << 63 | 0x7FF << 52 | (bits & 0x7FFFFF) << 29:016X}"
        return _decimal(struct.unpack("<f", struct.pack("<I", bits))[0], "double")
    return f"0x{bits:016X}"


def _decimal(value: float, kind: str) -> str:
    """A constant from its value, rounded to the type."""
    if kind == "bfloat":
        (bits,) = struct.unpack("<I", struct.pack("<f", value))
        high = bits >> 16 | 0x40 if value != value else (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
        return f"0xR{high:04X}"
    if kind == "half":
        return f"0xH{struct.unpack('<H', struct.pack('<e', value))[0]:04X}"
    rounded = struct.unpack(_PACK[kind], struct.pack(_PACK[kind], value))[0]
    return f"0x{struct.unpack('<Q', struct.pack('<d', rounded))[0]:016X}"


# LLVM.


@once
def _initialize() -> None:
    native.initialize()


@cache
def host_cpu() -> tuple[str, str]:
    """Name and features of this machine's processor, as LLVM writes them."""
    return llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()


def target_machine(options: CpuOptions) -> Any:
    """The machine to generate code for."""
    _initialize()
    return native.target_machine(*_target(options), options.opt_level)


def _target(options: CpuOptions) -> tuple[str, str]:
    """Name and features of the processor to generate code for."""
    cpu, features = host_cpu()
    if options.cpu:
        return options.cpu, options.features
    return cpu, options.features or features


@dataclass(frozen=True)
class NativeCode:
    """Object code, with the texts it was made from where they were asked for."""

    object_code: bytes
    llvm: str = ""
    assembly: str = ""


_compiling = threading.Lock()


def compile_llvm(text: str, options: CpuOptions, keep_texts: bool = False, explicit: bool = False) -> NativeCode:
    """Object code of LLVM IR text.

    Args:
        explicit: whether it is explicit vector code, to which LLVM need not do much (native.py).

    Raises:
        LoweringError: LLVM rejects the text.
    """
    with _compiling:
        machine = target_machine(options)
        try:
            module = native.optimized(text, machine, options.opt_level, explicit)
        except RuntimeError as error:
            raise LoweringError(f"the CPU backend generated LLVM IR that LLVM rejects: {error}") from error
        optimized = str(module) if keep_texts else ""
        assembly = machine.emit_assembly(module) if keep_texts else ""
        return NativeCode(machine.emit_object(module), optimized, assembly)


def compile_part(part: Part, options: CpuOptions) -> bytes:
    """Object code of a part of a program. Call with a context entered.

    Raises:
        LoweringError: MLIR or LLVM rejects its text.
    """
    text = with_definitions(to_llvm_ir(part.source), part.definitions)
    return compile_llvm(text, options, explicit=part.explicit).object_code


def compile_program(parts: Sequence[Part], options: CpuOptions) -> bytes:
    """Object code of all parts, as `Code` takes it; other processes help with a long program. Call with a context
    entered.
    """
    count = helpers(parts, options.worker_count())
    if not count:
        return join([compile_part(part, options) for part in parts])
    return join(compile_all(parts, options, count, lambda part: compile_part(part, options)))


@once
def _linker() -> Any:
    """The process's linker. It keeps the sections of a program together, where MCJIT may put them more than 2 GiB
    apart, out of reach of the code."""
    tiles_allowed()  # the kernel must know before code runs that uses them, be it from the disk
    linker = llvm.create_lljit_compiler(target_machine(CpuOptions()), use_jit_link=True)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(linker))  # not freed at exit: the pool's threads sleep in its code
    return linker


_numbers = itertools.count()


class Code:
    """Object code in executable memory. Keep it alive as long as its addresses are used.

    Args:
        exports: the functions whose addresses will be asked for.
        imports: addresses by the names of functions that the code calls, beyond those of the process's libraries.
    """

    def __init__(
        self, object_code: bytes, *exports: str, imports: Mapping[str, int] = MappingProxyType({})
    ) -> None:
        library = llvm.JITLibraryBuilder().add_current_process()
        for part in split(object_code):
            library.add_object_img(part)
        for name in exports:
            library.export_symbol(name)
        for name, address in imports.items():
            library.import_symbol(name, address)
        with _compiling:
            _initialize()
            self._library = library.link(_linker(), f"program{next(_numbers)}")

    def address(self, name: str) -> int:
        """The address of an exported function."""
        return int(self._library[name])
