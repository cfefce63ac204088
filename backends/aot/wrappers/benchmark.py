"""Programs that measure an exported model: one in C for any compiler, one for node.

    signature                   median us      best us     runs
    infer                          11.204       10.981    81022
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from thalweg.backends.aot.abi import ON_POOL, Function, Tensor
from thalweg.backends.aot.wrappers.javascript import rows_of


def c_program(model: str, functions: Sequence[Function], threads: int = 1) -> str:
    """main.c: every signature is run for about a second. Floats are filled with small numbers, the rest with zeros.

    Args:
        threads: that a call may use; the program takes a number of them if more than one.
    """
    return _filled("benchmark.c", {
        "SIGNATURES": "\n".join(_c_run(model, f, threads > 1) for f in functions),
        "MEASURES": "\n".join(f'  measure("{f.name}", run_{f.name});' for f in functions),
        "POOL": _POOL if threads > 1 else "", "USAGE": " [threads]\n   with -pthread" if threads > 1 else "",
        "START": _START if threads > 1 else "", "UPPER": model.upper(), "MODEL": model,
    })  # fmt: skip


def javascript_program(model: str, functions: Sequence[Function]) -> str:
    """main.mjs, for node."""
    inputs = json.dumps({f.name: rows_of(f.inputs) for f in functions})
    return _filled("benchmark.mjs", {"INPUTS": inputs, "MODEL": model})


def _filled(template: str, holes: dict[str, str]) -> str:
    text = (Path(__file__).parent / template).read_text()
    for hole, value in holes.items():
        text = text.replace(f"__{hole}__", value)
    return text


_POOL = """\
#include "__MODEL___threads.h"
static __MODEL___threads threads;
static const __MODEL___pool *pool = NULL; /* the third argument says how many threads */
"""
_START = """\
  if (count > 3 && atoi(arguments[3]) > 1) {
    if (__MODEL___threads_start(&threads, atoi(arguments[3])) != 0) {
      fprintf(stderr, "not enough threads\\n");
      return 1;
    }
    pool = &threads.pool;
  }
"""


def _c_run(model: str, function: Function, shared: bool) -> str:
    """A C function without arguments that runs a signature on buffers that its first call makes."""
    buffers = [("in", k, t) for k, t in enumerate(function.inputs)]
    buffers += [("out", k, t) for k, t in enumerate(function.outputs)]
    names = [f"{way}{k}" for way, k, _ in buffers]
    lines = [f"static int32_t run_{function.name}(void) {{", f"  static void *{', *'.join([*names, 'arena'])};"]
    lines += ["  if (arena == NULL) {"]
    lines += [f"    {name} = {_buffer(way, t)};" for name, (way, _, t) in zip(names, buffers, strict=True)]
    arena = f"{model}_{function.name}_arena_bytes".upper()
    lines += [f"    arena = aligned({arena});", "  }"]
    name = f"{function.name}{ON_POOL}" if shared else function.name
    given = [*(["pool"] if shared else []), "state", *names, *(["n"] if function.batched else []), "arena", arena]
    return "\n".join([*lines, f"  return {model}_{name}({', '.join(given)});", "}", ""])


def _buffer(way: str, tensor: Tensor) -> str:
    times = "(size_t)n * " if tensor.batched else ""
    if way == "in" and tensor.type.dtype.name == "float32":
        return f"floats({times}{tensor.type.size})"
    return f"aligned({times}{tensor.type.nbytes})"
