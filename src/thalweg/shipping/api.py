"""`tw.export`: signatures to a folder per target that holds a library, a header, the weights and a manifest.

    tw.export({"infer": (infer, [tw.spec((8, 784))]), "train": (step, [...])}, "dist", targets=["linux-arm64"])

    dist/manifest.json  include/model.h  weights.safetensors  ir/infer.mlir
         linux-arm64/libmodel.so libmodel.a   asm/linux-arm64.s  details.json
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from thalweg.backends.aot import abi
from thalweg.backends.aot.abi import ON_POOL, Function
from thalweg.backends.aot.arithmetic import Arithmetic
from thalweg.backends.aot.dispatch import CACHE_BYTES
from thalweg.backends.aot.emit import Step, options_for
from thalweg.backends.aot.header import header
from thalweg.backends.aot.layout import Layout, to_safetensors
from thalweg.backends.aot.narrow import Precision, Storage
from thalweg.backends.aot.targets import Target, find
from thalweg.backends.cpu.backend import aliases_of, main_function, signature_types
from thalweg.backends.cpu.executable import Signature as Compiled
from thalweg.backends.cpu.options import CpuOptions
from thalweg.dialects import context
from thalweg.dialects.diagnostics import ExportError, did_you_mean
from thalweg.dialects.location import user_frame
from thalweg.dialects.types import TensorType
from thalweg.shipping.calibrate import ranges_of
from thalweg.shipping.check import Error, errors_of
from thalweg.shipping.compiler import Compiler
from thalweg.shipping.refusals import MODEL_NAMES
from thalweg.shipping.report import Report, meta_of, write_details, write_libraries, write_manifest
from thalweg.shipping.signatures import Piece, Signature, signatures_of
from thalweg.shipping.state import State, state_of
from thalweg.shipping.tpu import TPU, pieces_for_tpu, write_tpu
from thalweg.shipping.wrappers import write_wrappers

EMBED_BELOW = 1 << 20  # bytes of state that go into the library itself
MOST_THREADS = 64
STORAGES = ("f32", "bf16", "int8")
ARITHMETICS = ("f32", "int8", "int8-dynamic")


def export(
    signatures: Mapping[str, Any] | Callable[..., Any],
    folder: str | Path,
    *,
    targets: Sequence[str] = ("host",),
    name: str = "model",
    weights: Storage = "f32",
    arithmetic: Arithmetic = "f32",
    embed: bool | None = None,
    samples: Any = None,
    max_error: float | None = None,
    java: bool | None = None,
    stablehlo: str | None = None,
    shards: int = 1,
    threads: int = 1,
) -> Report:
    """Write native libraries with nothing below them: no interpreter, no allocator, no C library.

    Args:
        signatures: by name, a function with the specs of its arguments: `{"infer": (f, [tw.spec((None, 784))])}`; or
            a function alone if it was made with a `signature`. A single function is called "run". Arrays whose first
            extent is None are batches: the library takes any number of rows, provided that the function computes each
            row by itself.
        folder: made if need be; files in it are replaced.
        targets: names of targets, "host" for this machine; see `thalweg export --list`.
        name: the model's, a C identifier: what the library and its functions are called by.
        weights: how weights that no signature changes are stored: as they are, as bfloat16, or as int8 with a scale
            for each output channel.
        arithmetic: in what products by such weights are computed: float32, or, of int8 weights, in int8 with sums in 32
            bits. What is multiplied is then quantised by scales that `samples` have told, or, with "int8-dynamic" and
            where there are no samples, by each row's (each image's) own when the library runs.
        embed: whether the weights go into the libraries; by default below one megabyte.
        samples: inputs to compare the library with the functions on, by signature's name, or of the first signature.
            The errors are in the report.
        max_error: refuse to export where a result on the samples is farther off than this.
        java: whether the libraries have the bridge that Java and Kotlin need; by default if a target is Android's.
        stablehlo: the version to write for the target "tpu", such as "1.0.0"; by default one that compilers of the
            last twelve weeks read.
        shards: how many TPUs a batch is split over; the state is on each of them. See `backends/pjrt/lower.py`.
        threads: that a call may use, at most. A library starts none: with more than one, each C function has another
            one that takes a pool of the caller's. Not in WebAssembly.

    Raises:
        ExportError: an unknown target, a name that is none in C, a program that cannot be exported, an error on the
            samples above `max_error`.

    Example:
        >>> print(tw.export({"infer": (f, [tw.spec((8, 784))])}, "dist", targets=["linux-arm64"]))
    """
    wanted = [_found(t) for t in dict.fromkeys(targets) if t != TPU]
    steps = signatures_of(signatures)
    _require_names(name, steps)
    _require_precision(weights, arithmetic)
    _require_threads(threads, steps)
    ranges = ranges_of(steps, samples) if arithmetic == "int8" and samples is not None else {}
    settings = _Settings(name, Precision(weights, arithmetic, ranges), embed, java, stablehlo, shards, threads)
    report, compiler = Report(Path(folder)), Compiler()
    if samples is not None:
        report.errors = _checked(signatures, settings, samples, max_error, steps, compiler)
    for_tpu = pieces_for_tpu(signatures, steps) if TPU in targets else {}
    _write(report, settings, steps, wanted, for_tpu, compiler)
    return report


@dataclass(frozen=True)
class _Settings:
    """What of `export`'s arguments says how to write."""

    name: str
    precision: Precision
    embed: bool | None = None
    java: bool | None = None
    stablehlo: str | None = None
    shards: int = 1
    threads: int = 1


