"""The C header of an exported model."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.aot.abi import ALIGNMENT, ON_POOL, STATUS, VERSION, Function
from thalweg.backends.aot.layout import Layout
from thalweg.dialects.types import TensorType

C_TYPES = {
    "float64": "double", "float32": "float", "float16": "uint16_t", "bfloat16": "uint16_t", "bool": "uint8_t",
    "float8_e4m3fn": "uint8_t", "float8_e5m2": "uint8_t",
}  # fmt: skip


def c_type(type_: TensorType) -> str:
    """The C type of an element; narrow floats and bools as the integers that hold them."""
    return C_TYPES.get(type_.dtype.name, f"{type_.dtype.name}_t")


def header(model: str, functions: Sequence[Function], layout: Layout, threads: int = 1) -> str:
    """The header: constants, then one commented prototype a signature. C89, usable from C++.

    Args:
        threads: that a call may use; if more than one, signatures also have a function that takes a pool.
    """
    upper = model.upper()
    lines = [
        f"/* {model}: made by Thalweg. Arrays are dense and row-major, pointers to different ones must not overlap.",
        "   Every function returns a status; none holds state of its own, so threads need only an arena each. */",
        f"#ifndef {upper}_H", f"#define {upper}_H", "#include <stddef.h>", "#include <stdint.h>",
        "#ifdef __cplusplus", 'extern "C" {', "#endif", "",
        f"#define {upper}_ABI {VERSION}", f"#define {upper}_ALIGNMENT {ALIGNMENT} /* of the state and of arenas */",
        f"#define {upper}_STATE_BYTES {layout.nbytes}", *(f"#define {upper}_{k} {v}" for k, v in STATUS.items()), "",
    ]  # fmt: skip
    if threads > 1:
        lines += _POOL.format(model=model, upper=upper, threads=threads).split("\n")
    for number, function in enumerate(functions):
        lines += _prototype(model, number, function, threads > 1)
    lines += [
        f"int32_t {model}_abi(void); /* {upper}_ABI of the library */",
        f"size_t {model}_state_bytes(void);",
        f"size_t {model}_arena_bytes(int32_t signature); /* by the numbers above */",
        "/* The state inside a weights file that was read or mapped to an aligned address. */",
        f"int32_t {model}_state_of(const void *file, size_t bytes, const void **state);",
        "/* A weights file in memory: how many bytes it has; made of a state; checked and copied into a state. */",
        f"size_t {model}_file_bytes(void);",
        f"int32_t {model}_save(const void *state, void *file, size_t bytes);",
        f"int32_t {model}_restore(const void *file, size_t bytes, void *state);",
        f"const void *{model}_initial_state(void); /* NULL if the weights are in a file of their own */",
        f"const char *{model}_meta(void); /* JSON */", "",
        "#ifdef __cplusplus", "}", "#endif", "#endif", "",
    ]  # fmt: skip
    return "\n".join(lines)


# The arguments of `run` are in the order of Apple's dispatch_apply_f, but for the queue, and its tasks fit pthreadpool.
_POOL = """\
/* The caller's threads. `run` is given `self`; it calls task(context, k) for k = 0 .. tasks - 1, in any order and on
   any threads, and returns when all are done. Up to {threads} threads are of use; results do not depend on how many. */
typedef struct {model}_pool {{
  void (*run)(void *self, void (*task)(void *context, size_t k), void *context, size_t tasks);
  void *self;
}} {model}_pool;
#define {upper}_THREADS {threads}
"""


def _prototype(model: str, number: int, function: Function, shared: bool) -> list[str]:
    upper, name = model.upper(), function.name.upper()
    rows = [("in", t) for t in function.inputs] + [("out", t) for t in function.outputs]
    comment = [f"   {way:<3} {t}" for way, t in rows] or ["   no arrays"]
    state = "void *state" if function.writes else "const void *state"
    parameters = [state]
    parameters += [f"{'const ' if way == 'in' else ''}{c_type(t.type)} *{t.name}" for way, t in rows]
    parameters += [*(["int32_t n"] if function.batched else []), "void *arena", "size_t arena_bytes"]
    pool = f"const {model}_pool *pool"
    return [
        f"#define {upper}_{name} {number}",
        f"#define {upper}_{name}_ARENA_BYTES {function.arena_bytes}",
        f"/* {function.name}{', changes the state' if function.writes else ''}",
        *comment[:-1],
        comment[-1] + " */",
        f"int32_t {model}_{function.name}({', '.join(parameters)});",
        *([f"int32_t {model}_{function.name}{ON_POOL}({', '.join([pool, *parameters])});"] if shared else []),
        "",
    ]
