"""The bridge between Java and the model, in LLVM IR: no C compiler and no jni.h.

JNI's function table is known by its indices (Java Native Interface Specification, chapter 4). Buffers are direct ones;
one that is not, or is too small, gives a status above 15.
"""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.backends.aot.abi import Function
from thalweg.backends.aot.layout import Layout

_ADDRESS, _CAPACITY = 230, 231  # GetDirectBufferAddress, GetDirectBufferCapacity
NOT_DIRECT, TOO_SMALL = 16, 17


def class_name(model: str) -> str:
    """`my_model` as `MyModel`."""
    return "".join(part.capitalize() for part in model.split("_"))


def exported_names(model: str, functions: Sequence[Function]) -> list[str]:
    """The functions that Java looks for; signatures go by their numbers, which need no mangling."""
    return [_native(model, name) for name in ("address", *(f"run{k}" for k in range(len(functions))))]


def _native(model: str, name: str) -> str:
    return f"Java_thalweg_{class_name(model)}_{name}"


def bridge(model: str, functions: Sequence[Function], layout: Layout, bits: int) -> str:
    """LLVM IR of `static native long address(ByteBuffer)` and `static native int run0(ByteBuffer…, int n)`."""
    parts = [_address(model, bits)]
    parts += [_run(model, number, function, layout, bits) for number, function in enumerate(functions)]
    return "\n".join(parts)


def _address(model: str, bits: int) -> str:
    widen = "ptrtoint ptr %p to i64"
    return (
        f"define i64 @{_native(model, 'address')}(ptr %env, ptr %class, ptr %buffer) nounwind {{\n"
        + _entry("address", _ADDRESS, bits)
        + f"  %p = call ptr %address(ptr %env, ptr %buffer)\n  %wide = {widen}\n  ret i64 %wide\n}}\n"
    )


def _entry(name: str, index: int, bits: int) -> str:
    """Load a function of JNI's table."""
    return (
        f"  %table_{name} = load ptr, ptr %env\n"
        f"  %at_{name} = getelementptr ptr, ptr %table_{name}, i{bits} {index}\n"
        f"  %{name} = load ptr, ptr %at_{name}\n"
    )


def _run(model: str, number: int, function: Function, layout: Layout, bits: int) -> str:
    sizes = [("state", layout.nbytes, False)]
    sizes += [(f"in{k}", t.type.nbytes, t.batched) for k, t in enumerate(function.inputs)]
    sizes += [(f"out{k}", t.type.nbytes, t.batched) for k, t in enumerate(function.outputs)]
    sizes.append(("arena", function.arena_bytes, False))
    parameters = ", ".join(f"ptr %b_{name}" for name, _, _ in sizes)
    head = f"define i32 @{_native(model, f'run{number}')}(ptr %env, ptr %class, {parameters}, i32 %n) nounwind {{\n"
    text = head + _entry("address", _ADDRESS, bits) + _entry("capacity", _CAPACITY, bits)
    text += "  %rows = sext i32 %n to i64\n"
    for name, size, batched in sizes:
        text += (
            f"  %{name} = call ptr %address(ptr %env, ptr %b_{name})\n"
            f"  %none_{name} = icmp eq ptr %{name}, null\n"
            f"  br i1 %none_{name}, label %direct_{name}, label %check_{name}\n"
            f"direct_{name}:\n  ret i32 {NOT_DIRECT}\n"
            f"check_{name}:\n"
            f"  %has_{name} = call i64 %capacity(ptr %env, ptr %b_{name})\n"
            f"  %needs_{name} = {f'mul i64 %rows, {size}' if batched else f'add i64 {size}, 0'}\n"
            f"  %small_{name} = icmp slt i64 %has_{name}, %needs_{name}\n"
            f"  br i1 %small_{name}, label %refuse_{name}, label %fine_{name}\n"
            f"refuse_{name}:\n  ret i32 {TOO_SMALL}\n"
            f"fine_{name}:\n"
        )
    arguments = [f"ptr %{name}" for name, _, _ in sizes[:-1]]
    arguments += [*(["i32 %n"] if function.batched else []), "ptr %arena", f"i{bits} {function.arena_bytes}"]
    return text + f"  %status = call i32 @{model}_{function.name}({', '.join(arguments)})\n  ret i32 %status\n}}\n"