def _require_names(name: str, steps: Sequence[Signature]) -> None:
    for word in (name, *(s.name for s in steps)):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", word):
            raise ExportError(f"{user_frame()} export: '{word}' is not a lower-case C identifier. Rename it.")
    taken = [s.name for s in steps if s.name in MODEL_NAMES]
    if taken:
        raise ExportError(f"{user_frame()} export: every model has '{taken[0]}' in any case. Rename the signature.")


def _require_threads(threads: int, steps: Sequence[Signature]) -> None:
    if threads not in range(1, MOST_THREADS + 1):
        raise ExportError(f"{user_frame()} export: threads={threads}, but it must be 1 to {MOST_THREADS}.")
    names = {s.name for s in steps}
    both = next((name for name in sorted(names) if f"{name}{ON_POOL}" in names), None)
    if threads > 1 and both is not None:
        raise ExportError(
            f"{user_frame()} export: with threads, '{both}' has a C function that ends in {both}{ON_POOL}, which is a "
            "signature's name, too. Rename that."
        )


def _require_precision(weights: str, arithmetic: str) -> None:
    if weights not in STORAGES:
        near = did_you_mean(weights, STORAGES) or "."
        raise ExportError(f"{user_frame()} export: unknown weights '{weights}'{near} They are {', '.join(STORAGES)}.")
    if arithmetic not in ARITHMETICS:
        near = did_you_mean(arithmetic, ARITHMETICS) or "."
        known = ", ".join(ARITHMETICS)
        raise ExportError(f"{user_frame()} export: unknown arithmetic '{arithmetic}'{near} There are {known}.")
    if arithmetic != "f32" and weights != "int8":
        raise ExportError(
            f"{user_frame()} export: arithmetic='{arithmetic}' multiplies weights in int8, but weights='{weights}'. "
            "Give weights='int8', too."
        )


