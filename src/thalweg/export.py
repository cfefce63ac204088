"""`tw.export`: signatures to a folder per target that holds a library, a header, the weights and a manifest.

    tw.export({"infer": (infer, [tw.spec((8, 784))]), "train": (step, [...])}, "dist", targets=["linux-arm64"])

    dist/manifest.json  include/model.h  weights.safetensors  ir/infer.mlir
         linux-arm64/libmodel.so libmodel.a
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from thalweg.backends.aot import abi
from thalweg.backends.aot.abi import VERSION, Function
from thalweg.backends.aot.batch import require_row_wise
from thalweg.backends.aot.emit import Emitted, Step, emit, lower_step, options_for
from thalweg.backends.aot.header import header
from thalweg.backends.aot.layout import Layout, to_safetensors
from thalweg.backends.aot.link.archive import apple_archive, gnu_archive
from thalweg.backends.aot.link.elf import shared_library
from thalweg.backends.aot.link.wasm import module as wasm_module
from thalweg.backends.aot.targets import Target, find
from thalweg.backends.cpu.executable import Signature as Compiled
from thalweg.backends.cpu.options import CpuOptions
from thalweg.compiler import driver, optimized
from thalweg.dialects import context
from thalweg.dialects.attributes import array_type
from thalweg.dialects.diagnostics import ExportError
from thalweg.dialects.location import user_frame
from thalweg.dialects.mlir import ir
from thalweg.dialects.types import TensorType
from thalweg.frontend.function import Function as Traced
from thalweg.frontend.function import function as traced
from thalweg.frontend.program import Program
from thalweg.frontend.spec import TensorSpec
from thalweg.frontend.tree import flatten

Array = np.ndarray[Any, Any]
EMBED_BELOW = 1 << 20  # bytes of state that go into the library itself
BATCHES = (8, 1)  # rows that the programs of a batched signature take at a time
_UNLIKELY = 23  # rows that batches are followed with: an extent that hardly anything else has


@dataclass(frozen=True)
class Piece:
    """A program of a signature; of a batched one, for `rows` rows at a time. The `variables` that are its trailing
    arguments, and its StableHLO, come with lowering."""

    name: str
    program: Program
    rows: int
    module: ir.Module
    variables: tuple[str, ...]


@dataclass(frozen=True)
class Signature:
    """A named step to export: the names of what goes in and comes out, whether each input is batched, its programs."""

    name: str
    inputs: tuple[str, ...]
    batched: tuple[bool, ...]
    outputs: tuple[str, ...]
    pieces: tuple[Piece, ...]


@dataclass
class Report:
    """What an export wrote: bytes by path below the folder."""

    folder: Path
    files: dict[str, int] = field(default_factory=dict)

    def write(self, path: str, data: bytes | str) -> None:
        """Write a file below the folder."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = data.encode() if isinstance(data, str) else data
        target.write_bytes(raw)
        self.files[path] = len(raw)

    def __str__(self) -> str:
        width = max(map(len, self.files), default=0)
        return "\n".join(f"{path:<{width}} {size:>12,} bytes" for path, size in self.files.items())


