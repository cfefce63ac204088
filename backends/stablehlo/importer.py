"""StableHLO in: text, MLIR bytecode or a portable artefact becomes one static function of plain StableHLO.

    read           text or bytes -> module as its author wrote it
    prepare        -> one public `main`, static shapes, no CHLO, composites, custom calls or private functions
    import_module  both

What JAX makes is at home here: `jax.jit(f).lower(…).as_text()`, and `jax.export.export(…)(…).mlir_module_serialized`
with shape polymorphism (give the arguments' types).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from thalweg.backends.stablehlo import artefact
from thalweg.backends.stablehlo.complex_numbers import has_complex, split_complex
from thalweg.backends.stablehlo.decompose import decompose
from thalweg.backends.stablehlo.expressions import clone_module
from thalweg.dialects import context
from thalweg.dialects.diagnostics import LoweringError, VerificationError
from thalweg.dialects.mlir import PassManager, ir
from thalweg.dialects.types import TensorType

_FLATTEN = (
    "func.func(stablehlo-legalize-composite-to-call,stablehlo-legalize-deprecated-ops{fail-on-unused=false}),"
    "inline,symbol-dce"
)
_FINISH = "inline,symbol-dce,func.func(chlo-legalize-to-stablehlo),canonicalize,cse"


def import_module(source: str | bytes | Path, arguments: Sequence[TensorType] | None = None) -> ir.Module:
    """`prepare(read(source), arguments)`.

    Example:
        >>> text = jax.jit(lambda x: jax.numpy.sort(x)).lower(x).as_text()
        >>> executable = compile_stablehlo(import_module(text), CpuOptions())
    """
    return prepare(read(source), arguments)


def read(source: str | bytes | Path) -> ir.Module:
    """The module as written, verified, in the process-wide context.

    Args:
        source: StableHLO text, the bytes of MLIR bytecode or of a portable artefact, or a path to a file with one.

    Raises:
        VerificationError: the text does not parse or verify, or the bytes are damaged or too new.
    """
    name = "text"
    if isinstance(source, Path):
        name, source = str(source), source.read_bytes()
    load_chlo()
    if isinstance(source, bytes) and artefact.is_artefact(source):
        return artefact.deserialize(source)
    if isinstance(source, bytes) and not source.startswith(artefact.MAGIC):
        try:
            source = source.decode()
        except UnicodeDecodeError as error:
            raise VerificationError(f"{name}: neither MLIR bytecode nor UTF-8 text: {error}") from error
    with context.entered():
        try:
            return ir.Module.parse(source)
        except ir.MLIRError as error:
            raise VerificationError(f"{name}: not a StableHLO module that this build can read.\n{error}") from error


def prepare(module: ir.Module, arguments: Sequence[TensorType] | None = None) -> ir.Module:
    """A copy of `module` with one function, `main`, in plain StableHLO with static shapes.

    Args:
        arguments: the types of main's arguments, where the module leaves dimensions open (shape-polymorphic exports).

    Raises:
        LoweringError: several public functions, an unknown custom call, or shapes that stay open.
    """
    with context.entered():
        copy = clone_module(module)
        main = _name_main(copy)
        _run(copy, _FLATTEN)
        if arguments is not None or _is_open(main):
            _refine(copy, arguments)
        decompose(copy)
        _run(copy, _FINISH)
        main = _name_main(copy)
        if has_complex(main):
            split_complex(main)
            _run(copy, _FINISH)
        return copy


def _name_main(module: ir.Module) -> ir.Operation:
    """The function to compile: `main`, or the only public one, which is renamed."""
    functions = [view.operation for view in module.body.operations if view.operation.name == "func.func"]
    names = [ir.StringAttr(f.attributes["sym_name"]).value for f in functions]
    public = [f for f in functions if _visibility(f) != "private"]
    if "main" in names:
        main = functions[names.index("main")]
    elif len(public) == 1:
        main = public[0]
        main.attributes["sym_name"] = ir.StringAttr.get("main")
    else:
        raise LoweringError(f"the module has no function @main; it has {', '.join('@' + n for n in names) or 'none'}.")
    # The others are inlined and dropped, whatever the author said about who may see them.
    for function in functions:
        function.attributes["sym_visibility"] = ir.StringAttr.get("public" if function == main else "private")
    return main


def _visibility(function: ir.Operation) -> str:
    found = "sym_visibility" in function.attributes
    return ir.StringAttr(function.attributes["sym_visibility"]).value if found else "public"


def _refine(module: ir.Module, arguments: Sequence[TensorType] | None) -> None:
    """Give the arguments their types, and carry shapes through the module."""
    main = _name_main(module)
    count = len(main.regions[0].blocks[0].arguments)
    if arguments is not None and len(arguments) != count:
        raise LoweringError(f"main takes {count} arguments, but {len(arguments)} types were given.")
    if arguments is None and "?" in str(main.attributes["function_type"]).split("->")[0]:
        raise LoweringError(
            f"main leaves dimensions of its arguments open: {main.attributes['function_type']}. "
            "Give the types of its arguments."
        )
    if arguments is not None:
        _run(module, f"stablehlo-refine-arguments{{types={','.join(_mlir_type(t) for t in arguments)}}}")
    _run(module, "stablehlo-refine-shapes,func.func(stablehlo-canonicalize-dynamism,stablehlo-check-shape-assertions)")
    if _is_open(_name_main(module)):
        raise LoweringError(
            f"shapes depend on data in main: {main.attributes['function_type']}; only static shapes compile."
        )


def _mlir_type(kind: TensorType) -> str:
    return "tensor<" + "".join(f"{n}x" for n in kind.shape) + kind.dtype.mlir + ">"


def _is_open(root: ir.Operation) -> bool:
    """Does any value in it have an unknown dimension?"""
    found = False

    def visit(operation: ir.Operation) -> ir.WalkResult:
        nonlocal found
        blocks = [block for region in operation.regions for block in region.blocks]
        values = [*operation.results, *(argument for block in blocks for argument in block.arguments)]
        found = any("?" in str(value.type) for value in values)
        return ir.WalkResult.INTERRUPT if found else ir.WalkResult.ADVANCE

    root.walk(visit)
    return found


def _run(module: ir.Module, pipeline: str) -> None:
    try:
        PassManager.parse(f"builtin.module({pipeline})").run(module.operation)
    except ir.MLIRError as error:
        raise LoweringError(f"the module could not be prepared for compilation.\n{error}") from error


@cache
def load_chlo() -> None:
    """Make the context know CHLO, which `register_dialect` leaves out: a pass that depends on it loads it."""
    with context.entered():
        PassManager.parse("builtin.module(func.func(stablehlo-complex-math-expander))").run(
            ir.Module.create().operation
        )
