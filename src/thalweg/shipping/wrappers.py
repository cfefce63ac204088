"""What a model's libraries are given along, by the targets that are exported."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from thalweg.backends.aot.abi import Function
from thalweg.backends.aot.header import header
from thalweg.backends.aot.layout import Layout
from thalweg.backends.aot.targets import Target
from thalweg.backends.aot.wrappers import apple, benchmark, cmake, java, javascript, pool
from thalweg.backends.aot.wrappers.jni import class_name
from thalweg.dialects.diagnostics import ExportError
from thalweg.shipping.report import Report


def write_wrappers(
    report: Report,
    name: str,
    targets: Sequence[Target],
    functions: Sequence[Function],
    layout: Layout,
    with_java: bool,
    threads: int,
) -> None:
    """CMake's package for native targets, a module beside each WebAssembly file, an xcframework, Java and its AAR."""
    native = [t for t in targets if not t.is_wasm]
    if native:
        report.write(f"cmake/{name}Config.cmake", cmake.config(name, native))
        report.write("bench/main.c", benchmark.c_program(name, functions, threads))
        if threads > 1:
            report.write(f"include/{name}_threads.h", pool.header(name, functions))
    if len(native) < len(targets):
        report.write("bench/main.mjs", benchmark.javascript_program(name, functions))
    for target in targets:
        if target.is_wasm:
            report.write(f"{target.name}/{name}.mjs", javascript.module(name, functions, target.builds[-1].suffix))
            report.write(f"{target.name}/{name}.d.mts", javascript.declarations(name, functions))
    made = {t.name: report.folder / t.name / f"lib{name}.a" for t in targets if t.format == "macho"}
    if made:
        libraries = {target: path.read_bytes() for target, path in made.items()}
        for path, data in apple.xcframework(name, header(name, functions, layout, threads), libraries).items():
            report.write(f"apple/{path}", data)
    if with_java:
        _java(report, name, targets, functions, layout)


def _java(
    report: Report, name: str, targets: Sequence[Target], functions: Sequence[Function], layout: Layout
) -> None:
    path = f"java/thalweg/{class_name(name)}.java"
    report.write(path, java.source(name, functions, layout))
    android = {
        t.name: (report.folder / t.name / f"lib{name}.so").read_bytes() for t in targets if t.name in java.ABIS
    }
    if android and shutil.which("javac"):
        weights = (report.folder / "weights.safetensors").read_bytes()
        report.write(f"android/{name}.aar", java.aar(name, _jar(report.folder / path), weights, android))
    elif android:
        report.notes.append(f"android/{name}.aar is not made: it needs javac, which is not installed")


def _jar(source: Path) -> bytes:
    """The classes of a source file."""
    with TemporaryDirectory() as folder:
        command = ["javac", "--release", "11", "-Xlint:-options", "-d", folder, str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ExportError(f"javac refuses the generated class: {done.stderr.strip()}")
        classes = sorted(Path(folder).rglob("*.class"))
        return java.archive({str(c.relative_to(folder)): c.read_bytes() for c in classes})
