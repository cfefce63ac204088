"""`thalweg inspect dist`: what is in an exported model, and how big. Also of one library by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from thalweg.backends.aot.link.sizes import assembly_of, functions, sections
from thalweg.dialects.diagnostics import did_you_mean
from thalweg.dialects.types import TensorType, as_dtype
from thalweg.tools.console import out, table
from thalweg.tools.loading import LoadError

LIBRARIES = (".so", ".a", ".lib", ".wasm")
MANIFEST = "manifest.json"
TPU = "tpu"
Json = Mapping[str, Any]


def is_artefact(target: str) -> bool:
    """Whether `target` names a folder that was exported to, a target's folder in it, a library, or its manifest."""
    path = Path(target)
    exported = path.is_dir() and any((p / MANIFEST).is_file() for p in (path, path.parent))
    return exported or path.name == MANIFEST or path.suffix in LIBRARIES


def show(target: str, memory: bool = False, assembly: str = "") -> None:
    """Print an overview; or the memory plan; or the assembly of the functions whose names contain `assembly`.

    Raises:
        LoadError: no such artefact, or it does not tell what is asked for.
    """
    path = Path(target)
    if path.suffix in LIBRARIES and path.is_file() and not (path.parent.parent / MANIFEST).is_file():
        _alone(path, memory or bool(assembly))
        return
    root, only = _bundle(path)
    manifest = _json(root / MANIFEST)
    native = [t for t in manifest["targets"] if t != TPU and only in ("", t)]
    if not native and memory:
        raise LoadError(f"{root}: a program for TPUs gets its plan from their compiler.")
    if not native and assembly and TPU in manifest:
        _print_programs(root, manifest[TPU], assembly)
        return
    details = _json(root / "details.json") if native else {"code": {}}
    if assembly:
        _print_assembly(root, details, only, assembly)
    elif memory:
        _print_memory(details)
    else:
        _overview(root, manifest, details, only)


def _bundle(path: Path) -> tuple[Path, str]:
    """The folder of the manifest, and the target that `path` is of, if it is of one."""
    for root in (path, path.parent, path.parent.parent):
        if (root / MANIFEST).is_file():
            inside = path.relative_to(root)
            return root, inside.parts[0] if inside.parts and inside.name != MANIFEST else ""
    raise LoadError(f"{path}: no {MANIFEST} here. Give a folder that tw.export wrote, or a library in it.")


def _json(path: Path) -> Json:
    try:
        found: Json = json.loads(path.read_text())
    except FileNotFoundError:
        raise LoadError(f"{path} is missing. Export again.") from None
    except ValueError as error:
        raise LoadError(f"{path} cannot be read: {error}.") from None
    return found


def _alone(path: Path, more: bool) -> None:
    """A library that was taken out of its folder: it knows its signatures and its sections."""
    if more:
        raise LoadError(f"{path} is by itself: its plan and its assembly are in the folder that it was exported to.")
    data = path.read_bytes()
    meta = _meta(data)
    if meta is None:
        raise LoadError(f"{path} was not written by tw.export.")
    _print_signatures(meta)
    _print_sections({path.name: data})
    _print_code({path.name: functions(data)})


def _meta(data: bytes) -> Json | None:
    """What `MODEL_meta()` returns, found by how it begins."""
    start = data.find(b'{"abi": ')
    if start < 0:
        return None
    found: Json = json.loads(data[start : data.index(b"\0", start)])
    return found


def _overview(root: Path, manifest: Json, details: Json, only: str) -> None:
    targets = [t for t in manifest["targets"] if only in ("", t)]
    if not targets:
        raise LoadError(f"{root} has no target '{only}'. It has {', '.join(manifest['targets'])}.")
    _print_signatures(manifest)
    _print_state(manifest)
    shown = table("Files", "bytes", "file", right=("bytes",))
    for name, row in manifest["files"].items():
        if not only or name.startswith(f"{only}/"):
            shown.add_row(f"{row['bytes']:,}", name)
    out().print(shown)
    files = [name for name in manifest["files"] if name.split("/")[0] in targets and Path(name).suffix in LIBRARIES]
    missing = [name for name in files if not (root / name).is_file()]
    if files:
        _print_sections({name: (root / name).read_bytes() for name in files if name not in missing})
    if missing:
        out().print(f"not here, though exported: {', '.join(missing)}")
    _print_code({t: details["code"][t] for t in targets if t != TPU})
    if TPU in targets:
        _print_tpu(root, manifest[TPU])
    for row in manifest["errors"]:
        told = f"largest {row['largest']:.3g}, mean {row['mean']:.3g}"
        out().print(f"error on the samples, {row['signature']}.{row['output']}: {told}")


def _shown(row: Json) -> str:
    extents = ",".join("n" if n is None else str(n) for n in row["shape"])
    return f"{row['name']}: {as_dtype(row['dtype']).short}[{extents}]"