def export(
    signatures: Mapping[str, Any] | Callable[..., Any],
    folder: str | Path,
    *,
    targets: Sequence[str] = ("host",),
    name: str = "model",
    embed: bool | None = None,
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
        embed: whether the weights go into the libraries; by default below one megabyte.

    Raises:
        ExportError: an unknown target, a name that is none in C, a program that cannot be exported.

    Example:
        >>> print(tw.export({"infer": (f, [tw.spec((8, 784))])}, "dist", targets=["linux-arm64"]))
    """
    wanted = [_found(t) for t in dict.fromkeys(targets)]
    steps = _signatures(signatures)
    for word in (name, *(s.name for s in steps)):
        if not re.fullmatch(r"[a-z][a-z0-9_]*", word):
            raise ExportError(f"{user_frame()} export: '{word}' is not a lower-case C identifier. Rename it.")
    report = Report(Path(folder))
    pieces = [piece for step in steps for piece in step.pieces]
    with context.entered():
        state, places = _state(pieces)
        layout = Layout.of({n: (array_type(a), mutable) for n, (a, mutable) in state.items()})
        block = layout.block({n: a for n, (a, _) in state.items()})
        embedded = len(block) < EMBED_BELOW if embed is None else embed
        lowered = _lowered(wanted, [(piece.name, piece.module) for piece in pieces])
        compiled = {p.name: [row[k].signature for row in lowered.values()] for k, p in enumerate(pieces)}
        functions = [_function(s, compiled, layout, places) for s in steps]
        meta = json.dumps(_meta(name, functions, layout))
        for target in wanted:
            code = lowered[options_for(target)]
            made = emit(name, target, functions, code, layout, meta, block if embedded else None)
            _write_libraries(report, name, target, made)
        for piece in pieces:
            report.write(f"ir/{piece.name}.mlir", str(piece.program.module) + "\n")
    report.write(f"include/{name}.h", header(name, functions, layout))
    report.write("weights.safetensors", to_safetensors(layout, block))
    _write_manifest(report, name, functions, layout, [t.name for t in wanted])
    return report


def _found(target: str) -> Target:
    try:
        return find(target)
    except ExportError as error:
        raise ExportError(f"{user_frame()} export: {error}") from None


def _signatures(given: Mapping[str, Any] | Callable[..., Any]) -> list[Signature]:
    if not isinstance(given, Mapping):
        given = {"run": given}
    found = []
    for name, value in given.items():
        function, specs = value if isinstance(value, tuple) else (value, None)
        function = function if isinstance(function, Traced) else traced(function)
        arguments = specs if specs is not None else function.signature
        if arguments is None:
            raise ExportError(
                f"{user_frame()} export: nothing says of which types the arguments of '{name}' are. Give "
                f"{{'{name}': (function, [tw.spec(…), …])}}."
            )
        try:
            found.append(_signature(name, function, list(arguments)))
        except ExportError as error:
            raise ExportError(f"{user_frame()} export of '{name}': {error}") from None
    return found


def _signature(name: str, function: Traced, arguments: list[Any]) -> Signature:
    batched = any(isinstance(leaf, TensorSpec) and None in leaf.shape for leaf in flatten(arguments)[0])
    fixed = _with_rows(arguments, _UNLIKELY) if batched else arguments
    given = function.inputs(*fixed)
    other = function.inputs(*_with_rows(arguments, 1)) if batched else given
    inputs, open_ = [_identifier(p) for p in given], [given[p].shape != other[p].shape for p in given]
    outputs = [_identifier(p) for p in function.results(*fixed)]
    if len(outputs) != len(function.program(*fixed).outputs):
        raise ExportError("it returns values that are not computed from its arguments.")
    if batched:
        with context.entered():
            numbers = [k for k, is_open in enumerate(open_) if is_open]
            require_row_wise(optimized(function.program(*fixed).module), numbers, len(outputs))
    pieces = []
    for rows in BATCHES if batched else (0,):
        program = function.program(*(_with_rows(arguments, rows) if batched else arguments))
        with context.entered():
            module, variables = driver().to_stablehlo(program.module)
        pieces.append(Piece(f"{name}_{rows}" if batched else name, program, rows, module, tuple(variables)))
    return Signature(name, tuple(inputs), tuple(open_), tuple(_distinct(outputs, inputs)), tuple(pieces))


def _with_rows(arguments: list[Any], rows: int) -> list[Any]:
    """The arguments with batches of so many rows."""

    def closed(leaf: Any) -> Any:
        if not isinstance(leaf, TensorSpec) or None not in leaf.shape:
            return leaf
        if leaf.shape.index(None) != 0 or leaf.shape.count(None) > 1:
            raise ExportError(f"{leaf!r} leaves another extent than the first one open. Give it a size.")
        return TensorSpec((rows, *leaf.shape[1:]), leaf.dtype)

    leaves, structure = flatten(arguments)
    closed_leaves: list[Any] = structure.unflatten([closed(leaf) for leaf in leaves])
    return closed_leaves


def _lowered(targets: Sequence[Target], modules: Sequence[tuple[str, Any]]) -> dict[CpuOptions, list[Step]]:
    """Every signature for every kind of processor; targets that differ in their file format only share one."""
    kinds = {options_for(target): target for target in targets}
    return {kind: [lower_step(name, module, target) for name, module in modules] for kind, target in kinds.items()}


def _identifier(path: str) -> str:
    """`batch['x'][0]` as `batch_x_0`."""
    return re.sub(r"\W+", "_", path).strip("_").lower() or "out"


def _distinct(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    return [f"{n}_out" if n in taken else n for n in names]


Places = Mapping[int, str]  # names in the state of captured arrays, by their identity


def _state(pieces: Sequence[Piece]) -> tuple[dict[str, tuple[Array, bool]], Places]:
    """Everything that the programs keep, by name, and whether they may change it: variables, captured arrays."""
    found: dict[str, tuple[Array, bool]] = {}
    places: dict[int, str] = {}
    by_content: dict[tuple[bytes, Any, Any], str] = {}  # programs for other numbers of rows capture the same again
    for piece in pieces:
        by_name = {v.name: v for v in piece.program.variables}
        found.update({n: (np.array(by_name[n].buffer), True) for n in piece.variables})
        for array in piece.program.constants:
            key = (hashlib.sha256(array.tobytes()).digest(), array.shape, array.dtype)
            name = by_content.setdefault(key, f"constant.{len(by_content)}")
            found[name], places[id(array)] = (array, False), name
    return found, places


def _function(
    signature: Signature, compiled: Mapping[str, Sequence[Compiled]], layout: Layout, places: Places
) -> Function:
    """The C function of a signature. `compiled` are its pieces for each kind of processor; the arena is big enough for
    all of them, so that one header serves every target."""
    first = compiled[signature.pieces[-1].name][0]
    count, batched = len(signature.inputs), any(signature.batched)
    pieces = [
        abi.Piece(piece.name, _bindings(piece, count, layout, places), piece.rows) for piece in signature.pieces
    ]

    def tensor(name: str, type_: TensorType, open_: bool) -> abi.Tensor:
        return abi.Tensor(name, type_.with_shape(type_.shape[1:]) if open_ else type_, open_)

    return Function(
        signature.name,
        tuple(map(tensor, signature.inputs, first.inputs[:count], signature.batched)),
        tuple(tensor(n, t, batched) for n, t in zip(signature.outputs, first.outputs, strict=False)),
        tuple(pieces),
        max(step.arena_bytes for piece in signature.pieces for step in compiled[piece.name]),
        writes=bool(first.aliases),
    )


def _bindings(piece: Piece, inputs: int, layout: Layout, places: Places) -> tuple[abi.Binding, ...]:
    """What the compiled step takes: inputs, captured arrays, then variables."""
    kept = [places[id(array)] for array in piece.program.constants] + list(piece.variables)
    return (*(("input", k) for k in range(inputs)), *(("state", layout[n].offset) for n in kept))


def _meta(name: str, functions: Sequence[Function], layout: Layout) -> dict[str, Any]:
    """What a library and the manifest tell of the model."""

    def rows(tensors: Sequence[abi.Tensor]) -> list[dict[str, Any]]:
        return [
            {"name": t.name, "shape": [*([None] if t.batched else []), *t.type.shape], "dtype": t.type.dtype.name}
            for t in tensors
        ]

    return {
        "abi": VERSION,
        "name": name,
        "signatures": {
            f.name: {
                "inputs": rows(f.inputs), "outputs": rows(f.outputs), "arena_bytes": f.arena_bytes,
                "changes_state": f.writes,
            }
            for f in functions
        },
        "state": {
            "bytes": layout.nbytes, "layout": layout.hash,
            "entries": [{**rows([abi.Tensor(e.name, e.type)])[0], "offset": e.offset} for e in layout.entries],
        },
    }  # fmt: skip


def _write_libraries(report: Report, name: str, target: Target, made: Emitted) -> None:
    folder = target.name
    if target.is_wasm:
        report.write(f"{folder}/{name}.wasm", wasm_module(made.code, made.exports))
        return
    archive = apple_archive if target.format == "macho" else gnu_archive
    extension = "lib" if target.format == "coff" else "a"
    prefix = "" if target.format == "coff" else "lib"
    report.write(f"{folder}/{prefix}{name}.{extension}", archive(f"{name}.o", made.code, made.exports))
    if target.format == "elf":
        soname = f"lib{name}.so"
        report.write(f"{folder}/{soname}", shared_library(made.code, made.exports, soname, target.page))


def _write_manifest(
    report: Report, name: str, functions: Sequence[Function], layout: Layout, targets: Sequence[str]
) -> None:
    hashes = {path: hashlib.sha256((report.folder / path).read_bytes()).hexdigest() for path in report.files}
    files = {path: {"bytes": size, "sha256": hashes[path]} for path, size in report.files.items()}
    manifest = {**_meta(name, functions, layout), "targets": list(targets), "files": files}
    report.write("manifest.json", json.dumps(manifest, indent=1) + "\n")
