"""JavaScript and TypeScript for the WebAssembly module: an ES module that works in node and in a page.

    import { load } from "./model.mjs";
    const model = await load();                       // or load(url), load(bytes)
    const { out } = model.infer({ x: new Float32Array(784) });
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from thalweg.backends.aot.abi import VERSION, Function, Tensor

_ARRAYS = {
    "float64": "Float64Array", "float32": "Float32Array", "int64": "BigInt64Array", "uint64": "BigUint64Array",
    "int32": "Int32Array", "uint32": "Uint32Array", "int16": "Int16Array", "uint16": "Uint16Array", "int8": "Int8Array",
    "uint8": "Uint8Array", "bool": "Uint8Array", "float16": "Uint16Array", "bfloat16": "Uint16Array",
    "float8_e4m3fn": "Uint8Array", "float8_e5m2": "Uint8Array",
}  # fmt: skip


# A module whose only function is f32x4.relaxed_madd of three vectors of zeros.
_RELAXED = bytes.fromhex("0061736d010000000105016000017b030201000a13011100" + "4100fd11" * 3 + "fd8502" + "0b")


def module(model: str, functions: Sequence[Function], suffix: str = "") -> str:
    """The ES module: the template beside this file, filled in.

    Args:
        suffix: of the file for engines with relaxed vector instructions, if there is one.
    """
    table = {
        f.name: {"batched": f.batched, "inputs": rows_of(f.inputs), "outputs": rows_of(f.outputs)} for f in functions
    }
    methods = "".join(_method(f) for f in functions)
    arena = max((f.arena_bytes for f in functions), default=0)
    text = (Path(__file__).parent / "model.mjs").read_text()
    holes: dict[str, object] = {"SIGNATURES": json.dumps(table), "METHODS": methods, "ARENA": max(arena, 64)}
    holes |= {"ABI": VERSION, "MODEL": model, "CHOICE": _choice(model, suffix)}
    for hole, value in holes.items():
        text = text.replace(f"__{hole}__", str(value))
    return text


def _choice(model: str, suffix: str) -> str:
    """The line that says which file is loaded."""
    if not suffix:
        return f'const FILE = "./{model}.wasm";\n'
    return (
        "// Engines with fused multiply-add have a file of their own; this asks by a function that needs it.\n"
        f"const RELAXED = new Uint8Array({json.dumps(list(_RELAXED))});\n"
        f'const FILE = WebAssembly.validate(RELAXED) ? "./{model}{suffix}.wasm" : "./{model}.wasm";\n'
    )


def rows_of(tensors: Sequence[Tensor]) -> list[dict[str, object]]:
    """What JavaScript must know of tensors."""
    return [
        {"name": t.name, "array": _ARRAYS[t.type.dtype.name], "shape": list(t.type.shape), "batched": t.batched}
        for t in tensors
    ]


def _method(function: Function) -> str:
    inputs = ", ".join(map(str, function.inputs)) or "nothing"
    outputs = ", ".join(map(str, function.outputs)) or "nothing"
    changes = " Changes the state." if function.writes else ""
    return (
        f"\n  /** Takes {inputs}; gives {outputs}.{changes} */\n"
        f'  {function.name}(inputs) {{\n    return this.#run("{function.name}", inputs);\n  }}\n'
    )


def declarations(model: str, functions: Sequence[Function]) -> str:
    """The TypeScript declarations."""
    lines = [
        f"// {model}: made by Thalweg.",
        "type Source = URL | string | BufferSource;",
        "export function load(source?: Source, weights?: Source): Promise<Model>;",
        "export class Model {",
        "  save(): Uint8Array;",
        "  restore(file: BufferSource): void;",
    ]
    for f in functions:
        lines.append(f"  /** {', '.join(map(str, f.inputs))} -> {', '.join(map(str, f.outputs))} */")
        lines.append(f"  {f.name}(inputs: {_type(f.inputs)}): {_type(f.outputs)};")
    return "\n".join([*lines, "}", ""])


def _type(tensors: Sequence[Tensor]) -> str:
    return "{ " + "; ".join(f"{t.name}: {_ARRAYS[t.type.dtype.name]}" for t in tensors) + " }" if tensors else "{}"