def _print_signatures(meta: Json) -> None:
    shown = table(f"Signatures of {meta['name']}, interface {meta['abi']}", "signature", "inputs", "outputs",
                  "arena bytes", "state", right=("arena bytes",))  # fmt: skip
    for name, row in meta["signatures"].items():
        ways = (", ".join(map(_shown, row[way])) or "none" for way in ("inputs", "outputs"))
        shown.add_row(name, *ways, f"{row['arena_bytes']:,}", "changed" if row["changes_state"] else "read")
    out().print(shown)


def _layer(name: str) -> str:
    """What a variable belongs to: `encoder/dense_1/kernel` to `encoder/dense_1`."""
    return name.removesuffix(".scale").rpartition("/")[0]


def _print_state(meta: Json) -> None:
    state = meta["state"]
    shown = table(f"State, {state['bytes']:,} bytes, layout {state['layout'][:12]}", "bytes", "offset", "name", "type",
                  right=("bytes", "offset"))  # fmt: skip
    layers: dict[str, list[tuple[int, Json]]] = {}
    for row in state["entries"]:
        kind = TensorType(tuple(row["shape"]), as_dtype(row["dtype"]))
        layers.setdefault(_layer(row["name"]), []).append((kind.nbytes, row))
    for layer, rows in layers.items():
        if layer:
            shown.add_row(f"{sum(size for size, _ in rows):,}", "", layer, "", style="bold")
        for size, row in rows:
            inner = row["name"].removeprefix(f"{layer}/") if layer else row["name"]
            shown.add_row(f"{size:,}", f"{row['offset']:,}", f"  {inner}" if layer else inner, _shown(row).split()[1])
    out().print(shown)


def _print_sections(libraries: Mapping[str, bytes]) -> None:
    shown = table("Sections", "bytes", "section", "library", right=("bytes",))
    for name, data in libraries.items():
        for section, size in sections(data).items():
            shown.add_row(f"{size:,}", section, name)
    out().print(shown)


def _print_code(code: Mapping[str, Mapping[str, int]]) -> None:
    shown = table("Code", "bytes", "function", "of", right=("bytes",))
    for target, sizes in code.items():
        for name, size in sizes.items():
            shown.add_row(f"{size:,}", name, target)
        shown.add_row(f"{sum(sizes.values()):,}", "all", target, style="bold")
    if any(code.values()):
        out().print(shown)


def _print_tpu(root: Path, tpu: Json) -> None:
    columns = ("bytes", "file", "rows", "takes of the state", "changes", "splits")
    title = f"Programs for {tpu['shards']} TPUs, StableHLO {tpu['stablehlo']}"
    shown = table(title if tpu["shards"] > 1 else title.replace("1 TPUs", "a TPU"), *columns, right=("bytes", "rows"))
    for programs in tpu["programs"].values():
        for row in programs:
            size = (root / row["file"]).stat().st_size if (root / row["file"]).is_file() else 0
            split = sum(map(bool, row["split_inputs"]))
            cells = row["file"], str(row["rows"] or ""), ", ".join(row["state"]), ", ".join(row["updates"].values())
            shown.add_row(f"{size:,}", *cells, f"{split} of {len(row['split_inputs'])} inputs" if split else "")
    out().print(shown)


def _print_programs(root: Path, tpu: Json, part: str) -> None:
    """The StableHLO of the programs whose names contain `part`."""
    from thalweg.backends.stablehlo import artefact

    files = {Path(row["file"]).stem: row["file"] for programs in tpu["programs"].values() for row in programs}
    names = [name for name in files if part in name]
    if not names:
        near = did_you_mean(part, files) or "."
        raise LoadError(f"no program for TPUs is called '{part}'{near} They are {', '.join(files)}.")
    for name in names:
        out().print(files[name], style="bold")
        out().print(str(artefact.deserialize((root / files[name]).read_bytes())), highlight=False, markup=False)


def _print_memory(details: Json) -> None:
    columns = ("bytes", "where", "offset", "kernels", "made by", "type", "place")
    for name, plan in details["memory"].items():
        title = f"Memory of {name} on {details['memory_of']}: {plan['arena_bytes']:,} bytes of arena"
        shown = table(title, *columns, right=("bytes", "offset", "kernels"))
        for b in plan["buffers"]:
            home = b["kind"] if b["kind"] in ("arena", "constant") else f"{b['kind']} {b['number']}"
            life = f"{b['life'][0]}-{b['life'][1]}"
            offset = f"{b['offset']:,}" if b["kind"] == "arena" else ""
            shown.add_row(f"{b['bytes']:,}", home, offset, life, b["made_by"], b["type"], b["place"])
        out().print(shown)


def _print_assembly(root: Path, details: Json, only: str, part: str) -> None:
    code: Mapping[str, Sequence[str]] = details["code"]
    target = only or next(iter(code))
    names = [n for n in code[target] if part in n]
    if not names:
        near = did_you_mean(part, code[target]) or "."
        raise LoadError(f"no function of {target} is called '{part}'{near} It has {', '.join(code[target])}.")
    found = assembly_of((root / "asm" / f"{target}.s").read_text(), code[target])
    for name in names:
        out().print(f"{name}, {target}, {details['code'][target][name]:,} bytes", style="bold")
        out().print(found.get(name, "  (no assembly)"))
