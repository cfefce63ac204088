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

from thalweg.backends.aot.abi import VERSION, Function
from thalweg.backends.aot.emit import Emitted, Step, emit, lower_step, options_for
from thalweg.backends.aot.header import header
from thalweg.backends.aot.layout import Layout, to_safetensors
from thalweg.backends.aot.link.archive import apple_archive, gnu_archive
from thalweg.backends.aot.link.elf import shared_library
from thalweg.backends.aot.link.wasm import module as wasm_module
from thalweg.backends.aot.targets import Target, find
from thalweg.backends.cpu.executable import Signature as Compiled
from thalweg.backends.cpu.options import CpuOptions
from thalweg.compiler import driver
from thalweg.dialects import context
from thalweg.dialects.attributes import array_type
from thalweg.dialects.diagnostics import ExportError
from thalweg.dialects.location import user_frame
from thalweg.dialects.types import TensorType
from thalweg.frontend.function import Function as Traced
from thalweg.frontend.function import function as traced
from thalweg.frontend.program import Program

Array = np.ndarray[Any, Any]
EMBED_BELOW = 1 << 20  # bytes of state that go into the library itself


@dataclass(frozen=True)
class Signature:
    """A named step to export: its program, and the names of what goes in and comes out."""

    name: str
    program: Program
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


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
        signatures: by name, a function with the specs of its arguments: `{"infer": (f, [tw.spec((8, 784))])}`; or a
            function alone if it was made with a `signature`. A single function is called "run".
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
    with context.entered():
        modules = [driver().to_stablehlo(s.program.module) for s in steps]
        state = _state(steps, [names for _, names in modules])
        layout = Layout.of({n: (array_type(a), mutable) for n, (a, mutable) in state.items()})
        block = layout.block({n: a for n, (a, _) in state.items()})
        embedded = len(block) < EMBED_BELOW if embed is None else embed
        lowered = _lowered(wanted, [(s.name, module) for s, (module, _) in zip(steps, modules, strict=True)])
        functions = [
            _function(s, [compiled[k].signature for compiled in lowered.values()], names, layout)
            for k, (s, (_, names)) in enumerate(zip(steps, modules, strict=True))
        ]
        meta = json.dumps(_meta(name, functions, layout))
        for target in wanted:
            compiled = lowered[options_for(target)]
            _write_libraries(
                report, name, target, emit(name, target, functions, compiled, layout, meta, block if embedded else None)
            )
        for step in steps:
            report.write(f"ir/{step.name}.mlir", str(step.program.module) + "\n")
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
        inputs = [_identifier(p) for p in function.inputs(*arguments)]
        outputs = [_identifier(p) for p in function.results(*arguments)]
        program = function.program(*arguments)
        if len(outputs) != len(program.outputs):
            raise ExportError(f"{user_frame()} export: '{name}' returns values that are not computed from arguments.")
        found.append(Signature(name, program, tuple(inputs), tuple(_distinct(outputs, inputs))))
    return found


def _lowered(targets: Sequence[Target], modules: Sequence[tuple[str, Any]]) -> dict[CpuOptions, list[Step]]:
    """Every signature for every kind of processor; targets that differ in their file format only share one."""
    kinds = {options_for(target): target for target in targets}
    return {kind: [lower_step(name, module, target) for name, module in modules] for kind, target in kinds.items()}


def _identifier(path: str) -> str:
    """`batch['x'][0]` as `batch_x_0`."""
    return re.sub(r"\W+", "_", path).strip("_").lower() or "out"


def _distinct(names: Sequence[str], taken: Sequence[str]) -> list[str]:
    return [f"{n}_out" if n in taken else n for n in names]


def _state(signatures: Sequence[Signature], variables: Sequence[Sequence[str]]) -> dict[str, tuple[Array, bool]]:
    """Everything that the signatures keep, by name, and whether they may change it: variables, captured arrays."""
    found: dict[str, tuple[Array, bool]] = {}
    for signature, names in zip(signatures, variables, strict=True):
        by_name = {v.name: v for v in signature.program.variables}
        found.update({n: (np.array(by_name[n].buffer), True) for n in names})
        for k, array in enumerate(signature.program.constants):
            found[f"{signature.name}.constant.{k}"] = array, False
    return found


def _function(
    signature: Signature, compiled: Sequence[Compiled], variables: Sequence[str], layout: Layout
) -> Function:
    """The C function of a signature. The compiled steps, one a kind of processor, take inputs, captured arrays, then
    variables; the arena is big enough for each of them, so that one header serves all."""
    count = len(signature.inputs)
    kept = [f"{signature.name}.constant.{k}" for k in range(len(signature.program.constants))] + list(variables)
    types, results = compiled[0].inputs, compiled[0].outputs
    return Function(
        signature.name,
        tuple(zip(signature.inputs, types[:count], strict=True)),
        tuple(zip(signature.outputs, results[: len(signature.outputs)], strict=True)),
        (*(("input", k) for k in range(count)), *(("state", layout[n].offset) for n in kept)),
        max(step.arena_bytes for step in compiled),
        writes=bool(compiled[0].aliases),
    )


def _meta(name: str, functions: Sequence[Function], layout: Layout) -> dict[str, Any]:
    """What a library and the manifest tell of the model."""

    def rows(tensors: Sequence[tuple[str, TensorType]]) -> list[dict[str, Any]]:
        return [{"name": n, "shape": list(t.shape), "dtype": t.dtype.name} for n, t in tensors]

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
            "entries": [{**rows([(e.name, e.type)])[0], "offset": e.offset} for e in layout.entries],
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
