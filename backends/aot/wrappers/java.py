"""Java for the library, and the AAR that Android's build takes: classes, and a library for each processor."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from thalweg.backends.aot.abi import Function, Tensor
from thalweg.backends.aot.layout import HASH_AT, Layout
from thalweg.backends.aot.wrappers.jni import class_name

# Of each dtype: Java's type, the buffer's view and the bytes of an element. Halves are their bits.
_TYPES = {
    "float64": ("double", "asDoubleBuffer()", 8), "float32": ("float", "asFloatBuffer()", 4),
    "int64": ("long", "asLongBuffer()", 8), "uint64": ("long", "asLongBuffer()", 8),
    "int32": ("int", "asIntBuffer()", 4), "uint32": ("int", "asIntBuffer()", 4),
    "int16": ("short", "asShortBuffer()", 2), "uint16": ("short", "asShortBuffer()", 2),
    "float16": ("short", "asShortBuffer()", 2), "bfloat16": ("short", "asShortBuffer()", 2),
    "int8": ("byte", "duplicate()", 1), "uint8": ("byte", "duplicate()", 1), "bool": ("byte", "duplicate()", 1),
    "float8_e4m3fn": ("byte", "duplicate()", 1), "float8_e5m2": ("byte", "duplicate()", 1),
}  # fmt: skip
ABIS = {"android-arm64": "arm64-v8a", "android-armv7": "armeabi-v7a", "android-x86_64": "x86_64"}


def source(model: str, functions: Sequence[Function], layout: Layout) -> str:
    """The class, `thalweg.MODEL`. The system property `thalweg.MODEL.path` may name the file of the native code."""
    name = class_name(model)
    loading = (
        f'String file = System.getProperty("thalweg.{name}.path"); '
        f'if (file != null) System.load(file); else System.loadLibrary("{model}");'
    )
    text = (Path(__file__).parent / "model.java").read_text()
    holes = {
        "CLASS": name, "LOADING": loading, "STATE_BYTES": layout.nbytes, "HASH": layout.hash, "HASH_AT": HASH_AT,
        "ARENA": max((f.arena_bytes for f in functions), default=0), "MODEL": model,
        "METHODS": "".join(_method(k, f) for k, f in enumerate(functions)),
        "NATIVES": "".join(_native(k, f) for k, f in enumerate(functions)),
    }  # fmt: skip
    for hole, value in holes.items():
        text = text.replace(f"__{hole}__", str(value))
    return text


def _native(number: int, function: Function) -> str:
    names = ["state", *(t.name for t in (*function.inputs, *function.outputs)), "arena"]
    return f"    private static native int run{number}({', '.join(f'ByteBuffer _{n}' for n in names)}, int n);\n"


def _method(number: int, function: Function) -> str:
    """One method a signature. Several results come as a record-like class of their own."""
    name = _camel(function.name)
    parameters = ", ".join(f"{_java(t)}[] {t.name}" for t in function.inputs)
    single = len(function.outputs) == 1
    result = f"{_java(function.outputs[0])}[]" if single else f"{class_name(function.name)}Result"
    lines = [
        "", f"    /** Takes {', '.join(map(str, function.inputs)) or 'nothing'}; gives "
        f"{', '.join(map(str, function.outputs)) or 'nothing'}. */",
        f"    public {result} {name}({parameters}) {{",
    ]  # fmt: skip
    first = next((t for t in function.inputs if t.batched), None)
    rows = f'rows("{first.name}", {first.name}.length, {first.type.size})' if first else "0"
    lines.append(f"        int n_ = {rows};")
    for t in function.inputs:
        count = f"n_ * {t.type.size}" if t.batched else str(t.type.size)
        lines.append(f'        expect("{t.name}", {t.name}.length, {count});')
        lines.append(f"        ByteBuffer _{t.name} = allocate({_bytes(t)});")
        lines.append(f"        _{t.name}.{_view(t)}.put({t.name});")
    lines += [f"        ByteBuffer _{t.name} = allocate({_bytes(t)});" for t in function.outputs]
    buffers = ["state", *(f"_{t.name}" for t in (*function.inputs, *function.outputs)), "arena"]
    lines.append(f'        check("{function.name}", run{number}({", ".join(buffers)}, n_));')
    for t in function.outputs:
        count = f"n_ * {t.type.size}" if t.batched else str(t.type.size)
        lines.append(f"        {_java(t)}[] {t.name} = new {_java(t)}[{count}];")
        lines.append(f"        _{t.name}.{_view(t)}.get({t.name});")
    given = ", ".join(t.name for t in function.outputs)
    lines += [f"        return {given if single else f'new {result}({given})'};", "    }"]
    return "\n".join([*lines, *([] if single else _result(result, function)), ""])


def _result(name: str, function: Function) -> list[str]:
    fields = [f"        public final {_java(t)}[] {t.name};" for t in function.outputs]
    parameters = ", ".join(f"{_java(t)}[] {t.name}" for t in function.outputs)
    sets = " ".join(f"this.{t.name} = {t.name};" for t in function.outputs)
    return [
        "", f"    /** What {_camel(function.name)} gives. */", f"    public static final class {name} {{", *fields,
        f"        {name}({parameters}) {{ {sets} }}", "    }",
    ]  # fmt: skip


def _java(tensor: Tensor) -> str:
    return _TYPES[tensor.type.dtype.name][0]


def _view(tensor: Tensor) -> str:
    return _TYPES[tensor.type.dtype.name][1]


def _bytes(tensor: Tensor) -> str:
    size = tensor.type.size * _TYPES[tensor.type.dtype.name][2]
    return f"n_ * {size}" if tensor.batched else str(size)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.capitalize, rest))


_MANIFEST = """\
<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="thalweg.{package}">
    <uses-sdk android:minSdkVersion="24" />
</manifest>
"""


def aar(model: str, classes: bytes, weights: bytes, libraries: Mapping[str, bytes]) -> bytes:
    """An Android archive.

    Args:
        classes: the class, compiled, as a jar.
        weights: goes to the assets.
        libraries: the shared library of each Android target.
    """
    files = {
        "AndroidManifest.xml": _MANIFEST.format(package=model).encode(), "classes.jar": classes, "R.txt": b"",
        f"assets/{model}.safetensors": weights,
        **{f"jni/{ABIS[target]}/lib{model}.so": data for target, data in libraries.items()},
    }  # fmt: skip
    return archive(files)


def archive(files: Mapping[str, bytes]) -> bytes:
    """A zip file; without times, so that equal files give equal bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for path, data in files.items():
            made.writestr(zipfile.ZipInfo(path, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()
