"""What cannot leave: ops that run on the host, strings, names that other languages have taken."""

from __future__ import annotations

from thalweg.dialects import context
from thalweg.dialects.build import row_of
from thalweg.dialects.diagnostics import ExportError
from thalweg.dialects.location import where_of
from thalweg.dialects.mlir import ir
from thalweg.dialects.walk import inside

# Of C, C++, Java, JavaScript, Kotlin and Swift, as far as Python allows them as names; and what the C functions call
# their other parameters.
_WORDS = """
    abstract alignas alignof auto boolean byte case catch char const constexpr decltype default delete do double enum
    explicit extends extern final float for friend fun func function goto if implements inline int interface let long
    mutable namespace new null nullptr operator package private protected public register restrict short signed sizeof
    static struct super switch synchronized template this throw transient try typedef typename typeof union unsigned
    using val var virtual void volatile while yield
    state n arena arena_bytes
    """
RESERVED = frozenset(_WORDS.split())
MODEL_NAMES = frozenset((
    "abi", "state_bytes", "arena_bytes", "state_of", "file_bytes", "initial_state", "meta",  # of every library
    "load", "name", "restore", "save", "signatures", "state",  # what models have in Python, JavaScript and Java
))  # fmt: skip


def require_exportable(module: ir.Module) -> None:
    """Refuse a traced program that needs more than a processor and memory.

    Raises:
        ExportError: it runs ops on the host (queues, files, summaries) or has strings; names the user's line.
    """
    with context.entered():
        main = next(v.operation for v in module.body.operations if v.operation.name == "func.func")
        # The line that uses a queue tells more than the one that makes it, which is where its handle comes from.
        found = sorted(inside(main), key=lambda op: op.name.endswith("_handle"))
        for operation in found:
            row = row_of(operation)
            where = where_of(operation.location)
            place = f"{where} " if where else ""
            if row is not None and row.runs == "host":
                raise ExportError(
                    f"{place}{row.name} runs on the host: an exported library has no queues, files or threads. Do it "
                    "outside, and give the function what comes of it as an argument."
                )
        kinds = [a.type for a in main.regions[0].blocks[0].arguments]
        if any("!tw.string" in str(kind) for kind in kinds):
            raise ExportError("it takes strings, which an exported library has not. Give it numbers.")
