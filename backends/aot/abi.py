"""The C interface of an exported model, in LLVM IR.

    int32_t  m_infer(const void *state, const float *x, float *out, int32_t n, void *arena, size_t arena_bytes);
    int32_t  m_abi(void);                        the version of this interface
    size_t   m_state_bytes(void);
    size_t   m_arena_bytes(int32_t signature);   of the signature with this number; 0 for none
    int32_t  m_state_of(const void *file, size_t bytes, const void **state);
    size_t   m_file_bytes(void);                 of a weights file
    int32_t  m_save(const void *state, void *file, size_t bytes);     write one into memory
    int32_t  m_restore(const void *file, size_t bytes, void *state);  check one, and take its state
    const void *m_initial_state(void);           NULL where the weights are in a file of their own
    const char *m_meta(void);                    JSON

A library that was exported for several threads also has, for each signature,

    int32_t  m_infer_on(const m_pool *pool, …);  the same on a pool of the caller's (tasks.py); NULL for none

Functions check what they are given and return a status; they never crash on a null pointer, a short arena or the
weights of another model. They hold no state of their own: threads only need an arena each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from thalweg.backends.aot.layout import HASH_AT, Layout, file_header
from thalweg.dialects.types import TensorType

VERSION = 1
OK, NULL_POINTER, SHORT_ARENA, WRONG_LAYOUT, MISALIGNED, NEGATIVE_BATCH = 0, 1, 2, 3, 4, 5
STATUS = {
    "OK": OK, "NULL_POINTER": NULL_POINTER, "SHORT_ARENA": SHORT_ARENA, "WRONG_LAYOUT": WRONG_LAYOUT,
    "MISALIGNED": MISALIGNED, "NEGATIVE_BATCH": NEGATIVE_BATCH,
}  # fmt: skip
ALIGNMENT = 64
ON_POOL = "_on"  # behind the names of functions that take a pool


@dataclass(frozen=True)
class Tensor:
    """An input or output. If it is batched, `type` is that of one row, and there are n of them."""

    name: str
    type: TensorType
    batched: bool = False

    def __str__(self) -> str:
        extents = [*(["n"] if self.batched else []), *map(str, self.type.shape)]
        return f"{self.name}: {self.type.dtype.short}[{','.join(extents)}]"


Binding = tuple[str, int]  # an argument of a compiled step: ("input", its number) or ("state", its offset)


@dataclass(frozen=True)
class Piece:
    """A compiled step, `step.NAME`; of a batched signature, one that takes `rows` rows at a time."""

    name: str
    bindings: tuple[Binding, ...]
    rows: int = 0


@dataclass(frozen=True)
class Function:
    """A signature of the model: a named step.

    Args:
        inputs, outputs: in the order of the C function's parameters.
        pieces: one, or for a batch of any size several, the one for the most rows first, the last for one.
        arena_bytes: of scratch memory.
        writes: whether it changes the state.
    """

    name: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    pieces: tuple[Piece, ...]
    arena_bytes: int
    writes: bool

    @property
    def batched(self) -> bool:
        return any(t.batched for t in self.inputs)

    @property
    def uses_state(self) -> bool:
        return any(kind == "state" for piece in self.pieces for kind, _ in piece.bindings)


def exported_names(model: str, functions: Sequence[Function], shared: bool = False) -> list[str]:
    """The symbols that a library offers; `shared`: for several threads."""
    common = ("abi", "state_bytes", "arena_bytes", "state_of", "file_bytes", "save", "restore", "initial_state", "meta")
    on_pools = (f"{f.name}{ON_POOL}" for f in functions if shared)
    return [f"{model}_{name}" for name in (*(f.name for f in functions), *on_pools, *common)]


def interface(
    model: str,
    functions: Sequence[Function],
    layout: Layout,
    meta: str,
    bits: int,
    embedded: bool,
    shared: bool = False,
) -> str:
    """The LLVM IR of everything above; it calls `step.NAME` of each piece, with the pool first if it is for several
    threads."""
    parts = [_signature(model, function, bits, shared) for function in functions]
    parts += [_alone(model, function, bits) for function in functions if shared]
    parts.append(_constants(model, functions, layout, bits))
    parts += [_state_of(model, layout, bits), _files(model, layout, bits)]
    parts.append(_text(f"{model}_meta", meta))
    state = f"@{model}.state" if embedded else "null"
    parts.append(f"define ptr @{model}_initial_state() nounwind {{\n  ret ptr {state}\n}}\n")
    return "\n".join(parts)


class _Writer:
    """Lines of a function that returns a status at the first check that fails."""

    def __init__(self, head: str) -> None:
        self.lines = [f"{head} {{", "entry:"]
        self.checks = 0  # how many there are so far

    def refuse_if(self, condition: str, status: int) -> None:
        """Return `status` where the i1 `condition` holds."""
        n = self.checks
        self.checks += 1
        self.lines += [f"  br i1 {condition}, label %no{n}, label %yes{n}"]
        self.lines += [f"no{n}:", f"  ret i32 {status}", f"yes{n}:"]

    def add(self, *lines: str) -> None:
        self.lines += lines

    def op(self, text: str, name: str) -> str:
        self.lines.append(f"  %{name} = {text}")
        return f"%{name}"

    def text(self) -> str:
        return "\n".join([*self.lines, "  ret i32 0", "}", ""])


def _parameters(function: Function, bits: int) -> list[str]:
    names = [*(f"in{k}" for k in range(len(function.inputs))), *(f"out{k}" for k in range(len(function.outputs)))]
    rows = ["i32 %n"] if function.batched else []
    return [*(f"ptr %{name}" for name in ("state", *names)), *rows, "ptr %arena", f"i{bits} %arena_bytes"]


def _alone(model: str, function: Function, bits: int) -> str:
    """The function without a pool."""
    given = ", ".join(_parameters(function, bits))
    return (
        f"define i32 @{model}_{function.name}({given}) nounwind {{\n"
        f"  %status = tail call i32 @{model}_{function.name}{ON_POOL}(ptr null, {given})\n  ret i32 %status\n}}\n"
    )


def _signature(model: str, function: Function, bits: int, shared: bool) -> str:
    inputs = [f"%in{k}" for k in range(len(function.inputs))]
    outputs = [f"%out{k}" for k in range(len(function.outputs))]
    parameters, name = _parameters(function, bits), function.name
    if shared:
        parameters, name = ["ptr %pool", *parameters], f"{name}{ON_POOL}"
    w = _Writer(f"define i32 @{model}_{name}({', '.join(parameters)}) nounwind")
    aligned = [*(["%state"] if function.uses_state else []), *(["%arena"] if function.arena_bytes else [])]
    for number, pointer in enumerate([*inputs, *outputs, *aligned]):
        w.refuse_if(w.op(f"icmp eq ptr {pointer}, null", f"null{number}"), NULL_POINTER)
    if function.arena_bytes:
        w.refuse_if(w.op(f"icmp ult i{bits} %arena_bytes, {function.arena_bytes}", "short"), SHORT_ARENA)
    for pointer in aligned:
        address = w.op(f"ptrtoint ptr {pointer} to i{bits}", f"address{pointer[1:]}")
        low = w.op(f"and i{bits} {address}, {ALIGNMENT - 1}", f"low{pointer[1:]}")
        w.refuse_if(w.op(f"icmp ne i{bits} {low}, 0", f"odd{pointer[1:]}"), MISALIGNED)
    if function.batched:
        w.refuse_if(w.op("icmp slt i32 %n, 0", "negative"), NEGATIVE_BATCH)
        w.op(f"zext i32 %n to i{bits}" if bits == 64 else "add i32 %n, 0", "count")
        _loops(w, function, bits, shared)
    else:
        (piece,) = function.pieces
        _call(w, piece, _parts(w, piece, bits), inputs, outputs, shared)
    return w.text()


def _parts(w: _Writer, piece: Piece, bits: int) -> dict[int, str]:
    """Pointers into the state, by the number of the argument."""
    return {
        number: w.op(f"getelementptr i8, ptr %state, i{bits} {value}", f"part{number}_{piece.rows}")
        for number, (kind, value) in enumerate(piece.bindings)
        if kind == "state"
    }


def _call(
    w: _Writer, piece: Piece, parts: dict[int, str], inputs: Sequence[str], outputs: Sequence[str], shared: bool
) -> None:
    arguments = [
        inputs[value] if kind == "input" else parts[number] for number, (kind, value) in enumerate(piece.bindings)
    ]
    given = [*(["%pool"] if shared else []), *arguments, *outputs, "%arena"]
    w.add(f"  call void @step.{piece.name}({', '.join(f'ptr {a}' for a in given)})")


def _loops(w: _Writer, function: Function, bits: int, shared: bool) -> None:
    """For each piece a loop: as long as as many rows are left, do them."""
    word, done, before = f"i{bits}", "0", f"yes{w.checks - 1}"
    for piece in function.pieces:
        k = piece.rows
        parts = _parts(w, piece, bits)
        w.add(f"  br label %test{k}", f"test{k}:")
        w.add(f"  %done{k} = phi {word} [ {done}, %{before} ], [ %more{k}, %do{k} ]")
        left = w.op(f"sub {word} %count, %done{k}", f"left{k}")
        enough = w.op(f"icmp uge {word} {left}, {k}", f"enough{k}")
        w.add(f"  br i1 {enough}, label %do{k}, label %end{k}", f"do{k}:")
        inputs, outputs = (
            [_row(w, f"{way}{j}", t, k, word) if t.batched else f"%{way}{j}" for j, t in enumerate(tensors)]
            for way, tensors in (("in", function.inputs), ("out", function.outputs))
        )
        _call(w, piece, parts, inputs, outputs, shared)
        w.add(f"  %more{k} = add {word} %done{k}, {k}", f"  br label %test{k}", f"end{k}:")
        done, before = f"%done{k}", f"end{k}"


def _row(w: _Writer, name: str, tensor: Tensor, rows: int, word: str) -> str:
    """Where the next rows of a tensor are."""
    skip = w.op(f"mul {word} %done{rows}, {tensor.type.nbytes}", f"{name}_skip{rows}")
    return w.op(f"getelementptr i8, ptr %{name}, {word} {skip}", f"{name}_rows{rows}")


def _constants(model: str, functions: Sequence[Function], layout: Layout, bits: int) -> str:
    cases = "\n".join(f"    i32 {number}, label %is{number}" for number in range(len(functions)))
    returns = "\n".join(f"is{number}:\n  ret i{bits} {f.arena_bytes}" for number, f in enumerate(functions))
    return (
        f"define i32 @{model}_abi() nounwind {{\n  ret i32 {VERSION}\n}}\n"
        f"define i{bits} @{model}_state_bytes() nounwind {{\n  ret i{bits} {layout.nbytes}\n}}\n"
        f"define i{bits} @{model}_arena_bytes(i32 %signature) nounwind {{\n"
        f"  switch i32 %signature, label %none [\n{cases}\n  ]\nnone:\n  ret i{bits} 0\n{returns}\n}}\n"
    )


def _state_of(model: str, layout: Layout, bits: int) -> str:
    """Checks a weights file in memory: its length, and the hash of the layout at its fixed place."""
    w = _Writer(f"define i32 @{model}_state_of(ptr %file, i{bits} %bytes, ptr %out) nounwind")
    w.refuse_if(w.op("icmp eq ptr %file, null", "nofile"), NULL_POINTER)
    w.refuse_if(w.op("icmp eq ptr %out, null", "noout"), NULL_POINTER)
    w.refuse_if(w.op(f"icmp ult i{bits} %bytes, {HASH_AT + 64}", "tiny"), WRONG_LAYOUT)
    wide = w.op("load i64, ptr %file, align 1", "wide")
    w.refuse_if(w.op(f"icmp ugt i64 {wide}, 1073741824", "absurd"), WRONG_LAYOUT)
    header = w.op(f"trunc i64 {wide} to i{bits}", "header") if bits < 64 else wide
    start = w.op(f"add i{bits} {header}, 8", "start")
    end = w.op(f"add i{bits} {start}, {layout.nbytes}", "end")
    w.refuse_if(w.op(f"icmp ne i{bits} {end}, %bytes", "length"), WRONG_LAYOUT)
    for k in range(8):
        part = layout.hash[8 * k : 8 * k + 8].encode()
        at = w.op(f"getelementptr i8, ptr %file, i{bits} {HASH_AT + 8 * k}", f"at{k}")
        found = w.op(f"load i64, ptr {at}, align 1", f"found{k}")
        w.refuse_if(w.op(f"icmp ne i64 {found}, {int.from_bytes(part, 'little')}", f"differs{k}"), WRONG_LAYOUT)
    state = w.op(f"getelementptr i8, ptr %file, i{bits} {start}", "state")
    w.lines.append(f"  store ptr {state}, ptr %out")
    return w.text()


_COPY = """
define internal void @{model}.copy(ptr %to, ptr %from, {word} %n) noinline nounwind {{
entry:
  br label %test
test:
  %i = phi {word} [ 0, %entry ], [ %next, %step ]
  %more = icmp ult {word} %i, %n
  br i1 %more, label %step, label %out
step:
  %a = getelementptr i8, ptr %from, {word} %i
  %b = getelementptr i8, ptr %to, {word} %i
  %x = load <16 x i32>, ptr %a, align 1
  store <16 x i32> %x, ptr %b, align 1
  %next = add {word} %i, 64
  br label %test
out:
  ret void
}}
"""


def _files(model: str, layout: Layout, bits: int) -> str:
    """Writing and reading whole weights files; their parts are multiples of 64 bytes."""
    header, word = file_header(layout), f"i{bits}"
    size = len(header) + layout.nbytes
    text = f"@{model}.header = internal constant [{len(header)} x i8] {quoted(header)}, align {ALIGNMENT}\n"
    text += f"define {word} @{model}_file_bytes() nounwind {{\n  ret {word} {size}\n}}\n"
    w = _Writer(f"define i32 @{model}_save(ptr %state, ptr %file, {word} %bytes) nounwind")
    w.refuse_if(w.op("icmp eq ptr %file, null", "nofile"), NULL_POINTER)
    w.refuse_if(w.op("icmp eq ptr %state, null", "nostate"), NULL_POINTER)
    w.refuse_if(w.op(f"icmp ult {word} %bytes, {size}", "short"), SHORT_ARENA)
    w.add(f"  call void @{model}.copy(ptr %file, ptr @{model}.header, {word} {len(header)})")
    at = w.op(f"getelementptr i8, ptr %file, {word} {len(header)}", "data")
    w.add(f"  call void @{model}.copy(ptr {at}, ptr %state, {word} {layout.nbytes})")
    text += w.text()
    w = _Writer(f"define i32 @{model}_restore(ptr %file, {word} %bytes, ptr %state) nounwind")
    place = w.op("alloca ptr", "place")
    w.refuse_if(w.op("icmp eq ptr %state, null", "nostate"), NULL_POINTER)
    w.op(f"call i32 @{model}_state_of(ptr %file, {word} %bytes, ptr {place})", "status")
    w.add("  %fits = icmp eq i32 %status, 0", "  br i1 %fits, label %take, label %refuse", "refuse:")
    w.add("  ret i32 %status", "take:")
    found = w.op(f"load ptr, ptr {place}", "found")
    w.add(f"  call void @{model}.copy(ptr %state, ptr {found}, {word} {layout.nbytes})")
    return text + w.text() + _COPY.format(model=model, word=word)


def _text(name: str, value: str) -> str:
    data = value.encode() + b"\0"
    return (
        f"@{name}.text = internal constant [{len(data)} x i8] {quoted(data)}\n"
        f"define ptr @{name}() nounwind {{\n  ret ptr @{name}.text\n}}\n"
    )


def embedded_state(model: str, block: bytes) -> str:
    """The state as constant data of the library."""
    return f"@{model}.state = internal constant [{len(block)} x i8] {quoted(block)}, align {ALIGNMENT}\n"


_ESCAPED = [f"\\{b:02X}" if b < 32 or b > 126 or b in b'"\\' else chr(b) for b in range(256)]


def quoted(data: bytes) -> str:
    """Bytes as LLVM IR writes them."""
    return 'c"' + "".join(map(_ESCAPED.__getitem__, data)) + '"'