def _write(
    report: Report,
    settings: _Settings,
    steps: Sequence[Signature],
    wanted: Sequence[Target],
    for_tpu: Mapping[str, Sequence[Piece]],
    compiler: Compiler,
) -> None:
    """Write everything to the report's folder. The modules of the steps are rewritten."""
    name, java = settings.name, settings.java
    in_bytes, threads = settings.precision.arithmetic != "f32", settings.threads
    wanted = [replace(t, in_bytes=in_bytes, threads=1 if t.is_wasm else threads) for t in wanted]
    java = any(t.name.startswith("android") for t in wanted) if java is None else java
    pieces = [piece for step in steps for piece in step.pieces]
    with context.entered():
        others = [piece for row in for_tpu.values() for piece in row if piece not in pieces]
        state = state_of([*pieces, *others], settings.precision)
        layout = state.layout()
        block = layout.block(state.arrays)
        embedded = len(block) < EMBED_BELOW if settings.embed is None else settings.embed
        lowered = _lowered(wanted, [(piece.name, piece.module) for piece in pieces], compiler)
        compiled = {p.name: [row[k].signature for row in lowered.values()] for k, p in enumerate(pieces)}
        functions = [_function(s, compiled, layout, state) for s in steps]
        meta = json.dumps(meta_of(name, functions, layout, threads))
        inside = block if embedded else None
        for target in wanted:
            code = [lowered[options] for options in options_for(target)]
            bridge = java and target.format == "elf"
            for build in target.builds:
                made = compiler.emit(name, build, functions, code, layout, meta, inside, bridge)
                write_libraries(report, name, build, made)
        more = {TPU: write_tpu(report, steps, for_tpu, state, settings.stablehlo, settings.shards)} if for_tpu else {}
        for piece in (*pieces, *others):
            report.write(f"ir/{piece.name}.mlir", str(piece.program.module) + "\n")
    report.write("weights.safetensors", to_safetensors(layout, block))
    if wanted:
        report.write(f"include/{name}.h", header(name, functions, layout, threads))
        write_wrappers(report, name, wanted, functions, layout, java, threads)
        write_details(report, wanted[0], lowered[options_for(wanted[0])[0]])
    about = meta_of(name, functions, layout, threads)
    write_manifest(report, about, [*(t.name for t in wanted), *more], more)


def _checked(
    signatures: Any,
    settings: _Settings,
    samples: Any,
    max_error: float | None,
    steps: Sequence[Signature],
    compiler: Compiler,
) -> list[Error]:
    """The errors of the same export for this machine, which alone can be run here."""
    with TemporaryDirectory() as folder:
        only = _Settings(settings.name, settings.precision)
        _write(Report(Path(folder)), only, signatures_of(signatures), [find("host")], {}, compiler)
        errors = errors_of(Path(folder), steps, samples)
    worst = max(errors, key=lambda e: e.largest, default=None)
    if max_error is not None and worst is not None and not worst.largest <= max_error:
        raise ExportError(f"{user_frame()} export: {worst}, which is above max_error={max_error}. Keep more bits.")
    return errors


def _found(target: str) -> Target:
    try:
        return find(target)
    except ExportError as error:
        raise ExportError(f"{user_frame()} export: {error} There is '{TPU}', too.") from None


def _lowered(
    targets: Sequence[Target], modules: Sequence[tuple[str, Any]], compiler: Compiler
) -> dict[CpuOptions, list[Step]]:
    """Every signature for every kind of processor; targets that differ in their file format only share one."""
    kinds = dict.fromkeys(options for target in targets for options in options_for(target))
    return {kind: [compiler.lower(name, module, kind) for name, module in modules] for kind in kinds}


def _arena(sizes: Iterable[int]) -> int:
    """Bytes of scratch memory, with room for what a library remembers of the processor; none without a library."""
    largest = max(sizes, default=None)
    return 0 if largest is None else -(-largest // CACHE_BYTES) * CACHE_BYTES + CACHE_BYTES


def _function(
    signature: Signature, compiled: Mapping[str, Sequence[Compiled]], layout: Layout, state: State
) -> Function:
    """The C function of a signature. `compiled` are its pieces for each kind of processor; the arena is big enough for
    all of them, so that one header serves every target."""
    main = main_function(signature.pieces[-1].module.operation)
    inputs, outputs = signature_types(main)
    count, batched = len(signature.inputs), any(signature.batched)

    def tensor(name: str, type_: TensorType, open_: bool) -> abi.Tensor:
        return abi.Tensor(name, type_.with_shape(type_.shape[1:]) if open_ else type_, open_)

    def bindings(piece: Piece) -> tuple[abi.Binding, ...]:
        kept = (("state", layout[name].offset) for name in state.taken[piece.name])
        return (*(("input", k) for k in range(count)), *kept)

    return Function(
        signature.name,
        tuple(map(tensor, signature.inputs, inputs[:count], signature.batched)),
        tuple(tensor(n, t, batched) for n, t in zip(signature.outputs, outputs, strict=False)),
        tuple(abi.Piece(piece.name, bindings(piece), piece.rows) for piece in signature.pieces),
        _arena(step.arena_bytes for piece in signature.pieces for step in compiled[piece.name]),
        writes=bool(aliases_of(main)),
    )
