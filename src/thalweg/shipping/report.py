"""What an export wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thalweg.backends.aot import abi
from thalweg.backends.aot.abi import VERSION, Function
from thalweg.backends.aot.emit import Emitted, Step
from thalweg.backends.aot.layout import Layout
from thalweg.backends.aot.link.archive import apple_archive, gnu_archive
from thalweg.backends.aot.link.elf import shared_library
from thalweg.backends.aot.link.sizes import functions as functions_of
from thalweg.backends.aot.link.sizes import undefined
from thalweg.backends.aot.link.wasm import module as wasm_module
from thalweg.backends.aot.targets import Target
from thalweg.dialects.diagnostics import ExportError
from thalweg.dialects.location import user_frame
from thalweg.shipping.check import Error


@dataclass
class Report:
    """What an export wrote: bytes by path below the folder; and how far it is from the functions, where samples were
    given."""

    folder: Path
    files: dict[str, int] = field(default_factory=dict)
    errors: list[Error] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    code: dict[str, dict[str, int]] = field(default_factory=dict)  # bytes of each function, by target

    def write(self, path: str, data: bytes | str) -> None:
        """Write a file below the folder: a new one, as a library of that name may be loaded and mapped."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = data.encode() if isinstance(data, str) else data
        fresh = target.with_name(f"{target.name}.new")
        fresh.write_bytes(raw)
        fresh.replace(target)
        self.files[path] = len(raw)

    def __str__(self) -> str:
        width = max(map(len, self.files), default=0)
        lines = [f"{path:<{width}} {size:>12,} bytes" for path, size in self.files.items()]
        return "\n".join([*lines, *map(str, self.errors), *self.notes])


def meta_of(name: str, functions: Sequence[Function], layout: Layout, threads: int) -> dict[str, Any]:
    """What a library and the manifest tell of the model."""

    def rows(tensors: Sequence[abi.Tensor]) -> list[dict[str, Any]]:
        return [
            {"name": t.name, "shape": [*([None] if t.batched else []), *t.type.shape], "dtype": t.type.dtype.name}
            for t in tensors
        ]

    return {
        "abi": VERSION,
        "name": name,
        "threads": threads,
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


def write_libraries(report: Report, name: str, target: Target, made: Emitted) -> None:
    """The libraries of a target, and the assembly of its functions.

    Raises:
        ExportError: the code calls what is not in it.
    """
    folder, code = target.name, made.code
    soname, shared = f"lib{name}.so", b""
    try:
        if target.is_wasm:
            shared = wasm_module(code, made.exports)
        elif target.format == "elf":
            shared = shared_library(code, made.exports, soname, target.page)
        elif missing := undefined(code):
            raise ExportError(f"the code calls what is not there: {', '.join(missing)}.")
    except ExportError as error:
        halves = any(word in str(error) for word in ("hfsf2", "sfhf2", "hfdf2", "dfhf2"))
        advice = " It has no instructions for float16: compute in float32 or bfloat16." if halves else ""
        raise ExportError(f"{user_frame()} export for {folder}: {error}{advice}") from None
    report.code[folder + target.suffix] = functions_of(code)
    report.write(f"asm/{folder}{target.suffix}.s", made.assembly)
    if target.is_wasm:
        report.write(f"{folder}/{name}{target.suffix}.wasm", shared)
        return
    archive = apple_archive if target.format == "macho" else gnu_archive
    file = f"{name}.lib" if target.format == "coff" else f"lib{name}.a"
    report.write(f"{folder}/{file}", archive(f"{name}.o", code, made.exports))
    if target.format == "elf":
        report.write(f"{folder}/{soname}", shared)


def write_details(report: Report, target: Target, steps: Sequence[Step]) -> None:
    """What `thalweg inspect` tells beyond the manifest: sizes of functions, and the plan of each program's arena, as it
    is on `target`."""
    memory = {
        step.name: {
            "arena_bytes": step.signature.arena_bytes,
            "buffers": [
                {"made_by": b.made_by, "type": b.type, "bytes": b.bytes, "kind": b.kind, "number": b.number,
                 "offset": b.offset, "life": list(b.life),
                 "place": f"{Path(b.where.file).name}:{b.where.line}" if b.where else ""}
                for b in step.buffers
            ],
        }
        for step in steps
    }  # fmt: skip
    report.write("details.json", json.dumps({"code": report.code, "memory_of": target.name, "memory": memory}) + "\n")


def write_manifest(
    report: Report, about: Mapping[str, Any], targets: Sequence[str], more: Mapping[str, Any]
) -> None:
    """manifest.json, with the hashes of all that was written.

    Args:
        about: what `meta_of` tells.
    """
    hashes = {path: hashlib.sha256((report.folder / path).read_bytes()).hexdigest() for path in report.files}
    files = {path: {"bytes": size, "sha256": hashes[path]} for path, size in report.files.items()}
    manifest = {
        **about, "targets": list(targets), "files": files,
        "errors": [asdict(error) for error in report.errors], **more,
    }  # fmt: skip
    report.write("manifest.json", json.dumps(manifest, indent=1) + "\n")
